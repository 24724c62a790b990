//! Host names.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::cidr::parse_ip;
use super::name::check_label;
use super::{ParseError, text_type};

/// A full host name: lower case, at least two labels, no trailing dot, at most 253 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

text_type!(Hostname, check_hostname);

fn check_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| check_label(label).is_ok())
}

fn check_hostname(text: &str) -> Result<(), ParseError> {
    if text.contains('.') && check_dns_name(text) {
        Ok(())
    } else {
        Err(ParseError::Hostname)
    }
}

impl Hostname {
    /// Whether this name lies below `domain`; a name does not lie below itself.
    pub fn is_below(&self, domain: &Self) -> bool {
        self.0
            .strip_suffix(domain.as_str())
            .is_some_and(|rest| rest.ends_with('.'))
    }

    /// Whether one of the two equals, or lies below, the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self == other || self.is_below(other) || other.is_below(self)
    }

    /// Whether `*.<domain>` covers this name, as certificates and listeners understand it in
    /// TLS: exactly one more label (RFC 6125).
    pub fn is_child_of(&self, domain: &Self) -> bool {
        self.0
            .split_once('.')
            .is_some_and(|(_, parent)| parent == domain.as_str())
    }

    /// The pattern for every name one label below this one.
    pub fn wildcard(&self) -> HostPattern {
        HostPattern {
            wildcard: true,
            name: self.0.clone(),
        }
    }
}

/// A DNS name, or a wildcard for the names one label below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    wildcard: bool,
    name: String,
}

impl HostPattern {
    /// Whether the pattern covers `name`: the name itself, or one label below a wildcard's name.
    pub fn covers(&self, name: &Hostname) -> bool {
        if self.wildcard {
            name.split_once('.')
                .is_some_and(|(_, parent)| parent == self.name)
        } else {
            name.as_str() == self.name
        }
    }

    /// Whether it is a wildcard.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }
}

impl FromStr for HostPattern {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if text.len() <= 253 && check_dns_name(name) {
            Ok(Self {
                wildcard,
                name: name.to_owned(),
            })
        } else {
            Err(ParseError::SubjectAltName)
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl From<Hostname> for HostPattern {
    fn from(name: Hostname) -> Self {
        Self {
            wildcard: false,
            name: name.into(),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.wildcard { "*." } else { "" };
        write!(f, "{prefix}{}", self.name)
    }
}

/// A name or an address in a server certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectAltName {
    /// A DNS name or a wildcard.
    Dns(HostPattern),
    /// An address.
    Ip(IpAddr),
}

impl FromStr for SubjectAltName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match parse_ip(text) {
            Some(address) => Ok(Self::Ip(address)),
            None => text.parse().map(Self::Dns),
        }
    }
}

impl fmt::Display for SubjectAltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(pattern) => pattern.fmt(f),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Hostname {
        text.parse().expect("a host name")
    }

    #[test]
    fn host_names() {
        for good in [
            "a.b",
            "shop.example.com",
            "xn--bcher-kva.example",
            "1.example",
        ] {
            assert!(good.parse::<Hostname>().is_ok(), "{good}");
        }
        let long = format!("{}.example.com", "a".repeat(64));
        for bad in [
            "",
            "example",
            "example.com.",
            "Shop.example.com",
            "*.example.com",
            "a..b",
            ".a.b",
            "a.b:443",
            "https://a.b",
            "bücher.example",
            "a_b.example",
            "-a.example",
            &long,
        ] {
            assert_eq!(bad.parse::<Hostname>(), Err(ParseError::Hostname), "{bad}");
        }
    }

    #[test]
    fn a_suffix_of_the_text_is_not_a_parent() {
        assert!(host("a.example.com").is_below(&host("example.com")));
        assert!(host("b.a.example.com").is_below(&host("example.com")));
        assert!(!host("notexample.com").is_below(&host("example.com")));
        assert!(!host("example.com").is_below(&host("example.com")));
        assert!(host("a.example.com").is_child_of(&host("example.com")));
        assert!(!host("b.a.example.com").is_child_of(&host("example.com")));
        assert!(host("example.com").overlaps(&host("a.example.com")));
        assert!(!host("a.example.com").overlaps(&host("b.example.com")));
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let pattern = host("example.com").wildcard();
        assert_eq!(pattern.to_string(), "*.example.com");
        assert!(pattern.covers(&host("a.example.com")));
        assert!(!pattern.covers(&host("b.a.example.com")));
        assert!(!pattern.covers(&host("example.com")));
    }

    #[test]
    fn subject_alt_names() {
        for good in ["demo", "*.example.com", "demo.svc", "10.0.0.1", "fd00::1"] {
            let parsed: SubjectAltName = good.parse().expect(good);
            assert_eq!(parsed.to_string(), good);
        }
        for bad in ["", "*", "a.*.b", "*.", "DEMO", "10.0.0.1/8", "a b"] {
            assert!(bad.parse::<SubjectAltName>().is_err(), "{bad}");
        }
    }
}
