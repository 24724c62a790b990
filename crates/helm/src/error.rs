//! Why an operation on a release did not succeed.

use std::{path::PathBuf, time::Duration};

use crate::digest::Sha256Digest;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One value that the chart's `values.schema.json` does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where in the values, with dots: `controlPlane.service.spec`; empty for the root.
    pub path: String,
    /// What is wrong there, in the schema checker's words.
    pub message: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() {
            "the root"
        } else {
            &self.path
        };
        write!(f, "{path}: {}", self.message)
    }
}

/// A failed operation; no variant holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The helm binary is not there or cannot be started.
    #[error("cannot start helm at {}: {source}; check --helm", path.display())]
    HelmMissing {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The helm binary has a version that this driver was not written for.
    #[error("helm at {} is version {found}, but 4.x (4.3 or newer) is needed; check --helm", path.display())]
    HelmVersion {
        /// The binary.
        path: PathBuf,
        /// What `helm version` printed.
        found: String,
    },
    /// The repository has no chart of that name.
    #[error("chart {name} is not in {repository}; check the chart's name and repository")]
    ChartNotFound {
        /// The chart's name.
        name: String,
        /// The repository, without credentials.
        repository: String,
    },
    /// The repository has the chart, but not this version.
    #[error(
        "chart {name} has no version {version} in {repository}; choose a version that the repository offers"
    )]
    ChartVersionNotFound {
        /// The chart's name.
        name: String,
        /// The version asked for.
        version: String,
        /// The repository, without credentials.
        repository: String,
    },
    /// The archive is not the one that was pinned.
    #[error(
        "chart {name} has digest {actual}, but {expected} is expected; if the new archive is wanted, change the digest"
    )]
    DigestMismatch {
        /// The chart's name.
        name: String,
        /// The pinned digest.
        expected: Sha256Digest,
        /// The digest of what was fetched.
        actual: Sha256Digest,
    },
    /// The archive is not a chart that is safe to unpack.
    #[error("chart {name} is not usable: {why}; use another archive")]
    ChartInvalid {
        /// The chart's name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A download or an archive is larger than allowed.
    #[error(
        "{what} is larger than {limit} bytes; use a smaller chart or ask the host admin for a higher limit"
    )]
    ChartTooLarge {
        /// What is too large.
        what: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The host admin's policy does not allow this repository or address.
    #[error("the repository is refused: {why}")]
    RepositoryRefused {
        /// The rule, and what to do.
        why: String,
    },
    /// The repository does not answer as it should; another try may help.
    #[error(
        "cannot read from {host}: {why}; check the repository's address and its CA, it is tried again"
    )]
    RepositoryUnreachable {
        /// Host and port.
        host: String,
        /// What happened.
        why: String,
    },
    /// The repository did not accept the credentials.
    #[error(
        "{host} did not accept the credentials (HTTP {status}); check the Secret with username and password"
    )]
    RepositoryUnauthorized {
        /// Host and port.
        host: String,
        /// 401 or 403.
        status: u16,
    },
    /// The values are not a mapping.
    #[error("the values must be a mapping of keys, not {found}")]
    ValuesNotAMapping {
        /// The JSON type found.
        found: &'static str,
    },
    /// A text in the values has characters that helm cannot pass on.
    #[error("the values at {path} have control characters that Helm loses; remove them")]
    ValuesUnprintable {
        /// Where in the values, with dots.
        path: String,
    },
    /// The values break the chart's schema.
    #[error(
        "the chart's schema refuses the values at {}; correct these keys",
        join(violations)
    )]
    SchemaViolation {
        /// Each violation, in the order that helm printed them; never empty.
        violations: Vec<Violation>,
    },
    /// A template of the chart failed, or made something that is no manifest.
    #[error("the chart does not render with these values: {message}")]
    RenderFailed {
        /// Helm's message.
        message: String,
    },
    /// The chart needs a kind that the cluster does not serve.
    #[error("the cluster serves no kind {kind} in {api_version}; install its CRD first")]
    KindNotServed {
        /// The kind.
        kind: String,
        /// Its API version.
        api_version: String,
    },
    /// The release's ServiceAccount (or the operator) lacks a right.
    #[error("{user} may not {verb} {resource}{} {}; grant it, or use a chart that does not need it", group_suffix(group), scope(namespace.as_deref()))]
    Forbidden {
        /// Who was refused.
        user: String,
        /// The verb; `grant` when a Role would give more than its writer holds.
        verb: String,
        /// The resource, with its subresource.
        resource: String,
        /// The API group; empty for the core group.
        group: String,
        /// The namespace, or None for the cluster scope.
        namespace: Option<String>,
    },
    /// An admission rule or a quota refused an object.
    #[error("the api-server refused {object}: {message}")]
    AdmissionRefused {
        /// The object, as `kind "name"` or as helm names it.
        object: String,
        /// The server's message.
        message: String,
    },
    /// A quota of the namespace is used up.
    #[error("a quota refuses {object}: {message}; raise the quota or ask for less")]
    QuotaExceeded {
        /// The object.
        object: String,
        /// The server's message.
        message: String,
    },
    /// An object of that name is there and belongs to somebody else.
    #[error(
        "{object} exists and does not belong to this release: {message}; remove it or choose another name or namespace"
    )]
    ForeignRelease {
        /// The object: `Service "demo" in namespace "b"`.
        object: String,
        /// Helm's reason.
        message: String,
    },
    /// The change touches a field that cannot change.
    #[error(
        "{object} has fields that cannot be changed: {message}; undo the change, or delete and recreate"
    )]
    ImmutableField {
        /// The object: `StatefulSet "demo"`.
        object: String,
        /// The server's message.
        message: String,
    },
    /// The api-server finds an object of the chart invalid.
    #[error(
        "the api-server refuses {object} as invalid: {message}; correct the values that lead to it"
    )]
    ObjectInvalid {
        /// The object: `Service "demo"`.
        object: String,
        /// The server's message.
        message: String,
    },
    /// Another field manager owns a field of the release.
    #[error(
        "{manager} owns fields of {object} that the chart sets: {fields}; repair with force, or leave the field out"
    )]
    ApplyConflict {
        /// The object.
        object: String,
        /// The other field manager.
        manager: String,
        /// The fields.
        fields: String,
    },
    /// The release is locked by an operation that is under way, or died.
    #[error(
        "another operation of release {release} is under way; it is tried again when that ends"
    )]
    OperationInProgress {
        /// The release.
        release: String,
    },
    /// There is no such release or revision.
    #[error("release {release} has no such revision")]
    RevisionNotFound {
        /// The release.
        release: String,
    },
    /// The namespace is not there or is going away.
    #[error("namespace {namespace} is missing or is being deleted")]
    NamespaceUnavailable {
        /// The namespace.
        namespace: String,
    },
    /// The operation took longer than allowed.
    #[error("helm did not finish within {} s; it is tried again", after.as_secs())]
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// The api-server cannot be reached, or does not know us.
    #[error("the Kubernetes API cannot be reached: {message}; it is tried again")]
    ClusterUnreachable {
        /// Helm's message.
        message: String,
    },
    /// Helm was killed from outside.
    #[error("helm was killed by signal {signal}; it is tried again")]
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// This driver was shut down: the process is about to end.
    #[error("the operator is shutting down; the operation is taken up again by its successor")]
    ShutDown,
    /// Helm failed in a way that none of the above describes.
    #[error("helm failed (exit code {code}): {message}")]
    Failed {
        /// Helm's exit code.
        code: i32,
        /// Its message, redacted and cut.
        message: String,
    },
    /// The local disk or a pipe failed.
    #[error("cannot {what}: {source}; check the operator's disk and memory")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A request of our own to the api-server failed.
    #[error("cannot {what}: {source}")]
    Kube {
        /// What was tried.
        what: &'static str,
        /// What the client said.
        source: Box<kubebyon_k8s::kube::Error>,
    },
}

impl Error {
    /// The CamelCase word for this cause, for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::HelmMissing { .. } => "HelmMissing",
            Self::HelmVersion { .. } => "HelmVersionUnsupported",
            Self::ChartNotFound { .. } => "ChartNotFound",
            Self::ChartVersionNotFound { .. } => "ChartVersionNotFound",
            Self::DigestMismatch { .. } => "ChartDigestMismatch",
            Self::ChartInvalid { .. } => "ChartInvalid",
            Self::ChartTooLarge { .. } => "ChartTooLarge",
            Self::RepositoryRefused { .. } => "RepositoryRefused",
            Self::RepositoryUnreachable { .. } => "RepositoryUnreachable",
            Self::RepositoryUnauthorized { .. } => "RepositoryUnauthorized",
            Self::ValuesNotAMapping { .. } => "ValuesNotAMapping",
            Self::ValuesUnprintable { .. } => "ValuesUnprintable",
            Self::SchemaViolation { .. } => "SchemaViolation",
            Self::RenderFailed { .. } => "RenderFailed",
            Self::KindNotServed { .. } => "KindNotServed",
            Self::Forbidden { .. } => "Forbidden",
            Self::AdmissionRefused { .. } => "AdmissionRefused",
            Self::QuotaExceeded { .. } => "QuotaExceeded",
            Self::ForeignRelease { .. } => "ForeignRelease",
            Self::ImmutableField { .. } => "ImmutableField",
            Self::ObjectInvalid { .. } => "ObjectInvalid",
            Self::ApplyConflict { .. } => "ApplyConflict",
            Self::OperationInProgress { .. } => "OperationInProgress",
            Self::RevisionNotFound { .. } => "RevisionNotFound",
            Self::NamespaceUnavailable { .. } => "NamespaceUnavailable",
            Self::Timeout { .. } => "HelmTimeout",
            Self::ClusterUnreachable { .. } => "ClusterUnreachable",
            Self::Killed { .. } => "HelmKilled",
            Self::ShutDown => "ShuttingDown",
            Self::Failed { .. } => "HelmFailed",
            Self::Io { .. } => "LocalIoFailed",
            Self::Kube { .. } => "ApiRequestFailed",
        }
    }

    /// Whether only a change of what was asked for can help: another try of the same
    /// request is expected to fail in the same way.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::ChartNotFound { .. }
                | Self::ChartVersionNotFound { .. }
                | Self::DigestMismatch { .. }
                | Self::ChartInvalid { .. }
                | Self::ChartTooLarge { .. }
                | Self::RepositoryRefused { .. }
                | Self::ValuesNotAMapping { .. }
                | Self::ValuesUnprintable { .. }
                | Self::SchemaViolation { .. }
                | Self::RenderFailed { .. }
                | Self::ImmutableField { .. }
                | Self::ObjectInvalid { .. }
        )
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

fn join(violations: &[Violation]) -> String {
    violations
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

fn group_suffix(group: &str) -> String {
    if group.is_empty() {
        String::new()
    } else {
        format!(".{group}")
    }
}

fn scope(namespace: Option<&str>) -> String {
    namespace.map_or_else(
        || "cluster-wide".to_owned(),
        |namespace| format!("in namespace {namespace}"),
    )
}
