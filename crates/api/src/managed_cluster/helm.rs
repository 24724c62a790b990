//! Charts and values.

use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::refs::{SecretRef, is_default, none_if_empty};

/// A Helm chart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Chart {
    /// Where the chart comes from: https://, oci://, or file:// below the operator's chart
    /// directory. The operator's flags say which repositories are allowed.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::chart_repository")]
    pub repository: Option<String>,
    /// Name of the chart in its repository.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::chart_name")]
    pub name: Option<String>,
    /// Exact version of the chart. Unset: the operator's version of the day of the first install,
    /// pinned from then on and recorded in status.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::chart_version")]
    pub version: Option<String>,
    /// Digest of the chart archive, sha256: and 64 hex digits. A download that differs is refused.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::digest")]
    pub digest: Option<String>,
    /// Secret of this namespace with the keys username and password for the repository.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub auth_secret_ref: Option<SecretRef>,
    /// Secret of this namespace with the key ca.crt, the CA of the repository.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub ca_secret_ref: Option<SecretRef>,
}

/// One source of Helm values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValuesSource {
    /// Kind of the object that holds the values.
    pub kind: ValuesSourceKind,
    /// Name of the object, in the namespace of the ManagedCluster.
    #[schemars(schema_with = "crate::schema::object_name")]
    pub name: String,
    /// Key of the object whose text is a YAML document of values.
    #[serde(default = "ValuesSource::default_key")]
    #[schemars(schema_with = "crate::schema::data_key")]
    pub key: String,
    /// Whether the object or the key may be missing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
}

impl ValuesSource {
    fn default_key() -> String {
        "values.yaml".to_owned()
    }
}

/// Kind of an object that holds Helm values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ValuesSourceKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}
