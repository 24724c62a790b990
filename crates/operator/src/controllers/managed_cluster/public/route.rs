//! The TLSRoute of a cluster: what it is, and what others say of it.

use std::sync::Arc;

use kubebyon_api::types::Hostname;
use kubebyon_k8s::kube::{Api, ResourceExt, core::DynamicObject, runtime::reflector::ObjectRef};
use kubebyon_render::{
    Cluster,
    exposure::{Hostnames, TenantApi},
    gateway_api::{
        Role,
        parents::Parents,
        tls_route::{NAME, Version, tls_route},
    },
};
use serde::Deserialize;

use super::{
    super::{
        Context,
        error::{Error, Halt},
        observe::Observed,
        stores::Stores,
    },
    attachment::Attachment,
};
use crate::apply::delete_exactly;

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

/// The cluster's route as the watch has it.
pub fn live(stores: &Stores, host_namespace: &str) -> Option<Arc<DynamicObject>> {
    let key = ObjectRef::new_with(NAME, Version::V1.resource()).within(host_namespace);
    stores.tls_routes.get(&key)
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

/// What the controller of the Gateway's class says of the route in its present generation.
pub fn verdict(route: &DynamicObject, attachment: &Attachment) -> Verdict {
    let gateway = &attachment.layout.place(Role::ControlPlane).at;
    let own = route.namespace().unwrap_or_default();
    let parents = parts(route).status.parents;
    let parent = parents.iter().find(|parent| {
        Some(&parent.controller_name) == attachment.controller.as_ref()
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

/// Makes the route carry `hostnames` at `parents`. Whether a write was needed.
pub async fn ensure(
    context: &Context,
    identity: &Cluster,
    observed: &Observed,
    attachment: &Attachment,
    live: Option<&DynamicObject>,
    hostnames: Hostnames,
    parents: &Parents,
) -> Result<bool, Halt> {
    let namespace = observed
        .host_namespace
        .parse()
        .map_err(|source| {
            let field = "spec.hostNamespace";
            kubebyon_api::types::FieldError::new(field, &observed.host_namespace, source)
        })
        .map_err(Error::from)?;
    let tenant = TenantApi::of(identity, namespace, hostnames).map_err(Error::from)?;
    let version = attachment.route_version;
    let desired = tls_route(identity, &tenant, parents, version);
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &observed.host_namespace,
        &version.resource(),
    );
    let written = context
        .applier
        .ensured(&api, live, desired)
        .await
        .map_err(Error::api("apply the TLSRoute"))?;
    Ok(written.is_some())
}

/// Removes the cluster's route.
pub async fn remove(
    context: &Context,
    identity: &Cluster,
    host_namespace: &str,
) -> Result<(), Error> {
    let Some(served) = crate::served::gateway_api(&context.stores.definitions) else {
        return Ok(());
    };
    let Some(route) = live(&context.stores, host_namespace) else {
        return Ok(());
    };
    if !identity.made(&route.metadata) {
        return Ok(());
    }
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        host_namespace,
        &served.tls_route.resource(),
    );
    delete_exactly(&api, NAME, route.uid())
        .await
        .map_err(Error::api("remove the TLSRoute"))
}

/// A route of somebody else that carries one of `names`: its kind and its name.
pub fn foreign(
    stores: &Stores,
    identity: &Cluster,
    names: &[&Hostname],
) -> Option<(Hostname, String)> {
    let hit_of = |texts: &[String]| {
        names
            .iter()
            .find(|name| texts.iter().any(|text| text == name.as_str()))
            .map(|name| (*name).clone())
    };
    let of_tls = stores.tls_routes.state().into_iter().find_map(|route| {
        let hit = hit_of(&parts(&route).spec.hostnames)?;
        (!identity.made(&route.metadata)).then(|| (hit, describe("TLSRoute", &*route)))
    });
    of_tls.or_else(|| {
        stores.http_routes.state().into_iter().find_map(|route| {
            let hit = hit_of(route.spec.hostnames.as_deref().unwrap_or_default())?;
            (!identity.made(&route.metadata)).then(|| (hit, describe("HTTPRoute", &*route)))
        })
    })
}

fn describe<K: ResourceExt>(kind: &str, route: &K) -> String {
    format!(
        "{kind} {}/{}",
        route.namespace().unwrap_or_default(),
        route.name_any()
    )
}

/// Forgets of somebody else's route what is not read: there may be very many.
pub fn slim(route: &mut DynamicObject) {
    let ours = route
        .labels()
        .get(kubebyon_api::labels::MANAGED_BY)
        .is_some_and(|manager| manager == kubebyon_api::labels::MANAGER);
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
