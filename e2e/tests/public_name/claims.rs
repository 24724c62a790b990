//! Each public name has one owner.

use kubebyon_e2e::{
    gateway::Behaviour,
    judge::{eventually, within},
    operator::{Tenant, condition, is_ready},
};
use kubebyon_k8s::kube::ResourceExt;
use serde_json::json;

use crate::edge::{SECONDS, claim, edge, freed, holder, make_due, ready_as};

#[test]
fn of_two_that_want_a_name_one_has_it_until_it_is_gone() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let name = format!("wanted.{}", entrance.domain);
        let (one, two) = tokio::join!(
            entrance.cluster("one", Some(&name)),
            entrance.cluster("two", Some(&name))
        );
        eventually("somebody is ready", || async {
            (is_ready(&one.get().await) || is_ready(&two.get().await)).then_some(())
        })
        .await;
        let first_wins = is_ready(&one.get().await);
        let (winner, loser) = if first_wins { (one, two) } else { (two, one) };
        let key = |tenant: &Tenant| format!("{}/{}", tenant.namespace, tenant.name);
        let message = loser
            .because("PublicEndpointReady", "HostnameConflict")
            .await;
        assert!(message.contains(&key(&winner)), "{message}");
        assert!(message.contains(&name), "{message}");
        assert_eq!(holder(host, &name).await, Some(key(&winner)));
        let held = claim(host, &name).await.unwrap().uid();

        // A holder that is in trouble is a holder still.
        entrance.behave(Behaviour::Silent);
        winner.because("PublicEndpointReady", "ProbeFailed").await;
        loser.update(entrance.spec(Some(&name))).await;
        loser
            .because("PublicEndpointReady", "HostnameConflict")
            .await;
        entrance.behave(Behaviour::Serving);
        ready_as(&winner, &name).await;
        assert_eq!(claim(host, &name).await.unwrap().uid(), held);
        assert!(!is_ready(&loser.get().await));

        winner.delete().await;
        winner.gone().await;
        ready_as(&loser, &name).await;
        assert_eq!(holder(host, &name).await, Some(key(&loser)));
        let way = entrance.gateways.leads_to(&name).unwrap();
        assert_eq!(way.1, loser.name, "and the route leads to its new owner");
    });
}

#[test]
fn a_name_that_a_cluster_has_left_is_its_own_until_it_is_due() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let left = format!("left.{}", entrance.domain);
        let owner = entrance.cluster("owner", Some(&left)).await;
        ready_as(&owner, &left).await;
        let next = format!("next.{}", entrance.domain);
        owner.update(entrance.spec(Some(&next))).await;
        ready_as(&owner, &next).await;

        let waiting = entrance.cluster("waiting", Some(&left)).await;
        let message = waiting
            .because("PublicEndpointReady", "HostnameConflict")
            .await;
        assert!(
            message.contains(&format!("{}/owner", owner.namespace)),
            "{message}"
        );
        assert!(!is_ready(&waiting.get().await));
        make_due(host, &owner).await;
        ready_as(&waiting, &left).await;
        let way = entrance.gateways.leads_to(&left).unwrap();
        assert_eq!(way.1, "waiting");
        ready_as(&owner, &next).await;

        // The next of the same name has nothing to wait for.
        owner.delete().await;
        let again = entrance.spec(Some(&next));
        owner.gone().await;
        freed(host, &next).await;
        owner.update(again).await;
        ready_as(&owner, &next).await;
    });
}

#[test]
fn names_that_are_nobodys_to_have_are_refused() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let entrance = edge.entrance().await;
        let site = format!("console.{}", entrance.other_domain);
        let sites = format!("{}.apps.test", entrance.namespace);
        entrance
            .update(json!({
                "platform": {"hostname": site, "tlsSecretName": "console-tls"},
                "workload": {"domain": sites},
            }))
            .await;
        let cases = [
            ("reserved", site.clone(), "HostnameReserved"),
            ("apex", entrance.domain.clone(), "HostnameReserved"),
            ("apps", sites.clone(), "HostnameReserved"),
            ("elsewhere", format!("demo.{sites}"), "HostnameNotAllowed"),
            (
                "suffix",
                format!("x{}", entrance.domain),
                "HostnameNotAllowed",
            ),
        ];
        let mut refused = Vec::new();
        for (cluster, name, _) in &cases {
            refused.push(entrance.cluster(cluster, Some(name)).await);
        }
        for (tenant, (cluster, name, reason)) in refused.iter().zip(&cases) {
            let message = tenant.because("PublicEndpointReady", reason).await;
            assert!(message.contains(name), "{cluster}: {message}");
            assert!(
                message.contains("spec.publicAccess.hostname"),
                "{cluster}: {message}"
            );
            let summary = tenant
                .until("stalled", |cluster| {
                    condition(cluster, "Stalled").is_some_and(|(status, _, _)| status == "True")
                })
                .await;
            assert_eq!(
                condition(&summary, "Ready").unwrap().0,
                "False",
                "{cluster}"
            );
            assert_eq!(holder(host, name).await, None, "{cluster}");
            assert_eq!(entrance.gateways.leads_to(name), None, "{cluster}");
        }
        // A name that can be had is all that is needed.
        let name = format!("apex.{}", entrance.domain);
        refused[1].update(entrance.spec(Some(&name))).await;
        ready_as(&refused[1], &name).await;
        for tenant in &refused {
            tenant.delete().await;
        }
        for tenant in &refused {
            within(SECONDS * 2, "it is gone", || async {
                tenant.find().await.is_none().then_some(())
            })
            .await;
        }
    });
}
