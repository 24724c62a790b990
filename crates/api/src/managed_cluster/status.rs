//! What the controllers say about a tenant cluster.

use kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::refs::SecretRef;

/// What is known about a tenant cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the cluster is in its life, for people; programs read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Full Kubernetes version of the tenant, without a leading v.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub kubernetes_version: Option<String>,
    /// The conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The Helm release of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseStatus>,
    /// Where the tenant's API answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// The Secret that holds the tenant's kubeconfig, in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<SecretRef>,
    /// Namespace of the host cluster that the tenant runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub host_namespace: Option<String>,
    /// The host name that the tenant's sites always answer to; self-managed names point at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub canonical_hostname: Option<String>,
    /// Every public host name of the tenant and how far it is, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 300),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub hostnames: Vec<HostnameStatus>,
    /// What the workload edge sends the tenant's traffic to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
}

/// Where a cluster is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Phase {
    /// Seen, and nothing made yet.
    #[default]
    Pending,
    /// Its first release is on the way.
    Installing,
    /// Proved to answer.
    Ready,
    /// A change is on the way.
    Updating,
    /// It was ready, and something of it does not answer now.
    Degraded,
    /// Only a change of the spec can help.
    Failed,
    /// Left alone, because spec.suspend asks so.
    Suspended,
    /// On its way out.
    Deleting,
    /// A word of a newer version of the operator.
    #[serde(other)]
    Unknown,
}

/// The Helm release of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// Name of the release.
    #[schemars(length(max = 53))]
    pub name: String,
    /// Namespace of the release.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Revision that is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Version of the chart that is deployed; pinned here when the spec names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub chart_version: Option<String>,
    /// Digest of the chart archive that is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub chart_digest: Option<String>,
    /// Hash of the values that are deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub values_hash: Option<String>,
    /// Failed attempts since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<i32>,
}

/// Where a tenant's API answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Address inside the host cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub internal: Option<String>,
    /// Address on the host's nodes, with Service type NodePort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub node_port: Option<String>,
    /// Public address, proved by dialling it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub public: Option<String>,
}

/// How far one public host name is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostnameStatus {
    /// The host name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// What the name is for.
    pub role: HostnameRole,
    /// Whether its DNS leads to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<HostnameState>,
    /// Whether a certificate covers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<HostnameState>,
    /// Whether a route carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<HostnameState>,
    /// Why it is not further, one of the reasons of the troubleshooting page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// The DNS record that its owner has to create, in zone file form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub expected_record: Option<String>,
}

/// What a public host name is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum HostnameRole {
    /// The tenant's API.
    ControlPlane,
    /// The tenant's sites, under the name that the operator gave.
    Canonical,
    /// The tenant's sites, under a name of the PublicAccess's domain.
    Managed,
    /// The tenant's sites, under a name of somebody else's domain.
    SelfManaged,
    /// A word of a newer version of the operator.
    #[serde(other)]
    Unknown,
}

/// How far one aspect of a host name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HostnameState {
    /// Proved.
    Ready,
    /// On the way, or waiting for its owner.
    Pending,
    /// Refused; the reason tells why.
    Failed,
    /// Not asked for.
    NotRequired,
    /// Not looked at yet, or a word of a newer version of the operator.
    #[serde(other)]
    Unknown,
}

/// What the workload edge sends a tenant's traffic to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Whether pods or node ports are dialled.
    pub mode: BackendMode,
    /// Port that is dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The tenant's Service that the addresses come from, as namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub source: Option<String>,
    /// Addresses that are dialled; the first 100 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 45)), extend("x-kubernetes-list-type" = "set"))]
    pub addresses: Vec<String>,
}

/// What the workload edge dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum BackendMode {
    /// The tenant's pods.
    PodIP,
    /// A port of the nodes.
    NodePort,
    /// A word of a newer version of the operator.
    #[serde(other)]
    Unknown,
}
