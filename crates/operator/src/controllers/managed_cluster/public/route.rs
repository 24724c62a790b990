//! The TLSRoute of a cluster: what it is, and what others say of it.

use std::sync::Arc;

use kubebyon_api::types::Hostname;
use kubebyon_k8s::kube::{Api, ResourceExt, core::DynamicObject, runtime::reflector::ObjectRef};
use kubebyon_render::{
    Cluster,
    exposure::{Hostnames, TenantApi},
    gateway_api::{
        parents::Parents,
        reading,
        tls_route::{NAME, Version, tls_route},
    },
};

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

/// The cluster's route as the watch has it.
pub fn live(stores: &Stores, host_namespace: &str) -> Option<Arc<DynamicObject>> {
    let key = ObjectRef::new_with(NAME, Version::V1.resource()).within(host_namespace);
    stores.tls_routes.get(&key)
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
    let hit_of = |found: &[Hostname]| {
        names
            .iter()
            .find(|name| found.contains(name))
            .map(|name| (*name).clone())
    };
    let of_tls = stores.tls_routes.state().into_iter().find_map(|route| {
        let hit = hit_of(&reading::hostnames(&route))?;
        (!identity.made(&route.metadata)).then(|| (hit, describe("TLSRoute", &*route)))
    });
    of_tls.or_else(|| {
        stores.http_routes.state().into_iter().find_map(|route| {
            let found = route.spec.hostnames.iter().flatten();
            let found: Vec<Hostname> = found.filter_map(|name| name.parse().ok()).collect();
            let hit = hit_of(&found)?;
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
