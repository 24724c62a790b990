//! One cluster from apply to proved ready on a real node, beside the same steps by hand.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use kubebyon_testbed::{
    Error, NodeCluster, NodeOptions, Result,
    addons::{Addon, vcluster_chart},
    kubectl::Kubectl,
    process::{output, testbed_program},
};
use serde_json::json;

use super::{Options, say};
use crate::in_cluster::{self, Programs, charts::Repository};

const NAMESPACE: &str = "bench";
/// The cluster whose release shows which values the operator gives helm.
const FIRST: &str = "first";
/// How long a control plane may take, in seconds.
const LIMIT: u32 = 300;

/// Seconds of each run, in pairs: one by the operator, one by hand, right after each other.
pub struct Pairs {
    /// From `kubectl apply` until `kubectl wait --for=condition=Ready` returns.
    pub operator: Vec<f64>,
    /// From `helm upgrade --install` until the tenant's `/readyz` answers.
    pub by_hand: Vec<f64>,
}

/// Measures on a cluster of its own, which ends with this call.
///
/// # Errors
/// When something cannot be started, or is not ready in time.
pub fn measure(options: &Options) -> Result<Pairs> {
    say("starting a cluster with a node");
    let node = Node::start(options)?;
    say("a first cluster, whose images nobody waits for again");
    node.by_operator(FIRST)?;
    let values = node.values(FIRST)?;
    node.delete(FIRST)?;
    let mut pairs = Pairs {
        operator: Vec::new(),
        by_hand: Vec::new(),
    };
    for run in 1..=options.runs {
        // Who comes first changes, so that neither is always the one after a deletion.
        for first in [true, false] {
            if first == (run % 2 == 1) {
                let name = format!("operator-{run}");
                pairs.operator.push(node.by_operator(&name)?.as_secs_f64());
                node.delete(&name)?;
            } else {
                let name = format!("by-hand-{run}");
                pairs
                    .by_hand
                    .push(node.by_hand(&name, &values)?.as_secs_f64());
                node.delete_by_hand(&name)?;
            }
        }
        let last = |seconds: &[f64]| seconds.last().copied().unwrap_or_default();
        say(&format!(
            "run {run}: operator {:.2} s, by hand {:.2} s",
            last(&pairs.operator),
            last(&pairs.by_hand)
        ));
    }
    Ok(pairs)
}

struct Node {
    cluster: NodeCluster,
    kubectl: Kubectl,
    repository: Repository,
    name: String,
    chart: PathBuf,
}

impl Node {
    fn start(options: &Options) -> Result<Self> {
        let cluster = NodeCluster::start(
            NAMESPACE,
            NodeOptions {
                addons: vec![Addon::Vcluster],
                ..NodeOptions::default()
            },
        )?;
        let kubectl = Kubectl::new(cluster.bins(), &cluster.kubeconfig());
        let beside = testbed_program()?;
        let programs = Programs {
            operator: options.operator.clone(),
            chart_repository: beside.with_file_name("chart-repository"),
        };
        let image = in_cluster::load_images(&cluster, &programs)?;
        let repository = Repository::prepare(&cluster)?;
        repository.serve(&kubectl)?;
        in_cluster::install_operator(&kubectl, &image)?;
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        kubectl.apply("make a namespace", &namespace.to_string())?;
        let authority = repository.authority(NAMESPACE)?;
        kubectl.apply("hand over the authority", &authority.to_string())?;
        let name = "--output=jsonpath={.items[0].metadata.name}";
        let name = kubectl.run("find the node", &["get", "nodes", name])?;
        let chart = vcluster_chart(cluster.bins())?;
        Ok(Self {
            cluster,
            kubectl,
            repository,
            name,
            chart,
        })
    }

    fn by_operator(&self, name: &str) -> Result<Duration> {
        let object = json!({
            "apiVersion": "kubebyon.app/v1alpha1", "kind": "ManagedCluster",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "kubernetesVersion": "1.36",
                "hostNamespace": host_namespace(name),
                "chart": {
                    "repository": in_cluster::charts::URL,
                    "version": in_cluster::charts::CHART_VERSION,
                    "digest": self.repository.digest,
                    "caSecretRef": {"name": in_cluster::charts::AUTHORITY_SECRET},
                },
                "controlPlane": {"storage": {"size": "1Gi"}},
            },
        });
        let started = Instant::now();
        self.kubectl
            .apply("apply a ManagedCluster", &object.to_string())?;
        let cluster = format!("managedcluster/{name}");
        let namespace = format!("--namespace={NAMESPACE}");
        self.kubectl.wait(
            "wait for the ManagedCluster",
            "condition=Ready",
            &[&cluster, &namespace],
            LIMIT,
        )?;
        Ok(started.elapsed())
    }

    fn delete(&self, name: &str) -> Result<()> {
        let namespace = format!("--namespace={NAMESPACE}");
        let arguments = ["delete", "managedcluster", name, &namespace];
        self.kubectl.run("delete the ManagedCluster", &arguments)?;
        Ok(())
    }

    /// The values of the release that the operator made.
    fn values(&self, name: &str) -> Result<String> {
        let namespace = format!("--namespace={}", host_namespace(name));
        let mut helm = self.helm();
        helm.args(["get", "values", name, "--output=json", &namespace]);
        output("read the release's values", &mut helm)
    }

    fn by_hand(&self, name: &str, values: &str) -> Result<Duration> {
        let namespace = host_namespace(name);
        let create = ["create", "namespace", &namespace];
        self.kubectl.run("make a namespace", &create)?;
        let values = values
            .replace(&host_namespace(FIRST), &namespace)
            .replace(FIRST, name);
        let file = self.cluster.dir().join("by-hand.json");
        std::fs::write(&file, values).map_err(Error::file("write", &file))?;
        let mut helm = self.helm();
        helm.args(["upgrade", name])
            .arg(&self.chart)
            .arg("--install")
            .arg("--values")
            .arg(&file)
            .arg(format!("--namespace={namespace}"));
        let started = Instant::now();
        output("install the release", &mut helm)?;
        let address = self.address(name, &namespace)?;
        let script = format!(
            "until curl --silent --fail --insecure --max-time 1 --output /dev/null https://{address}/readyz; do sleep 0.1; done"
        );
        let mut poll = self.cluster.on_node(&self.name, "timeout")?;
        poll.args([&LIMIT.to_string(), "sh", "-c", &script]);
        output("poll the tenant", &mut poll)?;
        Ok(started.elapsed())
    }

    fn address(&self, name: &str, namespace: &str) -> Result<String> {
        let namespace = format!("--namespace={namespace}");
        let address = "--output=jsonpath={.spec.clusterIP}";
        let arguments = ["get", "service", name, address, &namespace];
        self.kubectl.run("read the Service's address", &arguments)
    }

    fn delete_by_hand(&self, name: &str) -> Result<()> {
        let namespace = host_namespace(name);
        let mut helm = self.helm();
        helm.args(["uninstall", name, "--namespace", &namespace]);
        output("uninstall the release", &mut helm)?;
        let arguments = ["delete", "namespace", &namespace];
        self.kubectl.run("delete the namespace", &arguments)?;
        Ok(())
    }

    fn helm(&self) -> std::process::Command {
        let mut helm = std::process::Command::new(self.cluster.helm());
        let home = self.cluster.dir().join("helm-home");
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(name, &home);
        }
        helm.env("KUBECACHEDIR", &home)
            .env("KUBECONFIG", self.cluster.kubeconfig());
        helm
    }
}

fn host_namespace(name: &str) -> String {
    format!("host-{name}")
}

/// The middle of an uneven number of figures.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
