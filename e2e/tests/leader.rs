//! Two managers, each a process: one leads, and whatever happens to it, helm never runs
//! twice at once for one release.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use kubebyon_api::{ManagedCluster, names};
use kubebyon_e2e::{
    bench::{audit::AuditLog, process::Operator},
    children,
    helm_log::HelmLog,
    judge::{edit, eventually, find, remove, within},
    operator::{Host, Tenant, built},
};
use kubebyon_k8s::k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kubebyon_testbed::ApiOptions;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const LEASE: Duration = Duration::from_secs(7);
/// A candidate looks every seventh of the lease; the rest is for a busy machine.
const SLACK: Duration = Duration::from_secs(4);
/// How often helm may be too quick to be frozen in mid-run.
const ATTEMPTS: usize = 20;

struct Pair {
    host: Host,
    helm: HelmLog,
    folder: TempDir,
}

impl Pair {
    async fn new() -> Self {
        let host = Host::start_with(ApiOptions {
            audit: true,
            ..ApiOptions::default()
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let helm = HelmLog::new(folder.path(), &host.cluster.helm());
        Self { host, helm, folder }
    }

    fn start(&self, identity: &str) -> Operator {
        let flags = [
            format!("--helm={}", self.helm.program().display()),
            format!("--identity={identity}"),
            format!("--lease-duration={}s", LEASE.as_secs()),
            "--helm-timeout=1s".to_owned(),
        ];
        Operator::start(&built().unwrap(), &self.host, self.folder.path(), &flags)
    }

    async fn leader(&self) -> String {
        let lease: Option<Lease> =
            find(&self.host.client, "kubebyon-system", "kubebyon-operator").await;
        let spec = lease.and_then(|lease| lease.spec);
        let holder = spec.and_then(|spec| spec.holder_identity);
        let holder = holder.unwrap_or_default();
        holder.split('_').next().unwrap_or_default().to_owned()
    }

    async fn leads(&self, identity: &str) {
        self.leads_within(Duration::from_secs(60), identity).await;
    }

    async fn leads_within(&self, limit: Duration, identity: &str) {
        within(limit, &format!("{identity} leads"), || async {
            (self.leader().await == identity).then_some(())
        })
        .await;
    }
}

fn spec(attempt: usize) -> Value {
    let attempt = attempt.to_string();
    json!({"values": {"controlPlane": {"statefulSet": {"annotations": {"attempt": attempt}}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manager_takes_over_and_helm_never_runs_twice() {
    let pair = Pair::new().await;
    let namespace = pair.host.namespace("pair").await;
    let tenant = Tenant::apply(&pair.host, &namespace, "demo", spec(0)).await;
    let first = pair.start("first");
    pair.leads("first").await;
    let second = pair.start("second");
    tenant.ready().await;

    a_killed_leader_takes_its_helm_along(&pair, &tenant, first).await;
    a_leader_that_slept_writes_nothing_and_ends(&pair, &tenant, second).await;
    a_leader_that_is_asked_to_stop_hands_over_at_once(&pair).await;

    let runs = pair.helm.runs();
    assert!(runs.len() >= 3, "{runs:?}");
}

async fn a_killed_leader_takes_its_helm_along(pair: &Pair, tenant: &Tenant, mut first: Operator) {
    let client = &pair.host.client;
    let place = names::host_namespace(&tenant.namespace, &tenant.name);
    let mut attempt = 0;
    let helm = loop {
        attempt += 1;
        assert!(attempt <= ATTEMPTS, "helm is never in mid-upgrade");
        tenant.update(spec(attempt)).await;
        let frozen = children::freeze_in_mid_run(client, first.pid(), &place, &tenant.name).await;
        if let Some(helm) = frozen {
            break helm;
        }
        tenant.ready().await;
    };
    first.signal(Signal::KILL);
    first.ended().await;
    let killed = Instant::now();
    let proc = PathBuf::from(format!("/proc/{}", helm.as_raw_nonzero()));
    within(
        Duration::from_secs(2),
        "helm dies with its manager",
        || async { (!proc.exists()).then_some(()) },
    )
    .await;
    pair.leads_within(LEASE + SLACK, "second").await;
    assert!(
        killed.elapsed() >= LEASE / 2,
        "a leader that might live is not robbed: {:?}",
        killed.elapsed()
    );
    tenant.because("ReleaseDeployed", "ReleaseLocked").await;
    tenant.ready().await;
}

async fn a_leader_that_slept_writes_nothing_and_ends(
    pair: &Pair,
    tenant: &Tenant,
    mut second: Operator,
) {
    let client = &pair.host.client;
    let third = pair.start("third");
    // It takes part once it has looked at the Lease, and it can only take what it has seen.
    tokio::time::sleep(LEASE / 7 * 2).await;
    second.signal(Signal::STOP);
    pair.leads_within(LEASE + SLACK, "third").await;

    // All this reaches the sleeper's watches too: it wakes up with much to do.
    remove::<Secret>(client, &tenant.namespace, "demo-kubeconfig").await;
    eventually("the kubeconfig is back", || {
        find::<Secret>(client, &tenant.namespace, "demo-kubeconfig")
    })
    .await;
    tenant.ready().await;
    // What nobody else puts right while it wakes up: only the leader may.
    third.signal(Signal::STOP);
    remove::<Secret>(client, &tenant.namespace, "demo-kubeconfig").await;
    edit::<ManagedCluster>(
        client,
        &tenant.namespace,
        &tenant.name,
        json!({"metadata": {"annotations": {"look": "again"}}}),
    )
    .await;
    let mut log = AuditLog::new(pair.host.cluster.audit_log().unwrap().to_owned());
    let before = pair.helm.runs();
    second.signal(Signal::CONT);
    let status = second.ended().await;
    let requests = log.read();
    assert!(!status.success(), "it lost its lease");
    assert!(
        second.log().contains("the lease is lost"),
        "{}",
        second.log_end()
    );
    assert_eq!(requests.writes, 0, "{requests:?}\n{}", second.log_end());
    assert_eq!(requests.impersonated, 0, "{requests:?}");
    assert_eq!(pair.helm.runs(), before);
    third.signal(Signal::CONT);
    drop(third);
}

async fn a_leader_that_is_asked_to_stop_hands_over_at_once(pair: &Pair) {
    let fourth = pair.start("fourth");
    pair.leads("fourth").await;
    let fifth = pair.start("fifth");
    // A candidate that has seen the Lease held looks again every seventh of its time.
    tokio::time::sleep(LEASE / 7 * 2).await;
    fourth.stop().await;
    assert_ne!(pair.leader().await, "fourth", "the lease is released");
    pair.leads_within(LEASE / 2, "fifth").await;
    fifth.stop().await;
}
