//! Why an entrance is not there: one variant a cause.

use kubebyon_api::Reason;
use kubebyon_k8s::kube;
use kubebyon_render::{exposure::ExposureError, gateway_api::LayoutError};

/// Something that keeps a PublicAccess from being carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such renderer.
    #[error(
        "spec.provider: this version of the operator has no provider {0}; set it to GatewayAPI"
    )]
    ProviderUnavailable(&'static str),
    /// Nothing serves the API.
    #[error(
        "the host cluster serves no Gateway API with TLSRoute; install it, and this goes on by itself"
    )]
    GatewayApiMissing,
    /// The class is not there.
    #[error(
        "GatewayClass {class} of {gateway} does not exist; create it, or correct spec.gatewayAPI"
    )]
    GatewayClassNotFound {
        /// The class.
        class: String,
        /// The Gateway that wants it.
        gateway: String,
    },
    /// A Gateway of that name is somebody else's.
    #[error(
        "Gateway {gateway} exists and was not made for this PublicAccess; rename it in spec.gatewayAPI, or hand it over: kubectl annotate gateway -n {namespace} {name} {annotation}={access}"
    )]
    NotOwned {
        /// namespace/name.
        gateway: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The annotation that hands it over.
        annotation: &'static str,
        /// namespace/name of the PublicAccess.
        access: String,
    },
    /// The Gateway may not be in that namespace.
    #[error(
        "Gateway {gateway} is wanted outside of the PublicAccess's own namespace; leave the field empty, or let the host admin run: kubectl annotate namespace {namespace} {annotation}={access}"
    )]
    NamespaceNotAllowed {
        /// namespace/name.
        gateway: String,
        /// Its namespace.
        namespace: String,
        /// The annotation that releases the namespace.
        annotation: &'static str,
        /// namespace/name of the PublicAccess.
        access: String,
    },
    /// The spec cannot be rendered.
    #[error(transparent)]
    Exposure(#[from] ExposureError),
    /// The Gateways cannot be laid out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Clusters are attached, so the entrance stays.
    #[error("{count} ManagedClusters use this entrance: {some}; detach or delete them first")]
    InUse {
        /// How many.
        count: usize,
        /// The first of them.
        some: String,
    },
    /// Clusters have moved to another entrance or are detached, and are still led through this one.
    #[error(
        "{count} ManagedClusters that name another entrance by now, or none, are still led through this one: {some}; \
         each leaves once what comes after is proved, which its conditions tell; delete those that cannot be mended"
    )]
    NotLeftYet {
        /// How many.
        count: usize,
        /// The first of them.
        some: String,
    },
    /// The api-server refused a request.
    #[error("cannot {what}: {source}")]
    Api {
        /// What was tried.
        what: &'static str,
        /// What the client said.
        source: kube::Error,
    },
    /// The watches have told nothing.
    #[error(
        "the watches have not told what is there within {0:?}; grant the operator's ClusterRole list and watch on what the log names"
    )]
    WatchesSilent(std::time::Duration),
    /// A watch ended, or a value did not serialise.
    #[error("{0}; report this as a bug")]
    Internal(String),
}

impl Error {
    /// For `map_err`: a request of ours failed.
    pub fn api(what: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { what, source }
    }

    /// The word for conditions, events and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::ProviderUnavailable(_) => Reason::ProviderUnavailable,
            Self::GatewayApiMissing => Reason::GatewayAPIMissing,
            Self::GatewayClassNotFound { .. } => Reason::GatewayClassNotFound,
            Self::NotOwned { .. } => Reason::NotOwned,
            Self::NamespaceNotAllowed { .. } => Reason::GatewayNamespaceNotAllowed,
            Self::Exposure(error) => error.reason(),
            Self::Layout(error) => error.reason(),
            Self::InUse { .. } | Self::NotLeftYet { .. } => Reason::InUse,
            Self::Api {
                source: kube::Error::Api(status),
                ..
            } if status.code == 403 => Reason::Forbidden,
            Self::Api { .. } | Self::WatchesSilent(_) => Reason::ApiServerError,
            Self::Internal(_) => Reason::InternalError,
        }
    }

    /// Whether only a change of the spec, or of what is watched, can help.
    pub fn is_terminal(&self) -> bool {
        !matches!(
            self,
            Self::Api { .. } | Self::WatchesSilent(_) | Self::Internal(_)
        )
    }
}
