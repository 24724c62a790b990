//! The platform's own site.

use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::refs::{is_default, none_if_empty};
use crate::schema::cel;

/// The platform's own site: its API, and its web pages when they are enabled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "self.?hostname.orValue('') != ''",
        "platform.hostname is required with platform: set the host name of the site, or remove platform",
    ),
    (
        "self.?tlsSecretName.orValue('') != ''",
        "platform.tlsSecretName is required with platform: name the TLS Secret of the site, or remove platform",
    ),
    (
        "!self.web.enabled || (self.?hostname.orValue('') != '' && self.?tlsSecretName.orValue('') != '')",
        "platform.web.enabled needs the platform's site: set platform.hostname and platform.tlsSecretName, or web.enabled to false",
    ),
])))]
pub struct Platform {
    /// Host name of the site.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_hostname")]
    pub hostname: Option<String>,
    /// TLS Secret of the site, in the namespace of its Gateway.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub tls_secret_name: Option<String>,
    /// Whether plain HTTP is answered by a redirect (302) to HTTPS.
    #[serde(default, skip_serializing_if = "is_default")]
    pub http_to_https_redirect: bool,
    /// The API, under the path prefix /api and at /healthz.
    #[serde(default)]
    pub api: PlatformApi,
    /// The web pages, under every other path.
    #[serde(default)]
    pub web: PlatformWeb,
}

/// The platform's API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformApi {
    /// Service of the API, in the namespace of the PublicAccess.
    #[serde(default = "PlatformApi::default_service_name")]
    #[schemars(schema_with = "crate::schema::dns_label")]
    pub service_name: String,
    /// Port of that Service.
    #[serde(default = "PlatformApi::default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

impl PlatformApi {
    fn default_service_name() -> String {
        "kubebyon-api".to_owned()
    }

    fn default_port() -> i32 {
        8080
    }
}

impl Default for PlatformApi {
    fn default() -> Self {
        Self {
            service_name: Self::default_service_name(),
            port: Self::default_port(),
        }
    }
}

/// The platform's web pages.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformWeb {
    /// Whether there are web pages.
    #[serde(default)]
    pub enabled: bool,
    /// Service of the web pages, in the namespace of the PublicAccess.
    #[serde(default = "PlatformWeb::default_service_name")]
    #[schemars(schema_with = "crate::schema::dns_label")]
    pub service_name: String,
    /// Port of that Service.
    #[serde(default = "PlatformWeb::default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

impl PlatformWeb {
    fn default_service_name() -> String {
        "kubebyon-web".to_owned()
    }

    fn default_port() -> i32 {
        3000
    }
}

impl Default for PlatformWeb {
    fn default() -> Self {
        Self {
            enabled: false,
            service_name: Self::default_service_name(),
            port: Self::default_port(),
        }
    }
}
