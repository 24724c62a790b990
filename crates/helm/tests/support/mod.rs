//! What the tests with a real api-server share: a cluster, a chart, a namespace with a
//! ServiceAccount to act as.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use kubebyon_helm::{
    ChartArchive, ChartRequest, Charts, ChartsConfig, ClusterAccess, Desired, Helm, HelmConfig,
    ReleaseHistory, ServiceAccount, Upgrade, WaitFor, values::values_hash,
};
use kubebyon_k8s::{
    k8s_openapi::api::{
        core::v1::{Namespace, Secret, ServiceAccount as CoreServiceAccount},
        rbac::v1::{Role, RoleBinding},
    },
    kube::{
        Api, Client, Config,
        api::{ListParams, ObjectMeta, PostParams},
        config::{KubeConfigOptions, Kubeconfig},
    },
};
use kubebyon_testbed::ApiCluster;
use serde_json::{Value, json};
use tempfile::TempDir;

/// One cluster for all tests of a binary; it ends with this process.
pub static CLUSTER: LazyLock<ApiCluster> =
    LazyLock::new(|| ApiCluster::for_tests().expect("an api-server for the tests"));

/// The chart archive of vCluster 0.36.1, packed from its Go module.
pub static VCLUSTER: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let source = std::env::var_os("KUBEBYON_VCLUSTER_CHART").map_or_else(
        || {
            let cache = Command::new("go")
                .args(["env", "GOMODCACHE"])
                .output()
                .expect("go is installed")
                .stdout;
            Path::new(String::from_utf8(cache).unwrap().trim())
                .join("github.com/loft-sh/vcluster@v0.36.1/chart")
        },
        PathBuf::from,
    );
    assert!(
        source.join("Chart.yaml").exists(),
        "no vCluster chart at {}: run go mod download in e2e/parts/vcluster",
        source.display()
    );
    let dir = tempfile::tempdir().unwrap();
    let packed = Command::new(CLUSTER.helm())
        .arg("package")
        .arg(&source)
        .args(["--version", "0.36.1", "--app-version", "0.36.1", "-d"])
        .arg(dir.path())
        .env("HOME", dir.path())
        .output()
        .unwrap();
    assert!(
        packed.status.success(),
        "{}",
        String::from_utf8_lossy(&packed.stderr)
    );
    let file = dir.path().join("vcluster-0.36.1.tgz");
    (dir, file)
});

static COUNT: AtomicU32 = AtomicU32::new(0);

/// One test's own namespace, driver and chart.
pub struct Fixture {
    pub client: Client,
    pub namespace: String,
    pub helm: Helm,
    pub work_dir: PathBuf,
    pub chart: ChartArchive,
    pub account: ServiceAccount,
    _temp: TempDir,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A fixture whose driver has other settings.
    pub async fn with(settings: impl FnOnce(&mut HelmConfig)) -> Self {
        // A provider that an earlier test installed is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (kubeconfig, chart_file) =
            tokio::task::spawn_blocking(|| (CLUSTER.kubeconfig().to_owned(), VCLUSTER.1.clone()))
                .await
                .unwrap();
        let options = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(options, &KubeConfigOptions::default())
            .await
            .unwrap();
        let client = Client::try_from(config).unwrap();
        let namespace = format!(
            "helm-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let temp = tempfile::tempdir().unwrap();
        let work_dir = temp.path().join("work");
        let mut config = HelmConfig::new(
            CLUSTER.helm(),
            work_dir.clone(),
            ClusterAccess::Kubeconfig(kubeconfig),
        );
        config.timeout = Duration::from_mins(1);
        settings(&mut config);
        let helm = Helm::new(config).await.unwrap();
        let mut charts = ChartsConfig::new(temp.path().join("charts"));
        charts.chart_dir = chart_file.parent().map(Path::to_owned);
        let request = ChartRequest {
            repository: format!("file://{}", chart_file.display()),
            name: "vcluster".to_owned(),
            version: Some("0.36.1".to_owned()),
            digest: None,
            credentials: None,
            ca_pem: None,
        };
        let chart = Charts::new(charts).unwrap().fetch(&request).await.unwrap();
        let account = ServiceAccount {
            namespace: namespace.clone(),
            name: "release".to_owned(),
        };
        let fixture = Self {
            client,
            namespace,
            helm,
            work_dir,
            chart,
            account,
            _temp: temp,
        };
        fixture.prepare().await;
        fixture
    }

    async fn prepare(&self) {
        let meta = |name: &str| ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        let post = PostParams::default();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .create(
                &post,
                &Namespace {
                    metadata: meta(&self.namespace),
                    ..Namespace::default()
                },
            )
            .await
            .unwrap();
        let accounts: Api<CoreServiceAccount> = self.api();
        accounts
            .create(
                &post,
                &CoreServiceAccount {
                    metadata: meta("release"),
                    ..CoreServiceAccount::default()
                },
            )
            .await
            .unwrap();
        self.api::<Role>().create(&post, &role(None)).await.unwrap();
        let binding = json!({
            "metadata": {"name": "release"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "release"},
            "subjects": [{"kind": "ServiceAccount", "name": "release", "namespace": self.namespace}],
        });
        self.api::<RoleBinding>()
            .create(&post, &serde_json::from_value(binding).unwrap())
            .await
            .unwrap();
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kubebyon_k8s::kube::Resource<Scope = kubebyon_k8s::k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn upgrade<'a>(&'a self, values: &'a Value) -> Upgrade<'a> {
        Upgrade {
            release: "demo",
            namespace: &self.namespace,
            chart: &self.chart,
            values,
            run_as: Some(&self.account),
            force_conflicts: false,
            wait: WaitFor::Hooks,
        }
    }

    pub fn desired(&self, values: &Value) -> Desired {
        Desired {
            chart_digest: self.chart.digest,
            values_hash: values_hash(values),
            drifted: false,
        }
    }

    pub async fn history(&self) -> ReleaseHistory {
        let params = ListParams::default().labels(&kubebyon_helm::release::selector("demo"));
        let secrets = self.api::<Secret>().list_metadata(&params).await.unwrap();
        ReleaseHistory::read("demo", secrets.items.iter().map(|secret| &secret.metadata))
    }

    /// Values files that are there now.
    pub fn values_files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.work_dir.join("run"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

/// The release's rights: all that the chart and its Role need, less `without` (resource, verb).
pub fn role(without: Option<(&str, &str)>) -> Role {
    let verbs = [
        "get", "list", "watch", "create", "update", "patch", "delete",
    ];
    let resources: &[(&str, &[&str])] = &[
        (
            "",
            &[
                "configmaps",
                "secrets",
                "services",
                "serviceaccounts",
                "persistentvolumeclaims",
                "endpoints",
                "events",
            ],
        ),
        (
            "",
            &[
                "pods",
                "pods/attach",
                "pods/portforward",
                "pods/exec",
                "pods/status",
                "pods/ephemeralcontainers",
                "pods/resize",
                "pods/log",
            ],
        ),
        ("apps", &["statefulsets", "replicasets", "deployments"]),
        ("events.k8s.io", &["events"]),
        ("discovery.k8s.io", &["endpointslices"]),
        ("rbac.authorization.k8s.io", &["roles", "rolebindings"]),
    ];
    let rules: Vec<_> = resources
        .iter()
        .flat_map(|(group, resources)| resources.iter().map(move |resource| (group, resource)))
        .map(|(group, resource)| {
            let verbs: Vec<_> = verbs
                .iter()
                .filter(|verb| without != Some((resource, verb)))
                .collect();
            json!({"apiGroups": [group], "resources": [resource], "verbs": verbs})
        })
        .collect();
    serde_json::from_value(json!({"metadata": {"name": "release"}, "rules": rules})).unwrap()
}

/// Polls until `check` gives something; panics after a minute.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The process ids of helm runs below `work_dir`, found by their working directory.
pub fn helm_processes(work_dir: &Path) -> Vec<i32> {
    let home = work_dir.join("home");
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes
        .filter(|pid: &i32| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == home)
        })
        .collect()
}
