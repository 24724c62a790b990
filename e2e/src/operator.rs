//! The manager inside a test's own process, against a cluster of the testbed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use kubebyon_api::{ManagedCluster, conditions};
use kubebyon_helm::ClusterAccess;
use kubebyon_k8s::kube::{
    Api, Client, Config,
    api::{DeleteParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use kubebyon_operator::{config::Options, manager, telemetry::metrics::Metrics};
use kubebyon_testbed::{
    ApiCluster, ApiOptions, parts::Part, process::testbed_program, progress::Progress,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::control_planes::ControlPlanes;

/// How long anything in a test may take before it counts as broken.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// An api-server with the fake control planes, the chart as a file, and the product's
/// own objects (CRDs, roles, policies) in it.
pub struct Host {
    /// The cluster.
    pub cluster: Arc<ApiCluster>,
    /// An admin's client.
    pub client: Client,
    /// The fake.
    pub control_planes: ControlPlanes,
    /// Folder of chart archives: the manager's `--chart-dir`.
    pub charts: PathBuf,
    /// The operator's own kubeconfig: its ServiceAccount, and so its rights.
    pub kubeconfig: PathBuf,
    scratch: TempDir,
}

/// The operator as cargo left it beside the testbed's program.
///
/// # Errors
/// When it was not built.
pub fn built() -> kubebyon_testbed::Result<PathBuf> {
    let operator = testbed_program()?.with_file_name("kubebyon-operator");
    if operator.exists() {
        return Ok(operator);
    }
    Err(kubebyon_testbed::Error::Unexpected {
        what: operator.display().to_string(),
        seen: "no such file; run cargo build -p kubebyon-operator".to_owned(),
    })
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Host {
    /// Starts a cluster of its own: two managers of two tests must not meet on one.
    pub async fn start() -> Self {
        Self::start_with(ApiOptions::default()).await
    }

    /// As [`Host::start`], with options of the api-server.
    pub async fn start_with(options: ApiOptions) -> Self {
        let started = tokio::task::spawn_blocking(|| ApiCluster::start(options)).await;
        Self::on(started.expect("a thread").expect("a cluster")).await
    }

    /// On a cluster that is there.
    pub async fn on(cluster: ApiCluster) -> Self {
        // A second provider could only be one that was installed before, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(config(cluster.kubeconfig()).await).expect("a client");
        let scratch = tempfile::tempdir().expect("a folder");
        let charts = scratch.path().join("charts");
        std::fs::create_dir(&charts).expect("a folder");
        package_chart(&cluster, &charts);
        install(&cluster);
        let kubeconfig = operator_kubeconfig(&cluster, scratch.path());
        let control_planes = ControlPlanes::start(client.clone())
            .await
            .expect("the fake");
        Self {
            cluster: Arc::new(cluster),
            client,
            control_planes,
            charts,
            kubeconfig,
            scratch,
        }
    }

    /// A client with the rights that `config/rbac` gives the operator.
    pub async fn operator_config(&self) -> Config {
        config(&self.kubeconfig).await
    }

    /// Options of a manager on this host; `extra` are further flags.
    pub fn options(&self, extra: &[&str]) -> Options {
        let name = "kubebyon-operator".to_owned();
        let arguments = std::iter::once(name).chain(self.arguments(extra));
        Options::try_parse_from(arguments).expect("options")
    }

    /// The same as arguments, for a manager that is a process of its own.
    pub fn arguments(&self, extra: &[&str]) -> Vec<String> {
        let work = tempfile::Builder::new()
            .prefix("manager-")
            .tempdir_in(self.scratch.path())
            .expect("a folder")
            .keep();
        let mut arguments = Vec::new();
        let repository = format!("file://{}", self.charts.display());
        for (flag, value) in [
            ("kubeconfig", self.kubeconfig.display().to_string()),
            ("helm", self.cluster.helm().display().to_string()),
            ("work-dir", work.display().to_string()),
            ("listen", "127.0.0.1:0".to_owned()),
            ("chart-dir", self.charts.display().to_string()),
            ("allowed-chart-repositories", repository.clone()),
            ("default-chart-repository", repository),
            ("kubernetes-versions", "1.35.6,1.36.3".to_owned()),
            (
                "tenant-dial-address",
                self.control_planes.address().to_string(),
            ),
        ] {
            arguments.push(format!("--{flag}={value}"));
        }
        arguments.extend(extra.iter().map(|&argument| argument.to_owned()));
        arguments
    }

    /// Starts a manager.
    pub async fn manager(&self, options: Options) -> Manager {
        let metrics = Metrics::default();
        let client =
            kubebyon_operator::client::build(self.operator_config().await, metrics.clone())
                .expect("a client");
        self.manager_with(options, client, metrics)
    }

    /// Starts a manager that talks through `client`.
    pub fn manager_with(&self, options: Options, client: Client, metrics: Metrics) -> Manager {
        let stop = CancellationToken::new();
        let access = ClusterAccess::Kubeconfig(self.kubeconfig.clone());
        let task = tokio::spawn(manager::run_with(
            options,
            client,
            access,
            metrics.clone(),
            stop.clone(),
        ));
        Manager {
            stop,
            task,
            metrics,
        }
    }

    /// A namespace of the test's own, for ManagedClusters.
    pub async fn namespace(&self, prefix: &str) -> String {
        use kubebyon_k8s::k8s_openapi::api::core::v1::Namespace;
        let api: Api<Namespace> = Api::all(self.client.clone());
        let object: Namespace =
            serde_json::from_value(json!({"metadata": {"generateName": format!("{prefix}-")}}))
                .expect("a namespace");
        let made = api
            .create(&kubebyon_k8s::kube::api::PostParams::default(), &object)
            .await
            .expect("a namespace");
        made.metadata.name.expect("a name")
    }
}

/// The client's configuration in a kubeconfig file.
pub async fn config(kubeconfig: &Path) -> Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a config")
}

fn package_chart(cluster: &ApiCluster, folder: &Path) {
    let bins = kubebyon_testbed::parts::ensure(&[Part::VclusterChart], Progress::stderr())
        .expect("the chart");
    let output = std::process::Command::new(cluster.helm())
        .arg("package")
        .arg(bins.path(Part::VclusterChart))
        .args([
            "--version",
            "0.36.1",
            "--app-version",
            "0.36.1",
            "--destination",
        ])
        .arg(folder)
        .env("HOME", folder)
        .output()
        .expect("helm");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn kubectl(cluster: &ApiCluster, arguments: &[&str]) -> String {
    let output = std::process::Command::new(cluster.kubectl())
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig())
        .current_dir(repository())
        .output()
        .expect("kubectl");
    assert!(
        output.status.success(),
        "kubectl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Applies what `config/default` has, less the Deployment: the manager runs in the test.
fn install(cluster: &ApiCluster) {
    kubectl(
        cluster,
        &[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            "config/manager/namespace.yaml",
        ],
    );
    for folder in ["config/crd", "config/rbac", "config/policies"] {
        kubectl(
            cluster,
            &["apply", "--server-side", "--force-conflicts", "-k", folder],
        );
    }
    kubectl(
        cluster,
        &[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/managedclusters.kubebyon.app",
            "crd/publicaccesses.kubebyon.app",
            "crd/workloadrouteplans.kubebyon.app",
        ],
    );
}

fn operator_kubeconfig(cluster: &ApiCluster, folder: &Path) -> PathBuf {
    let token = kubectl(
        cluster,
        &[
            "create",
            "token",
            "kubebyon-operator",
            "-n",
            "kubebyon-system",
            "--duration=12h",
        ],
    );
    let admin = kubectl(
        cluster,
        &["config", "view", "--raw", "--minify", "-o", "json"],
    );
    let mut kubeconfig: Value = serde_json::from_str(&admin).expect("JSON");
    kubeconfig["users"][0]["user"] = json!({"token": token.trim()});
    let path = folder.join("operator.kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).expect("a file");
    path
}

/// A manager in this process.
pub struct Manager {
    /// Cancel it to stop as SIGTERM does.
    pub stop: CancellationToken,
    /// The manager itself.
    pub task: JoinHandle<Result<(), manager::ManagerError>>,
    /// What it counts.
    pub metrics: Metrics,
}

impl Manager {
    /// Stops it in order, and panics if it does not end well.
    pub async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("the manager ends in time");
        ended
            .expect("the manager does not panic")
            .expect("the manager ends well");
    }

    /// Ends it where it stands: nothing is drained, nothing is released.
    pub async fn kill(self) {
        self.task.abort();
        // Aborted is what it is to be.
        let _ = self.task.await;
    }
}

/// A ManagedCluster in a test.
pub struct Tenant {
    api: Api<ManagedCluster>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Tenant {
    /// One that is not applied yet.
    pub fn new(host: &Host, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(host.client.clone(), namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Applies a ManagedCluster.
    pub async fn apply(host: &Host, namespace: &str, name: &str, spec: Value) -> Self {
        let tenant = Self::new(host, namespace, name);
        tenant.update(spec).await;
        tenant
    }

    /// Applies another spec.
    pub async fn update(&self, spec: Value) {
        let object = json!({
            "apiVersion": "kubebyon.app/v1alpha1", "kind": "ManagedCluster",
            "metadata": {"name": self.name, "namespace": self.namespace}, "spec": spec,
        });
        let parameters = PatchParams::apply("test").force();
        self.api
            .patch(&self.name, &parameters, &Patch::Apply(&object))
            .await
            .expect("the api-server accepts the cluster");
    }

    /// The object as it is now.
    pub async fn get(&self) -> ManagedCluster {
        self.api
            .get(&self.name)
            .await
            .expect("the cluster is there")
    }

    /// The object as it is now, if it is there.
    pub async fn find(&self) -> Option<ManagedCluster> {
        self.api.get_opt(&self.name).await.expect("an answer")
    }

    /// Deletes it, and does not wait.
    pub async fn delete(&self) {
        self.api
            .delete(&self.name, &DeleteParams::default())
            .await
            .expect("the api-server takes the deletion");
    }

    /// Waits until `holds` of the object; panics with its status when that takes too long.
    pub async fn until(
        &self,
        what: &str,
        holds: impl Fn(&ManagedCluster) -> bool,
    ) -> ManagedCluster {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let object = self.get().await;
            if holds(&object) {
                return object;
            }
            assert!(
                Instant::now() < deadline,
                "{}: not {what}: {}",
                self.name,
                serde_json::to_string_pretty(&object.status).expect("JSON")
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until it is ready in its newest generation.
    pub async fn ready(&self) -> ManagedCluster {
        self.until("ready", is_ready).await
    }

    /// Waits until the condition `type_` has the reason `reason`, and gives its message.
    pub async fn because(&self, type_: &str, reason: &str) -> String {
        let object = self
            .until(&format!("{type_} with reason {reason}"), |cluster| {
                condition(cluster, type_).is_some_and(|(_, found, _)| found == reason)
            })
            .await;
        condition(&object, type_)
            .map(|(_, _, message)| message)
            .unwrap_or_default()
    }

    /// Waits until it is gone.
    pub async fn gone(&self) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(object) = self.api.get_opt(&self.name).await.expect("an answer") {
            assert!(
                Instant::now() < deadline,
                "{} is not gone: {}",
                self.name,
                serde_json::to_string_pretty(&object.status).expect("JSON")
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Whether a cluster is ready in its newest generation.
pub fn is_ready(cluster: &ManagedCluster) -> bool {
    let generation = cluster.metadata.generation.unwrap_or_default();
    cluster.status.as_ref().is_some_and(|status| {
        conditions::is_true(
            &status.conditions,
            conditions::ConditionType::Ready,
            generation,
        )
    })
}

/// Status, reason and message of a condition of the newest generation.
pub fn condition(cluster: &ManagedCluster, type_: &str) -> Option<(String, String, String)> {
    let generation = cluster.metadata.generation.unwrap_or_default();
    let conditions = &cluster.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| {
        condition.type_ == type_ && condition.observed_generation >= Some(generation)
    })?;
    Some((
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
    ))
}
