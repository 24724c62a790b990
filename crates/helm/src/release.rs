//! What Helm recorded of a release, read from its release Secrets.
//!
//! Helm keeps one Secret a revision, `sh.helm.release.v1.NAME.vN`, with the labels
//! `owner=helm`, `name`, `status` and `version` (helm.sh/helm/v4
//! pkg/storage/driver/secrets.go). The driver adds labels of its own with
//! `helm upgrade --labels`, so that the metadata alone tells whether the deployed
//! revision is the desired one: no payload is fetched or decoded for that.

use std::{fmt, io::Read, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use jiff::Timestamp;
use kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::digest::Sha256Digest;

/// Label of a revision: [`Sha256Digest::label`] of its values' hash.
pub const VALUES_HASH_LABEL: &str = "kubebyon.app/values-hash";
/// Label of a revision: [`Sha256Digest::label`] of its chart archive's digest.
pub const CHART_DIGEST_LABEL: &str = "kubebyon.app/chart-digest";
/// Label of a revision: its chart's version, with `_` for `+`, cut to 63 characters.
pub const CHART_VERSION_LABEL: &str = "kubebyon.app/chart-version";

/// Name prefix of every release Secret.
const SECRET_PREFIX: &str = "sh.helm.release.v1.";

/// The label selector for the revisions of release `name`.
pub fn selector(name: &str) -> String {
    format!("owner=helm,name={name}")
}

/// The status of a revision (helm.sh/helm/v4 pkg/release/common/status.go).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// In force.
    Deployed,
    /// A newer revision took its place.
    Superseded,
    /// It did not succeed.
    Failed,
    /// Removed, its record kept.
    Uninstalled,
    /// Its removal is under way, or died.
    Uninstalling,
    /// A first install is under way, or died.
    PendingInstall,
    /// An upgrade is under way, or died.
    PendingUpgrade,
    /// A rollback is under way, or died.
    PendingRollback,
    /// Helm's own "unknown", or a word that this driver does not know.
    Unknown,
}

impl Status {
    /// Whether Helm treats the revision as a lock on the release.
    pub fn is_pending(self) -> bool {
        matches!(
            self,
            Self::PendingInstall | Self::PendingUpgrade | Self::PendingRollback
        )
    }
}

impl FromStr for Status {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "deployed" => Self::Deployed,
            "superseded" => Self::Superseded,
            "failed" => Self::Failed,
            "uninstalled" => Self::Uninstalled,
            "uninstalling" => Self::Uninstalling,
            "pending-install" => Self::PendingInstall,
            "pending-upgrade" => Self::PendingUpgrade,
            "pending-rollback" => Self::PendingRollback,
            _ => Self::Unknown,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deployed => "deployed",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Uninstalled => "uninstalled",
            Self::Uninstalling => "uninstalling",
            Self::PendingInstall => "pending-install",
            Self::PendingUpgrade => "pending-upgrade",
            Self::PendingRollback => "pending-rollback",
            Self::Unknown => "unknown",
        })
    }
}

/// One Secret, named exactly: what a guarded write needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretVersion {
    /// The Secret's name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The resourceVersion that was read.
    pub resource_version: String,
}

/// One revision of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The revision's number, from 1.
    pub number: u32,
    /// Its status.
    pub status: Status,
    /// When the api-server made its Secret: the start of the operation, by the
    /// server's clock. None only for a Secret that was not read from a server.
    pub started: Option<Timestamp>,
    /// When Helm last wrote it (labels `modifiedAt` or `createdAt`), by the clock of
    /// whoever ran helm.
    pub modified: Option<Timestamp>,
    /// [`VALUES_HASH_LABEL`].
    pub values_hash: Option<String>,
    /// [`CHART_DIGEST_LABEL`].
    pub chart_digest: Option<String>,
    /// [`CHART_VERSION_LABEL`], with `+` restored.
    pub chart_version: Option<String>,
    /// The Secret that holds it.
    pub secret: SecretVersion,
}

impl Revision {
    /// Reads the metadata of a Secret; None if it is not a revision of `release`.
    fn read(release: &str, meta: &ObjectMeta) -> Option<Self> {
        let name = meta.name.as_deref()?;
        let number: u32 = name
            .strip_prefix(SECRET_PREFIX)?
            .strip_prefix(release)?
            .strip_prefix(".v")?
            .parse()
            .ok()?;
        let labels = meta.labels.as_ref()?;
        let label = |key: &str| labels.get(key).map(String::as_str);
        if label("owner") != Some("helm") || label("name") != Some(release) {
            return None;
        }
        let seconds = |key: &str| {
            label(key)?
                .parse()
                .ok()
                .and_then(|seconds| Timestamp::from_second(seconds).ok())
        };
        let Ok(status) = label("status").unwrap_or_default().parse();
        Some(Self {
            number,
            status,
            started: meta.creation_timestamp.as_ref().map(|time| time.0),
            modified: seconds("modifiedAt").or_else(|| seconds("createdAt")),
            values_hash: label(VALUES_HASH_LABEL).map(str::to_owned),
            chart_digest: label(CHART_DIGEST_LABEL).map(str::to_owned),
            chart_version: label(CHART_VERSION_LABEL).map(|version| version.replace('_', "+")),
            secret: SecretVersion {
                name: name.to_owned(),
                uid: meta.uid.clone().unwrap_or_default(),
                resource_version: meta.resource_version.clone().unwrap_or_default(),
            },
        })
    }

    /// Whether this revision was made from that chart archive and those values.
    pub fn is_of(&self, chart_digest: &Sha256Digest, values_hash: &Sha256Digest) -> bool {
        self.chart_digest.as_deref() == Some(&chart_digest.label())
            && self.values_hash.as_deref() == Some(&values_hash.label())
    }
}

/// The revisions of one release, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReleaseHistory {
    revisions: Vec<Revision>,
}

impl ReleaseHistory {
    /// Reads the revisions of `release` out of the metadata of Secrets; the other
    /// Secrets among them are passed over.
    pub fn read<'a>(release: &str, secrets: impl IntoIterator<Item = &'a ObjectMeta>) -> Self {
        let mut revisions: Vec<_> = secrets
            .into_iter()
            .filter_map(|meta| Revision::read(release, meta))
            .collect();
        revisions.sort_by_key(|revision| revision.number);
        Self { revisions }
    }

    /// All revisions, oldest first.
    pub fn revisions(&self) -> &[Revision] {
        &self.revisions
    }

    /// The newest revision, whatever its status.
    pub fn latest(&self) -> Option<&Revision> {
        self.revisions.last()
    }

    /// The newest revision that is in force.
    pub fn deployed(&self) -> Option<&Revision> {
        self.revisions
            .iter()
            .rev()
            .find(|revision| revision.status == Status::Deployed)
    }

    /// How many revisions failed since the last one that did not.
    pub fn failures(&self) -> usize {
        self.revisions
            .iter()
            .rev()
            .take_while(|revision| revision.status == Status::Failed)
            .count()
    }
}

/// The parts of a revision's payload that its labels do not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The chart's name.
    pub chart_name: String,
    /// The chart's version.
    pub chart_version: String,
    /// When the release was first deployed.
    pub first_deployed: Option<Timestamp>,
    /// When this revision was deployed.
    pub last_deployed: Option<Timestamp>,
    /// What was applied: YAML documents.
    pub manifest: String,
}

/// A payload that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the release Secret's payload is not readable: {0}")]
pub struct PayloadError(&'static str);

/// Bound on a decoded payload: the Secret is 1 MiB at most, and gzip can blow that up
/// a thousandfold. A revision of the vCluster chart takes about 1 MiB.
const PAYLOAD_LIMIT: u64 = 32 << 20;

impl Payload {
    /// Decodes the Secret's key `release`: base64 of gzip of JSON. Reads 32 MiB at most,
    /// whatever the Secret holds.
    pub fn decode(data: &[u8]) -> Result<Self, PayloadError> {
        #[derive(Deserialize)]
        struct Record {
            info: Info,
            chart: Chart,
            #[serde(default)]
            manifest: String,
        }
        #[derive(Deserialize)]
        struct Info {
            first_deployed: Option<Timestamp>,
            last_deployed: Option<Timestamp>,
        }
        #[derive(Deserialize)]
        struct Chart {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        struct Metadata {
            name: String,
            version: String,
        }
        let zipped = STANDARD
            .decode(data)
            .map_err(|_| PayloadError("not base64"))?;
        let unreadable = PayloadError("not a gzipped release record");
        let mut json = Vec::new();
        // A slice is read several times faster than a stream.
        GzDecoder::new(zipped.as_slice())
            .take(PAYLOAD_LIMIT)
            .read_to_end(&mut json)
            .map_err(|_| unreadable.clone())?;
        let record: Record = serde_json::from_slice(&json).map_err(|_| unreadable)?;
        Ok(Self {
            chart_name: record.chart.metadata.name,
            chart_version: record.chart.metadata.version,
            first_deployed: record.info.first_deployed,
            last_deployed: record.info.last_deployed,
            manifest: record.manifest,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn secret(name: &str, labels: &[(&str, &str)]) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(
                labels
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn reads_only_the_revisions_of_the_release_and_orders_by_number() {
        let revision = |name: &str, release, status| {
            secret(
                name,
                &[
                    ("owner", "helm"),
                    ("name", release),
                    ("status", status),
                    ("modifiedAt", "1795248751"),
                ],
            )
        };
        let secrets = [
            revision("sh.helm.release.v1.demo.v10", "demo", "failed"),
            revision("sh.helm.release.v1.demo.v9", "demo", "deployed"),
            revision("sh.helm.release.v1.demo.v8", "demo", "superseded"),
            revision("sh.helm.release.v1.demo2.v11", "demo2", "deployed"),
            revision("sh.helm.release.v1.demo.vx", "demo", "deployed"),
            revision("sh.helm.release.v1.demo.v12", "other", "deployed"),
            secret("sh.helm.release.v1.demo.v13", &[("name", "demo")]),
            ObjectMeta::default(),
        ];
        let history = ReleaseHistory::read("demo", &secrets);
        let seen: Vec<_> = history
            .revisions()
            .iter()
            .map(|r| (r.number, r.status))
            .collect();
        assert_eq!(
            seen,
            [
                (8, Status::Superseded),
                (9, Status::Deployed),
                (10, Status::Failed)
            ]
        );
        assert_eq!(history.deployed().unwrap().number, 9);
        assert_eq!(history.failures(), 1);
        assert_eq!(
            history.latest().unwrap().modified,
            Timestamp::from_second(1_795_248_751).ok()
        );
    }

    #[test]
    fn statuses_read_back() {
        for status in [
            Status::Deployed,
            Status::Superseded,
            Status::Failed,
            Status::Uninstalled,
            Status::Uninstalling,
            Status::PendingInstall,
            Status::PendingUpgrade,
            Status::PendingRollback,
            Status::Unknown,
        ] {
            assert_eq!(status.to_string().parse(), Ok(status));
        }
        assert_eq!("new-in-helm-5".parse(), Ok(Status::Unknown));
    }

    fn encode(bytes: &[u8]) -> Vec<u8> {
        let mut gz = GzEncoder::new(Vec::new(), Compression::best());
        gz.write_all(bytes).unwrap();
        STANDARD.encode(gz.finish().unwrap()).into_bytes()
    }

    #[test]
    fn decodes_a_payload() {
        let json = r#"{"name":"demo","info":{"first_deployed":"2026-11-21T08:12:31.5Z","last_deployed":"2026-11-21T08:13:31Z","status":"deployed"},
            "chart":{"metadata":{"name":"vcluster","version":"0.36.1"}},"version":1}"#;
        let payload = Payload::decode(&encode(json.as_bytes())).unwrap();
        assert_eq!(
            (payload.chart_name.as_str(), payload.chart_version.as_str()),
            ("vcluster", "0.36.1")
        );
        assert_eq!(payload.last_deployed, "2026-11-21T08:13:31Z".parse().ok());
    }

    #[test]
    fn refuses_bombs_and_rubbish() {
        let bomb = [
            b"{\"info\":{},\"chart\":{\"metadata\":{\"name\":\"".as_slice(),
            &vec![b'a'; 40 << 20],
            b"\",\"version\":\"1\"}}}",
        ]
        .concat();
        for bad in [
            encode(&bomb),
            b"!".to_vec(),
            encode(b"[]"),
            STANDARD.encode(b"{}").into_bytes(),
            Vec::new(),
        ] {
            assert!(Payload::decode(&bad).is_err());
        }
    }
}
