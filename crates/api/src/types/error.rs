//! Why a text is not a value.

use std::str::FromStr;

/// Why a text is not a value of the wanted type. The messages are those of the api-server's rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not a DNS label.
    #[error(
        "must be a DNS label: at most 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"
    )]
    DnsLabel,
    /// Not the name of an object.
    #[error(
        "must be the name of an object: at most 253 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit"
    )]
    ObjectName,
    /// Not a full host name.
    #[error(
        "must be a full host name such as shop.example.com: lower case, at least two labels, no trailing dot, no wildcard, no port"
    )]
    Hostname,
    /// Not a name for a certificate.
    #[error(
        "must be a DNS name in lower case, with '*.' in front for a wildcard, or an IP address"
    )]
    SubjectAltName,
    /// Not an address range.
    #[error("must be an address range in CIDR form such as 10.60.0.0/16 or fd00:60::/64")]
    Cidr,
    /// An address range with bits set behind its prefix.
    #[error("has bits set behind its prefix: write {masked}")]
    CidrHostBits {
        /// The range that was probably meant.
        masked: String,
    },
    /// Not an IP address.
    #[error("must be an IP address such as 10.0.0.7 or fd00::7")]
    Ip,
    /// A next hop of the other address family than the destination's.
    #[error("must be of the destination's address family: both IPv4 or both IPv6")]
    AddressFamily,
    /// Not the address of a DNS server.
    #[error(
        "must be the IP address of a DNS server, optionally with a port: 10.0.0.10, 10.0.0.10:5353 or [fd00::a]:53"
    )]
    DnsServer,
    /// Not an amount.
    #[error("must be an amount such as 5Gi, 500m or 2")]
    Quantity,
    /// Not above zero.
    #[error("must be above zero")]
    NotPositive,
    /// Not a Kubernetes version.
    #[error(
        "must be a Kubernetes version: a minor such as \"1.36\" or a full one such as \"1.36.3\", without 'v'; \"latest\" is not a version"
    )]
    KubernetesVersion,
    /// Not one version of a chart.
    #[error("must be one exact chart version such as 0.36.1; ranges and \"latest\" are refused")]
    ChartVersion,
    /// Not a digest.
    #[error("must be sha256: followed by 64 hex digits")]
    Digest,
}

/// A field of an object whose value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} {source}")]
pub struct FieldError {
    /// Path of the field, such as `spec.nodes.private.podCIDR`.
    pub field: String,
    /// The value found, cut to 256 characters.
    pub value: String,
    /// What is wrong with it.
    pub source: ParseError,
}

impl FieldError {
    /// The error for `value` in `field`.
    pub fn new(field: impl Into<String>, value: &str, source: ParseError) -> Self {
        Self {
            field: field.into(),
            value: value.chars().take(256).collect(),
            source,
        }
    }
}

/// Reads the text of a field.
pub(crate) fn parse_field<T>(field: impl Into<String>, text: &str) -> Result<T, FieldError>
where
    T: FromStr<Err = ParseError>,
{
    text.parse()
        .map_err(|source| FieldError::new(field, text, source))
}

/// Reads the texts of a list field; the error names the entry.
pub(crate) fn parse_list<T>(field: &str, texts: &[String]) -> Result<Vec<T>, FieldError>
where
    T: FromStr<Err = ParseError>,
{
    texts
        .iter()
        .enumerate()
        .map(|(index, text)| parse_field(format!("{field}[{index}]"), text))
        .collect()
}
