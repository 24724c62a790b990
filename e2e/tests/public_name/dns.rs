//! Whether a public name leads to the entrance, by a real DNS server.

use kubebyon_e2e::{
    name_server::NameServer,
    operator::{Tenant, condition},
};
use kubebyon_k8s::k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::edge::{Edge, Entrance, edge, hostname_status, public_endpoint, published, ready_as};

async fn entrance(edge: &Edge, servers: &[String]) -> Entrance<'static> {
    let entrance = Entrance::planned(edge.host(), edge.gateways).await;
    entrance
        .update(json!({
            "controlPlane": {"dnsCheck": "Enabled"},
            "workload": {"domain": format!("{}.apps.test", entrance.namespace), "dns": {"servers": servers}},
        }))
        .await;
    entrance
}

async fn dns_becomes(tenant: &Tenant, status: &str, reason: &str) -> String {
    let cluster = tenant
        .until(
            &format!("DNSReady {status} because of {reason}"),
            |cluster| {
                condition(cluster, "DNSReady")
                    .is_some_and(|(found, why, _)| found == status && why == reason)
            },
        )
        .await;
    condition(&cluster, "DNSReady").unwrap().2
}

#[test]
fn a_name_counts_once_it_leads_to_the_entrance_and_for_as_long() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        let host = &shared.host;
        let server = NameServer::start().await;
        let entrance = entrance(&edge, &[server.address().to_string()]).await;
        let addresses = entrance.addresses().await;
        let tenant = entrance.cluster("resolved", None).await;
        let name = entrance.given_name("resolved");

        let message = dns_becomes(&tenant, "False", "DNSNotReady").await;
        let record = format!("{name}. 300 IN A {}", addresses[0]);
        assert!(message.contains(&record), "{message}");
        let cluster = tenant
            .until("served but for its DNS", |cluster| {
                condition(cluster, "PublicEndpointReady")
                    .is_some_and(|(status, _, _)| status == "True")
            })
            .await;
        assert_eq!(condition(&cluster, "Ready").unwrap().0, "False");
        assert_eq!(condition(&cluster, "Ready").unwrap().1, "DNSNotReady");
        let shown = hostname_status(&cluster, &name).unwrap();
        assert_eq!(shown["reason"], "DNSNotReady");
        assert_eq!(shown["expectedRecord"], record);
        let secret: Option<Secret> =
            kubebyon_e2e::judge::find(&host.client, &tenant.namespace, "resolved-kubeconfig").await;
        assert!(
            secret.is_none(),
            "nobody is told a name that does not resolve"
        );

        server.set(&name, &["203.0.113.7".parse().unwrap()]).await;
        tenant
            .until("told that it leads elsewhere", |cluster| {
                condition(cluster, "DNSReady").is_some_and(|(status, _, message)| {
                    status == "False" && message.contains("203.0.113.7")
                })
            })
            .await;
        // A half-right answer takes half of the clients elsewhere.
        server
            .set(&name, &[addresses[0], "203.0.113.7".parse().unwrap()])
            .await;
        dns_becomes(&tenant, "False", "DNSNotReady").await;

        server.alias(&name, "entrance.example.test").await;
        server.set("entrance.example.test", &addresses).await;
        let cluster = ready_as(&tenant, &name).await;
        dns_becomes(&tenant, "True", "Succeeded").await;
        let shown = hostname_status(&cluster, &name).unwrap();
        assert_eq!(shown["dns"], "Ready");
        assert!(
            shown.get("expectedRecord").is_none() && shown.get("reason").is_none(),
            "{shown}"
        );
        assert_eq!(published(host, &tenant).await.name(), name);

        server
            .set("entrance.example.test", &["203.0.113.7".parse().unwrap()])
            .await;
        dns_becomes(&tenant, "False", "DNSNotReady").await;
        let cluster = tenant.get().await;
        assert_eq!(condition(&cluster, "Ready").unwrap().0, "False");
        assert_eq!(
            published(host, &tenant).await.name(),
            name,
            "what is published stays"
        );
        server.set(&name, &addresses).await;
        let cluster = ready_as(&tenant, &name).await;
        assert_eq!(
            public_endpoint(&cluster),
            Some(format!("https://{name}").as_str())
        );
    });
}

#[test]
fn a_server_that_does_not_answer_is_told_apart_from_a_missing_record() {
    let edge = edge();
    edge.shared.run(|shared| async move {
        // Bound and never read: every question runs into its limit.
        let mute = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = mute.local_addr().unwrap().to_string();
        let entrance = entrance(&edge, &[server]).await;
        let tenant = entrance.cluster("unanswered", None).await;
        dns_becomes(&tenant, "False", "DNSServerUnavailable").await;
        shared.counts("DNSServerUnavailable").await;
        let name_server = NameServer::start().await;
        let name = entrance.given_name("unanswered");
        let addresses = entrance.addresses().await;
        name_server.set(&name, &addresses).await;
        entrance
            .update(json!({
                "controlPlane": {"dnsCheck": "Enabled"},
                "workload": {
                    "domain": format!("{}.apps.test", entrance.namespace),
                    "dns": {"servers": [name_server.address().to_string()]},
                },
            }))
            .await;
        ready_as(&tenant, &name).await;
    });
}
