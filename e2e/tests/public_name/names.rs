//! The first name, and the way from one name to another.

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt;
use kubebyon_api::names;
use kubebyon_e2e::{
    judge::{edit, eventually, find, revisions},
    operator::{Tenant, condition},
};
use kubebyon_k8s::{
    k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret},
    kube::{
        Api, ResourceExt,
        api::{WatchEvent, WatchParams},
    },
};
use kubebyon_render::gateway_api::tls_route::{NAME as ROUTE, Version};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    caller::Caller,
    edge::{
        OPERATOR, claim, configured_names, edge, freed, holder, host_namespace, hostname_status,
        hostnames, make_due, never, public_endpoint, published, ready_as, revision, routed, routes,
    },
};

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn a_name_of_the_domain_changes_without_a_restart() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let tenant = entrance.cluster("named", None).await;
        let first = entrance.given_name("named");
        let cluster = ready_as(&tenant, &first).await;
        let home = host_namespace(&cluster);

        let wildcard = format!("*.{}", entrance.domain);
        let configured = configured_names(host, &home, "named").await;
        assert_eq!(
            configured,
            set([&first, &wildcard]),
            "from the first install on"
        );
        assert_eq!(revision(&cluster), Some(1));
        assert_eq!(edge.helm_runs("named"), 1, "{:?}", edge.helm.runs());
        assert_eq!(
            published(host, &tenant).await.server,
            format!("https://{first}")
        );
        assert_eq!(
            entrance.gateways.leads_to(&first),
            Some((home.clone(), "named".to_owned()))
        );
        let (status, _, _) = condition(&cluster, "PublicEndpointReady").unwrap();
        assert_eq!(status, "True");
        assert_eq!(condition(&cluster, "DNSReady"), None, "nobody asked for it");
        let shown = hostname_status(&cluster, &first).unwrap();
        assert_eq!(shown["role"], "ControlPlane");
        assert_eq!(shown["route"], "Ready");
        assert_eq!(shown["dns"], "NotRequired");
        let stranger = format!("nobody.{}", entrance.domain);
        let keys = published(host, &tenant).await;
        let outside = entrance.gateways.address();
        assert!(
            keys.call_as(outside, &stranger).await.is_err(),
            "a name without a route gets no tenant"
        );

        let caller = Caller::begin(&entrance, &tenant);
        let second = format!("shop.{}", entrance.domain);
        tenant.update(entrance.spec(Some(&second))).await;
        let cluster = ready_as(&tenant, &second).await;
        assert_eq!(
            published(host, &tenant).await.server,
            format!("https://{second}")
        );
        assert_eq!(routed(host, &home).await.unwrap(), set([&first, &second]));
        assert_eq!(hostname_status(&cluster, &first).unwrap()["route"], "Ready");
        keys.call_as(outside, &first)
            .await
            .expect("the old name still works");
        let key = format!("{}/named", tenant.namespace);
        for name in [&first, &second] {
            assert_eq!(holder(host, name).await.as_ref(), Some(&key), "{name}");
        }

        // The old name goes: from the route first, then its claim. The name that was given stays
        // the cluster's for life, so the next change is the one to look at.
        let third = format!("store.{}", entrance.domain);
        tenant.update(entrance.spec(Some(&third))).await;
        ready_as(&tenant, &third).await;
        assert_eq!(
            routed(host, &home).await.unwrap(),
            set([&first, &second, &third])
        );
        let parameters = WatchParams::default().fields(&format!("metadata.name={ROUTE}"));
        let api = routes(host, &home, Version::V1);
        let version = api.get(ROUTE).await.unwrap().resource_version().unwrap();
        let route_watch = api.watch(&parameters, &version).await.unwrap();
        let claims: Api<ConfigMap> = Api::namespaced(host.client.clone(), OPERATOR);
        let object = names::hostname_claim(&second);
        let parameters = WatchParams::default().fields(&format!("metadata.name={object}"));
        let claim_watch = claims.watch(&parameters, &version).await.unwrap();
        make_due(host, &tenant).await;
        let unrouted = route_watch.filter_map(|event| async {
            match event.unwrap() {
                WatchEvent::Modified(route) if !hostnames(&route).contains(&second) => {
                    route.resource_version()
                }
                _ => None,
            }
        });
        let given_up = claim_watch.filter_map(|event| async {
            match event.unwrap() {
                WatchEvent::Deleted(claim) => claim.resource_version(),
                _ => None,
            }
        });
        let moment = |version: Option<String>| version.unwrap().parse::<u64>().unwrap();
        let limit = Duration::from_secs(60);
        let unrouted = timeout(limit, Box::pin(unrouted).next())
            .await
            .expect("it leaves the route");
        let given_up = timeout(limit, Box::pin(given_up).next())
            .await
            .expect("its claim goes");
        assert!(moment(unrouted) < moment(given_up), "the route goes first");
        assert_eq!(routed(host, &home).await.unwrap(), set([&third]));
        assert_eq!(
            holder(host, &first).await,
            Some(key),
            "a given name is kept for life"
        );
        eventually("the data plane knows", || async {
            let left = [&first, &second].map(|name| entrance.gateways.leads_to(name));
            left.iter().all(Option::is_none).then_some(())
        })
        .await;
        assert!(keys.call_as(outside, &second).await.is_err());
        tenant
            .until("nothing is said of the old names", |cluster| {
                hostname_status(cluster, &first).is_none()
                    && hostname_status(cluster, &second).is_none()
            })
            .await;

        let calls = caller.end().await;
        assert_eq!(
            calls.servers,
            [&first, &second, &third].map(|name| format!("https://{name}"))
        );
        println!("{} calls over two changes of name, none failed", calls.made);
        assert_eq!(revision(&tenant.get().await), Some(1));
        assert_eq!(revisions(&host.client, &home, "named").await, 1);
        assert_eq!(edge.helm_runs("named"), 1);
        assert_eq!(configured_names(host, &home, "named").await, configured);
    });
}

#[test]
fn a_name_outside_the_wildcard_restarts_once() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let tenant = entrance.cluster("moving", None).await;
        let first = entrance.given_name("moving");
        let home = host_namespace(&ready_as(&tenant, &first).await);
        let before = configured_names(host, &home, "moving").await;

        let caller = Caller::begin(&entrance, &tenant);
        let second = format!("api.{}", entrance.other_domain);
        tenant.update(entrance.spec(Some(&second))).await;
        let cluster = ready_as(&tenant, &second).await;
        assert_eq!(revision(&cluster), Some(2));
        let after = configured_names(host, &home, "moving").await;
        assert!(
            after.is_superset(&before) && after.contains(&second),
            "{after:?}"
        );

        // Back again: the certificate has both.
        tenant.update(entrance.spec(None)).await;
        let cluster = ready_as(&tenant, &first).await;
        assert_eq!(revision(&cluster), Some(2));
        make_due(host, &tenant).await;
        freed(host, &second).await;
        let calls = caller.end().await;
        assert_eq!(
            calls.servers,
            [&first, &second, &first].map(|name| format!("https://{name}"))
        );
        assert_eq!(edge.helm_runs("moving"), 2, "{:?}", edge.helm.runs());
        assert_eq!(
            configured_names(host, &home, "moving").await,
            after,
            "a name stays in it"
        );
    });
}

#[test]
fn a_name_that_cannot_be_had_leaves_the_old_one_alone() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let taken = format!("taken.{}", entrance.domain);
        let (other, tenant) = tokio::join!(
            entrance.cluster("other", Some(&taken)),
            entrance.cluster("eager", None)
        );
        let first = entrance.given_name("eager");
        let home = host_namespace(&ready_as(&tenant, &first).await);
        ready_as(&other, &taken).await;

        let caller = Caller::begin(&entrance, &tenant);
        let outside = "eager.elsewhere.test";
        for (name, reason) in [
            (taken.as_str(), "HostnameConflict"),
            (outside, "HostnameNotAllowed"),
            (entrance.domain.as_str(), "HostnameReserved"),
        ] {
            tenant.update(entrance.spec(Some(name))).await;
            let message = tenant.because("PublicEndpointReady", reason).await;
            assert!(message.contains(name), "{message}");
            let cluster = tenant.get().await;
            assert_eq!(condition(&cluster, "Ready").unwrap().0, "False", "{name}");
            assert_eq!(routed(host, &home).await.unwrap(), set([&first]), "{name}");
        }
        assert_eq!(
            holder(host, &taken).await,
            Some(format!("{}/other", other.namespace))
        );
        assert_eq!(claim(host, outside).await, None);

        // One name is on its way and never arrives, for the gateway does not answer; it is given
        // up when another one is wanted.
        let never_there = format!("never.{}", entrance.domain);
        caller.end().await;
        entrance.behave(kubebyon_e2e::gateway::Behaviour::Refusing);
        tenant.update(entrance.spec(Some(&never_there))).await;
        tenant
            .because("PublicEndpointReady", "RouteNotAccepted")
            .await;
        assert!(claim(host, &never_there).await.is_some());
        assert_eq!(published(host, &tenant).await.name(), first);
        tenant.update(entrance.spec(None)).await;
        entrance.behave(kubebyon_e2e::gateway::Behaviour::Serving);
        ready_as(&tenant, &first).await;
        freed(host, &never_there).await;
        eventually("it is on no route", || async {
            (routed(host, &home).await? == set([&first])).then_some(())
        })
        .await;
        assert_eq!(
            edge.helm_runs("eager"),
            1,
            "nothing of this restarts the tenant"
        );
    });
}

#[test]
fn an_older_cluster_gets_a_name_and_leaves_it() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let tenant = Tenant::apply(host, &entrance.namespace, "older", json!({})).await;
        let cluster = tenant.ready().await;
        let home = host_namespace(&cluster);
        let internal = published(host, &tenant).await.server;
        assert_eq!(internal, format!("https://older.{home}.svc"));
        assert_eq!(public_endpoint(&cluster), None);
        assert_eq!(condition(&cluster, "PublicEndpointReady"), None);
        let namespaces: Api<Namespace> = Api::all(host.client.clone());
        let routes_allowed = || async {
            let namespace = namespaces.get(&home).await.unwrap();
            namespace.labels().get("kubebyon.app/routes").cloned()
        };
        assert_eq!(routes_allowed().await, None);

        let caller = Caller::begin(&entrance, &tenant);
        tenant.update(entrance.spec(None)).await;
        let name = entrance.given_name("older");
        let cluster = ready_as(&tenant, &name).await;
        assert_eq!(
            revision(&cluster),
            Some(2),
            "its certificate had no public name"
        );
        assert_eq!(routes_allowed().await.as_deref(), Some("allowed"));

        tenant.update(json!({})).await;
        let cluster = tenant.ready().await;
        assert_eq!(published(host, &tenant).await.server, internal);
        assert_eq!(public_endpoint(&cluster), None);
        assert_eq!(condition(&cluster, "PublicEndpointReady"), None);
        assert_eq!(hostname_status(&cluster, &name), None);
        freed(host, &name).await;
        assert_eq!(routed(host, &home).await, None);
        eventually("no route may attach from there", || async {
            routes_allowed().await.is_none().then_some(())
        })
        .await;
        let calls = caller.end().await;
        assert_eq!(
            calls.servers,
            [internal.clone(), format!("https://{name}"), internal]
        );
        never(&tenant, Duration::from_secs(1), "it restarts", |cluster| {
            revision(cluster) != Some(2)
        })
        .await;
        assert_eq!(edge.helm_runs("older"), 2);
    });
}

#[test]
fn what_an_author_writes_into_the_kubeconfigs_secret_gets_no_name() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let site = format!("console.{}", entrance.domain);
        let change = json!({"platform": {"hostname": site, "tlsSecretName": "console-tls"}});
        entrance.update(change).await;
        let (other, tenant) = tokio::join!(
            entrance.cluster("honest", None),
            entrance.cluster("sly", None)
        );
        let (first, theirs) = (entrance.given_name("sly"), entrance.given_name("honest"));
        let home = host_namespace(&ready_as(&tenant, &first).await);
        let their_home = host_namespace(&ready_as(&other, &theirs).await);

        let outside = "bank.elsewhere.test".to_owned();
        let wished: Vec<_> = [&site, &outside]
            .map(|name| json!({"name": name, "since": "2099-01-01T00:00:00Z"}))
            .into();
        let wished = json!(wished).to_string();
        let annotations = json!({"metadata": {"annotations": {
            "kubebyon.app/retiring-names": wished, "kubebyon.app/public-name": outside,
        }}});
        edit::<Secret>(
            &host.client,
            &tenant.namespace,
            "sly-kubeconfig",
            annotations,
        )
        .await;
        eventually("the Secret is as it was", || async {
            let secret: Secret = find(&host.client, &tenant.namespace, "sly-kubeconfig").await?;
            let name = secret.annotations().get("kubebyon.app/public-name")?;
            let retiring = secret.annotations().get("kubebyon.app/retiring-names");
            let clean = *name == first && retiring.is_none_or(|names| !names.contains("2099"));
            clean.then_some(())
        })
        .await;
        ready_as(&tenant, &first).await;
        assert_eq!(routed(host, &home).await.unwrap(), set([&first]));
        for name in [&site, &outside] {
            assert_eq!(holder(host, name).await, None, "{name}");
            assert_eq!(edge.gateways.leads_to(name), None, "{name}");
        }
        assert_eq!(
            edge.gateways.leads_to(&theirs),
            Some((their_home, "honest".to_owned()))
        );
        assert_eq!(edge.helm_runs("sly"), 1);
    });
}
