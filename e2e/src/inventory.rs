//! What is in a cluster, less all that differs from one life of the same objects to the
//! next: for comparing two of them.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use kubebyon_k8s::kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
    discovery::{Discovery, Scope, verbs},
};
use serde_json::{Map, Value};

/// Objects that the api-server's controllers make by themselves, or that tell of the way
/// and not of its end.
const LEFT_OUT: [&str; 7] = [
    "Event",
    "Endpoints",
    "EndpointSlice",
    "ControllerRevision",
    "Lease",
    "PodMetrics",
    "NodeMetrics",
];
/// Fields that the api-server or its controllers choose anew each time.
const CHOSEN: [&str; 17] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "generation",
    "observedGeneration",
    "lastTransitionTime",
    "revision",
    "clusterIP",
    "clusterIPs",
    "nodePort",
    "kubectl.kubernetes.io/last-applied-configuration",
    "volumes",
    "volumeMounts",
    "failures",
    "hostNamespace",
    "since",
];
/// An annotation with a list of objects as text.
const LISTED: &str = "kubebyon.app/retiring-names";
/// Hashes and the like are at least as long.
const HASH: usize = 16;

/// All namespaced objects by namespace, each by its kind and name.
pub type Inventory = BTreeMap<String, BTreeMap<String, Value>>;

/// Reads everything that is in a namespace.
pub async fn take(client: &Client) -> Inventory {
    let discovery = Discovery::new(client.clone()).run().await.expect("kinds");
    let mut found = Inventory::new();
    let mut kinds: Vec<_> = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let listed = capabilities.supports_operation(verbs::LIST);
            let wanted = !LEFT_OUT.contains(&resource.kind.as_str());
            if listed && wanted && capabilities.scope == Scope::Namespaced {
                kinds.push(resource);
            }
        }
    }
    for resource in kinds {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let objects = api.list(&ListParams::default()).await.expect("a list");
        for object in objects {
            let meta = object.metadata.clone();
            let namespace = meta.namespace.unwrap_or_default();
            let key = format!("{}/{}", resource.kind, meta.name.unwrap_or_default());
            let object = serde_json::to_value(object).expect("JSON");
            found.entry(namespace).or_default().insert(key, object);
        }
    }
    found
}

/// The objects of these namespaces, with the namespaces' names and the texts of `own`
/// replaced by what stands beside them, and without what differs by nature.
pub fn normalised(
    inventory: &Inventory,
    namespaces: [&str; 2],
    own: &[(&str, &str)],
) -> BTreeMap<String, Value> {
    let mut names: Vec<(&str, &str)> = vec![(namespaces[1], "HOST"), (namespaces[0], "HOME")];
    names.extend_from_slice(own);
    let mut all = BTreeMap::new();
    for (namespace, place) in namespaces.iter().zip(["home", "host"]) {
        for (key, object) in inventory.get(*namespace).into_iter().flatten() {
            let mut object = object.clone();
            if object["type"] == "helm.sh/release.v1" {
                // How many revisions it took is the way, not its end.
                if object["metadata"]["labels"]["status"] != "deployed" {
                    continue;
                }
                all.insert(format!("{place}/release"), Value::Bool(true));
                continue;
            }
            if key.starts_with("Pod/") {
                object = object["spec"]["containers"][0]["image"].take();
            }
            if !key.starts_with("ManagedCluster/")
                && let Some(object) = object.as_object_mut()
            {
                object.remove("status");
            }
            if key.starts_with("Secret/") {
                decode(&mut object);
            }
            clean(&mut object, &names);
            all.insert(format!("{place}/{}", masked(key, &names)), object);
        }
    }
    all
}

/// Makes a Secret's data readable.
fn decode(object: &mut Value) {
    let data = object["data"].as_object_mut();
    for value in data.into_iter().flat_map(|data| data.values_mut()) {
        let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
        if let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
            *value = Value::String(text);
        }
    }
}

fn clean(value: &mut Value, names: &[(&str, &str)]) {
    match value {
        Value::String(text) => *text = masked(text, names),
        Value::Array(items) => {
            for item in items {
                clean(item, names);
            }
        }
        Value::Object(fields) => {
            fields.retain(|key, _| !CHOSEN.contains(&key.as_str()));
            if let Some(listed) = fields.get_mut(LISTED) {
                let read = listed.as_str().map(serde_json::from_str);
                *listed = read.expect("text").expect("a list");
            }
            for field in fields.values_mut() {
                clean(field, names);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The text with names replaced, numbers after "revision" and hashes hidden.
fn masked(text: &str, names: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in names {
        text = text.replace(from, to);
    }
    let mut hidden = String::with_capacity(text.len());
    let mut run = String::new();
    for character in text.chars().chain(['\n']) {
        if character.is_ascii_hexdigit() {
            run.push(character);
            continue;
        }
        let hash = run.len() >= HASH;
        hidden.push_str(if hash { "HASH" } else { &run });
        run.clear();
        hidden.push(character);
    }
    hidden.pop();
    match hidden.split_once("revision ") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|character: char| character.is_ascii_digit());
            format!("{before}revision R{after}")
        }
        None => hidden,
    }
}

/// Adds the fields that differ.
fn differ(path: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let keys: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
            for key in keys {
                let of = |fields: &Map<String, Value>| fields.get(key).cloned().unwrap_or_default();
                differ(
                    &format!("{path}.{key}"),
                    &of(expected),
                    &of(found),
                    differences,
                );
            }
        }
        _ if expected == found => {}
        _ => differences.push(format!("{path} is {found} and not {expected}")),
    }
}

/// What differs, one line a field; empty when nothing does.
pub fn differences(
    expected: &BTreeMap<String, Value>,
    found: &BTreeMap<String, Value>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for (key, object) in expected {
        match found.get(key) {
            None => differences.push(format!("{key} is missing")),
            Some(other) => differ(key, object, other, &mut differences),
        }
    }
    for key in found.keys().filter(|key| !expected.contains_key(*key)) {
        differences.push(format!("{key} is too many"));
    }
    differences
}
