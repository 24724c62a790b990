//! The spec's texts as values.

use std::net::SocketAddr;

use super::{ControlPlaneEdge, DnsGate, Platform, PodCidrRoute, WorkloadEdge};
use crate::types::cidr::parse_ip;
use crate::types::error::{parse_field, parse_list};
use crate::types::{Cidr, FieldError, Hostname, ParseError};

impl ControlPlaneEdge {
    /// The domain of the tenants' APIs.
    pub fn domain(&self) -> Result<Hostname, FieldError> {
        parse_field("spec.controlPlane.domain", &self.domain)
    }

    /// The further domains below which a ManagedCluster may ask for a name.
    pub fn allowed_domains(&self) -> Result<Vec<Hostname>, FieldError> {
        parse_list("spec.controlPlane.allowedDomains", &self.allowed_domains)
    }
}

impl Platform {
    /// The host name of the platform's site.
    pub fn hostname(&self) -> Result<Hostname, FieldError> {
        parse_field(
            "spec.platform.hostname",
            self.hostname.as_deref().unwrap_or_default(),
        )
    }
}

impl WorkloadEdge {
    /// The domain of the tenants' sites.
    pub fn domain(&self) -> Result<Hostname, FieldError> {
        parse_field("spec.workload.domain", &self.domain)
    }
}

impl DnsGate {
    /// The DNS servers to ask; port 53 where none is given.
    pub fn servers(&self) -> Result<Vec<SocketAddr>, FieldError> {
        self.servers
            .iter()
            .enumerate()
            .map(|(index, text)| {
                let with_port = text.parse::<SocketAddr>().ok();
                with_port
                    .or_else(|| Some(SocketAddr::new(parse_ip(text)?, 53)))
                    .ok_or_else(|| {
                        FieldError::new(
                            format!("spec.workload.dns.servers[{index}]"),
                            text,
                            ParseError::DnsServer,
                        )
                    })
            })
            .collect()
    }
}

impl PodCidrRoute {
    /// The ranges that every route must fall inside.
    pub fn allowed_cidrs(&self) -> Result<Vec<Cidr>, FieldError> {
        parse_list(
            "spec.workload.podCIDRRoute.allowedCIDRs",
            &self.allowed_cidrs,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_server_may_have_a_port() {
        let gate = |servers: &[&str]| DnsGate {
            servers: servers.iter().map(ToString::to_string).collect(),
            gate: true,
        };
        let servers = gate(&["10.0.0.10", "10.0.0.10:5353", "[fd00::a]:53", "fd00::a"])
            .servers()
            .expect("servers");
        assert_eq!(servers[0].port(), 53);
        assert_eq!(servers[1].port(), 5353);
        assert_eq!(servers[2], servers[3]);
        let error = gate(&["10.0.0.10", "dns.example.com"])
            .servers()
            .expect_err("a name");
        assert_eq!(error.field, "spec.workload.dns.servers[1]");
    }
}
