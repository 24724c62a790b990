//! What a route on the api-server says, and what is said of it, in whichever version it is.

use kubebyon_api::{labels, names::GatewayName, types::Hostname};
use kubebyon_k8s::kube::{ResourceExt, core::DynamicObject};
use serde::Deserialize;

/// What the gateway's controller says of a route.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It carries the route as it is now.
    Accepted,
    /// It refuses.
    Refused(String),
    /// It has said nothing of the route as it is now.
    Silent,
}

/// The parts of a route that are read. All versions of TLSRoute have them, and HTTPRoute too.
#[derive(Debug, Default, Deserialize)]
struct Parts {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    hostnames: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    parents: Vec<Parent>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parent {
    controller_name: String,
    #[serde(rename = "parentRef")]
    to: Reference,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    name: String,
    namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    #[serde(default)]
    observed_generation: i64,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

fn parts(route: &DynamicObject) -> Parts {
    // What cannot be read says nothing.
    Parts::deserialize(&route.data).unwrap_or_default()
}

/// The host names on a route.
pub fn hostnames(route: &DynamicObject) -> Vec<Hostname> {
    let names = parts(route).spec.hostnames;
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// What `controller`, which serves `gateway`, says of the route in its present generation.
pub fn verdict(route: &DynamicObject, gateway: &GatewayName, controller: Option<&str>) -> Verdict {
    let own = route.namespace().unwrap_or_default();
    let parents = parts(route).status.parents;
    let parent = parents.iter().find(|parent| {
        Some(&*parent.controller_name) == controller
            && parent.to.name == gateway.name
            && *parent.to.namespace.as_ref().unwrap_or(&own) == gateway.namespace
    });
    let generation = route.metadata.generation.unwrap_or_default();
    let accepted = parent.and_then(|parent| {
        parent.conditions.iter().find(|condition| {
            condition.type_ == "Accepted" && condition.observed_generation >= generation
        })
    });
    match accepted {
        None => Verdict::Silent,
        Some(condition) if condition.status == "True" => Verdict::Accepted,
        Some(condition) => Verdict::Refused(format!("{}: {}", condition.reason, condition.message)),
    }
}

/// Forgets of somebody else's route what is not read: there may be very many.
pub fn slim(route: &mut DynamicObject) {
    let ours = route
        .labels()
        .get(labels::MANAGED_BY)
        .is_some_and(|manager| manager == labels::MANAGER);
    if ours {
        return;
    }
    let hostnames = route
        .data
        .pointer_mut("/spec/hostnames")
        .map(serde_json::Value::take);
    route.data = serde_json::json!({"spec": {"hostnames": hostnames.unwrap_or_else(|| serde_json::json!([]))}});
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(labels: &serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "TLSRoute",
            "metadata": {"name": "r", "namespace": "n", "labels": labels},
            "spec": {"hostnames": ["a.example.com", "*.b.example.com"], "rules": [{"backendRefs": []}]},
            "status": {"parents": []},
        }))
        .unwrap()
    }

    #[test]
    fn of_a_foreign_route_the_names_alone_are_kept() {
        let mut foreign = route(&json!({}));
        slim(&mut foreign);
        assert_eq!(
            foreign.data,
            json!({"spec": {"hostnames": ["a.example.com", "*.b.example.com"]}})
        );
        let mut own = route(&json!({"app.kubernetes.io/managed-by": "kubebyon"}));
        let before = own.clone();
        slim(&mut own);
        assert_eq!(own, before);
    }

    #[test]
    fn what_is_no_host_name_is_left_out() {
        assert_eq!(
            hostnames(&route(&json!({}))),
            ["a.example.com".parse::<Hostname>().unwrap()]
        );
    }
}
