//! Where a tenant's pods and its control plane run, and how much they may use.

use std::collections::BTreeMap;

use kubebyon_k8s::k8s_openapi::api::core::v1::Toleration;
use kubebyon_k8s::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::refs::{SecretRef, none_if_empty};
use crate::schema::cel;

/// Which nodes run the tenant's pods: a union by mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "self.mode == oldSelf.mode",
        "nodes.mode is immutable: create a new cluster with the other mode",
    ),
    (
        "has(self.private) == (self.mode == 'Private')",
        "nodes.private is given exactly with nodes.mode Private: set both, or remove both",
    ),
])))]
pub struct Nodes {
    /// Whose nodes they are. Immutable.
    #[serde(default)]
    pub mode: NodeMode,
    /// The tenant's own nodes; exactly with mode Private.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<PrivateNodes>,
}

/// Whose nodes run a tenant's pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum NodeMode {
    /// The host cluster's nodes run the tenant's pods.
    #[default]
    Shared,
    /// The tenant has nodes of its own, which join its control plane.
    Private,
}

/// The tenant's own nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "self.podCIDR == oldSelf.podCIDR",
        "nodes.private.podCIDR is immutable: create a new cluster with the other range",
    ),
    (
        "self.serviceCIDR == oldSelf.serviceCIDR",
        "nodes.private.serviceCIDR is immutable: create a new cluster with the other range",
    ),
    (
        "!isCIDR(self.podCIDR) || !isCIDR(self.serviceCIDR) || !(cidr(self.podCIDR).containsCIDR(cidr(self.serviceCIDR)) || cidr(self.serviceCIDR).containsCIDR(cidr(self.podCIDR)))",
        "nodes.private.podCIDR and nodes.private.serviceCIDR overlap: give ranges that have no address in common",
    ),
    (
        "!isCIDR(self.podCIDR) || !isCIDR(self.serviceCIDR) || cidr(self.podCIDR).ip().family() == cidr(self.serviceCIDR).ip().family()",
        "nodes.private.podCIDR and nodes.private.serviceCIDR must be of one address family: both IPv4 or both IPv6",
    ),
])))]
pub struct PrivateNodes {
    /// Address range of the tenant's pods, disjoint from every other tenant's. Immutable.
    #[serde(rename = "podCIDR")]
    #[schemars(schema_with = "crate::schema::cidr")]
    pub pod_cidr: String,
    /// Address range of the tenant's Services. Immutable.
    #[serde(rename = "serviceCIDR")]
    #[schemars(schema_with = "crate::schema::cidr")]
    pub service_cidr: String,
    /// Secret of this namespace with the access to the vCluster platform that holds the licence
    /// (keys accessKey, host, project, insecure, certificateAuthorityData).
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub platform_secret_ref: Option<SecretRef>,
}

/// Where on the host cluster the control plane's pods may run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Labels that a host node must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::node_labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of host nodes that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::bounded_list::<Toleration>")]
    pub tolerations: Vec<Toleration>,
    /// Runtime class of the control plane's pods.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub runtime_class_name: Option<String>,
}

/// Limits on what a tenant may use of the host cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Hard limits of the ResourceQuota in the host namespace, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::quantities")]
    pub hard: BTreeMap<String, Quantity>,
}
