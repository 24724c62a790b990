//! Settings of Gateway API.

use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::refs::{is_default, none_if_empty};
use crate::schema::cel;

/// Settings of Gateway API: classes, and where the three Gateways are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "self.controlPlane.listenerName != self.workload.httpListenerName && self.controlPlane.listenerName != self.workload.httpsListenerName && self.workload.httpListenerName != self.workload.httpsListenerName",
    "gatewayAPI.controlPlane.listenerName, gatewayAPI.workload.httpListenerName and gatewayAPI.workload.httpsListenerName must differ from each other",
)])))]
pub struct GatewayApi {
    /// GatewayClass of every role that neither names its own nor has a profile.
    #[schemars(schema_with = "crate::schema::object_name")]
    pub gateway_class_name: String,
    /// Whether tenants' sites have an address of their own.
    #[serde(default)]
    pub address_mode: AddressMode,
    /// GatewayClasses by what they are used for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gateway_class_profiles: GatewayClassProfiles,
    /// From which namespaces routes may attach.
    #[serde(default)]
    pub route_namespaces: RouteNamespaces,
    /// The Gateway of the tenants' APIs.
    #[serde(default)]
    pub control_plane: ControlPlaneGateway,
    /// The Gateway of the platform's site.
    #[serde(default, skip_serializing_if = "is_default")]
    pub platform: PlatformGateway,
    /// The Gateway of the tenants' sites.
    #[serde(default)]
    pub workload: WorkloadGateway,
}

/// Whether tenants' sites have an address of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum AddressMode {
    /// One for the tenants' APIs and the platform, one for the tenants' sites.
    #[default]
    Dual,
    /// One for all, by a class that merges Gateways.
    Single,
}

/// GatewayClasses by what they are used for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassProfiles {
    /// Class of all Gateways in mode Single.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub shared: Option<String>,
    /// Class of the control plane's and the platform's Gateways in mode Dual.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub edge: Option<String>,
    /// Class of the workload Gateway in mode Dual.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub workload: Option<String>,
}

/// From which namespaces routes may attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum RouteNamespaces {
    /// From those that the operator has labelled.
    #[default]
    Labelled,
    /// From all.
    All,
}

/// The Gateway of the tenants' APIs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneGateway {
    /// Its namespace. Default: that of the PublicAccess.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_dns_label")]
    pub namespace: Option<String>,
    /// Its name. Default: the name of the PublicAccess followed by -gateway.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_dns_label")]
    pub name: Option<String>,
    /// Name of its TLS listener.
    #[serde(default = "ControlPlaneGateway::default_listener_name")]
    #[schemars(schema_with = "crate::schema::dns_label")]
    pub listener_name: String,
}

impl ControlPlaneGateway {
    fn default_listener_name() -> String {
        "control-plane".to_owned()
    }
}

impl Default for ControlPlaneGateway {
    fn default() -> Self {
        Self {
            namespace: None,
            name: None,
            listener_name: Self::default_listener_name(),
        }
    }
}

/// The Gateway of the platform's site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformGateway {
    /// Its namespace. Default: that of the PublicAccess.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_dns_label")]
    pub namespace: Option<String>,
    /// Its name. Default: the name of the PublicAccess followed by -platform-gateway.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_dns_label")]
    pub name: Option<String>,
    /// Its GatewayClass, over every profile.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub gateway_class_name: Option<String>,
}

/// The Gateway of the tenants' sites.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadGateway {
    /// Its namespace. Default: that of the PublicAccess.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_dns_label")]
    pub namespace: Option<String>,
    /// Its name. Default: the name of the PublicAccess followed by -workload-gateway.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_dns_label")]
    pub name: Option<String>,
    /// Its GatewayClass, over every profile.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub gateway_class_name: Option<String>,
    /// Name of its HTTP listener.
    #[serde(default = "WorkloadGateway::default_http_listener_name")]
    #[schemars(schema_with = "crate::schema::dns_label")]
    pub http_listener_name: String,
    /// Name of its shared HTTPS listener.
    #[serde(default = "WorkloadGateway::default_https_listener_name")]
    #[schemars(schema_with = "crate::schema::dns_label")]
    pub https_listener_name: String,
}

impl WorkloadGateway {
    fn default_http_listener_name() -> String {
        "workload-http".to_owned()
    }

    fn default_https_listener_name() -> String {
        "workload-https".to_owned()
    }
}

impl Default for WorkloadGateway {
    fn default() -> Self {
        Self {
            namespace: None,
            name: None,
            gateway_class_name: None,
            http_listener_name: Self::default_http_listener_name(),
            https_listener_name: Self::default_https_listener_name(),
        }
    }
}
