//! The tenants' sites.

use std::collections::BTreeMap;

use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::managed_cluster::Chart;
use crate::refs::{IssuerRef, is_default, none_if_empty};
use crate::schema::cel;

/// The tenants' sites on public names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "!self.certManager.enabled || (self.tls.enabled && self.certManager.?issuerRef.?name.orValue('') != '')",
        "workload.certManager.enabled needs workload.tls.enabled true and workload.certManager.issuerRef.name: set both, or certManager.enabled to false",
    ),
    (
        "!self.certManager.selfManaged.enabled || (self.tls.enabled && (self.certManager.selfManaged.?issuerRef.?name.orValue('') != '' || self.certManager.?issuerRef.?name.orValue('') != ''))",
        "workload.certManager.selfManaged.enabled needs workload.tls.enabled true and an issuer: set workload.certManager.selfManaged.issuerRef.name or workload.certManager.issuerRef.name, or selfManaged.enabled to false",
    ),
])))]
pub struct WorkloadEdge {
    /// Domain below which the operator gives out names for the tenants' sites.
    #[schemars(schema_with = "crate::schema::domain")]
    pub domain: String,
    /// How the gateways reach the tenants' ingress controllers.
    #[serde(default)]
    pub backend_strategy: BackendStrategy,
    /// Which address of a node is dialled when node ports are used.
    #[serde(default)]
    pub node_address_type: NodeAddressType,
    /// The ingress controller of the clusters that name none themselves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub managed_ingress: DefaultIngress,
    /// How names are proved by DNS.
    #[serde(default)]
    pub dns: DnsGate,
    /// Routes from the host's nodes to the pods of tenants with nodes of their own.
    #[serde(default, rename = "podCIDRRoute")]
    pub pod_cidr_route: PodCidrRoute,
    /// HTTPS for the tenants' sites.
    #[serde(default)]
    pub tls: Tls,
    /// Certificates by cert-manager.
    #[serde(default)]
    pub cert_manager: CertManager,
}

/// How the gateways reach a tenant's ingress controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum BackendStrategy {
    /// By the pods' addresses where that is proved to work, else by node ports.
    #[default]
    Auto,
    /// By ports of the nodes.
    NodePort,
    /// By the pods' addresses.
    PodIP,
}

/// Which address of a node is dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum NodeAddressType {
    /// The address inside the nodes' network.
    #[default]
    InternalIP,
    /// The address outside.
    ExternalIP,
}

impl NodeAddressType {
    /// The word that Kubernetes uses in a Node's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InternalIP => "InternalIP",
            Self::ExternalIP => "ExternalIP",
        }
    }
}

/// The ingress controller of clusters that name none themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DefaultIngress {
    /// Its chart.
    #[serde(default, skip_serializing_if = "is_default")]
    pub chart: Chart,
}

/// How names are proved by DNS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DnsGate {
    /// DNS servers to ask. Default: those of the operator's pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::dns_servers")]
    pub servers: Vec<String>,
    /// Whether a name enters a certificate only once its DNS is proved.
    #[serde(default = "DnsGate::default_gate")]
    pub gate: bool,
}

impl DnsGate {
    fn default_gate() -> bool {
        true
    }
}

impl Default for DnsGate {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            gate: Self::default_gate(),
        }
    }
}

/// Routes from the host's nodes to the pods of tenants with nodes of their own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!self.enabled || size(self.?allowedCIDRs.orValue([])) > 0",
    "workload.podCIDRRoute.enabled needs workload.podCIDRRoute.allowedCIDRs: list the ranges that tenants' pods may use, or set enabled to false",
)])))]
pub struct PodCidrRoute {
    /// Whether the operator makes such routes.
    #[serde(default)]
    pub enabled: bool,
    /// Who writes the routes.
    #[serde(default)]
    pub mode: PodCidrRouteMode,
    /// Ranges that every route must fall inside.
    #[serde(
        default,
        rename = "allowedCIDRs",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "crate::schema::cidrs")]
    pub allowed_cidrs: Vec<String>,
    /// Namespace of the WorkloadRoutePlans. Default: the namespace of the PublicAccess.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_dns_label")]
    pub control_namespace: Option<String>,
    /// Labels of the host nodes that get the routes: those that the gateways run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::node_labels")]
    pub target_node_selector: BTreeMap<String, String>,
    /// Seconds without a sign of life after which an agent counts as stale. Its routes stay.
    #[serde(default = "PodCidrRoute::default_stale_after_seconds")]
    #[schemars(range(min = 10, max = 3600))]
    pub stale_after_seconds: i32,
    /// Seconds between two full comparisons of a node's routes.
    #[serde(default = "PodCidrRoute::default_sync_interval_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub sync_interval_seconds: i32,
    /// Seconds that one write of routes may take.
    #[serde(default = "PodCidrRoute::default_apply_timeout_seconds")]
    #[schemars(range(min = 1, max = 120))]
    pub apply_timeout_seconds: i32,
}

impl PodCidrRoute {
    fn default_stale_after_seconds() -> i32 {
        120
    }

    fn default_sync_interval_seconds() -> i32 {
        30
    }

    fn default_apply_timeout_seconds() -> i32 {
        10
    }
}

impl Default for PodCidrRoute {
    fn default() -> Self {
        Self {
            enabled: false,
            mode: PodCidrRouteMode::default(),
            allowed_cidrs: Vec::new(),
            control_namespace: None,
            target_node_selector: BTreeMap::new(),
            stale_after_seconds: Self::default_stale_after_seconds(),
            sync_interval_seconds: Self::default_sync_interval_seconds(),
            apply_timeout_seconds: Self::default_apply_timeout_seconds(),
        }
    }
}

/// Who writes the routes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PodCidrRouteMode {
    /// An agent on each node.
    #[default]
    RouteAgent,
    /// One pod in the network of the node that the gateways run on.
    Local,
}

/// HTTPS for the tenants' sites.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Whether HTTPS is served.
    #[serde(default)]
    pub enabled: bool,
    /// Shared TLS Secret, in the namespace of the workload Gateway. Without certManager it is the
    /// user's, and the names in it decide what is covered. Default: the name of the PublicAccess
    /// followed by -workload-tls.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub secret_name: Option<String>,
    /// Whether plain HTTP is answered by a redirect (302) to HTTPS, for names with a certificate.
    #[serde(default, skip_serializing_if = "is_default")]
    pub http_to_https_redirect: bool,
}

/// Certificates by cert-manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertManager {
    /// Whether cert-manager issues the shared certificates. Needs tls.enabled and issuerRef.
    #[serde(default)]
    pub enabled: bool,
    /// Issuer of the shared certificates.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub issuer_ref: Option<IssuerRef>,
    /// Certificates for names of other people's domains, one each.
    #[serde(default)]
    pub self_managed: SelfManaged,
}

/// Certificates for names of other people's domains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelfManaged {
    /// Whether cert-manager issues them. Needs tls.enabled and one of the two issuers.
    #[serde(default)]
    pub enabled: bool,
    /// Their issuer. Default: the issuer of the shared certificates.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub issuer_ref: Option<IssuerRef>,
}
