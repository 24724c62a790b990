//! From one entrance to another.

use std::collections::BTreeSet;

use kubebyon_api::names;
use kubebyon_e2e::{
    gateway::Behaviour,
    judge::eventually,
    operator::{Host, Tenant, condition},
};
use kubebyon_k8s::kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use kubebyon_render::gateway_api::{
    parents,
    tls_route::{NAME as ROUTE, Version},
};
use serde_json::{Value, json};

use crate::{
    caller::Caller,
    edge::{
        Edge, Entrance, edge, host_namespace, make_due, public_endpoint, published, ready_as,
        routed, routes,
    },
};

/// Namespaces of the entrances that a cluster's route is attached to.
async fn attached(host: &Host, namespace: &str) -> BTreeSet<String> {
    let api = routes(host, namespace, Version::V1);
    let route = api.get(ROUTE).await.unwrap();
    parents::of(&route).map(|parent| parent.namespace).collect()
}

/// Makes the entrances that a cluster has left due, and waits until its route leaves them.
async fn make_left_due(host: &Host, namespace: &str) {
    const LEFT: &str = "kubebyon.app/left-gateways";
    const LONG_AGO: &str = "2026-01-01T00:00:00Z";
    let api = routes(host, namespace, Version::V1);
    eventually("the old entrance is left", || async {
        if attached(host, namespace).await.len() == 1 {
            return Some(());
        }
        let route = api.get(ROUTE).await.unwrap();
        let mut left: Value = serde_json::from_str(route.annotations().get(LEFT)?).unwrap();
        for parent in left.as_array_mut().unwrap() {
            parent["since"] = json!(LONG_AGO);
        }
        let due = left.to_string();
        if route.annotations().get(LEFT) != Some(&due) {
            let patch = json!({"metadata": {"annotations": {LEFT: due}}});
            api.patch(ROUTE, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .unwrap();
        }
        None
    })
    .await;
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// Another entrance, for clusters of all namespaces, whose gateway takes no route yet.
async fn closed(edge: &Edge, domains: &[&str]) -> Entrance<'static> {
    let entrance = Entrance::planned(edge.host(), edge.gateways).await;
    entrance.behave(Behaviour::Refusing);
    let change = json!({
        "allowedNamespaces": {"from": "All"}, "controlPlane": {"allowedDomains": domains},
    });
    entrance.update(change).await;
    entrance
}

/// Has a cluster ask for the entrance `to`, and waits until its gateway has refused the route.
async fn move_in_vain(tenant: &Tenant, to: &Entrance<'static>) {
    tenant.update(to.spec(None)).await;
    let message = tenant
        .because("PublicEndpointReady", "RouteNotAccepted")
        .await;
    assert!(message.contains(&to.namespace), "{message}");
}

#[test]
fn with_a_new_name() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let before = edge.entrance().await;
        let after = closed(&edge, &[]).await;
        let tenant = before.cluster("mover", None).await;
        let first = before.given_name("mover");
        let home = host_namespace(&ready_as(&tenant, &first).await);

        let caller = Caller::begin(&before, &tenant);
        move_in_vain(&tenant, &after).await;
        let both = set([&before.namespace, &after.namespace]);
        assert_eq!(attached(host, &home).await, both);
        let keys = published(host, &tenant).await;
        assert_eq!(keys.name(), first, "nothing else is proved");
        before.delete().await;
        let message = before.because("Accepted", "InUse").await;
        assert!(
            message.contains("another entrance") && message.contains("/mover"),
            "{message}"
        );

        after.behave(Behaviour::Serving);
        let second = names::control_plane_hostname(&tenant.namespace, "mover", &after.domain);
        ready_as(&tenant, &second).await;
        assert_eq!(attached(host, &home).await, both);
        assert_eq!(routed(host, &home).await.unwrap(), set([&first, &second]));
        keys.call(before.gateways.address())
            .await
            .expect("a kubeconfig of before works");

        make_due(host, &tenant).await;
        make_left_due(host, &home).await;
        assert_eq!(attached(host, &home).await, set([&after.namespace]));
        eventually("the old entrance goes", || async {
            before.find().await.is_none().then_some(())
        })
        .await;
        let calls = caller.end().await;
        assert_eq!(
            calls.servers,
            [&first, &second].map(|name| format!("https://{name}"))
        );
        println!("{} calls over the move, none failed", calls.made);
    });
}

#[test]
fn with_the_same_name() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let before = edge.entrance().await;
        let after = closed(&edge, &[&before.other_domain]).await;
        let name = format!("api.{}", before.other_domain);
        let tenant = before.cluster("keeper", Some(&name)).await;
        let home = host_namespace(&ready_as(&tenant, &name).await);

        let caller = Caller::begin(&before, &tenant);
        tenant.update(after.spec(Some(&name))).await;
        eventually("the new gateway refuses the route", || async {
            let route = routes(host, &home, Version::V1).get(ROUTE).await.unwrap();
            let parents = route.data["status"]["parents"].as_array()?.clone();
            let new = parents
                .iter()
                .find(|parent| parent["parentRef"]["namespace"] == after.namespace.as_str())?;
            (new["conditions"][0]["status"] == "False").then_some(())
        })
        .await;
        let both = set([&before.namespace, &after.namespace]);
        assert_eq!(attached(host, &home).await, both);
        after.behave(Behaviour::Serving);
        let cluster = tenant.ready().await;
        assert_eq!(public_endpoint(&cluster), Some(&*format!("https://{name}")));
        let message = condition(&cluster, "PublicEndpointReady").unwrap().2;
        assert!(message.contains(&after.namespace), "{message}");
        assert_eq!(
            attached(host, &home).await,
            both,
            "some still resolve it to the old address"
        );
        make_left_due(host, &home).await;
        assert_eq!(attached(host, &home).await, set([&after.namespace]));
        let calls = caller.end().await;
        assert_eq!(calls.servers, [format!("https://{name}")]);
    });
}

#[test]
fn from_an_entrance_that_does_not_want_it() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let everyone = json!({"allowedNamespaces": {"from": "All"}});
        let before = Entrance::open(host, edge.gateways, everyone).await;
        let after = closed(&edge, &[]).await;
        let guests = host.namespace("guests").await;
        let tenant = Tenant::apply(host, &guests, "unloved", before.spec(None)).await;
        let first = names::control_plane_hostname(&guests, "unloved", &before.domain);
        let home = host_namespace(&ready_as(&tenant, &first).await);
        move_in_vain(&tenant, &after).await;
        let both = set([&before.namespace, &after.namespace]);
        assert_eq!(attached(host, &home).await, both);
        before
            .update(json!({"allowedNamespaces": {"from": "Same"}}))
            .await;
        eventually("it is led through the old entrance no more", || async {
            (attached(host, &home).await == set([&after.namespace])).then_some(())
        })
        .await;

        // Whoever has no entrance at all holds up none that is to go.
        after.delete().await;
        after.because("Accepted", "InUse").await;
        tenant.update(json!({})).await;
        eventually("the entrance goes", || async {
            after.find().await.is_none().then_some(())
        })
        .await;
    });
}
