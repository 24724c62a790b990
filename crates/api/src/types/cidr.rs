//! Address ranges.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::ParseError;

/// A range of IPv4 or IPv6 addresses, with no bit set behind its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNet);

/// Reads an IP address. An IPv4 address in IPv6 clothes is refused, as Kubernetes does: it would
/// pass every check for the other family.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|address| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none(),
    })
}

impl Cidr {
    /// Whether the two ranges have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// Whether every address of `other` is in this range.
    pub fn contains(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether `address` is in this range.
    pub fn contains_ip(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Length of the prefix, in bits.
    pub fn prefix_len(self) -> u8 {
        self.0.prefix_len()
    }

    /// The first address.
    pub fn network(self) -> IpAddr {
        self.0.network()
    }

    /// Whether it is a range of IPv4 addresses.
    pub fn is_ipv4(self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }
}

impl FromStr for Cidr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // ipnet's own parser reads 010.0.0.0 as 10.0.0.0; the one of std refuses it.
        let (address, prefix) = text.split_once('/').ok_or(ParseError::Cidr)?;
        let address = parse_ip(address).ok_or(ParseError::Cidr)?;
        let canonical = prefix.bytes().all(|byte| byte.is_ascii_digit())
            && (prefix == "0" || !prefix.starts_with('0'));
        if !canonical {
            return Err(ParseError::Cidr);
        }
        let prefix = prefix.parse().map_err(|_| ParseError::Cidr)?;
        let net = IpNet::new(address, prefix).map_err(|_| ParseError::Cidr)?;
        let masked = net.trunc();
        if net == masked {
            Ok(Self(net))
        } else {
            Err(ParseError::CidrHostBits {
                masked: masked.to_string(),
            })
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("a range")
    }

    #[test]
    fn ranges() {
        for good in [
            "10.60.0.0/16",
            "0.0.0.0/0",
            "10.0.0.1/32",
            "fd00::/64",
            "::1/128",
        ] {
            assert_eq!(cidr(good).to_string(), good);
        }
        for bad in [
            "",
            "10.60.0.0",
            "10.60.0.0/33",
            "fd00::/129",
            "010.0.0.0/8",
            "10.0.0/8",
            "a/8",
            "::ffff:10.0.0.0/104",
            "10.0.0.0/-1",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/",
            " 10.0.0.0/8",
        ] {
            assert_eq!(bad.parse::<Cidr>(), Err(ParseError::Cidr), "{bad}");
        }
    }

    #[test]
    fn host_bits_are_named() {
        let error = "10.60.1.2/16".parse::<Cidr>().expect_err("host bits");
        assert_eq!(
            error.to_string(),
            "has bits set behind its prefix: write 10.60.0.0/16"
        );
    }

    #[test]
    fn overlap_is_mutual_and_keeps_families_apart() {
        let (big, small) = (cidr("10.0.0.0/8"), cidr("10.60.0.0/16"));
        assert!(big.overlaps(small) && small.overlaps(big));
        assert!(big.contains(small) && !small.contains(big));
        assert!(!small.overlaps(cidr("10.61.0.0/16")));
        assert!(!cidr("0.0.0.0/0").overlaps(cidr("::/0")));
    }
}
