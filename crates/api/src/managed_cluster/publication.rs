//! How a tenant is reached from outside.

use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use super::Chart;
use crate::refs::{ObjectRef, SecretRef, is_default, none_if_empty};
use crate::schema::cel;

/// The public entrance that a tenant uses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!has(self.hostname) || self.hostname == '' || !has(self.workload) || !has(self.workload.hostnames) || !self.workload.hostnames.exists(h, h.name == self.hostname)",
    "publicAccess.hostname and publicAccess.workload.hostnames name the same host: one leads to the API, the other to sites; take two names",
)])))]
pub struct PublicAccessBinding {
    /// The PublicAccess. It must allow the namespace of this ManagedCluster.
    #[serde(rename = "ref")]
    pub ref_: ObjectRef,
    /// Public host name of the tenant's API, under a domain of the PublicAccess. Default: the
    /// name, a hash, and the domain of the PublicAccess; kept for life.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_hostname")]
    pub hostname: Option<String>,
    /// The tenant's own sites.
    #[serde(default)]
    pub workload: Workload,
}

/// The tenant's own sites.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Host names of the tenant's sites beside the canonical one. A name outside the domain of the
    /// PublicAccess is self-managed: its owner points it at the canonical name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub hostnames: Vec<BoundHostname>,
    /// The ingress controller that the operator runs inside the tenant.
    #[serde(default)]
    pub managed_ingress: ManagedIngress,
}

/// A host name that a tenant's site answers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundHostname {
    /// The host name.
    #[schemars(schema_with = "crate::schema::hostname")]
    pub name: String,
    /// TLS Secret of this namespace for this name, in place of an issued certificate.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub certificate_secret_ref: Option<SecretRef>,
}

/// The ingress controller inside a tenant.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedIngress {
    /// Whether the operator installs it. Off: the tenant brings its own.
    #[serde(default = "ManagedIngress::default_enabled")]
    pub enabled: bool,
    /// Its chart. Default: that of the PublicAccess.
    #[serde(default, skip_serializing_if = "is_default")]
    pub chart: Chart,
    /// Helm values for its chart.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schemars(schema_with = "crate::schema::free_form")]
    pub values: serde_json::Map<String, serde_json::Value>,
}

impl ManagedIngress {
    fn default_enabled() -> bool {
        true
    }
}

impl Default for ManagedIngress {
    fn default() -> Self {
        Self {
            enabled: Self::default_enabled(),
            chart: Chart::default(),
            values: serde_json::Map::new(),
        }
    }
}

/// How the tenant's kubeconfig is handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kubeconfig {
    /// Secret of this namespace that the operator writes, with the key kubeconfig. Default: the
    /// name of the ManagedCluster followed by -kubeconfig.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub secret_name: Option<String>,
    /// Registration with Argo CD.
    #[serde(default, rename = "argoCD", skip_serializing_if = "is_default")]
    pub argo_cd: ArgoCd,
}

/// Registration with Argo CD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArgoCd {
    /// Whether the tenant is registered as a cluster of Argo CD. Works only where the operator's
    /// flags name Argo CD's namespace and project.
    #[serde(default, skip_serializing_if = "is_default")]
    pub enabled: bool,
}
