//! Server-side apply, only on difference.
//!
//! A desired object is applied when what is there was not made from the same desired
//! object (the hash annotation differs) or does not contain it any more (somebody
//! changed it). Both are decided from what the watches already hold, so a converged
//! system sends nothing. What is not there is created: an apply of a new object costs the
//! api-server half as much again.

use std::fmt::Debug;

use kubebyon_api::types::Quantity;
use kubebyon_k8s::{
    k8s_openapi::{
        NamespaceResourceScope,
        apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry},
    },
    kube::{
        self, Api, Client, Resource, ResourceExt,
        api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Annotation with the hash of the desired object that was last applied: tells a field
/// that is no longer wanted, which a comparison of contents cannot see.
pub const APPLIED_HASH: &str = "kubebyon.app/applied-hash";

/// Applies objects in the name of one controller.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    manager: &'static str,
}

impl Applier {
    /// `manager` is the controller's field manager.
    pub fn new(client: Client, manager: &'static str) -> Self {
        Self { client, manager }
    }

    /// The field manager.
    pub fn manager(&self) -> &'static str {
        self.manager
    }

    /// Makes `desired` so, unless `live`, as the watch last saw it, already is. Takes
    /// over fields that others hold: the operator owns these objects whole.
    pub async fn namespaced<K>(&self, live: Option<&K>, desired: K) -> Result<Outcome, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let namespace = desired.namespace().unwrap_or_default();
        self.ensure(
            &Api::namespaced(self.client.clone(), &namespace),
            live,
            desired,
        )
        .await
    }

    /// Creates `desired`, and fails if something of that name is there. What is created
    /// counts as applied.
    pub async fn create<K>(&self, api: &Api<K>, mut desired: K) -> Result<K, kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        stamp(&mut desired).map_err(kube::Error::SerdeError)?;
        self.post(api, &desired).await
    }

    async fn post<K>(&self, api: &Api<K>, desired: &K) -> Result<K, kube::Error>
    where
        K: Clone + Debug + DeserializeOwned + Serialize,
    {
        let parameters = PostParams {
            field_manager: Some(self.manager.to_owned()),
            ..PostParams::default()
        };
        api.create(&parameters, desired).await
    }

    /// As [`Applier::namespaced`], for any scope.
    pub async fn ensure<K>(
        &self,
        api: &Api<K>,
        live: Option<&K>,
        desired: K,
    ) -> Result<Outcome, kube::Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Serialize,
    {
        Ok(match self.ensured(api, live, desired).await? {
            Some(_) => Outcome::Applied,
            None => Outcome::Unchanged,
        })
    }

    /// As [`Applier::ensure`]; gives the object as it is since, if a write was needed.
    pub async fn ensured<K>(
        &self,
        api: &Api<K>,
        live: Option<&K>,
        mut desired: K,
    ) -> Result<Option<K>, kube::Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Serialize,
    {
        stamp(&mut desired).map_err(kube::Error::SerdeError)?;
        if let Some(live) = live
            && contains(live, &desired).map_err(kube::Error::SerdeError)?
        {
            return Ok(None);
        }
        if live.is_none() {
            match self.post(api, &desired).await {
                // The watch is behind.
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
                made => return made.map(Some),
            }
        }
        let name = desired.name_any();
        self.own_by_apply(api, &name).await?;
        let parameters = PatchParams::apply(self.manager).force();
        api.patch(&name, &parameters, &Patch::Apply(&desired))
            .await
            .map(Some)
    }

    /// An apply takes away only fields that an earlier apply set: those that our create set
    /// are first written down as applied. Somebody else may write between the look and the
    /// patch, a Gateway's controller its status for example: then it is looked at anew.
    async fn own_by_apply<K>(&self, api: &Api<K>, name: &str) -> Result<(), kube::Error>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let mut tries = 0;
        loop {
            let Some(live) = api.get_metadata_opt(name).await? else {
                return Ok(());
            };
            let meta = live.metadata;
            let recorded = meta.managed_fields.unwrap_or_default();
            let Some(fields) = as_applied(&recorded, self.manager) else {
                return Ok(());
            };
            let patch = json!({"metadata": {"managedFields": fields, "resourceVersion": meta.resource_version}});
            let patched = api
                .patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            tries += 1;
            match patched {
                Err(kube::Error::Api(status)) if status.code == 409 && tries < CONFLICTS => {}
                patched => return patched.map(drop),
            }
        }
    }

    /// Writes the status of exactly the object that was looked at, as this controller's own
    /// full set, and gives its version since. One that is gone, or was made anew, has no status
    /// to write.
    pub async fn status<K, S>(&self, object: &K, status: &S) -> Result<Option<String>, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
        S: Serialize,
    {
        let meta = object.meta();
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "status": status,
        });
        let parameters = PatchParams::apply(self.manager).force();
        match api
            .patch_status(&name, &parameters, &Patch::Apply(&body))
            .await
        {
            Ok(written) => Ok(written.resource_version()),
            Err(kube::Error::Api(response)) if response.code == 404 || response.code == 409 => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// How often a write is tried that others come before.
const CONFLICTS: u32 = 5;

/// Deletes exactly the object of that uid; one that is gone, or made anew, is deleted already.
///
/// # Errors
/// When the api-server refuses, or does not answer.
pub async fn delete_exactly<K>(
    api: &Api<K>,
    name: &str,
    uid: Option<String>,
) -> Result<(), kube::Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    let preconditions = Preconditions {
        uid,
        resource_version: None,
    };
    let parameters = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::background()
    };
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Adds or removes a finalizer, on exactly the object that was looked at.
///
/// # Errors
/// When the api-server refuses, or does not answer.
pub async fn set_finalizer<K>(
    api: &Api<K>,
    object: &K,
    finalizer: &str,
    present: bool,
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|found| found != finalizer);
    if present {
        finalizers.push(finalizer.to_owned());
    }
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": object.resource_version()}});
    match api
        .patch_metadata(
            &object.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 && !present => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether `live` says that it was made from this very `desired`; nothing is said of what
/// became of it since.
pub fn was_made_from<K, M>(live: &M, desired: &K) -> bool
where
    K: Serialize + Clone + Resource,
    M: ResourceExt,
{
    let mut stamped = desired.clone();
    stamp(&mut stamped).is_ok()
        && live.annotations().get(APPLIED_HASH) == stamped.annotations().get(APPLIED_HASH)
}

/// Whether a write was needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// What was there is what is wanted.
    Unchanged,
    /// A write was sent.
    Applied,
}

/// The record of who set which field, with what `manager` created written down as applied;
/// none if it is so already.
fn as_applied(fields: &[ManagedFieldsEntry], manager: &str) -> Option<Vec<ManagedFieldsEntry>> {
    let of_ours = |entry: &ManagedFieldsEntry, operation: &str| {
        entry.manager.as_deref() == Some(manager)
            && entry.operation.as_deref() == Some(operation)
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    };
    let (created, mut rest): (Vec<_>, Vec<_>) = fields
        .iter()
        .cloned()
        .partition(|entry| of_ours(entry, "Update"));
    let mut applied = created.into_iter().next()?;
    applied.operation = Some("Apply".to_owned());
    match rest.iter_mut().find(|entry| of_ours(entry, "Apply")) {
        Some(before) => {
            let mut union = before.fields_v1.take().map(|set| set.0).unwrap_or_default();
            merge(
                &mut union,
                applied.fields_v1.map(|set| set.0).unwrap_or_default(),
            );
            before.fields_v1 = Some(FieldsV1(union));
        }
        None => rest.push(applied),
    }
    Some(rest)
}

/// The union of two sets of fields: trees of objects.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(json!({})), value);
            }
        }
        (into, from) if into.is_null() => *into = from,
        _ => {}
    }
}

fn stamp<K: Resource + Serialize>(desired: &mut K) -> Result<(), serde_json::Error> {
    let bytes = serde_json::to_vec(desired)?;
    let hash = kubebyon_api::names::hash(&String::from_utf8_lossy(&bytes), 16);
    desired
        .annotations_mut()
        .insert(APPLIED_HASH.to_owned(), hash);
    Ok(())
}

/// Whether `live` still holds all that `desired` (stamped) asks for.
fn contains<K: Serialize>(live: &K, desired: &K) -> Result<bool, serde_json::Error> {
    Ok(difference(
        &serde_json::to_value(live)?,
        &serde_json::to_value(desired)?,
    )
    .is_none())
}

/// The path of the first field of `wanted` that `live` lacks or has with another value.
/// Fields that only `live` has are defaults or other people's. An empty value that is
/// left out counts as there: the api-server drops what is empty, zero or false.
pub fn difference(live: &Value, wanted: &Value) -> Option<String> {
    differs(live, wanted, &mut Vec::new())
}

fn differs(live: &Value, wanted: &Value, path: &mut Vec<String>) -> Option<String> {
    let below = |path: &mut Vec<String>, key: String, live: &Value, wanted: &Value| {
        path.push(key);
        let found = differs(live, wanted, path);
        path.pop();
        found
    };
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().find_map(|(key, wanted)| {
            below(
                path,
                key.clone(),
                live.get(key).unwrap_or(&Value::Null),
                wanted,
            )
        }),
        (Value::Array(live), Value::Array(wanted)) if live.len() == wanted.len() => live
            .iter()
            .zip(wanted)
            .enumerate()
            .find_map(|(index, (live, wanted))| below(path, index.to_string(), live, wanted)),
        (_, wanted) if says_nothing(wanted) => None,
        (Value::Null, wanted) if is_empty(wanted) => None,
        (live, wanted) if live == wanted || same_quantity(live, wanted, path) => None,
        _ => Some(path.join(".")),
    }
}

/// The api-server writes quantities in a form of its own: 1000m as 1.
fn same_quantity(live: &Value, wanted: &Value, path: &[String]) -> bool {
    if !path.iter().any(|key| {
        matches!(
            key.as_str(),
            "resources" | "hard" | "limits" | "default" | "defaultRequest" | "sizeLimit"
        )
    }) {
        return false;
    }
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let quantity = |value: &Value| text(value).and_then(|text| text.parse::<Quantity>().ok());
    match (quantity(live), quantity(wanted)) {
        (Some(live), Some(wanted)) => live.units() == wanted.units(),
        _ => false,
    }
}

/// An empty text asks for the server's default, whatever that is.
fn says_nothing(value: &Value) -> bool {
    matches!(value, Value::Null) || value.as_str() == Some("")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use kubebyon_k8s::k8s_openapi::api::core::v1::ConfigMap;

    fn config_map(data: &[(&str, &str)]) -> ConfigMap {
        let data: BTreeMap<String, String> = data
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        let mut object = ConfigMap {
            data: Some(data),
            ..ConfigMap::default()
        };
        stamp(&mut object).unwrap();
        object
    }

    #[test]
    fn defaults_of_the_server_are_no_difference() {
        let live = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 443, "protocol": "TCP"}]}, "status": {}});
        assert_eq!(
            difference(&live, &json!({"spec": {"ports": [{"port": 443}]}})),
            None
        );
    }

    #[test]
    fn a_changed_field_is_a_difference() {
        assert_eq!(
            difference(&json!({"a": {"b": 1}}), &json!({"a": {"b": 2}})).unwrap(),
            "a.b"
        );
        assert_eq!(
            difference(&json!({"a": [1, 2]}), &json!({"a": [1]})).unwrap(),
            "a"
        );
        assert_eq!(
            difference(&json!({"a": [{"b": 1}]}), &json!({"a": [{"b": 2}]})).unwrap(),
            "a.0.b"
        );
        assert_eq!(difference(&json!({}), &json!({"a": "x"})).unwrap(), "a");
    }

    #[test]
    fn what_the_server_drops_is_no_difference() {
        let wanted = json!({"labels": {}, "rules": [], "nested": {"inner": {}}, "nodePort": 0, "text": "", "flag": false});
        assert_eq!(difference(&json!({}), &wanted), None);
    }

    #[test]
    fn an_empty_text_takes_the_default() {
        assert_eq!(
            difference(
                &json!({"imagePullPolicy": "IfNotPresent"}),
                &json!({"imagePullPolicy": ""})
            ),
            None
        );
    }

    #[test]
    fn quantities_are_compared_by_what_they_say() {
        let live =
            json!({"resources": {"limits": {"cpu": "1", "memory": "4Gi"}}, "data": {"cpu": "1"}});
        assert_eq!(
            difference(
                &live,
                &json!({"resources": {"limits": {"cpu": "1000m", "memory": "4096Mi"}}})
            ),
            None
        );
        assert_eq!(
            difference(&live, &json!({"data": {"cpu": "1000m"}})).unwrap(),
            "data.cpu"
        );
    }

    #[test]
    fn what_was_created_becomes_applied() {
        let entry = |manager: &str, operation: &str, fields: Value| ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        };
        let theirs = entry("them", "Update", json!({"f:spec": {"f:c": {}}}));
        let created = entry("us", "Update", json!({"f:spec": {"f:a": {}}}));
        let applied = |fields| entry("us", "Apply", fields);
        assert_eq!(
            as_applied(&[created.clone(), theirs.clone()], "us"),
            Some(vec![
                theirs.clone(),
                applied(json!({"f:spec": {"f:a": {}}}))
            ])
        );
        assert_eq!(
            as_applied(&[created, applied(json!({"f:spec": {"f:b": {}}}))], "us"),
            Some(vec![applied(json!({"f:spec": {"f:a": {}, "f:b": {}}}))])
        );
        assert_eq!(
            as_applied(&[theirs, applied(json!({"f:spec": {"f:b": {}}}))], "us"),
            None
        );
        let mut status = entry("us", "Update", json!({}));
        status.subresource = Some("status".to_owned());
        assert_eq!(as_applied(&[status], "us"), None);
    }

    #[test]
    fn a_field_that_is_no_longer_wanted_is_a_difference() {
        let live = config_map(&[("kept", "1"), ("dropped", "2")]);
        assert!(!contains(&live, &config_map(&[("kept", "1")])).unwrap());
        assert!(contains(&live, &live.clone()).unwrap());
    }
}
