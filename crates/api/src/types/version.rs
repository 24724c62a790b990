//! Versions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ParseError;

/// A version of Kubernetes 1: a minor such as `1.36`, or with a patch such as `1.36.3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct KubernetesVersion {
    minor: u16,
    patch: Option<u16>,
}

/// Why a tenant cannot go from one version to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionStepError {
    /// The wanted version is older.
    #[error(
        "Kubernetes {to} is older than the running {from}: it never moves down; ask for {from} or a newer one"
    )]
    Downgrade {
        /// What runs.
        from: KubernetesVersion,
        /// What is wanted.
        to: KubernetesVersion,
    },
    /// The wanted version is more than one minor newer.
    #[error("Kubernetes {to} is more than one minor above the running {from}: go to {next} first")]
    Skip {
        /// What runs.
        from: KubernetesVersion,
        /// What is wanted.
        to: KubernetesVersion,
        /// The minor to take first.
        next: KubernetesVersion,
    },
}

impl KubernetesVersion {
    /// The version `1.<minor>`, or `1.<minor>.<patch>`.
    pub const fn new(minor: u16, patch: Option<u16>) -> Self {
        Self { minor, patch }
    }

    /// The minor.
    pub const fn minor(self) -> u16 {
        self.minor
    }

    /// The patch, if it is named.
    pub const fn patch(self) -> Option<u16> {
        self.patch
    }

    /// Whether what runs is what is asked for: the same minor, and the same patch if one is asked.
    pub fn is_met_by(self, running: Self) -> bool {
        self.minor == running.minor && (self.patch.is_none() || self.patch == running.patch)
    }

    /// Whether a tenant that runs `self` may go to `wanted`: not down, and at most one minor up.
    pub fn step_to(self, wanted: Self) -> Result<(), VersionStepError> {
        let older_patch = matches!(
            (self.patch, wanted.patch),
            (Some(running), Some(asked)) if asked < running
        );
        if wanted.minor < self.minor || (wanted.minor == self.minor && older_patch) {
            return Err(VersionStepError::Downgrade {
                from: self,
                to: wanted,
            });
        }
        if wanted.minor > self.minor.saturating_add(1) {
            return Err(VersionStepError::Skip {
                from: self,
                to: wanted,
                next: Self::new(self.minor.saturating_add(1), None),
            });
        }
        Ok(())
    }
}

impl FromStr for KubernetesVersion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| {
            let canonical = digits == "0" || !digits.starts_with('0');
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            (canonical && plain && (1..=3).contains(&digits.len()))
                .then(|| digits.parse().ok())
                .flatten()
                .ok_or(ParseError::KubernetesVersion)
        };
        let rest = text
            .strip_prefix("1.")
            .ok_or(ParseError::KubernetesVersion)?;
        match rest.split_once('.') {
            None => Ok(Self::new(number(rest)?, None)),
            Some((minor, patch)) => Ok(Self::new(number(minor)?, Some(number(patch)?))),
        }
    }
}

impl TryFrom<String> for KubernetesVersion {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KubernetesVersion> for String {
    fn from(version: KubernetesVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.patch {
            None => write!(f, "1.{}", self.minor),
            Some(patch) => write!(f, "1.{}.{patch}", self.minor),
        }
    }
}

/// One exact version of a chart (SemVer, with an optional leading `v`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChartVersion {
    text: String,
    version: semver::Version,
}

impl ChartVersion {
    /// The text that it was parsed from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The version, to compare it.
    pub fn version(&self) -> &semver::Version {
        &self.version
    }
}

impl FromStr for ChartVersion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        semver::Version::parse(text.strip_prefix('v').unwrap_or(text))
            .map(|version| Self {
                text: text.to_owned(),
                version,
            })
            .map_err(|_| ParseError::ChartVersion)
    }
}

impl TryFrom<String> for ChartVersion {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ChartVersion> for String {
    fn from(version: ChartVersion) -> Self {
        version.text
    }
}

impl fmt::Display for ChartVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> KubernetesVersion {
        text.parse().expect("a version")
    }

    #[test]
    fn kubernetes_versions() {
        for good in ["1.36", "1.36.3", "1.0.0", "1.100"] {
            assert_eq!(version(good).to_string(), good);
        }
        for bad in [
            "", "latest", "1", "1.", "v1.36", "1.36.", "1.36.3.1", "2.0", "1.036", "1.36.x",
            "1.36-rc1", "1.1000", "1.+3", " 1.36",
        ] {
            assert_eq!(
                bad.parse::<KubernetesVersion>(),
                Err(ParseError::KubernetesVersion),
                "{bad}"
            );
        }
    }

    #[test]
    fn steps() {
        let running = version("1.35.4");
        for good in ["1.35", "1.35.4", "1.35.9", "1.36", "1.36.0"] {
            assert_eq!(running.step_to(version(good)), Ok(()), "{good}");
        }
        for down in ["1.34", "1.35.3", "1.34.9"] {
            let error = running.step_to(version(down)).expect_err(down);
            assert!(
                matches!(error, VersionStepError::Downgrade { .. }),
                "{down}"
            );
        }
        let skip = running.step_to(version("1.37")).expect_err("a skip");
        assert!(skip.to_string().ends_with("go to 1.36 first"), "{skip}");
    }

    #[test]
    fn a_minor_is_met_by_any_patch() {
        assert!(version("1.36").is_met_by(version("1.36.3")));
        assert!(!version("1.36.2").is_met_by(version("1.36.3")));
        assert!(!version("1.35").is_met_by(version("1.36.3")));
    }

    #[test]
    fn chart_versions() {
        for good in ["0.36.1", "v1.2.3", "1.2.3-rc.1+build"] {
            assert!(good.parse::<ChartVersion>().is_ok(), "{good}");
        }
        for bad in ["", "latest", "0.36", "^0.36.1", "0.36.x", ">=1.0.0"] {
            assert_eq!(
                bad.parse::<ChartVersion>(),
                Err(ParseError::ChartVersion),
                "{bad}"
            );
        }
    }
}
