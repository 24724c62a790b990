//! Names of objects.

use serde::{Deserialize, Serialize};

use super::{ParseError, text_type};

/// A DNS label (RFC 1123): the name of a namespace or a Service, and one part of a host name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsLabel(String);

text_type!(DnsLabel, check_label);

/// The name of an object (RFC 1123 subdomain), such as a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

text_type!(ObjectName, check_object_name);

/// Whether `text` is a label of at most `max` characters.
fn is_label(text: &str, max: usize) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= max
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

pub(super) fn check_label(text: &str) -> Result<(), ParseError> {
    if is_label(text, 63) {
        Ok(())
    } else {
        Err(ParseError::DnsLabel)
    }
}

fn check_object_name(text: &str) -> Result<(), ParseError> {
    if text.len() <= 253 && text.split('.').all(|label| is_label(label, 253)) {
        Ok(())
    } else {
        Err(ParseError::ObjectName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "0", "a-b", &"a".repeat(63)] {
            assert!(good.parse::<DnsLabel>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "ü",
            "a_b",
            "a b",
            &"a".repeat(64),
        ] {
            assert_eq!(bad.parse::<DnsLabel>(), Err(ParseError::DnsLabel), "{bad}");
        }
    }

    #[test]
    fn object_names() {
        let long = "a".repeat(253);
        for good in ["a", "a.b", "a-b.c", &long] {
            assert!(good.parse::<ObjectName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", "a..b", "A", "a/b", &format!("{long}a")] {
            assert_eq!(
                bad.parse::<ObjectName>(),
                Err(ParseError::ObjectName),
                "{bad}"
            );
        }
    }

    #[test]
    fn serde_refuses_what_parsing_refuses() {
        assert!(serde_json::from_str::<DnsLabel>("\"a\"").is_ok());
        assert!(serde_json::from_str::<DnsLabel>("\"A\"").is_err());
    }
}
