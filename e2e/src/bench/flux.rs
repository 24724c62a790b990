//! The same releases by Flux's helm-controller, on the same api-server: what the target is set
//! against.
//!
//! The controller is the real one, with its own defaults, under an admin's rights, and acts as
//! the release's ServiceAccount. Its limit: source-controller, which fetches charts for it, does
//! not run. This program serves the archive and writes the HelmChart that names it, so fetching
//! costs Flux nothing here.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use axum::{Router, routing::get};
use futures::{StreamExt, TryStreamExt};
use kubebyon_helm::Sha256Digest;
use kubebyon_k8s::kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use kubebyon_render::host_namespace::RELEASE_SERVICE_ACCOUNT;
use kubebyon_testbed::{
    parts::{self, Part},
    progress::Progress,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::{
    helm_alone::{Chart, Recording},
    limits::{AT_ONCE, PATIENCE},
    process::{free_port, peak_mib},
};
use crate::{bench::cpu::times, judge::create, operator::Host};

/// Where the chart's object is.
const NAMESPACE: &str = "flux";
const CHART: &str = "vcluster";

/// Whether Flux has its Helm check each object against the api-server's own schemas before the
/// api-server does: its default, and a large part of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// As by default.
    On,
    /// As the operator runs helm.
    Off,
}

/// What Flux took.
pub struct Flux {
    /// From the first HelmRelease until all are ready.
    pub seconds: f64,
    /// The controller's own CPU time.
    pub cpu_seconds: f64,
    /// The most memory that was resident.
    pub peak_mib: f64,
}

/// The program, built if it was not.
pub fn program() -> PathBuf {
    let parts = [Part::FluxHelmController, Part::FluxCrds];
    let bins = parts::ensure(&parts, Progress::stderr()).expect("Flux's helm-controller");
    bins.path(Part::FluxHelmController)
}

/// Brings what Flux looks for: definitions, and the chart.
pub async fn prepare(host: &Host, folder: &Path, recording: &Recording) {
    install_definitions(host, folder);
    publish(host, recording).await;
}

/// Has Flux make `releases` (name, namespace) at once, in namespaces that are there. The
/// HelmReleases are gone afterwards, what they made is not.
pub async fn measure(
    host: &Host,
    folder: &Path,
    recording: &Recording,
    validation: Validation,
    releases: &[(String, String)],
) -> Flux {
    let program = program();
    let port = free_port();
    let log = folder.join("flux.log");
    let mut controller = Command::new(program)
        .args(["--metrics-addr=0", "--enable-leader-election=false"])
        .arg(format!("--health-addr=127.0.0.1:{port}"))
        .env("KUBECONFIG", host.cluster.kubeconfig())
        .env("HOME", folder)
        .env("RUNTIME_NAMESPACE", NAMESPACE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("a log file"))
        .kill_on_drop(true)
        .spawn()
        .expect("Flux's helm-controller");
    let pid = controller.id().expect("a process");
    until_healthy(port, &log).await;
    let before = times(pid).own;
    let started = Instant::now();
    let make = futures::stream::iter(releases).for_each_concurrent(AT_ONCE, |release| {
        let (api, object) = helm_release(&host.client, recording, validation, release);
        async move { create(&api, &object).await }
    });
    let ready = all_ready(&host.client, releases.len());
    let both = async { tokio::join!(make, ready) };
    if timeout(PATIENCE, both).await.is_err() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        panic!("Flux does not come to its end: {}", end_of(&text));
    }
    let figures = Flux {
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: times(pid).own - before,
        peak_mib: peak_mib(pid),
    };
    controller.kill().await.expect("it ends");
    let free = json!({"metadata": {"finalizers": null}});
    for (name, namespace) in releases {
        let api =
            Api::<DynamicObject>::namespaced_with(host.client.clone(), namespace, &resource());
        api.patch(name, &PatchParams::default(), &Patch::Merge(&free))
            .await
            .expect("nothing holds it");
    }
    figures
}

fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("helm.toolkit.fluxcd.io", "v2", "HelmRelease");
    ApiResource::from_gvk(&kind)
}

/// Flux's own definition of HelmRelease. Of the kinds of source-controller, whose definitions
/// the module does not have, any content is taken.
fn install_definitions(host: &Host, folder: &Path) {
    let bins = parts::ensure(&[Part::FluxCrds], Progress::stderr()).expect("Flux's definitions");
    let own = bins.path(Part::FluxCrds);
    let sources = [
        ("HelmChart", "helmchart", "helmcharts"),
        ("OCIRepository", "ocirepository", "ocirepositories"),
    ]
    .map(|(kind, singular, plural)| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.source.toolkit.fluxcd.io")},
            "spec": {
                "group": "source.toolkit.fluxcd.io", "scope": "Namespaced",
                "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
            },
        })
    });
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let [chart, repository] = sources;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [namespace, chart, repository]});
    let file = folder.join("flux.json");
    fs::write(&file, list.to_string()).expect("a file");
    for path in [own, file] {
        let path = path.display().to_string();
        let applied =
            host.cluster
                .run_kubectl(["apply", "--server-side", "--recursive", "-f", &path]);
        applied.expect("they are applied");
    }
    let waited = host.cluster.run_kubectl([
        "wait",
        "--for=condition=Established",
        "customresourcedefinition",
        "helmreleases.helm.toolkit.fluxcd.io",
        "helmcharts.source.toolkit.fluxcd.io",
        "ocirepositories.source.toolkit.fluxcd.io",
    ]);
    waited.expect("they are served");
}

/// Serves the published archive for as long as this program runs, and says so as source-controller would.
async fn publish(host: &Host, recording: &Recording) {
    let archive = fs::read(recording.chart(Chart::Published)).expect("the chart's archive");
    let digest = format!("sha256:{}", Sha256Digest::of(&archive).hex());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!(
        "http://{}/chart.tgz",
        listener.local_addr().expect("an address")
    );
    let route = Router::new().route(
        "/chart.tgz",
        get(move || std::future::ready(archive.clone())),
    );
    tokio::spawn(async move { axum::serve(listener, route).await });
    let kind = GroupVersionKind::gvk("source.toolkit.fluxcd.io", "v1", "HelmChart");
    let kind = ApiResource::from_gvk(&kind);
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "HelmChart",
        "metadata": {"name": CHART, "namespace": NAMESPACE},
        "spec": {"chart": CHART, "interval": "1h", "sourceRef": {"kind": "HelmRepository", "name": CHART}},
        "status": {
            "observedGeneration": 1, "url": url,
            "artifact": {
                "path": "chart.tgz", "url": url, "revision": "0.36.1", "digest": digest,
                "lastUpdateTime": "2026-01-01T00:00:00Z",
            },
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Succeeded", "message": "", "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        },
    }))
    .expect("a HelmChart");
    let api = Api::<DynamicObject>::namespaced_with(host.client.clone(), NAMESPACE, &kind);
    create(&api, &object).await;
}

/// Like helm alone it waits for nothing.
fn helm_release(
    client: &Client,
    recording: &Recording,
    validation: Validation,
    (name, namespace): &(String, String),
) -> (Api<DynamicObject>, DynamicObject) {
    let values: Value =
        serde_saphyr::from_str(&recording.values(name, namespace)).expect("the values");
    let object = serde_json::from_value(json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "interval": "1h", "releaseName": name, "serviceAccountName": RELEASE_SERVICE_ACCOUNT, "maxHistory": 10,
            "chartRef": {"kind": "HelmChart", "name": CHART, "namespace": NAMESPACE},
            "install": {"disableWait": true, "disableOpenAPIValidation": validation == Validation::Off},
            "values": values,
        },
    }))
    .expect("a HelmRelease");
    let api = Api::namespaced_with(client.clone(), namespace, &resource());
    (api, object)
}

async fn all_ready(client: &Client, count: usize) {
    let api = Api::<DynamicObject>::all_with(client.clone(), &resource());
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let mut stream = std::pin::pin!(stream);
    let mut ready = HashSet::new();
    while ready.len() < count {
        let release = stream.try_next().await.expect("a watch").expect("an event");
        let conditions = release.data.pointer("/status/conditions");
        let all = conditions.and_then(Value::as_array);
        let is_ready =
            |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        if all.into_iter().flatten().any(is_ready) {
            ready.insert(release.name_any());
        }
    }
}

async fn until_healthy(port: u16, log: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
    {
        let text = fs::read_to_string(log).unwrap_or_default();
        assert!(
            Instant::now() < deadline,
            "Flux does not start: {}",
            end_of(&text)
        );
        sleep(Duration::from_millis(100)).await;
    }
}

fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(10).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
