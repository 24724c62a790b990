//! Converged clusters at rest, a restarted manager, and a restarted api-server: nothing is
//! written and nothing is run, by the api-server's own account and by helm's.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use std::time::Duration;

use kubebyon_e2e::{
    bench::{
        audit::{AuditLog, Requests},
        process::Operator,
    },
    helm_log::HelmLog,
    judge::eventually,
    operator::{Host, Tenant, built, is_ready},
};
use kubebyon_testbed::ApiOptions;
use serde_json::json;

const CLUSTERS: usize = 10;
const AT_REST: Duration = Duration::from_secs(30);
/// So long without a write, and the work is done.
const QUIET: Duration = Duration::from_secs(3);

/// Of all writes, the renewal of the Lease alone is allowed.
fn assert_no_writes(requests: &Requests, when: &str) {
    assert_eq!(requests.writes, 0, "{when}: {requests:?}");
    assert_eq!(requests.impersonated, 0, "{when}: {requests:?}");
    assert!(
        requests.lease_writes > 0,
        "{when}: the log does not even show the Lease: {requests:?}"
    );
}

/// Each tenant is dialled once a manager has found it as it should be.
async fn all_looked_at(host: &Host) {
    eventually("every tenant is dialled", || async {
        (host.control_planes.dialled() == CLUSTERS).then_some(())
    })
    .await;
    // What follows a dial would be written at once.
    tokio::time::sleep(QUIET).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn converged_clusters_are_left_alone() {
    let host = Host::start_with(ApiOptions {
        audit: true,
        ..ApiOptions::default()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let helm = HelmLog::new(folder.path(), &host.cluster.helm());
    let start = |more: &[&str]| {
        let mut flags = vec![
            format!("--helm={}", helm.program().display()),
            // Longer than the api-server is away: a manager that loses its Lease ends.
            "--lease-duration=60s".to_owned(),
        ];
        flags.extend(more.iter().map(|&flag| flag.to_owned()));
        Operator::start(&built().unwrap(), &host, folder.path(), &flags)
    };
    let mut log = AuditLog::new(host.cluster.audit_log().unwrap().to_owned());

    let mut operator = start(&[]);
    let namespace = host.namespace("rest").await;
    let mut tenants = Vec::new();
    for number in 0..CLUSTERS {
        // Versions that are given in full, as a minor, and not at all.
        let spec = match number % 3 {
            0 => json!({}),
            1 => json!({"kubernetesVersion": "1.35"}),
            _ => json!({"kubernetesVersion": "1.36.3"}),
        };
        tenants.push(Tenant::apply(&host, &namespace, &format!("rest-{number}"), spec).await);
    }
    for tenant in &tenants {
        tenant.ready().await;
    }
    let made = helm.runs();
    assert_eq!(made.len(), CLUSTERS, "one run a cluster: {made:?}");
    let mut before = Vec::new();
    for tenant in &tenants {
        before.push(tenant.get().await);
    }
    assert!(log.read().writes > 0, "the log shows what was made");
    tokio::time::sleep(QUIET).await;
    log.skip();

    let faults = operator.usage().child_faults;
    tokio::time::sleep(AT_REST).await;
    operator.assert_running();
    assert_no_writes(&log.read(), "at rest");
    assert_eq!(helm.runs(), made, "no helm at rest");
    assert_eq!(operator.usage().child_faults, faults, "no program at rest");

    let restarts: [&[&str]; 2] = [
        &[],
        // Another release of the operator would bring other defaults.
        &[
            "--default-chart-version=0.99.0",
            "--kubernetes-versions=1.35.9,1.36.9,1.37.0",
        ],
    ];
    for flags in restarts {
        operator.stop().await;
        host.control_planes.forget_dials();
        log.skip();
        operator = start(flags);
        all_looked_at(&host).await;
        operator.assert_running();
        assert_no_writes(&log.read(), &format!("after a restart with {flags:?}"));
        assert_eq!(helm.runs(), made, "no helm after a restart with {flags:?}");
    }
    for (tenant, before) in tenants.iter().zip(&before) {
        let after = tenant.get().await;
        assert_eq!(
            after.metadata.resource_version,
            before.metadata.resource_version
        );
    }

    // The api-server goes away and comes back, and the manager carries on.
    operator.stop().await;
    let mut operator = start(&[]);
    all_looked_at(&host).await;
    let cluster = host.cluster.clone();
    tokio::task::spawn_blocking(move || cluster.restart_apiserver())
        .await
        .unwrap()
        .unwrap();
    let annotated = json!({"controlPlane": {"statefulSet": {"annotations": {"team": "blue"}}}});
    tenants[0].update(json!({"values": annotated})).await;
    tenants[0].ready().await;
    operator.assert_running();
    let mut after = made.clone();
    after.push("upgrade rest-0".to_owned());
    assert_eq!(helm.runs(), after, "the others are left alone");
    for tenant in &tenants {
        assert!(is_ready(&tenant.get().await), "{} is ready", tenant.name);
    }
    operator.stop().await;
}
