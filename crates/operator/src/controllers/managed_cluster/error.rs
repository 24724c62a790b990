//! Why a step of a ManagedCluster is not done: one variant a cause.

use std::time::Duration;

use kubebyon_api::{
    Reason,
    conditions::ConditionType,
    types::{FieldError, Hostname, VersionStepError},
};
use kubebyon_k8s::kube::{self, core::Status};
use kubebyon_render::{
    exposure::{claim::NotAClaim, names::NameError},
    values::{ValuesError, policy::Refusal},
};

use crate::{dial::DialError, probe::DnsFault};

/// A step that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host namespace belongs to another ManagedCluster.
    #[error(
        "namespace {namespace} belongs to ManagedCluster {holder}; take another spec.hostNamespace"
    )]
    NamespaceClaimed {
        /// The host namespace.
        namespace: String,
        /// `namespace/name` of the holder.
        holder: String,
    },
    /// The host namespace is somebody else's.
    #[error(
        "namespace {namespace} exists and was not made for this cluster; take another spec.hostNamespace, or let the host admin run: kubectl annotate namespace {namespace} {annotation}={cluster}"
    )]
    NamespaceNotAllowed {
        /// The host namespace.
        namespace: String,
        /// The annotation that releases it.
        annotation: &'static str,
        /// `namespace/name` of this cluster.
        cluster: String,
    },
    /// The host namespace is on its way out.
    #[error("namespace {namespace} is being deleted; waiting until it is gone: {left}")]
    NamespaceTerminating {
        /// The host namespace.
        namespace: String,
        /// What the namespace controller says is left.
        left: String,
    },
    /// A field that the schema let through cannot be read.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Fields that do not go together.
    #[error("{field}: {message}")]
    InvalidField {
        /// The field's path.
        field: &'static str,
        /// What is wrong.
        message: &'static str,
    },
    /// Release and namespace are too long together.
    #[error(
        "name and host namespace {namespace} are {length} characters together, and the chart takes {limit}; give a shorter spec.hostNamespace"
    )]
    NameTooLong {
        /// The host namespace.
        namespace: String,
        /// Both lengths.
        length: usize,
        /// The most that is possible.
        limit: usize,
    },
    /// The version is not on offer.
    #[error("spec.kubernetesVersion: {wanted} is not on offer; take one of {offered}")]
    VersionNotSupported {
        /// The version asked for.
        wanted: String,
        /// The versions on offer.
        offered: String,
    },
    /// A downgrade, or more than one minor up.
    #[error("spec.kubernetesVersion: {0}")]
    VersionStep(#[from] VersionStepError),
    /// The image is not one that the host admin allows.
    #[error(
        "spec.controlPlane.image: {image} is not allowed; the host admin allows images below {allowed}"
    )]
    ImageNotAllowed {
        /// registry/repository.
        image: String,
        /// The allowed prefixes.
        allowed: String,
    },
    /// The feature needs a licence.
    #[error(
        "{feature} needs a vCluster licence; name the Secret with the platform's access key in spec.nodes.private.platformSecretRef"
    )]
    LicenseMissing {
        /// What needs it.
        feature: &'static str,
    },
    /// A Secret that the spec names is missing or lacks a key.
    #[error("{field}: Secret {namespace}/{name} {lack}")]
    SecretNotFound {
        /// The field that names it.
        field: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What is missing.
        lack: String,
    },
    /// An entry of valuesFrom is missing.
    #[error(
        "spec.valuesFrom: {kind} {namespace}/{name} {lack}; create it, or mark the entry optional"
    )]
    ValuesSourceNotFound {
        /// ConfigMap or Secret.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What is missing.
        lack: String,
    },
    /// Values that are no map, or keys that the author may not set.
    #[error(transparent)]
    Values(#[from] ValuesError),
    /// Helm, or the fetching of a chart, failed.
    #[error(transparent)]
    Helm(#[from] kubebyon_helm::Error),
    /// The store of the tenant cannot grow.
    #[error(
        "spec.controlPlane.storage.size: volume claim {claim} cannot grow to {size}: {message}; the tenant runs on with what it has, ask the host admin to set allowVolumeExpansion on the claim's StorageClass"
    )]
    StorageExpansionRefused {
        /// The claim.
        claim: String,
        /// The size wanted.
        size: String,
        /// The api-server's words.
        message: String,
    },
    /// The tenant's API did not prove itself.
    #[error("the tenant's API is not proved: {0}")]
    Dial(#[from] DialError),
    /// The tenant's certificates cannot be used.
    #[error("Secret {namespace}/{name}: {message}")]
    PkiInvalid {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What is wrong, without contents.
        message: String,
    },
    /// A pod of the control plane cannot run, and its node says why.
    #[error("{message}")]
    Pod {
        /// What keeps it.
        reason: Reason,
        /// The pod, the node's or the scheduler's words, and where to look.
        message: String,
    },
    /// A release of the wanted name is somebody else's.
    #[error(
        "namespace {namespace} holds a Helm release {release} that the operator did not make; take another spec.hostNamespace, or let its owner run: helm uninstall {release} -n {namespace}"
    )]
    ForeignRelease {
        /// The host namespace.
        namespace: String,
        /// The release.
        release: String,
    },
    /// An object of the wanted name is somebody else's.
    #[error("{kind} {namespace}/{name} exists and was not made for this cluster; {remedy}")]
    NotOwned {
        /// Its kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Argo CD was asked for, and the host admin named none.
    #[error(
        "spec.kubeconfig.argoCD.enabled: the operator runs without --argocd-namespace; ask the host admin, or set it to false"
    )]
    ArgoCdNotConfigured,
    /// The PublicAccess is not there.
    #[error(
        "spec.publicAccess.ref: PublicAccess {0} does not exist; create it, or correct the reference"
    )]
    PublicAccessNotFound(String),
    /// The PublicAccess does not admit the cluster's namespace.
    #[error(
        "spec.publicAccess.ref: PublicAccess {access} does not admit namespace {namespace}; ask its owner to widen spec.allowedNamespaces"
    )]
    AttachmentNotAllowed {
        /// `namespace/name` of the PublicAccess.
        access: String,
        /// The cluster's namespace.
        namespace: String,
    },
    /// The PublicAccess cannot serve anybody.
    #[error("PublicAccess {access} cannot serve: {message}; see its conditions")]
    PublicAccessUnusable {
        /// `namespace/name` of the PublicAccess.
        access: String,
        /// What is wrong with it.
        message: String,
    },
    /// Nothing serves the API.
    #[error(
        "the host cluster serves no Gateway API with TLSRoute; install it, and this goes on by itself"
    )]
    GatewayApiMissing,
    /// The name may not be asked for.
    #[error("spec.publicAccess.hostname: {0}")]
    Name(NameError),
    /// The name is another cluster's.
    #[error(
        "spec.publicAccess.hostname: {hostname} belongs to ManagedCluster {owner}; take another name"
    )]
    HostnameConflict {
        /// The name.
        hostname: Hostname,
        /// `namespace/name` of its holder.
        owner: String,
    },
    /// A ConfigMap stands where a claim should be.
    #[error(transparent)]
    NotAClaim(#[from] NotAClaim),
    /// The gateway's controller refuses the route.
    #[error("the controller of {gateway} does not accept the route: {message}")]
    RouteNotAccepted {
        /// The Gateway.
        gateway: String,
        /// The controller's words.
        message: String,
    },
    /// The name does not lead to the tenant's API.
    #[error("https://{hostname} does not answer through {gateway}: {message}")]
    ProbeFailed {
        /// The name.
        hostname: Hostname,
        /// The Gateway.
        gateway: String,
        /// At which step it failed.
        message: String,
    },
    /// The name does not lead to the entrance.
    #[error("{fault}; create: {records}")]
    Dns {
        /// What was found.
        fault: DnsFault,
        /// The records that are needed.
        records: String,
    },
    /// The api-server refused a request.
    #[error("cannot {what}: {}", words(source))]
    Api {
        /// What was tried.
        what: &'static str,
        /// What the client said.
        source: kube::Error,
    },
    /// A value that has to serialise does not.
    #[error("cannot build {what}: {message}; report this as a bug")]
    Internal {
        /// What was built.
        what: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl Error {
    /// For `map_err`: a request of ours failed.
    pub fn api(what: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { what, source }
    }

    /// The word for conditions, events and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NamespaceClaimed { .. } => Reason::NamespaceClaimed,
            Self::NamespaceNotAllowed { .. } => Reason::NamespaceNotAllowed,
            Self::NamespaceTerminating { .. } => Reason::NamespaceTerminating,
            Self::Field(_) | Self::InvalidField { .. } => Reason::InvalidSpec,
            Self::NameTooLong { .. } => Reason::NameTooLong,
            Self::VersionNotSupported { .. } => Reason::VersionNotSupported,
            Self::VersionStep(_) => Reason::VersionStepRefused,
            Self::ImageNotAllowed { .. } => Reason::ImageNotAllowed,
            Self::LicenseMissing { .. } => Reason::LicenseMissing,
            Self::SecretNotFound { .. } => Reason::SecretNotFound,
            Self::ValuesSourceNotFound { .. } => Reason::ValuesSourceNotFound,
            Self::Values(ValuesError::Refused(refusals))
                if refusals.iter().any(Refusal::operator_owned) =>
            {
                Reason::OperatorOwnedValue
            }
            Self::Values(ValuesError::Refused(_)) => Reason::ValueNotAllowed,
            Self::Values(_) => Reason::ValuesInvalid,
            Self::Helm(error) => helm_reason(error),
            Self::StorageExpansionRefused { .. } => Reason::StorageExpansionRefused,
            Self::Dial(DialError::Tls { .. } | DialError::BadCa(_) | DialError::BadName(_)) => {
                Reason::ControlPlaneUntrusted
            }
            Self::Dial(_) => Reason::ControlPlaneUnreachable,
            Self::PkiInvalid { .. } => Reason::KubeconfigInvalid,
            Self::Pod { reason, .. } => *reason,
            Self::ForeignRelease { .. } => Reason::ForeignRelease,
            Self::NotOwned { .. } => Reason::NotOwned,
            Self::ArgoCdNotConfigured => Reason::ArgoCDNotConfigured,
            Self::PublicAccessNotFound(_) => Reason::PublicAccessNotFound,
            Self::AttachmentNotAllowed { .. } => Reason::AttachmentNotAllowed,
            Self::PublicAccessUnusable { .. } => Reason::PublicAccessNotReady,
            Self::GatewayApiMissing => Reason::GatewayAPIMissing,
            Self::Name(error) => error.reason(),
            Self::HostnameConflict { .. } | Self::NotAClaim(_) => Reason::HostnameConflict,
            Self::RouteNotAccepted { .. } => Reason::RouteNotAccepted,
            Self::ProbeFailed { .. } => Reason::ProbeFailed,
            Self::Dns {
                fault: DnsFault::Unanswered(_),
                ..
            } => Reason::DNSServerUnavailable,
            Self::Dns { .. } => Reason::DNSNotReady,
            Self::Api {
                source: kube::Error::Api(status),
                ..
            } => refusal(status),
            Self::Api { .. } => Reason::ApiServerError,
            Self::Internal { .. } => Reason::InternalError,
        }
    }

    /// Whether only a change can help: of the spec, or of what the message names.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Helm(error) => error.is_terminal() || self.is_mended_outside(),
            Self::NamespaceTerminating { .. }
            | Self::Dial(_)
            | Self::Pod { .. }
            | Self::ProbeFailed { .. }
            | Self::Dns { .. } => false,
            Self::Api { .. } => self.is_mended_outside(),
            _ => true,
        }
    }

    /// Whether the change that can help may come from where nothing is watched, so that
    /// to try again now and then is all that can be done.
    pub fn is_mended_outside(&self) -> bool {
        matches!(
            self.reason(),
            Reason::Forbidden
                | Reason::QuotaExceeded
                | Reason::ForeignRelease
                | Reason::ChartUnauthorized
                | Reason::StorageExpansionRefused
        ) || matches!(
            self,
            Self::Helm(
                kubebyon_helm::Error::AdmissionRefused { .. }
                    | kubebyon_helm::Error::KindNotServed { .. }
            )
        )
    }
}

/// What the client said, once: its own words hold the api-server's answer twice.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if refusal(status) == Reason::Forbidden => format!(
            "{}; let the host admin grant that, or compare the operator's ClusterRole with the one of its version",
            status.message
        ),
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

/// Of the refusals of the api-server, only some are about rights.
fn refusal(status: &Status) -> Reason {
    let says = |words: &str| status.message.contains(words);
    match status.code {
        403 if says("because it is being terminated") => Reason::NamespaceTerminating,
        403 if says("exceeded quota") => Reason::QuotaExceeded,
        403 => Reason::Forbidden,
        _ => Reason::ApiServerError,
    }
}

fn helm_reason(error: &kubebyon_helm::Error) -> Reason {
    use kubebyon_helm::Error as Helm;
    match error {
        Helm::ChartNotFound { .. } => Reason::ChartNotFound,
        Helm::ChartVersionNotFound { .. } => Reason::ChartVersionNotFound,
        Helm::DigestMismatch { .. } => Reason::DigestMismatch,
        Helm::ChartInvalid { .. } => Reason::ChartInvalid,
        Helm::ChartTooLarge { .. } => Reason::ChartTooLarge,
        Helm::RepositoryRefused { .. } => Reason::ChartRepositoryNotAllowed,
        Helm::RepositoryUnreachable { .. } => Reason::ChartRepositoryUnavailable,
        Helm::RepositoryUnauthorized { .. } => Reason::ChartUnauthorized,
        Helm::ValuesNotAMapping { .. } => Reason::ValuesInvalid,
        Helm::SchemaViolation { .. } => Reason::SchemaViolation,
        Helm::RenderFailed { .. } => Reason::RenderFailed,
        Helm::Forbidden { .. } => Reason::Forbidden,
        Helm::QuotaExceeded { .. } => Reason::QuotaExceeded,
        Helm::ForeignRelease { .. } => Reason::ForeignRelease,
        Helm::OperationInProgress { .. } => Reason::ReleaseLocked,
        Helm::NamespaceUnavailable { .. } => Reason::NamespaceTerminating,
        Helm::Timeout { .. } | Helm::Killed { .. } | Helm::ShutDown => Reason::Timeout,
        Helm::ClusterUnreachable { .. } | Helm::Kube { .. } => Reason::ApiServerError,
        Helm::HelmMissing { .. } | Helm::HelmVersion { .. } | Helm::Io { .. } => {
            Reason::InternalError
        }
        _ => Reason::ReleaseFailed,
    }
}

/// A step that is not done.
#[derive(Debug)]
pub enum Halt {
    /// Nothing is wrong; something has to happen first.
    Waiting(Wait),
    /// Something is wrong.
    Failed(Error),
    /// Something was wrong when it was last tried, and its time has not come again.
    Recalled(Recalled),
}

/// What a step waits for.
#[derive(Debug)]
pub struct Wait {
    /// The word for the condition.
    pub reason: Reason,
    /// What is waited for, for people.
    pub message: String,
    /// When to look again, where no watch tells.
    pub look_again: Option<Duration>,
}

/// A failure that is remembered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recalled {
    /// The word for the condition.
    pub reason: Reason,
    /// The message of then.
    pub message: String,
    /// Whether only a change can help.
    pub terminal: bool,
    /// Until the next try.
    pub pause: Duration,
}

impl Halt {
    /// Waits for what a watch will tell.
    pub fn wait(reason: Reason, message: impl Into<String>) -> Self {
        Self::Waiting(Wait {
            reason,
            message: message.into(),
            look_again: None,
        })
    }

    /// Waits for what no watch tells.
    pub fn wait_for(reason: Reason, message: impl Into<String>, look_again: Duration) -> Self {
        Self::Waiting(Wait {
            reason,
            message: message.into(),
            look_again: Some(look_again),
        })
    }

    /// The word for the condition.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Waiting(wait) => wait.reason,
            Self::Failed(error) => error.reason(),
            Self::Recalled(recalled) => recalled.reason,
        }
    }

    /// The message for the condition.
    pub fn message(&self) -> String {
        match self {
            Self::Waiting(wait) => wait.message.clone(),
            Self::Failed(error) => error.to_string(),
            Self::Recalled(recalled) => recalled.message.clone(),
        }
    }

    /// Whether only a change from outside can help.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Waiting(_) => false,
            Self::Failed(error) => error.is_terminal(),
            Self::Recalled(recalled) => recalled.terminal,
        }
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The steps of a cluster's way to readiness, in their order.
pub const STEPS: [ConditionType; 6] = [
    ConditionType::NamespaceReady,
    ConditionType::ReleaseDeployed,
    ConditionType::ControlPlaneAvailable,
    ConditionType::DnsReady,
    ConditionType::PublicEndpointReady,
    ConditionType::KubeconfigPublished,
];
