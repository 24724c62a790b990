//! Digests of chart archives.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{ParseError, text_type};

/// A SHA-256 digest, written `sha256:` and 64 hex digits in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

text_type!(Digest, check_digest);

const ALGORITHM: &str = "sha256:";

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("{ALGORITHM}{:x}", Sha256::digest(bytes)))
    }

    /// The 64 hex digits alone.
    pub fn hex(&self) -> &str {
        self.0.strip_prefix(ALGORITHM).unwrap_or_default()
    }
}

fn check_digest(text: &str) -> Result<(), ParseError> {
    let hex_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match text.strip_prefix(ALGORITHM) {
        Some(hex) if hex.len() == 64 && hex.bytes().all(hex_digit) => Ok(()),
        _ => Err(ParseError::Digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse(), Ok(Digest::of(b"")));
        for bad in [
            "",
            "sha256:",
            &empty[7..],
            &empty.to_uppercase(),
            &empty[..70],
            "md5:00",
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(ParseError::Digest), "{bad}");
        }
    }
}
