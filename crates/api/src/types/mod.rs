//! Values that cannot be wrong: each is made by parsing, and only by parsing.
//!
//! The api-server checks the same rules at admission. These types hold for objects that were
//! stored under an older schema, and for values that never pass an api-server: what a tenant
//! writes, a flag, an answer of DNS.

pub(crate) mod cidr;
mod digest;
pub(crate) mod error;
mod hostname;
mod name;
mod quantity;
mod version;

pub use cidr::Cidr;
pub use digest::Digest;
pub use error::{FieldError, ParseError};
pub use hostname::{HostPattern, Hostname, SubjectAltName};
pub use name::{DnsLabel, ObjectName};
pub use quantity::Quantity;
pub use version::{ChartVersion, KubernetesVersion, VersionStepError};

/// `FromStr`, `TryFrom<String>`, `Display`, `AsRef<str>`, `Deref` and serde for a type that keeps
/// the text it was parsed from.
macro_rules! text_type {
    ($name:ident, $check:path) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::types::ParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::types::ParseError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }
    };
}
pub(crate) use text_type;
