//! `PublicAccess`: an entrance from outside that tenant clusters attach to.

mod gateway_api;
mod parsed;
mod site;
mod status;
mod workload;

pub use gateway_api::{
    AddressMode, ControlPlaneGateway, GatewayApi, GatewayClassProfiles, PlatformGateway,
    RouteNamespaces, WorkloadGateway,
};
pub use site::{Platform, PlatformApi, PlatformWeb};
pub use status::{CertificateStatus, GatewayRole, GatewayStatus, PublicAccessStatus};
pub use workload::{
    BackendStrategy, CertManager, DefaultIngress, DnsGate, NodeAddressType, PodCidrRoute,
    PodCidrRouteMode, SelfManaged, Tls, WorkloadEdge,
};

use kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kubebyon_k8s::kube::CustomResource;
use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::refs::none_if_empty;
use crate::schema::cel;

/// What an entrance exposes. Only gatewayAPI belongs to one provider; the rest is the same for all.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "kubebyon.app",
    version = "v1alpha1",
    kind = "PublicAccess",
    plural = "publicaccesses",
    shortname = "pacc",
    category = "kubebyon",
    namespaced,
    status = "PublicAccessStatus",
    derive = "PartialEq",
    doc = "An entrance from outside: the platform's site, the tenants' APIs and the tenants' sites on public names.",
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.provider",
        description = "What carries the traffic"
    ),
    printcolumn(
        name = "Domain",
        type_ = "string",
        json_path = ".spec.controlPlane.domain",
        description = "Domain of the tenants' APIs"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "Whether the entrance is programmed"
    ),
    printcolumn(
        name = "Clusters",
        type_ = "integer",
        json_path = ".status.attachedClusters",
        description = "ManagedClusters that use the entrance"
    ),
    printcolumn(
        name = "Workload Domain",
        type_ = "string",
        json_path = ".spec.workload.domain",
        description = "Domain of the tenants' sites",
        priority = "1"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        description = "Why it is ready or not",
        priority = "1"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    ),
    crates(
        kube = "kubebyon_k8s::kube",
        kube_core = "kubebyon_k8s::kube::core",
        k8s_openapi = "kubebyon_k8s::k8s_openapi",
        schemars = "kubebyon_k8s::schemars",
        serde = "serde",
        serde_json = "serde_json"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "has(self.gatewayAPI) == (self.provider == 'GatewayAPI')",
        "gatewayAPI is given exactly with provider GatewayAPI: set both, or remove both",
    ),
    (
        "!has(self.workload) || !(self.workload.domain == self.controlPlane.domain || self.workload.domain.endsWith('.' + self.controlPlane.domain) || self.controlPlane.domain.endsWith('.' + self.workload.domain))",
        "controlPlane.domain and workload.domain overlap: neither may equal or lie under the other, such as clusters.example.com and apps.example.com",
    ),
    (
        "!has(self.workload) || !has(self.controlPlane.allowedDomains) || !self.controlPlane.allowedDomains.exists(d, d == self.workload.domain || d.endsWith('.' + self.workload.domain) || self.workload.domain.endsWith('.' + d))",
        "controlPlane.allowedDomains and workload.domain overlap: remove the allowed domain that equals, holds or lies under workload.domain",
    ),
])))]
pub struct PublicAccessSpec {
    /// What carries the traffic.
    pub provider: Provider,
    /// Whose ManagedClusters may attach.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
    /// The tenants' APIs.
    pub control_plane: ControlPlaneEdge,
    /// The platform's own site. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The tenants' sites. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadEdge>,
    /// Settings of Gateway API; exactly with provider GatewayAPI.
    #[serde(
        default,
        rename = "gatewayAPI",
        skip_serializing_if = "Option::is_none"
    )]
    pub gateway_api: Option<GatewayApi>,
}

/// What carries the traffic of an entrance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum Provider {
    /// Gateway API, by any controller of it that serves TLSRoute.
    GatewayAPI,
    /// HAProxy.
    HAProxy,
}

/// Whose ManagedClusters may attach.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(self.from == 'Selector') == (has(self.selector) && (size(self.selector.?matchLabels.orValue({})) > 0 || size(self.selector.?matchExpressions.orValue([])) > 0))",
    "allowedNamespaces.selector is given, and not empty, exactly with allowedNamespaces.from Selector: use from All for every namespace",
)])))]
pub struct AllowedNamespaces {
    /// Which namespaces.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Labels of the namespaces; exactly with from Selector.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::bounded::<LabelSelector>")]
    pub selector: Option<LabelSelector>,
}

/// Which namespaces are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The namespace of the PublicAccess.
    #[default]
    Same,
    /// Those whose labels match the selector.
    Selector,
    /// All.
    All,
}

/// The tenants' APIs on public names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneEdge {
    /// Domain below which the operator gives out names for the tenants' APIs.
    #[schemars(schema_with = "crate::schema::domain")]
    pub domain: String,
    /// More domains below which a ManagedCluster may ask for a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::domains")]
    pub allowed_domains: Vec<String>,
    /// Whether a name must resolve to the gateway before it counts as ready.
    #[serde(default)]
    pub dns_check: DnsCheck,
    /// Seconds between two probes of a public name that is at rest.
    #[serde(default = "ControlPlaneEdge::default_probe_interval_seconds")]
    #[schemars(range(min = 5, max = 3600))]
    pub probe_interval_seconds: i32,
}

impl ControlPlaneEdge {
    fn default_probe_interval_seconds() -> i32 {
        30
    }
}

/// Whether DNS is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DnsCheck {
    /// It is.
    #[default]
    Enabled,
    /// It is not: for names that only a client's own resolver knows.
    Disabled,
}
