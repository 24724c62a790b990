//! Whatever request the manager dies at, the next one comes to the same end.
//!
//! One manager serves a cluster for each point of a crash; each cluster's requests stop
//! at its own point (see `kubebyon_e2e::crash`), then the manager is killed and a fresh
//! one takes over. Helm runs that are under way end by themselves: a helm that is killed
//! is the matter of `helm_killed.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use kubebyon_api::{PublicAccess, names};
use kubebyon_e2e::{
    children,
    crash::{Crashes, Point, Seen},
    gateway::Gateway,
    inventory,
    judge::{eventually, within},
    operator::{Host, Manager, Tenant, is_ready},
};
use kubebyon_k8s::{
    gateway_api::gatewayclasses::GatewayClass,
    k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Condition},
    kube::{
        Api, ResourceExt,
        api::{ListParams, Patch, PatchParams},
    },
};
use kubebyon_operator::{client, telemetry::metrics::Metrics};
use kubebyon_testbed::{ApiOptions, CrdSet};
use serde_json::{Value, json};

const NAME: &str = "demo";
const OPERATOR: &str = "kubebyon-system";
/// For a phase of all clusters: they share the machine's cores.
const LONG: Duration = Duration::from_secs(240);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Create,
    Upgrade,
    Rename,
    Delete,
}

const PHASES: [Phase; 4] = [Phase::Create, Phase::Upgrade, Phase::Rename, Phase::Delete];
/// Domain of the public names.
const DOMAIN: &str = "clusters.example.test";
/// Class of the fake gateway.
const CLASS: &str = "fake";

struct Lane {
    tenant: Tenant,
    host_namespace: String,
    entrance: String,
}

impl Lane {
    async fn new(host: &Host, entrance: &str) -> Self {
        let namespace = host.namespace("crash").await;
        Self {
            host_namespace: names::host_namespace(&namespace, NAME),
            tenant: Tenant::new(host, &namespace, NAME),
            entrance: entrance.to_owned(),
        }
    }

    /// The name that it is given, and the one that it asks for later.
    fn hostnames(&self) -> [String; 2] {
        let namespace = &self.tenant.namespace;
        [
            names::control_plane_hostname(namespace, NAME, DOMAIN),
            format!("renamed-{namespace}.{DOMAIN}"),
        ]
    }

    /// The names that are the cluster's after a phase.
    fn held(&self, phase: Phase) -> BTreeSet<String> {
        let [given, asked] = self.hostnames();
        match phase {
            Phase::Create | Phase::Upgrade => [given].into(),
            Phase::Rename => [given, asked].into(),
            Phase::Delete => BTreeSet::new(),
        }
    }

    fn spec(&self, version: &str, hostname: &str) -> Value {
        json!({"kubernetesVersion": version, "publicAccess": {
            "ref": {"name": "public", "namespace": self.entrance}, "hostname": hostname,
        }})
    }

    fn namespaces(&self) -> [&str; 2] {
        [&self.tenant.namespace, &self.host_namespace]
    }

    async fn begin(&self, phase: Phase) {
        match phase {
            Phase::Create => self.tenant.update(self.spec("1.35", "")).await,
            Phase::Upgrade => self.tenant.update(self.spec("1.36", "")).await,
            Phase::Rename => {
                let [_, asked] = self.hostnames();
                self.tenant.update(self.spec("1.36", &asked)).await;
            }
            Phase::Delete => self.tenant.delete().await,
        }
    }

    async fn is_done(&self, phase: Phase) -> bool {
        let cluster = self.tenant.find().await;
        match phase {
            Phase::Create | Phase::Upgrade | Phase::Rename => {
                cluster.as_ref().is_some_and(is_ready)
            }
            Phase::Delete => cluster.is_none(),
        }
    }

    /// What there is, in a form that can be compared with another cluster's.
    async fn inventory(&self, all: &inventory::Inventory) -> BTreeMap<String, Value> {
        let uid = match self.tenant.find().await {
            Some(cluster) => cluster.uid().unwrap(),
            None => "none".to_owned(),
        };
        let label = names::host_label(&self.tenant.namespace, NAME);
        let mut found =
            inventory::normalised(all, self.namespaces(), &[(&uid, "UID"), (&label, "LABEL")]);
        // The claims are in the operator's own namespace.
        for object in all.get(OPERATOR).into_iter().flat_map(BTreeMap::values) {
            let data = &object["data"];
            if data["namespace"] == self.tenant.namespace.as_str() && data["uid"] == uid.as_str() {
                let hostname = data["hostname"].as_str().unwrap();
                let [given, _] = self.hostnames();
                let which = if hostname == given {
                    "given"
                } else {
                    "asked for"
                };
                found.insert(format!("claim of the name {which}"), Value::Bool(true));
            }
        }
        found
    }
}

/// Starts a manager with a Lease of its own: a killed one still holds its own.
async fn manager(host: &Host, edge: &Edge, crashes: Option<&Crashes>) -> Manager {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let metrics = Metrics::default();
    let mut client = client::build(host.operator_config().await, metrics.clone()).unwrap();
    if let Some(crashes) = crashes {
        client = crashes.client(client);
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let lease = format!("--lease-name=crash-{number}");
    // Clusters that hang hold their places.
    let dial = format!("--public-dial-address={}", edge.gateways.address());
    let options = host.options(&[&lease, &dial, "--concurrency=512", "--lease-duration=60s"]);
    host.manager_with(options, client, metrics)
}

/// The one entrance of all clusters.
struct Edge {
    namespace: String,
    gateways: Gateway,
}

impl Edge {
    /// Opens it, and waits until nothing of it is to be written any more.
    async fn open(host: &Host) -> Self {
        let gateways = Gateway::start(host);
        let parameters = PatchParams::apply("test").force();
        Api::<GatewayClass>::all(host.client.clone())
            .patch(CLASS, &parameters, &Patch::Apply(&Gateway::class(CLASS)))
            .await
            .unwrap();
        let namespace = host.namespace("edge").await;
        let api: Api<PublicAccess> = Api::namespaced(host.client.clone(), &namespace);
        let access = json!({
            "apiVersion": "kubebyon.app/v1alpha1", "kind": "PublicAccess",
            "metadata": {"name": "public", "namespace": namespace},
            "spec": {
                "provider": "GatewayAPI", "allowedNamespaces": {"from": "All"},
                "controlPlane": {"domain": DOMAIN, "dnsCheck": "Disabled"},
                "gatewayAPI": {"gatewayClassName": CLASS},
            },
        });
        api.patch("public", &parameters, &Patch::Apply(&access))
            .await
            .unwrap();
        let edge = Self {
            namespace,
            gateways,
        };
        let manager = manager(host, &edge, None).await;
        eventually("the entrance is ready", || async {
            let conditions = api.get("public").await.unwrap().status?.conditions;
            let ready =
                |condition: &Condition| condition.type_ == "Ready" && condition.status == "True";
            conditions.iter().any(ready).then_some(())
        })
        .await;
        manager.stop().await;
        edge
    }
}

/// Runs one phase of all lanes, each to its point or to its end, and kills the manager.
async fn run(
    host: &Host,
    edge: &Edge,
    lanes: &[Lane],
    phase: Phase,
    points: &[Option<Point>],
) -> Vec<Vec<Seen>> {
    let crashes = Crashes::default();
    let numbers: Vec<usize> = lanes
        .iter()
        .zip(points)
        .map(|(lane, point)| {
            let number = crashes.lane(lane.namespaces(), *point);
            crashes.claims(number, &lane.hostnames());
            number
        })
        .collect();
    // How many clusters use it is told in the entrance's own status.
    crashes.lane([&edge.namespace, &edge.namespace], None);
    let manager = manager(host, edge, Some(&crashes)).await;
    for lane in lanes {
        lane.begin(phase).await;
    }
    for (lane, number) in lanes.iter().zip(&numbers) {
        within(LONG, &format!("{phase:?} crashes or ends"), || async {
            (crashes.crashed(*number) || lane.is_done(phase).await).then_some(())
        })
        .await;
    }
    eventually("no helm runs any more", || async {
        children::helm_runs(std::process::id())
            .is_empty()
            .then_some(())
    })
    .await;
    crashes.silence();
    manager.kill().await;
    assert_eq!(
        crashes.stray(),
        Vec::<String>::new(),
        "each write has a cluster"
    );
    numbers.iter().map(|number| crashes.seen(*number)).collect()
}

/// Every request can fail to arrive; of those that write, the answer can be lost too. An
/// answer to a read that is lost is no other thing than a read that did not arrive.
fn points(seen: &[Seen]) -> Vec<Point> {
    let mut points = Vec::new();
    for (index, request) in seen.iter().enumerate() {
        points.push(Point::Unsent(index + 1));
        if request.writes {
            points.push(Point::Unheard(index + 1));
        }
    }
    points
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_request_the_next_run_comes_to_the_same_end() {
    let host = Host::start_with(ApiOptions {
        with: vec![CrdSet::GatewayApi],
        ..ApiOptions::default()
    })
    .await;
    let edge = Edge::open(&host).await;
    let rehearsal = [Lane::new(&host, &edge.namespace).await];
    let every = every();
    if every > 1 {
        println!(
            "SKIPPED all but every point number {every}; KUBEBYON_CRASH_EVERY=1 tries each, as `make e2e` does"
        );
    }
    let mut plan = Vec::new();
    for phase in PHASES {
        let seen = run(&host, &edge, &rehearsal, phase, &[None])
            .await
            .remove(0);
        for (index, request) in seen.iter().enumerate() {
            println!("{phase:?} {}: {}", index + 1, request.what);
        }
        assert!(
            seen.iter().any(|request| request.writes),
            "{phase:?} writes"
        );
        let all = points(&seen);
        let count = all.len();
        let tried: Vec<Point> = all.into_iter().step_by(every).collect();
        println!("{phase:?}: {} of {count} points are tried", tried.len());
        plan.push(tried);
    }

    // The first is never disturbed: what the others are compared with.
    let count = 1 + plan.iter().map(Vec::len).max().unwrap();
    let mut lanes = Vec::new();
    for _ in 0..count {
        lanes.push(Lane::new(&host, &edge.namespace).await);
    }
    for (phase, plan) in PHASES.into_iter().zip(plan) {
        let started = Instant::now();
        let points: Vec<Option<Point>> = (0..count)
            .map(|lane| lane.checked_sub(1).and_then(|lane| plan.get(lane).copied()))
            .collect();
        run(&host, &edge, &lanes, phase, &points).await;
        let crashed = started.elapsed();
        let successor = manager(&host, &edge, None).await;
        for (lane, point) in lanes.iter().zip(&points) {
            within(
                LONG,
                &format!("{phase:?} ends, after {point:?}"),
                || async { lane.is_done(phase).await.then_some(()) },
            )
            .await;
        }
        println!(
            "{phase:?}: {} points; crashed after {crashed:?}, converged after {:?}",
            plan.len(),
            started.elapsed()
        );
        compare(&host, &lanes, phase, &points).await;
        successor.stop().await;
    }
}

/// How many points lie between two that are tried: all of them take minutes.
fn every() -> usize {
    let asked = std::env::var("KUBEBYON_CRASH_EVERY").ok();
    let asked = asked.and_then(|text| text.parse::<std::num::NonZeroUsize>().ok());
    asked.map_or(3, std::num::NonZeroUsize::get)
}

/// Polls: the last writes of controllers that are not ours come a little later.
async fn compare(host: &Host, lanes: &[Lane], phase: Phase, points: &[Option<Point>]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let all = inventory::take(&host.client).await;
        let expected = lanes[0].inventory(&all).await;
        let mut wrong = Vec::new();
        for (lane, point) in lanes.iter().zip(points) {
            let found = lane.inventory(&all).await;
            for difference in inventory::differences(&expected, &found) {
                wrong.push(format!("{phase:?}, {point:?}: {difference}"));
            }
        }
        if wrong.is_empty() {
            let least = if phase == Phase::Delete { 1 } else { 14 };
            assert!(expected.len() >= least, "{:?}", expected.keys());
            let claims = expected.keys().filter(|key| key.starts_with("claim"));
            assert_eq!(
                claims.count(),
                lanes[0].held(phase).len(),
                "{:?}",
                expected.keys()
            );
            break;
        }
        assert!(Instant::now() < deadline, "{}", wrong.join("\n"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    if phase == Phase::Delete {
        let namespaces: Api<Namespace> = Api::all(host.client.clone());
        let left = namespaces.list(&ListParams::default()).await.unwrap();
        let left: Vec<String> = left.items.iter().map(ResourceExt::name_any).collect();
        for lane in lanes {
            assert!(
                !left.contains(&lane.host_namespace),
                "{} is left",
                lane.host_namespace
            );
        }
    }
}
