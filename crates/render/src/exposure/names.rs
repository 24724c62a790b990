//! Which host names may be asked for.

use std::collections::BTreeMap;
use std::fmt;

use kubebyon_api::types::{FieldError, Hostname};
use kubebyon_api::{PublicAccess, Reason, names};

use crate::Cluster;

/// Why a host name may not be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It lies below none of the domains.
    #[error(
        "{hostname} lies below none of the domains of PublicAccess {access}: take a name below {}",
        list(domains)
    )]
    NotAllowed {
        /// The name.
        hostname: Hostname,
        /// The PublicAccess, as namespace/name.
        access: String,
        /// The domains below which names are given.
        domains: Vec<Hostname>,
    },
    /// It is not to be had.
    #[error("{hostname} is {reserved}: take another name")]
    Reserved {
        /// The name.
        hostname: Hostname,
        /// What it is reserved for.
        reserved: Reserved,
    },
}

impl NameError {
    /// The word for it on the wire.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotAllowed { .. } => Reason::HostnameNotAllowed,
            Self::Reserved { .. } => Reason::HostnameReserved,
        }
    }
}

/// What a name is reserved for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The site of a PublicAccess (namespace/name).
    Site(String),
    /// The apex of a domain of a PublicAccess (namespace/name).
    Apex(String),
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(access) => write!(f, "the platform's own name at PublicAccess {access}"),
            Self::Apex(access) => write!(f, "the apex of a domain of PublicAccess {access}"),
        }
    }
}

fn list(domains: &[Hostname]) -> String {
    let texts: Vec<_> = domains.iter().map(Hostname::as_str).collect();
    texts.join(" or ")
}

/// Whether a name is one that is given to `cluster` where its spec asks for none.
pub fn is_default(hostname: &Hostname, cluster: &Cluster) -> bool {
    let label = names::host_label(&cluster.namespace, &cluster.name);
    hostname
        .split_once('.')
        .is_some_and(|(first, _)| first == label)
}

/// The rules of one PublicAccess for the names of tenants' APIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRules {
    access: String,
    domain: Hostname,
    allowed_domains: Vec<Hostname>,
    reserved: BTreeMap<Hostname, Reserved>,
}

impl NameRules {
    /// The rules of `access`. What `others` reserve is reserved here too: they may be about the same
    /// domains. What cannot be read in one of the others does not hold this one back.
    pub fn of<'a>(
        access: &'a PublicAccess,
        others: impl IntoIterator<Item = &'a PublicAccess>,
    ) -> Result<Self, FieldError> {
        let edge = &access.spec.control_plane;
        let (domain, allowed_domains) = (edge.domain()?, edge.allowed_domains()?);
        if let Some(workload) = &access.spec.workload {
            workload.domain()?;
        }
        if let Some(platform) = &access.spec.platform {
            platform.hostname()?;
        }
        let mut reserved = BTreeMap::new();
        for other in others.into_iter().chain([access]) {
            reserve(other, &mut reserved);
        }
        Ok(Self {
            access: key(access),
            domain,
            allowed_domains,
            reserved,
        })
    }

    /// The domain below which default names are given.
    pub fn domain(&self) -> &Hostname {
        &self.domain
    }

    /// Whether a tenant's API may have `hostname`, as far as the rules go: whether somebody holds it
    /// is the claim's matter.
    pub fn check_tenant_api(&self, hostname: &Hostname) -> Result<(), NameError> {
        if let Some(reserved) = self.reserved.get(hostname) {
            return Err(NameError::Reserved {
                hostname: hostname.clone(),
                reserved: reserved.clone(),
            });
        }
        let mut domains = std::iter::once(&self.domain).chain(&self.allowed_domains);
        if domains.any(|domain| hostname.is_below(domain)) {
            Ok(())
        } else {
            Err(NameError::NotAllowed {
                hostname: hostname.clone(),
                access: self.access.clone(),
                domains: std::iter::once(&self.domain)
                    .chain(&self.allowed_domains)
                    .cloned()
                    .collect(),
            })
        }
    }
}

fn key(access: &PublicAccess) -> String {
    format!("{}/{}", access.namespace_str(), access.name_str())
}

fn reserve(access: &PublicAccess, reserved: &mut BTreeMap<Hostname, Reserved>) {
    let spec = &access.spec;
    let edge = &spec.control_plane;
    let apexes = edge
        .domain()
        .into_iter()
        .chain(
            edge.allowed_domains
                .iter()
                .filter_map(|text| text.parse().ok()),
        )
        .chain(
            spec.workload
                .iter()
                .filter_map(|workload| workload.domain().ok()),
        );
    for apex in apexes {
        reserved.insert(apex, Reserved::Apex(key(access)));
    }
    let site = spec.platform.as_ref();
    if let Some(name) = site.and_then(|platform| platform.hostname().ok()) {
        reserved.insert(name, Reserved::Site(key(access)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn access(name: &str, spec: &serde_json::Value) -> PublicAccess {
        let mut all =
            json!({"provider": "HAProxy", "controlPlane": {"domain": "clusters.example.com"}});
        for (key, value) in spec.as_object().unwrap() {
            all[key] = value.clone();
        }
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "system"}, "spec": all}),
        )
        .unwrap()
    }

    fn rules() -> NameRules {
        let own = access(
            "public",
            &json!({
                "controlPlane": {"domain": "clusters.example.com", "allowedDomains": ["example.org", "k8s.example.com"]},
                "platform": {"hostname": "console.example.org", "tlsSecretName": "tls"},
                "workload": {"domain": "apps.example.com"},
            }),
        );
        let others = [
            access(
                "other",
                &json!({"platform": {"hostname": "site.clusters.example.com", "tlsSecretName": "tls"}}),
            ),
            access(
                "inside",
                &json!({"controlPlane": {"domain": "inner.example.org"}}),
            ),
            access(
                "broken",
                &json!({"controlPlane": {"domain": "UPPER"}, "platform": {"hostname": "b.k8s.example.com"}}),
            ),
        ];
        NameRules::of(&own, &others).unwrap()
    }

    #[test]
    fn names_and_what_becomes_of_them() {
        let rules = rules();
        assert_eq!(rules.domain().as_str(), "clusters.example.com");
        for (name, expected) in [
            ("demo.clusters.example.com", None),
            ("a.b.clusters.example.com", None),
            ("demo.example.org", None),
            ("demo.k8s.example.com", None),
            ("demo.example.com", Some(Reason::HostnameNotAllowed)),
            ("demo.apps.example.com", Some(Reason::HostnameNotAllowed)),
            // The end of the text is not the end of the name.
            ("democlusters.example.com", Some(Reason::HostnameNotAllowed)),
            (
                "clusters.example.com.evil.net",
                Some(Reason::HostnameNotAllowed),
            ),
            // Apexes, own and other people's.
            ("clusters.example.com", Some(Reason::HostnameReserved)),
            ("example.org", Some(Reason::HostnameReserved)),
            ("apps.example.com", Some(Reason::HostnameReserved)),
            ("inner.example.org", Some(Reason::HostnameReserved)),
            // Sites, own and other people's, also of one whose domain cannot be read.
            ("console.example.org", Some(Reason::HostnameReserved)),
            ("site.clusters.example.com", Some(Reason::HostnameReserved)),
            ("b.k8s.example.com", Some(Reason::HostnameReserved)),
        ] {
            let result = rules.check_tenant_api(&name.parse().unwrap());
            assert_eq!(result.err().map(|error| error.reason()), expected, "{name}");
        }
    }

    #[test]
    fn refusals_say_what_to_take_instead() {
        let rules = rules();
        let refuse = |name: &str| {
            rules
                .check_tenant_api(&name.parse().unwrap())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refuse("demo.example.net"),
            "demo.example.net lies below none of the domains of PublicAccess system/public: take a name below \
             clusters.example.com or example.org or k8s.example.com"
        );
        assert_eq!(
            refuse("console.example.org"),
            "console.example.org is the platform's own name at PublicAccess system/public: take another name"
        );
    }

    #[test]
    fn an_own_name_that_cannot_be_read_is_an_error() {
        for (spec, field) in [
            (
                json!({"controlPlane": {"domain": "UPPER"}}),
                "spec.controlPlane.domain",
            ),
            (
                json!({"platform": {"hostname": "UPPER"}}),
                "spec.platform.hostname",
            ),
            (
                json!({"workload": {"domain": "UPPER"}}),
                "spec.workload.domain",
            ),
        ] {
            let error = NameRules::of(&access("public", &spec), &[]).unwrap_err();
            assert_eq!(error.field, field);
        }
    }
}
