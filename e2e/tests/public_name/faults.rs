//! What others do to routes and gateways, by mistake or on purpose.

use std::time::Instant;

use kubebyon_e2e::{
    gateway::Behaviour,
    judge::{edit, events, eventually, within},
    operator::{condition, is_ready},
};
use kubebyon_k8s::{
    gateway_api::{gateways::Gateway, httproutes::HttpRoute},
    k8s_openapi::api::core::v1::{ConfigMap, Namespace},
    kube::{
        Api, ResourceExt,
        api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    },
};
use kubebyon_render::gateway_api::tls_route::{NAME as ROUTE, Version};
use serde_json::{Value, json};

use crate::{
    caller::Caller,
    edge::{
        Entrance, GATEWAY, SECONDS, edge, freed, host_namespace, hostname_status, make_class,
        published, ready_as, routed, routes,
    },
};

/// A TLSRoute of somebody who wants a name.
fn thief(parent: &Value, name: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "TLSRoute", "metadata": {"name": "thief"},
        "spec": {"parentRefs": [parent], "hostnames": [name],
            "rules": [{"backendRefs": [{"name": "thief", "port": 443}]}]},
    }))
    .unwrap()
}

#[test]
fn a_route_of_somebody_else_moves_no_traffic_and_is_told() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let tenant = entrance.cluster("mine", None).await;
        let name = entrance.given_name("mine");
        let home = host_namespace(&ready_as(&tenant, &name).await);
        let keys = published(host, &tenant).await;
        let caller = Caller::begin(&entrance, &tenant);

        // A namespace as its owner likes it; but the label is not its owner's to give.
        let theirs = host.namespace("thief").await;
        let service = json!({"metadata": {"name": "thief"}, "spec": {"ports": [{"port": 443}]}});
        kubebyon_e2e::judge::make::<kubebyon_k8s::k8s_openapi::api::core::v1::Service>(
            &host.client,
            &theirs,
            service,
        )
        .await;
        let label = json!({"metadata": {"labels": {"kubebyon.app/routes": "allowed"}}});
        let namespaces: Api<Namespace> = Api::all(host.client.clone());
        let refused = namespaces
            .patch(&theirs, &PatchParams::default(), &Patch::Merge(&label))
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("only the operator sets"), "{refused}");
        let api = routes(host, &theirs, Version::V1);
        let ours = json!({"name": GATEWAY, "namespace": entrance.namespace});
        let refused = api
            .create(&PostParams::default(), &thief(&ours, &name))
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("which the operator keeps for public names"), "{refused}");

        let own = json!({"name": "own"});
        api.create(&PostParams::default(), &thief(&own, &name)).await.unwrap();
        let told = |route: String| {
            let (name, theirs, tenant) = (name.clone(), theirs.clone(), &tenant);
            async move {
                let cluster = tenant
                    .until("told of the route", |cluster| {
                        hostname_status(cluster, &name)
                            .is_some_and(|shown| shown["reason"] == "ForeignRoute")
                    })
                    .await;
                assert!(
                    is_ready(&cluster),
                    "no traffic moves: {:#?}",
                    cluster.status
                );
                let (_, _, message) = condition(&cluster, "PublicEndpointReady").unwrap();
                assert!(message.contains(&route), "{message}");
                eventually("an event", || async {
                    let events = events(&shared.host.client, &tenant.namespace, "mine").await;
                    events.into_iter().find(|(type_, reason, note)| {
                        type_ == "Warning" && reason == "ForeignRoute" && note.contains(&theirs)
                    })
                })
                .await;
            }
        };
        told(format!("TLSRoute {theirs}/thief")).await;
        assert_eq!(entrance.gateways.leads_to(&name), Some((home.clone(), "mine".to_owned())));
        keys.call(edge.gateways.address()).await.unwrap();
        let over = |cluster: &kubebyon_api::ManagedCluster| {
            hostname_status(cluster, &name).is_some_and(|shown| shown.get("reason").is_none())
        };
        api.delete("thief", &DeleteParams::default()).await.unwrap();
        tenant.until("rid of the route", over).await;

        let http: Api<HttpRoute> = Api::namespaced(host.client.clone(), &theirs);
        let route = json!({"metadata": {"name": "thief"}, "spec": {
            "parentRefs": [own], "hostnames": [name], "rules": [{"backendRefs": [{"name": "thief", "port": 443}]}]}});
        http.create(&PostParams::default(), &serde_json::from_value(route).unwrap())
            .await
            .unwrap();
        told(format!("HTTPRoute {theirs}/thief")).await;
        http.delete("thief", &DeleteParams::default()).await.unwrap();
        tenant.until("rid of the route", over).await;
        caller.end().await;
    });
}

#[test]
fn what_somebody_does_to_the_route_is_undone() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let tenant = entrance.cluster("drifting", None).await;
        let name = entrance.given_name("drifting");
        let home = host_namespace(&ready_as(&tenant, &name).await);
        let api = routes(host, &home, Version::V1);
        let before = api.get(ROUTE).await.unwrap();
        let leads_home = || {
            let found = entrance.gateways.leads_to(&name);
            async move { found.map(|_| ()) }
        };

        api.delete(ROUTE, &DeleteParams::default()).await.unwrap();
        within(SECONDS, "the route is back", || async {
            let found = api.get_opt(ROUTE).await.unwrap()?;
            (found.uid() != before.uid()).then_some(())
        })
        .await;
        within(SECONDS, "and leads to the tenant", leads_home).await;
        ready_as(&tenant, &name).await;

        // Who takes the route away from the Gateway may: the policy looks after what is attached.
        let detached =
            json!({"spec": {"parentRefs": [{"name": "other"}], "hostnames": ["a.test"]}});
        api.patch(ROUTE, &PatchParams::default(), &Patch::Merge(&detached))
            .await
            .unwrap();
        within(SECONDS, "the route is as it was", || async {
            let found = api.get(ROUTE).await.unwrap();
            (found.data["spec"] == before.data["spec"]).then_some(())
        })
        .await;
        within(SECONDS, "and leads to the tenant", leads_home).await;

        let namespaces: Api<Namespace> = Api::all(host.client.clone());
        let unlabelled = json!({"metadata": {"labels": {"kubebyon.app/routes": null}}});
        let refused = namespaces
            .patch(&home, &PatchParams::default(), &Patch::Merge(&unlabelled))
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("only the operator sets"), "{refused}");

        // A claim that somebody deletes is made again, before another can have the name.
        let claims: Api<ConfigMap> = Api::namespaced(host.client.clone(), crate::edge::OPERATOR);
        let object = kubebyon_api::names::hostname_claim(&name);
        claims
            .delete(&object, &DeleteParams::default())
            .await
            .unwrap();
        within(SECONDS, "the claim is back", || async {
            claims.get_opt(&object).await.unwrap().map(|_| ())
        })
        .await;
        ready_as(&tenant, &name).await;
        assert_eq!(edge.helm_runs("drifting"), 1);
    });
}

#[test]
fn a_gateway_that_falls_silent_is_noticed_and_so_is_its_return() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let entrance = edge.entrance().await;
        let tenant = entrance.cluster("probed", None).await;
        let name = entrance.given_name("probed");
        ready_as(&tenant, &name).await;
        let calls = edge.gateways.connections(&name);
        within(SECONDS, "the name is dialled at rest", || async {
            (edge.gateways.connections(&name) > calls).then_some(())
        })
        .await;

        entrance.behave(Behaviour::Silent);
        let began = Instant::now();
        let message = tenant.because("PublicEndpointReady", "ProbeFailed").await;
        // The interval with its jitter, and two dials of five seconds that time out.
        assert!(began.elapsed() < SECONDS, "after {:?}", began.elapsed());
        assert!(message.contains(&name), "{message}");
        let cluster = tenant.get().await;
        assert_eq!(condition(&cluster, "Ready").unwrap().0, "False");
        let route = hostname_status(&cluster, &name).unwrap()["route"].clone();
        assert_eq!(route, "Ready", "the status lies, and the probe does not");
        shared.counts("ProbeFailed").await;

        entrance.behave(Behaviour::Serving);
        let began = Instant::now();
        ready_as(&tenant, &name).await;
        assert!(began.elapsed() < SECONDS, "after {:?}", began.elapsed());

        entrance.behave(Behaviour::Refusing);
        tenant
            .until("not served", |cluster| {
                condition(cluster, "PublicEndpointReady").is_some_and(
                    |(status, reason, message)| {
                        status == "False"
                            && reason == "RouteNotAccepted"
                            && message.contains("it takes no route any more")
                    },
                )
            })
            .await;
        entrance.behave(Behaviour::Serving);
        ready_as(&tenant, &name).await;
        assert_eq!(edge.helm_runs("probed"), 1);
    });
}

#[test]
fn neighbours_of_a_broken_entrance_are_not_harmed_and_it_can_be_left() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let neighbour = Entrance::open(host, edge.gateways, json!({})).await;
        make_class(host).await;
        let (leaving, staying) = tokio::join!(
            entrance.cluster("leaving", None),
            neighbour.cluster("staying", None)
        );
        let (name, other) = (
            entrance.given_name("leaving"),
            neighbour.given_name("staying"),
        );
        let home = host_namespace(&ready_as(&leaving, &name).await);
        ready_as(&staying, &other).await;
        let caller = Caller::begin(&neighbour, &staying);

        // The controller is gone for good, and somebody deletes the Gateway on top.
        entrance.behave(Behaviour::Gone);
        let gateways: Api<Gateway> = Api::namespaced(host.client.clone(), &entrance.namespace);
        gateways
            .delete(GATEWAY, &DeleteParams::default())
            .await
            .unwrap();
        within(SECONDS, "the Gateway is made again", || async {
            gateways.get_opt(GATEWAY).await.unwrap().map(|_| ())
        })
        .await;
        leaving
            .until("not ready", |cluster| {
                condition(cluster, "PublicEndpointReady")
                    .is_some_and(|(status, _, _)| status == "False")
            })
            .await;
        // A finalizer of the controller that nobody is left to take away is not ours to wait for.
        let held = json!({"metadata": {"finalizers": ["example.com/fake-gateway"]}});
        edit::<Gateway>(&host.client, &entrance.namespace, GATEWAY, held).await;
        let began = Instant::now();
        leaving.delete().await;
        within(SECONDS * 2, "the cluster is gone", || async {
            leaving.find().await.is_none().then_some(())
        })
        .await;
        println!(
            "gone after {:?} without a gateway's controller",
            began.elapsed()
        );
        freed(host, &name).await;
        assert_eq!(routed(host, &home).await, None);
        let free = json!({"metadata": {"finalizers": null}});
        edit::<Gateway>(&host.client, &entrance.namespace, GATEWAY, free).await;

        caller.end().await;
        assert!(is_ready(&staying.get().await));
    });
}
