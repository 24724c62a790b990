//! `ManagedCluster`: one tenant cluster that a user asks for.

mod control_plane;
mod helm;
mod nodes;
mod parsed;
mod publication;
mod status;

pub use control_plane::{
    BackingStore, BackingStoreType, ControlPlane, DeployedEtcd, ExternalDatabase, Image, Service,
    ServiceType, Storage,
};
pub use helm::{Chart, ValuesSource, ValuesSourceKind};
pub use nodes::{NodeMode, Nodes, Placement, PrivateNodes, Quota};
pub use publication::{
    ArgoCd, BoundHostname, Kubeconfig, ManagedIngress, PublicAccessBinding, Workload,
};
pub use status::{
    Backend, BackendMode, Endpoints, HostnameRole, HostnameState, HostnameStatus,
    ManagedClusterStatus, Phase, ReleaseStatus,
};

use kubebyon_k8s::kube::CustomResource;
use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::refs::{is_default, none_if_empty};
use crate::schema::cel;

/// What a user asks of a tenant cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "kubebyon.app",
    version = "v1alpha1",
    kind = "ManagedCluster",
    plural = "managedclusters",
    shortname = "mcl",
    category = "kubebyon",
    namespaced,
    status = "ManagedClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A tenant Kubernetes cluster: one vCluster, run in a host namespace of its own.",
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.kubernetesVersion",
        description = "Kubernetes version of the tenant"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the cluster is in its life"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "Whether the cluster was proved to answer"
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".status.endpoints.public",
        description = "Public address of the tenant's API"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        description = "Why it is ready or not",
        priority = "1"
    ),
    printcolumn(
        name = "Host Namespace",
        type_ = "string",
        json_path = ".status.hostNamespace",
        description = "Namespace of the host cluster that the tenant runs in",
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
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(has(self.hostNamespace) ? self.hostNamespace : '') == (has(oldSelf.hostNamespace) ? oldSelf.hostNamespace : '')",
    "hostNamespace is immutable, also from unset to set: delete the cluster and create it anew to move it",
)])))]
pub struct ManagedClusterSpec {
    /// Kubernetes version of the tenant, in quotes: a minor such as "1.36", or a full version such
    /// as "1.36.3". A minor is resolved to a patch once and recorded in status. It moves up by one
    /// minor at a time and never down. Default: the chart's own version.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::kubernetes_version")]
    pub kubernetes_version: Option<String>,
    /// Namespace of the host cluster that the tenant runs in. Immutable. An existing namespace
    /// needs an annotation of the host admin. Default: byon-, a cut of the name, and a hash.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_dns_label")]
    pub host_namespace: Option<String>,
    /// The vCluster chart. What is unset here comes from the operator's flags.
    #[serde(default, skip_serializing_if = "is_default")]
    pub chart: Chart,
    /// The tenant's control plane.
    #[serde(default)]
    pub control_plane: ControlPlane,
    /// Which nodes run the tenant's pods.
    #[serde(default)]
    pub nodes: Nodes,
    /// Where on the host cluster the control plane's pods may run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub placement: Placement,
    /// Limits on what the tenant may use of the host cluster.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quota: Quota,
    /// Helm values out of ConfigMaps and Secrets of this namespace, merged in order, below values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub values_from: Vec<ValuesSource>,
    /// Helm values for the vCluster chart, over those of valuesFrom. Keys that the operator owns
    /// and keys that reach outside the tenant are refused, never overridden.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schemars(schema_with = "crate::schema::free_form")]
    pub values: serde_json::Map<String, serde_json::Value>,
    /// The public entrance of the tenant. Unset: reachable from inside the host cluster alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_access: Option<PublicAccessBinding>,
    /// How the tenant's kubeconfig is handed out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kubeconfig: Kubeconfig,
    /// Stops all work on this cluster: no Helm run, no writes. What runs keeps running, and
    /// deletion still works.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspend: bool,
    /// What deletion does with the host namespace, the volumes and the tenant's PKI.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Refuses the deletion of this object until it is false again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deletion_protection: bool,
}

/// What deletion of a ManagedCluster does with what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Namespace, volumes and PKI go with the cluster.
    #[default]
    Delete,
    /// They stay, and a ManagedCluster of the same namespace and name may claim them again.
    Retain,
}
