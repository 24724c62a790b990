//! Many clusters behind one Gateway, on an api-server without nodes: from apply until each answers
//! under its public name, and a change of name. The control planes and the gateway are the fakes of
//! `control_planes` and `gateway`: the gateway looks ten times a second, which is in every figure.

use std::time::Duration;

use futures::StreamExt;
use kubebyon_api::{ManagedCluster, PublicAccess};
use kubebyon_k8s::{
    gateway_api::gatewayclasses::GatewayClass,
    k8s_openapi::api::core::v1::{Namespace, Secret},
    kube::{
        Api, ResourceExt,
        api::{Patch, PatchParams},
    },
};
use kubebyon_testbed::{ApiOptions, CrdSet};
use serde_json::{from_value, json};
use tokio::time::{Instant, sleep};

use super::{
    Options,
    audit::{AuditLog, Requests},
    fleet::{all_ready, leads},
    limits::{AT_ONCE, PATIENCE},
    process::Operator,
    say,
};
use crate::{gateway::Gateway, judge::create, operator::Host};

const NAMESPACE: &str = "entrance";
const DOMAIN: &str = "clusters.example.test";
/// Names that are changed, one after the other.
const CHANGES: u16 = 10;

/// All figures.
pub struct Figures {
    /// Clusters behind the one Gateway.
    pub clusters: u16,
    /// From the first request of their author until each was dialled under its public name.
    pub seconds: f64,
    /// By the api-server's audit log, until then.
    pub requests: Requests,
    /// Changes of name, from apply until the kubeconfig says the new one: seconds.
    pub changes: Vec<f64>,
    /// By the api-server's audit log, for all changes together.
    pub of_changes: Requests,
}

/// Measures them one after the other.
pub async fn measure(options: &Options) -> Figures {
    say("starting an api-server with Gateway API");
    let host = Host::start_with(ApiOptions {
        audit: true,
        apiserver_args: vec!["--audit-log-maxsize=100000".to_owned()],
        with: vec![CrdSet::GatewayApi],
        ..ApiOptions::default()
    })
    .await;
    let mut audit = AuditLog::new(host.cluster.audit_log().expect("an audit log").to_owned());
    let gateway = Gateway::start(&host);
    let folder = tempfile::tempdir().expect("a folder");
    let dial = format!("--public-dial-address={}", gateway.address());
    let operator = Operator::start(&options.operator, &host, folder.path(), &[dial]);
    leads(&operator).await;
    open(&host).await;

    say(&format!("{} clusters behind one Gateway", options.clusters));
    audit.skip();
    let clusters: Api<ManagedCluster> = Api::namespaced(host.client.clone(), NAMESPACE);
    let started = Instant::now();
    let make = async {
        futures::stream::iter(0..options.clusters)
            .for_each_concurrent(AT_ONCE, |number| {
                let cluster = from_value::<ManagedCluster>(json!({
                    "apiVersion": "kubebyon.app/v1alpha1", "kind": "ManagedCluster",
                    "metadata": {"name": tenant(number)}, "spec": spec(None),
                }));
                let api = &clusters;
                async move { create(api, &cluster.expect("a cluster")).await }
            })
            .await;
    };
    let ((), ()) = tokio::join!(
        make,
        all_ready(&clusters, options.clusters.into(), &operator)
    );
    let seconds = started.elapsed().as_secs_f64();
    // The last writes are logged a moment after their answers.
    sleep(Duration::from_secs(1)).await;
    let requests = audit.read();

    say("changes of name");
    let mut changes = Vec::new();
    for number in 0..CHANGES.min(options.clusters) {
        changes.push(change(&host, &clusters, number, &operator).await);
    }
    sleep(Duration::from_secs(1)).await;
    let of_changes = audit.read();
    operator.stop().await;
    Figures {
        clusters: options.clusters,
        seconds,
        requests,
        changes,
        of_changes,
    }
}

fn tenant(number: u16) -> String {
    format!("tenant-{number:03}")
}

fn spec(hostname: Option<&str>) -> serde_json::Value {
    json!({
        "kubernetesVersion": "1.36",
        "publicAccess": {"ref": {"name": "public", "namespace": NAMESPACE}, "hostname": hostname.unwrap_or_default()},
    })
}

/// Makes the entrance, and waits until its Gateway has an address.
async fn open(host: &Host) {
    let namespace: Namespace =
        from_value(json!({"metadata": {"name": NAMESPACE}})).expect("a namespace");
    create(&Api::all(host.client.clone()), &namespace).await;
    let class: GatewayClass = from_value(Gateway::class("eg")).expect("a class");
    create(&Api::all(host.client.clone()), &class).await;
    let access: PublicAccess = from_value(json!({
        "apiVersion": "kubebyon.app/v1alpha1", "kind": "PublicAccess",
        "metadata": {"name": "public"},
        "spec": {
            "provider": "GatewayAPI",
            "controlPlane": {"domain": DOMAIN, "dnsCheck": "Disabled"},
            "gatewayAPI": {"gatewayClassName": "eg"},
        },
    }))
    .expect("an entrance");
    let api: Api<PublicAccess> = Api::namespaced(host.client.clone(), NAMESPACE);
    create(&api, &access).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = api.get("public").await.expect("it is there").status;
        let gateways = status.map(|status| status.gateways).unwrap_or_default();
        if gateways.iter().any(|gateway| !gateway.addresses.is_empty()) {
            return;
        }
        assert!(Instant::now() < deadline, "the entrance has no address");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Gives a cluster another name, and waits until its kubeconfig says so.
async fn change(
    host: &Host,
    clusters: &Api<ManagedCluster>,
    number: u16,
    operator: &Operator,
) -> f64 {
    let (name, wanted) = (tenant(number), format!("new-{number}.{DOMAIN}"));
    let secrets: Api<Secret> = Api::namespaced(host.client.clone(), NAMESPACE);
    let patch = json!({"spec": spec(Some(&wanted))});
    let started = Instant::now();
    clusters
        .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .expect("the api-server takes it");
    loop {
        let secret = secrets.get_metadata(&format!("{name}-kubeconfig")).await;
        let secret = secret.expect("the kubeconfig");
        let said = secret.annotations().get(kubebyon_api::labels::PUBLIC_NAME);
        if said == Some(&wanted) {
            return started.elapsed().as_secs_f64();
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{name} does not change its name: {}",
            operator.log_end()
        );
        sleep(Duration::from_millis(10)).await;
    }
}
