//! References to other objects, and the rule that an empty value means "not set".

use std::collections::BTreeMap;

use kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Deserializer, Serialize};

/// A Secret of the object's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret, in the namespace of the object that refers to it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub name: String,
}

/// An object of another namespace, or of the own one when none is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Name of the object.
    #[schemars(schema_with = "crate::schema::object_name")]
    pub name: String,
    /// Namespace of the object. Default: the namespace of the object that refers to it.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_dns_label")]
    pub namespace: Option<String>,
}

impl ObjectRef {
    /// The namespace meant, for a reference found in an object of namespace `own`.
    pub fn namespace_or<'a>(&'a self, own: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(own)
    }
}

/// A cert-manager issuer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Name of the issuer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub name: String,
    /// Kind of the issuer: ClusterIssuer, Issuer, or the kind of an external issuer.
    #[serde(default = "IssuerRef::default_kind")]
    #[schemars(length(max = 63))]
    pub kind: String,
    /// API group of the issuer.
    #[serde(default = "IssuerRef::default_group")]
    #[schemars(length(max = 253))]
    pub group: String,
}

impl IssuerRef {
    fn default_kind() -> String {
        "ClusterIssuer".to_owned()
    }

    fn default_group() -> String {
        "cert-manager.io".to_owned()
    }
}

impl Default for IssuerRef {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: Self::default_kind(),
            group: Self::default_group(),
        }
    }
}

/// A value that can be written without saying anything.
pub(crate) trait MaybeEmpty {
    fn is_empty(&self) -> bool;
}

impl MaybeEmpty for String {
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}

impl MaybeEmpty for SecretRef {
    fn is_empty(&self) -> bool {
        self.name.is_empty()
    }
}

impl MaybeEmpty for IssuerRef {
    fn is_empty(&self) -> bool {
        self.name.is_empty()
    }
}

impl MaybeEmpty for LabelSelector {
    fn is_empty(&self) -> bool {
        self.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && self.match_expressions.as_ref().is_none_or(Vec::is_empty)
    }
}

/// Reads `""`, `{}` and `{name: ""}` as "not set", so that code downstream has one way to be unset.
pub(crate) fn none_if_empty<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + MaybeEmpty,
{
    Ok(Option::<T>::deserialize(deserializer)?.filter(|value| !value.is_empty()))
}

/// Whether a value says what its absence would say; such a value is not written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
