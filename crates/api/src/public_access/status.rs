//! What the controllers say about an entrance.

use kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

/// What is known about an entrance.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublicAccessStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The Gateways of this entrance, by role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 3),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["role"])
    )]
    pub gateways: Vec<GatewayStatus>,
    /// Number of ManagedClusters that use this entrance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_clusters: Option<i32>,
    /// The certificates of this entrance; the first 200 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 200),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["secretName"])
    )]
    pub certificates: Vec<CertificateStatus>,
}

/// One Gateway of an entrance.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// What the Gateway is for.
    pub role: GatewayRole,
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its GatewayClass.
    #[schemars(length(max = 253))]
    pub class_name: String,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub addresses: Vec<String>,
    /// Listeners in use.
    #[serde(default)]
    pub listeners_used: i32,
    /// Listeners that there may be.
    #[serde(default)]
    pub listeners_limit: i32,
}

/// What a Gateway is for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub enum GatewayRole {
    /// The tenants' APIs.
    ControlPlane,
    /// The platform's site.
    Platform,
    /// The tenants' sites.
    Workload,
    /// A word of a newer version of the operator.
    #[serde(other)]
    Unknown,
}

/// One certificate of an entrance.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Its TLS Secret.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// The names that it covers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub names: Vec<String>,
}
