//! Which repositories and addresses a chart may come from.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

use crate::error::{Error, Result};

/// The host admin's rules. Cluster authors choose repositories, and the operator's network
/// reaches what theirs does not, so the rules hold for the named repository and for every
/// address that a request really goes to, redirects included.
#[derive(Debug, Clone, Default)]
pub struct RepositoryPolicy {
    /// Repositories must begin with one of these (`https://charts.loft.sh`,
    /// `oci://ghcr.io/loft-sh`), at a whole path segment; None allows every one. It holds
    /// for the repository that is named; archives that its index points to, and redirects,
    /// may be elsewhere, since hosts of charts commonly keep them so.
    pub allowed_prefixes: Option<Vec<Url>>,
    /// Addresses to allow though they are loopback, link-local, multicast or unspecified:
    /// for a repository on the same host, and for tests. Empty is right for a cluster.
    pub allowed_addresses: Vec<IpNet>,
}

impl RepositoryPolicy {
    /// Parses the URL that a user named as a repository, and checks it.
    ///
    /// # Errors
    /// [`Error::RepositoryRefused`] when it is no URL, has another scheme than https, oci or
    /// file, carries credentials, a query or a fragment, or is not in the allowed list.
    pub(super) fn repository(&self, text: &str) -> Result<Url> {
        let url = Url::parse(text)
            .map_err(|error| refused(format!("{error}; give https://, oci:// or file://")))?;
        if !matches!(url.scheme(), "https" | "oci" | "file") {
            return Err(refused(format!(
                "scheme {} is not allowed; use https, oci or file",
                url.scheme()
            )));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused(
                "its address holds credentials; put them into the Secret that authSecretRef names"
                    .to_owned(),
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused(
                "its address has a query or a fragment; remove it".to_owned(),
            ));
        }
        // Encoded separators could mean another path to a server than to the check below.
        let path = url.path().to_ascii_lowercase();
        if path.contains("%2f") || path.contains("%5c") || path.contains("%2e") {
            return Err(refused(
                "its path has encoded separators; write them plainly".to_owned(),
            ));
        }
        if url.scheme() != "file"
            && let Some(prefixes) = &self.allowed_prefixes
            && !prefixes.iter().any(|prefix| is_below(&url, prefix))
        {
            return Err(refused(format!(
                "{url} is not among the repositories that the host admin allows"
            )));
        }
        self.check_literal(&url)?;
        Ok(url)
    }

    /// Checks a URL that a server named: an archive's, or where a redirect leads.
    pub(super) fn download(&self, url: &Url) -> Result<()> {
        if url.scheme() != "https" {
            return Err(refused(format!(
                "it leads to {} over {}, but downloads are over https only",
                origin(url),
                url.scheme()
            )));
        }
        self.check_literal(url)
    }

    /// Checks the host if it is an address; names are checked when they are resolved.
    fn check_literal(&self, url: &Url) -> Result<()> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            // The scheme oci is not one of the web's own, whose hosts are parsed as addresses.
            Some(Host::Domain(name)) => match name.trim_matches(['[', ']']).parse() {
                Ok(address) => address,
                Err(_) => return Ok(()),
            },
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            None => return Ok(()),
        };
        if self.allows(address) {
            Ok(())
        } else {
            Err(refused_address(&origin(url)))
        }
    }

    /// Whether a connection to `address` is allowed.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        let address = embedded_v4(address);
        if self
            .allowed_addresses
            .iter()
            .any(|network| network.contains(&address))
        {
            return true;
        }
        match address {
            IpAddr::V4(v4) => {
                let this_network = v4.octets()[0] == 0;
                !(v4.is_loopback()
                    || v4.is_link_local()
                    || v4.is_multicast()
                    || v4.is_broadcast()
                    || this_network)
            }
            IpAddr::V6(v6) => {
                !(v6.is_loopback()
                    || v6.is_unicast_link_local()
                    || v6.is_multicast()
                    || v6.is_unspecified())
            }
        }
    }
}

pub(super) fn refused(why: String) -> Error {
    Error::RepositoryRefused { why }
}

pub(super) fn refused_address(host: &str) -> Error {
    refused(format!(
        "{host} is a loopback, link-local or multicast address; use a repository that the network offers"
    ))
}

/// Scheme, host and port: what a message may show of a URL, and what credentials belong to.
pub(super) fn origin(url: &Url) -> String {
    let port = url
        .port_or_known_default()
        .map_or_else(String::new, |port| format!(":{port}"));
    format!(
        "{}://{}{port}",
        url.scheme(),
        url.host_str().unwrap_or_default()
    )
}

fn is_below(url: &Url, prefix: &Url) -> bool {
    let base = prefix.path().trim_end_matches('/');
    origin(url) == origin(prefix)
        && url
            .path()
            .strip_prefix(base)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The IPv4 address inside an IPv4-mapped, IPv4-compatible, NAT64 (RFC 6052) or 6to4 address.
fn embedded_v4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if v6 == Ipv6Addr::LOCALHOST || v6 == Ipv6Addr::UNSPECIFIED {
        return address;
    }
    let octets = v6.octets();
    let v4 = match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            [octets[12], octets[13], octets[14], octets[15]]
        }
        [0x2002, ..] => [octets[2], octets[3], octets[4], octets[5]],
        _ => return address,
    };
    IpAddr::from(v4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_the_machine_are_refused() {
        let policy = RepositoryPolicy::default();
        for bad in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
        ] {
            assert!(!policy.allows(bad.parse().unwrap()), "{bad}");
        }
        for good in [
            "10.0.0.1",
            "192.168.1.1",
            "8.8.8.8",
            "2001:db8::1",
            "fd00::1",
        ] {
            assert!(policy.allows(good.parse().unwrap()), "{good}");
        }
        let lenient = RepositoryPolicy {
            allowed_addresses: vec!["127.0.0.1/32".parse().unwrap()],
            ..policy
        };
        assert!(lenient.allows("127.0.0.1".parse().unwrap()));
        assert!(lenient.allows("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!lenient.allows("127.0.0.2".parse().unwrap()));
    }

    #[test]
    fn bad_repositories_are_refused() {
        let policy = RepositoryPolicy::default();
        for bad in [
            "",
            "charts",
            "http://charts.example.com",
            "ftp://x/",
            "git+https://x/",
            "https://user:pw@charts.example.com",
            "https://user@x/",
            "https://x/?token=abc",
            "https://x/#a",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "oci://127.0.0.1:5000/x",
            "oci://[::1]/x",
            "oci://169.254.169.254/x",
            "https://x/a%2f..%2fb",
        ] {
            let error = policy.repository(bad).unwrap_err();
            assert_eq!(error.reason(), "RepositoryRefused", "{bad}");
            assert!(!error.to_string().contains("pw"), "{error}");
        }
        for good in [
            "https://charts.loft.sh",
            "https://charts.example.com:8443/a/b/",
            "oci://ghcr.io/loft-sh",
            "file:///charts/x.tgz",
        ] {
            policy.repository(good).unwrap();
        }
    }

    #[test]
    fn the_allowed_list_holds_at_whole_segments() {
        let prefixes = [
            "https://charts.loft.sh",
            "https://host/team-a/",
            "oci://ghcr.io/loft-sh",
        ]
        .map(|url| Url::parse(url).unwrap());
        let policy = RepositoryPolicy {
            allowed_prefixes: Some(prefixes.into()),
            ..RepositoryPolicy::default()
        };
        for good in [
            "https://charts.loft.sh",
            "https://charts.loft.sh:443/x",
            "https://host/team-a",
            "https://host/team-a/b",
            "oci://ghcr.io/loft-sh/x",
        ] {
            policy.repository(good).unwrap();
        }
        for bad in [
            "https://charts.loft.sh.evil.example",
            "https://charts.loft.sh:8443",
            "https://host/team-ab",
            "https://host/team-a/../b",
            "https://host",
            "oci://ghcr.io/loft-shx",
            "oci://charts.loft.sh",
        ] {
            assert!(policy.repository(bad).is_err(), "{bad}");
        }
    }
}
