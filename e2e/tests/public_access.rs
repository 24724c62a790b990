//! A PublicAccess on a real api-server with the real Gateway API definitions. No gateway
//! controller runs here: what one would say in a Gateway's status, the test says in its
//! place, so nothing is proved about a data plane.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use std::time::Duration;

use kubebyon_api::PublicAccess;
use kubebyon_e2e::operator::{Host, PATIENCE};
use kubebyon_k8s::{
    gateway_api::{gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute},
    kube::{
        Api, Resource,
        api::{DeleteParams, ListParams, Patch, PatchParams},
    },
};
use kubebyon_testbed::{ApiOptions, CrdSet};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

struct Access<'a> {
    host: &'a Host,
    namespace: String,
    name: String,
}

impl<'a> Access<'a> {
    async fn apply(host: &'a Host, namespace: &str, name: &str, spec: Value) -> Self {
        let access = Self {
            host,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        access.update(spec).await;
        access
    }

    fn api(&self) -> Api<PublicAccess> {
        Api::namespaced(self.host.client.clone(), &self.namespace)
    }

    async fn update(&self, spec: Value) {
        let object = json!({
            "apiVersion": "kubebyon.app/v1alpha1", "kind": "PublicAccess",
            "metadata": {"name": self.name, "namespace": self.namespace}, "spec": spec,
        });
        let parameters = PatchParams::apply("test").force();
        self.api()
            .patch(&self.name, &parameters, &Patch::Apply(&object))
            .await
            .expect("the api-server accepts it");
    }

    /// Waits for the reason of a condition of the newest generation; gives status and message.
    async fn because(&self, type_: &str, reason: &str) -> (String, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let access = self.api().get(&self.name).await.expect("it is there");
            let status = access.status.clone().unwrap_or_default();
            let found = status.conditions.iter().find(|condition| {
                condition.type_ == type_
                    && condition.reason == reason
                    && condition.observed_generation == access.metadata.generation
            });
            if let Some(found) = found {
                return (found.status.clone(), found.message.clone());
            }
            assert!(
                Instant::now() < deadline,
                "{}: {type_} has not the reason {reason}: {:#?}",
                self.name,
                status.conditions
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn gone(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self
            .api()
            .get_opt(&self.name)
            .await
            .expect("an answer")
            .is_some()
        {
            assert!(Instant::now() < deadline, "{} is not gone", self.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn apply<K>(api: Api<K>, object: Value)
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    let name = object["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    api.patch(
        &name,
        &PatchParams::apply("test").force(),
        &Patch::Apply(&object),
    )
    .await
    .expect("it is applied");
}

async fn class(host: &Host, name: &str) {
    let object = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": name}, "spec": {"controllerName": "example.com/nobody"},
    });
    apply::<GatewayClass>(Api::all(host.client.clone()), object).await;
}

/// Says what a gateway's controller would.
async fn programmed(gateways: &Api<Gateway>, name: &str, address: &str) {
    let gateway = gateways.get(name).await.expect("the Gateway");
    let condition = |type_: &str| {
        json!({"type": type_, "status": "True", "reason": type_, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": gateway.metadata.generation})
    };
    let status = json!({"status": {
        "addresses": [{"type": "IPAddress", "value": address}],
        "conditions": [condition("Accepted"), condition("Programmed")],
    }});
    gateways
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("a status");
}

fn spec() -> Value {
    json!({
        "provider": "GatewayAPI",
        "controlPlane": {"domain": "clusters.example.test"},
        "platform": {"hostname": "console.example.test", "tlsSecretName": "console-tls", "httpToHttpsRedirect": true},
        "workload": {"domain": "apps.example.test"},
        "gatewayAPI": {"gatewayClassName": "eg"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entrance_comes_and_goes() {
    let host = Host::start_with(ApiOptions {
        with: vec![CrdSet::GatewayApi],
        ..ApiOptions::default()
    })
    .await;
    let manager = host.manager(host.options(&[])).await;
    let namespace = host.namespace("edge").await;
    let gateways: Api<Gateway> = Api::namespaced(host.client.clone(), &namespace);

    let access = Access::apply(&host, &namespace, "public", spec()).await;
    let (status, message) = access.because("Accepted", "GatewayClassNotFound").await;
    assert_eq!(status, "False");
    assert!(message.contains("GatewayClass eg"), "{message}");
    class(&host, "eg").await;
    let (_, message) = access.because("Programmed", "GatewayNotProgrammed").await;
    assert!(
        message.contains("no controller has said Accepted"),
        "{message}"
    );

    let names = [
        "public-gateway",
        "public-platform-gateway",
        "public-workload-gateway",
    ];
    for (index, name) in names.iter().enumerate() {
        programmed(&gateways, name, &format!("10.89.9.{index}")).await;
    }
    let (status, _) = access.because("Ready", "Succeeded").await;
    assert_eq!(status, "True");
    let found = access.api().get("public").await.unwrap().status.unwrap();
    assert_eq!(found.gateways.len(), 3);
    assert!(
        found
            .gateways
            .iter()
            .all(|gateway| gateway.class_name == "eg" && gateway.addresses.len() == 1),
        "{found:?}"
    );
    let routes: Api<HttpRoute> = Api::namespaced(host.client.clone(), &namespace);
    assert!(
        !routes
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty(),
        "the platform's site has routes"
    );

    // What somebody changes or deletes is put back.
    gateways
        .delete("public-workload-gateway", &DeleteParams::default())
        .await
        .unwrap();
    access.because("Programmed", "GatewayNotProgrammed").await;
    programmed(&gateways, "public-workload-gateway", "10.89.9.2").await;
    access.because("Ready", "Succeeded").await;
    // A Gateway of another generation says nothing about this one.
    let change = json!({"metadata": {"name": "public-gateway"}, "spec": {"gatewayClassName": "eg", "listeners": [
        {"name": "somebody", "port": 80, "protocol": "HTTP"}]}});
    gateways
        .patch(
            "public-gateway",
            &PatchParams::default(),
            &Patch::Merge(&change),
        )
        .await
        .unwrap();
    access.because("Programmed", "GatewayNotProgrammed").await;
    let deadline = Instant::now() + PATIENCE;
    while gateways
        .get("public-gateway")
        .await
        .unwrap()
        .spec
        .listeners
        .iter()
        .any(|listener| listener.name == "somebody")
    {
        assert!(
            Instant::now() < deadline,
            "the operator owns the Gateway whole"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // Without a platform its Gateway and its routes go.
    let mut without = spec();
    without.as_object_mut().unwrap().remove("platform");
    access.update(without).await;
    let deadline = Instant::now() + PATIENCE;
    while gateways
        .get_opt("public-platform-gateway")
        .await
        .unwrap()
        .is_some()
        || !routes
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    {
        assert!(
            Instant::now() < deadline,
            "the platform's objects are still there"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // While a cluster is attached, the entrance stays.
    let tenant = kubebyon_e2e::operator::Tenant::apply(
        &host,
        &namespace,
        "user",
        json!({"suspend": true, "publicAccess": {"ref": {"name": "public"}}}),
    )
    .await;
    access
        .api()
        .delete("public", &DeleteParams::default())
        .await
        .unwrap();
    let (_, message) = access.because("Accepted", "InUse").await;
    assert!(message.contains(&format!("{namespace}/user")), "{message}");
    tenant.delete().await;
    access.gone().await;
    assert!(
        gateways
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty(),
        "the Gateways are gone"
    );
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_has_its_reason() {
    let host = Host::start_with(ApiOptions {
        with: vec![CrdSet::GatewayApi],
        ..ApiOptions::default()
    })
    .await;
    let manager = host.manager(host.options(&[])).await;
    let namespace = host.namespace("edge").await;
    class(&host, "eg").await;
    let gateways: Api<Gateway> = Api::namespaced(host.client.clone(), &namespace);

    let other = json!({"provider": "HAProxy", "controlPlane": {"domain": "clusters.example.test"}});
    let haproxy = Access::apply(&host, &namespace, "haproxy", other).await;
    let (_, message) = haproxy.because("Stalled", "ProviderUnavailable").await;
    assert!(message.contains("set it to GatewayAPI"), "{message}");

    let foreign = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "taken-gateway", "namespace": namespace},
        "spec": {"gatewayClassName": "eg", "listeners": [{"name": "theirs", "port": 80, "protocol": "HTTP"}]},
    });
    apply::<Gateway>(gateways.clone(), foreign).await;
    let taken = Access::apply(&host, &namespace, "taken", spec()).await;
    let (_, message) = taken.because("Stalled", "NotOwned").await;
    assert!(message.contains("kubectl annotate gateway"), "{message}");
    let theirs = gateways.get("taken-gateway").await.unwrap();
    assert_eq!(theirs.spec.listeners[0].name, "theirs", "it is left alone");

    let mut elsewhere = spec();
    elsewhere["gatewayAPI"]["controlPlane"] = json!({"namespace": "default"});
    let away = Access::apply(&host, &namespace, "away", elsewhere).await;
    let (_, message) = away.because("Stalled", "GatewayNamespaceNotAllowed").await;
    assert!(
        message.contains("kubectl annotate namespace default"),
        "{message}"
    );
    manager.stop().await;
}
