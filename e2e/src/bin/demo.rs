//! `make demo`: the main job on a cluster of its own, a line a step.

use std::{
    io::{BufReader, IsTerminal},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use kubebyon_e2e::in_cluster::{self, Programs, charts::Repository, tenant};
use kubebyon_testbed::{
    Error, NodeCluster, NodeOptions, Result,
    addons::Addon,
    dirs::repository,
    kubectl::Kubectl,
    parts::{self, Part},
    process::{output, testbed_program},
    progress::{Progress, Step, clock},
};
use serde_json::Value;

const NAME: &str = "demo";
const NAMESPACE: &str = "team-a";
const STEPS: usize = 7;
const ENTRANCE_NAMESPACE: &str = "kubebyon-system";
/// The names of the tenants' APIs, in the cluster's own DNS zone.
const PUBLIC_NAMES: &str = "*.clusters.test";
/// How long the tenant may take to be proved ready.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// How long the entrance may take to have an address, in seconds.
const ENTRANCE_LIMIT: u32 = 120;
/// The conditions that are shown, in the order in which they come.
const CONDITIONS: [&str; 7] = [
    "NamespaceReady",
    "ReleaseDeployed",
    "ControlPlaneAvailable",
    "DNSReady",
    "PublicEndpointReady",
    "KubeconfigPublished",
    "Ready",
];
const MESSAGE_WIDTH: usize = 90;
const SAMPLE: &str = include_str!("../../demo/cluster.yaml");

fn main() -> ExitCode {
    match Demo::new().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error}");
            eprintln!("{}", where_to_look());
            ExitCode::FAILURE
        }
    }
}

struct Demo {
    progress: Progress,
    started: Instant,
}

impl Demo {
    fn new() -> Self {
        Self {
            progress: Progress::stderr(),
            started: Instant::now(),
        }
    }

    fn run(&self) -> Result<()> {
        self.announce()?;
        let programs = self.build()?;
        let cluster = self.cluster()?;
        let kubectl = Kubectl::new(cluster.bins(), &cluster.kubeconfig());

        let step = self.step(
            3,
            "the chart repository inside it (https, an authority of its own)",
        );
        let image = in_cluster::load_images(&cluster, &programs)?;
        let repository = Repository::prepare(&cluster)?;
        repository.serve(&kubectl)?;
        step.done();

        let step = self.step(4, "the operator from config/, under its own ServiceAccount");
        in_cluster::install_operator(&kubectl, &image)?;
        step.done();

        self.entrance(&cluster, &kubectl)?;
        self.tenant(&cluster, &kubectl, &repository)?;
        let kubeconfig = self.inside(&cluster, &kubectl)?;
        self.finish(&cluster, &kubectl, &kubeconfig)
    }

    fn announce(&self) -> Result<()> {
        let options = options();
        let needed = options.addons.iter().flat_map(|addon| addon.parts());
        let needed: Vec<Part> = needed.chain([Part::Kubelet, Part::Containerd]).collect();
        let missing = parts::status()?
            .iter()
            .filter(|status| status.cached.is_none() && needed.contains(&status.part))
            .count();
        self.progress.say("KubeBYON demo: a Kubernetes cluster, the operator in it, and a tenant cluster handed out by it.");
        self.progress.say(if missing == 0 {
            "Everything is built: this takes a minute, and three when the operator has changed."
        } else {
            "This machine is new to it: real Kubernetes is built from source first, about an hour on two cores. From then on it takes a minute."
        });
        Ok(())
    }

    fn step(&self, index: usize, label: &str) -> Step {
        self.progress.step(index, STEPS, label, None)
    }

    /// The programs; on a machine that has them, cargo sees that in a second.
    fn build(&self) -> Result<Programs> {
        let step = self.step(1, "the operator (cargo build --release)");
        let cargo = |arguments: &[&str]| {
            let mut cargo = Command::new("cargo");
            cargo
                .args(["build", "--locked", "--quiet"])
                .args(arguments)
                .current_dir(repository());
            output(&format!("cargo build {}", arguments.join(" ")), &mut cargo)
        };
        cargo(&["--release", "--package=kubebyon-operator"])?;
        cargo(&["--package=kubebyon-e2e", "--bin=chart-repository"])?;
        step.done();
        // cargo's target folder holds debug/testbed, which runs this.
        let program = testbed_program()?;
        let target = program
            .ancestors()
            .nth(2)
            .unwrap_or(Path::new("target"))
            .to_path_buf();
        Ok(Programs {
            operator: target.join("release/kubebyon-operator"),
            chart_repository: target.join("debug/chart-repository"),
        })
    }

    fn cluster(&self) -> Result<NodeCluster> {
        let began = Instant::now();
        let label = format!("[2/{STEPS}] a Kubernetes cluster of one node, named {NAME}");
        if let Ok(cluster) = NodeCluster::attach(NAME) {
            self.progress
                .say(&format!("{label}: it is running already"));
            return Ok(cluster);
        }
        self.progress.say(&format!("{label}: starting"));
        let status = Command::new(testbed_program()?)
            .args([
                "up",
                "--profile=node",
                "--with=vcluster,envoy-gateway",
                "--name",
                NAME,
            ])
            .stdout(Stdio::null())
            .status()
            .map_err(Error::file("run", "testbed up"))?;
        if !status.success() {
            return Err(Error::Command {
                what: "start the cluster".to_owned(),
                status: status.to_string(),
                tail: "    see above".to_owned(),
            });
        }
        let cluster = NodeCluster::attach(NAME)?;
        self.progress
            .say(&format!("{label}: done in {}", clock(began.elapsed())));
        Ok(cluster)
    }

    /// The PublicAccess, and the records that its owner would make in public DNS.
    fn entrance(&self, cluster: &NodeCluster, kubectl: &Kubectl) -> Result<()> {
        let step = self.step(
            5,
            &format!("the entrance: a PublicAccess, and DNS for {PUBLIC_NAMES}"),
        );
        kubectl.apply_files(
            "apply the PublicAccess",
            &[repository().join("e2e/demo/entrance.yaml")],
        )?;
        kubectl.wait(
            "wait for the entrance",
            "condition=Ready",
            &[
                &format!("--namespace={ENTRANCE_NAMESPACE}"),
                "publicaccess/public",
            ],
            ENTRANCE_LIMIT,
        )?;
        let address = kubectl.run(
            "read the entrance's address",
            &[
                "get",
                "publicaccess",
                "public",
                &format!("--namespace={ENTRANCE_NAMESPACE}"),
                "--output=jsonpath={.status.gateways[0].addresses[0]}",
            ],
        )?;
        cluster.zone().set(PUBLIC_NAMES, address.trim().parse()?)?;
        step.done();
        Ok(())
    }

    fn tenant(
        &self,
        cluster: &NodeCluster,
        kubectl: &Kubectl,
        repository: &Repository,
    ) -> Result<()> {
        let label = format!("[6/{STEPS}] a tenant: kubectl apply -f");
        let sample = SAMPLE
            .replace("@VERSION@", in_cluster::charts::CHART_VERSION)
            .replace("@DIGEST@", &repository.digest);
        let path = cluster.dir().join("cluster.yaml");
        std::fs::write(&path, sample).map_err(Error::file("write", &path))?;
        self.progress.say(&format!("{label} {}", path.display()));
        let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        kubectl.apply("make the tenant's namespace", &namespace.to_string())?;
        let authority = repository.authority(NAMESPACE)?;
        kubectl.apply(
            "hand over the repository's authority",
            &authority.to_string(),
        )?;
        let began = Instant::now();
        kubectl.apply_files("apply the ManagedCluster", &[path])?;
        watch(kubectl, |line| {
            self.progress.say(&format!(
                "      {:>6.1} s  {line}",
                began.elapsed().as_secs_f32()
            ));
        })?;
        self.progress.say(&format!(
            "[6/{STEPS}] a tenant: proved ready {} after kubectl apply",
            clock(began.elapsed())
        ));
        Ok(())
    }

    /// From outside of the nodes, over the public name: DNS, port 443, TLS verified.
    fn inside(&self, cluster: &NodeCluster, kubectl: &Kubectl) -> Result<PathBuf> {
        let step = self.step(
            7,
            "a pod inside the tenant, from outside, over the public name in Secret demo-kubeconfig",
        );
        let kubeconfig = tenant::kubeconfig(cluster, kubectl, NAMESPACE, NAME)?;
        let hello = format!(
            "--filename={}",
            repository().join("e2e/demo/hello.yaml").display()
        );
        outside(cluster, &kubeconfig, &["apply", &hello])?;
        outside(
            cluster,
            &kubeconfig,
            &[
                "wait",
                "--for=condition=Available",
                "--timeout=120s",
                "deployment/hello",
            ],
        )?;
        step.done();
        Ok(kubeconfig)
    }

    fn finish(&self, cluster: &NodeCluster, kubectl: &Kubectl, kubeconfig: &Path) -> Result<()> {
        let clusters = kubectl.run(
            "list the ManagedClusters",
            &["get", "managedclusters.kubebyon.app", "--all-namespaces"],
        )?;
        let server = outside(
            cluster,
            kubeconfig,
            &[
                "config",
                "view",
                "--output=jsonpath={.clusters[0].cluster.server}",
            ],
        )?;
        let pods = outside(
            cluster,
            kubeconfig,
            &["get", "pods", "--all-namespaces", "--output=wide"],
        )?;
        println!("\n$ kubectl get managedclusters.kubebyon.app -A\n{clusters}");
        println!(
            "$ kubectl --kubeconfig {} get pods -A -o wide   # {server}, from outside\n{pods}",
            kubeconfig.display()
        );
        println!("Done in {}.\n", clock(self.started.elapsed()));
        println!("Look around:");
        println!(
            "  export PATH={}:$PATH KUBECONFIG={}",
            cluster.bins().dir(Part::Kubectl).display(),
            cluster.kubeconfig().display()
        );
        for line in [
            "kubectl describe managedcluster demo -n team-a",
            "kubectl get all -n $(kubectl get managedcluster demo -n team-a -o jsonpath={.status.hostNamespace})",
            "kubectl logs -n kubebyon-system deployment/kubebyon-operator",
            "kubectl logs -n kubebyon-demo deployment/charts      # what the operator pulled",
        ] {
            println!("  {line}");
        }
        println!(
            "  {} enter --name {NAME} -- kubectl --kubeconfig {} get namespaces",
            testbed_program()?.display(),
            kubeconfig.display()
        );
        println!(
            "This cluster's network does not enforce NetworkPolicies: they are there, and without effect."
        );
        println!("Stop: make demo-down");
        Ok(())
    }
}

/// kubectl with the tenant's kubeconfig on the LAN in front of the nodes, where names are found by DNS alone.
fn outside(cluster: &NodeCluster, kubeconfig: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = cluster.outside(cluster.kubectl())?;
    command
        .env("KUBECACHEDIR", kubeconfig.with_extension("cache"))
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments);
    output(&format!("kubectl {}", arguments.join(" ")), &mut command)
}

fn options() -> NodeOptions {
    NodeOptions {
        addons: vec![Addon::Vcluster, Addon::EnvoyGateway],
        ..NodeOptions::default()
    }
}

/// Follows the ManagedCluster until it is ready, and tells each condition that moves.
fn watch(kubectl: &Kubectl, mut tell: impl FnMut(&str)) -> Result<()> {
    let limit = format!("--request-timeout={}s", READY_LIMIT.as_secs());
    let namespace = format!("--namespace={NAMESPACE}");
    let mut command = kubectl.command(&[
        "get",
        "managedcluster",
        NAME,
        &namespace,
        "--watch",
        "--output=json",
        &limit,
    ]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::file("run", "kubectl"))?;
    let mut seen: Vec<Option<(String, String)>> = vec![None; CONDITIONS.len()];
    let mut ready = false;
    if let Some(stdout) = child.stdout.take() {
        let objects = serde_json::Deserializer::from_reader(BufReader::new(stdout));
        for object in objects
            .into_iter::<Value>()
            .map_while(std::result::Result::ok)
        {
            for (name, seen) in CONDITIONS.iter().zip(&mut seen) {
                let Some((status, reason, message)) = condition(&object, name) else {
                    continue;
                };
                let now = Some((status.clone(), reason.clone()));
                if *seen != now {
                    let message: String = message.chars().take(MESSAGE_WIDTH).collect();
                    tell(&format!("{name:<22} {status:<8} {reason:<24} {message}"));
                    *seen = now;
                }
                ready |= *name == "Ready" && status == "True";
            }
            if ready {
                break;
            }
        }
    }
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
    if ready {
        return Ok(());
    }
    Err(Error::Timeout {
        what: format!("the ManagedCluster {NAMESPACE}/{NAME} to be Ready"),
        limit: READY_LIMIT,
        detail: String::new(),
    })
}

/// Status, reason and message of a condition of the newest generation.
fn condition(object: &Value, name: &str) -> Option<(String, String, String)> {
    let generation = object.pointer("/metadata/generation")?.as_i64();
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| {
        condition["type"] == name && condition["observedGeneration"].as_i64() >= generation
    })?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

fn where_to_look() -> String {
    let Ok(cluster) = NodeCluster::attach(NAME) else {
        return "No cluster is left of it. `make demo` starts again where it can.".to_owned();
    };
    let colour = if std::io::stderr().is_terminal() {
        "\x1b[1m"
    } else {
        ""
    };
    let plain = if colour.is_empty() { "" } else { "\x1b[0m" };
    format!(
        "{colour}What to look at:{plain}\n  \
         export PATH={}:$PATH KUBECONFIG={}\n  \
         kubectl describe managedcluster demo -n team-a\n  \
         kubectl logs -n kubebyon-system deployment/kubebyon-operator\n  \
         kubectl get events -A --sort-by=.lastTimestamp | tail -30\n  \
         {}/*.log\n\
         `make demo` goes on with this cluster; `make demo-down` takes it away.",
        cluster.bins().dir(Part::Kubectl).display(),
        cluster.kubeconfig().display(),
        cluster.dir().display(),
    )
}
