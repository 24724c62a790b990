//! A helm that is killed in the middle of an upgrade leaves a lock; nobody has to lift it.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use std::time::{Duration, Instant};

use kubebyon_api::names;
use kubebyon_e2e::judge::{find, uid};
use kubebyon_e2e::{
    children,
    operator::{Host, Tenant},
};
use kubebyon_k8s::{
    k8s_openapi::api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Secret},
    },
    kube::{Api, ResourceExt, api::ListParams},
};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

const NAME: &str = "demo";
/// How often helm may be too quick to be killed in mid-run.
const ATTEMPTS: usize = 20;
/// Helm's time limit here, and what the driver grants it beyond.
const LOCK: Duration = Duration::from_secs(1 + 30 + 10);

fn spec(attempt: usize) -> Value {
    let attempt = attempt.to_string();
    json!({"values": {"controlPlane": {"statefulSet": {"annotations": {"attempt": attempt}}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_whose_helm_is_killed_recovers_by_itself() {
    let host = Host::start().await;
    let manager = host
        .manager(host.options(&["--helm-timeout=1s", "--lease-name=helm-killed"]))
        .await;
    let namespace = host.namespace("killed").await;
    let tenant = Tenant::apply(&host, &namespace, NAME, spec(0)).await;
    tenant.ready().await;
    let place = names::host_namespace(&namespace, NAME);
    let client = &host.client;
    let volume = uid::<PersistentVolumeClaim>(client, &place, "data-demo-0").await;

    let mut attempt = 0;
    let helm = loop {
        attempt += 1;
        assert!(attempt <= ATTEMPTS, "helm is never in mid-upgrade");
        tenant.update(spec(attempt)).await;
        let this = std::process::id();
        if let Some(helm) = children::freeze_in_mid_run(client, this, &place, NAME).await {
            break helm;
        }
        tenant.ready().await;
    };
    kill_process(helm, Signal::KILL).unwrap();
    let killed = Instant::now();

    let message = tenant.because("ReleaseDeployed", "ReleaseLocked").await;
    let seconds: u64 = message
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number of seconds in {message:?}"));
    assert!(message.contains("unlocked in"), "{message}");
    assert!(seconds <= LOCK.as_secs() + 1, "{message}");
    tenant.ready().await;
    assert!(
        killed.elapsed() + Duration::from_secs(5) > LOCK,
        "a helm that might live is not robbed of its lock: {:?}",
        killed.elapsed()
    );

    let set: StatefulSet = find(client, &place, NAME).await.unwrap();
    assert_eq!(set.annotations()["attempt"], attempt.to_string());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &place);
    let revisions = secrets
        .list_metadata(&ListParams::default().labels("owner=helm"))
        .await
        .unwrap();
    let states: Vec<String> = revisions
        .items
        .iter()
        .map(|revision| revision.labels()["status"].clone())
        .collect();
    assert!(
        !states.iter().any(|state| state.starts_with("pending")),
        "{states:?}"
    );
    let deployed = states.iter().filter(|state| *state == "deployed").count();
    assert_eq!(deployed, 1, "{states:?}");
    let after = uid::<PersistentVolumeClaim>(client, &place, "data-demo-0").await;
    assert_eq!(volume, after, "the tenant keeps its volume");
    manager.stop().await;
}
