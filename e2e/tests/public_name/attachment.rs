//! Who may attach to an entrance, and what becomes of its clusters when it is not there.

use kubebyon_e2e::{
    judge::eventually,
    operator::{Tenant, condition},
};
use kubebyon_k8s::{
    k8s_openapi::api::core::v1::Namespace,
    kube::{
        Api,
        api::{Patch, PatchParams},
    },
};
use serde_json::json;

use crate::edge::{Entrance, edge, freed, published, ready_as};

#[test]
fn an_entrance_that_comes_later_is_taken_and_stays_while_it_is_used() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = Entrance::planned(host, edge.gateways).await;
        let tenant = entrance.cluster("early", None).await;
        let message = tenant
            .because("PublicEndpointReady", "PublicAccessNotFound")
            .await;
        assert!(
            message.contains(&format!("{}/public", entrance.namespace)),
            "{message}"
        );
        entrance.update(json!({})).await;
        let name = entrance.given_name("early");
        ready_as(&tenant, &name).await;

        entrance.delete().await;
        let message = entrance.because("Accepted", "InUse").await;
        assert!(
            message.contains(&format!("{}/early", tenant.namespace)),
            "{message}"
        );
        let keys = published(host, &tenant).await;
        keys.call(edge.gateways.address())
            .await
            .expect("it still serves");
        tenant.delete().await;
        tenant.gone().await;
        freed(host, &name).await;
        eventually("the entrance is gone", || async {
            entrance.find().await.is_none().then_some(())
        })
        .await;
    });
}

#[test]
fn the_entrance_says_whose_clusters_it_takes() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let guests = host.namespace("guests").await;
        let tenant = Tenant::apply(host, &guests, "guest", entrance.spec(None)).await;
        let refused = || async {
            let message = tenant
                .because("PublicEndpointReady", "AttachmentNotAllowed")
                .await;
            assert!(message.contains(&guests), "{message}");
            assert!(message.contains("spec.allowedNamespaces"), "{message}");
        };
        refused().await;
        let name = kubebyon_api::names::control_plane_hostname(&guests, "guest", &entrance.domain);
        assert_eq!(entrance.gateways.leads_to(&name), None);

        let selector = json!({"from": "Selector", "selector": {"matchLabels": {"edge": guests}}});
        entrance
            .update(json!({"allowedNamespaces": selector}))
            .await;
        refused().await;
        let namespaces: Api<Namespace> = Api::all(host.client.clone());
        let label = json!({"metadata": {"labels": {"edge": guests}}});
        namespaces
            .patch(&guests, &PatchParams::default(), &Patch::Merge(&label))
            .await
            .unwrap();
        ready_as(&tenant, &name).await;
        let runs = edge.helm_runs("guest");

        // Who was let in and is no longer welcome is told so, and no longer served.
        let keys = published(host, &tenant).await;
        entrance
            .update(json!({"allowedNamespaces": {"from": "Same"}}))
            .await;
        refused().await;
        eventually("the route is gone", || async {
            let way = entrance.gateways.leads_to(&name);
            way.is_none().then_some(())
        })
        .await;
        assert!(keys.call(edge.gateways.address()).await.is_err());
        assert_eq!(condition(&tenant.get().await, "Ready").unwrap().0, "False");
        entrance
            .update(json!({"allowedNamespaces": {"from": "All"}}))
            .await;
        ready_as(&tenant, &name).await;
        assert_eq!(published(host, &tenant).await, keys);
        keys.call(edge.gateways.address()).await.unwrap();
        assert_eq!(edge.helm_runs("guest"), runs, "and it is not restarted");
    });
}
