//! `testbed smoke`: the promises of profile `node`, tried one after the other on real clusters.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use crate::{
    addons::{Addon, vcluster_chart},
    agent::zone::{Target, Zone},
    error::{Error, Result},
    kubectl::Kubectl,
    name::ClusterName,
    node::{NodeOptions, traces::Traces},
    parts::{KubernetesVersion, Part},
    process::{output, wait_until},
    profile::Profile,
    progress::Progress,
    supervisor::client::Owned,
};

const WEB: &str = include_str!("../../../e2e/manifests/smoke.yaml");
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const NAMESPACE: &str = "--namespace=smoke";
/// How long pods may take to be ready, in seconds.
const READY_LIMIT: u32 = 120;
const TENANT_LIMIT: u32 = 240;

/// Tries everything once, on a cluster of two nodes and one beside it.
///
/// # Errors
/// The first promise that does not hold.
pub fn run(progress: Progress) -> Result<()> {
    let smoke = Smoke {
        progress,
        started: Instant::now(),
    };
    let name: ClusterName = "smoke".parse()?;
    let options = NodeOptions {
        nodes: 2,
        addons: vec![Addon::Vcluster],
        ..NodeOptions::default()
    };
    let cluster = Owned::start(name.clone(), Profile::Node(options), true, progress)?;
    smoke.done("two nodes are Ready and the cluster's DNS answers");
    let traces = Traces::of(&name)?;
    let kubectl = Kubectl::new(cluster.bins(), &cluster.kubeconfig());

    smoke.services(&kubectl)?;
    smoke.volumes(&kubectl)?;
    smoke.public_names(&kubectl, &Zone::of(cluster.dir()))?;
    smoke.tenant(&cluster, &kubectl)?;
    smoke.second_cluster()?;
    smoke.services_again(&kubectl)?;

    drop(cluster);
    traces.expect_gone()?;
    smoke.done("the end of the cluster left nothing behind");
    Ok(())
}

/// Starts and ends a cluster `rounds` times, and looks for what it leaves behind each time.
///
/// # Errors
/// What was left behind, or why the cluster did not start.
pub fn rounds(rounds: u32, progress: Progress) -> Result<()> {
    let name: ClusterName = "rounds".parse()?;
    for round in 1..=rounds {
        let started = Instant::now();
        let options = NodeOptions {
            nodes: 2,
            ..NodeOptions::default()
        };
        let cluster = Owned::start(name.clone(), Profile::Node(options), true, progress)?;
        let (up, traces) = (started.elapsed(), Traces::of(&name)?);
        // Every second time it crashes.
        if round % 2 == 0 {
            crash(&cluster);
        }
        drop(cluster);
        traces.expect_gone()?;
        let down = started.elapsed().saturating_sub(up);
        progress.say(&format!(
            "round {round}/{rounds}: up {:.1} s, down {:.1} s",
            up.as_secs_f32(),
            down.as_secs_f32()
        ));
    }
    Ok(())
}

/// Kills the supervisor, which then can tidy nothing.
fn crash(cluster: &Owned) {
    if let Some(pid) = i32::try_from(cluster.supervisor())
        .ok()
        .and_then(Pid::from_raw)
    {
        // It fails only when the supervisor has ended, which is as good.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

struct Smoke {
    progress: Progress,
    started: Instant,
}

impl Smoke {
    fn done(&self, promise: &str) {
        self.progress.say(&format!(
            "ok {:>6.1} s  {promise}",
            self.started.elapsed().as_secs_f32()
        ));
    }

    fn services(&self, kubectl: &Kubectl) -> Result<()> {
        kubectl.apply("start a web server on each node", WEB)?;
        kubectl.wait(
            "wait for the web servers",
            "condition=Ready",
            &[NAMESPACE, "pod", "--all"],
            READY_LIMIT,
        )?;
        let ip = kubectl.run(
            "read a pod's address",
            &[
                NAMESPACE,
                "get",
                "pod",
                "web1",
                "-o",
                "jsonpath={.status.podIP}",
            ],
        )?;
        let answer = wget(kubectl, "web0", &format!("http://{ip}:8080/"))?;
        expect(
            "the pod web1, asked by a pod on the other node",
            &answer,
            "web1",
        )?;
        self.done("pods of two nodes reach each other");
        let answer = wget(kubectl, "web0", "http://web.smoke.svc.cluster.local/")?;
        expect("the Service web, asked by name in a pod", &answer, "web")?;
        self.done("a pod answers through a Service by its name");
        let address = load_balancer(kubectl, "web")?;
        eventually(
            &format!("http://{address}/ answering on this machine"),
            || get(address).is_ok_and(|text| text.contains("web")),
        )?;
        self.done("a Service of type LoadBalancer answers outside the nodes");
        Ok(())
    }

    fn services_again(&self, kubectl: &Kubectl) -> Result<()> {
        let address = load_balancer(kubectl, "web")?;
        expect("the first cluster's Service", &get(address)?, "web")?;
        self.done("the first cluster is as before");
        Ok(())
    }

    fn volumes(&self, kubectl: &Kubectl) -> Result<()> {
        let bound = &[NAMESPACE, "persistentvolumeclaim/data"];
        kubectl.wait(
            "wait for the claim to be Bound",
            "jsonpath={.status.phase}=Bound",
            bound,
            READY_LIMIT,
        )?;
        let read = kubectl.run(
            "read a file on a volume",
            &[NAMESPACE, "exec", "web0", "--", "cat", "/data/written"],
        )?;
        expect("the file on the volume", &read, "by web0")?;
        let patch = r#"{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#;
        kubectl.run(
            "ask for a larger volume",
            &[
                NAMESPACE,
                "patch",
                "persistentvolumeclaim",
                "data",
                "--patch",
                patch,
            ],
        )?;
        kubectl.wait(
            "wait for the volume to grow",
            "jsonpath={.status.capacity.storage}=2Gi",
            bound,
            READY_LIMIT,
        )?;
        self.done("a claim is bound, written to and grown");
        Ok(())
    }

    fn public_names(&self, kubectl: &Kubectl, zone: &Zone) -> Result<()> {
        let address = load_balancer(kubectl, "web")?;
        zone.set(
            "web.clusters.example.test",
            Target::Addresses(vec![address.into()]),
        )?;
        zone.set(
            "shop.customer.test",
            Target::Alias("web.clusters.example.test".to_owned()),
        )?;
        let changed = Instant::now();
        eventually("a public name resolving in a pod", || {
            wget(kubectl, "web1", "http://shop.customer.test/")
                .is_ok_and(|text| text.contains("web"))
        })?;
        self.done(&format!(
            "a public name answers in a pod {:.1} s after it was set",
            changed.elapsed().as_secs_f32()
        ));
        Ok(())
    }

    fn tenant(&self, cluster: &Owned, kubectl: &Kubectl) -> Result<()> {
        let chart = vcluster_chart(cluster.bins())?;
        let values = format!(
            "controlPlane:\n  distro: {{k8s: {{image: {{tag: {}}}}}}}\n  statefulSet: {{image: {{repository: \
             loft-sh/vcluster-oss}}}}\n  service: {{spec: {{type: LoadBalancer}}}}\n",
            KubernetesVersion::Current.git_version()
        );
        let path = cluster.dir().join("tenant-values.yaml");
        fs::write(&path, values).map_err(Error::file("write", &path))?;
        let installed = Instant::now();
        let mut helm = Command::new(cluster.bins().path(Part::Helm));
        helm.arg("--kubeconfig")
            .arg(cluster.kubeconfig())
            .args(["install", "tenant"])
            .arg(&chart)
            .arg("--values")
            .arg(&path);
        helm.args(["--namespace", "tenant", "--create-namespace"]);
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(home, cluster.dir().join("helm"));
        }
        output("install a tenant", &mut helm)?;
        let pod = &["--namespace=tenant", "pod/tenant-0"];
        kubectl.wait(
            "wait for the tenant's pod to be made",
            "create",
            pod,
            READY_LIMIT,
        )?;
        kubectl.wait(
            "wait for the tenant's pod to be Ready",
            "condition=Ready",
            pod,
            TENANT_LIMIT,
        )?;
        let kubeconfig = tenant_kubeconfig(cluster.dir(), kubectl)?;
        let tenant = Kubectl::new(cluster.bins(), &kubeconfig);
        let version = tenant.run(
            "ask the tenant for its version",
            &["get", "--raw", "/version"],
        )?;
        expect(
            "the tenant's /version",
            &version,
            KubernetesVersion::Current.git_version(),
        )?;
        self.done(&format!(
            "a vCluster tenant answers /version {:.1} s after its install",
            installed.elapsed().as_secs_f32()
        ));
        Ok(())
    }

    fn second_cluster(&self) -> Result<()> {
        let name: ClusterName = "smoke-beside".parse()?;
        let beside = Owned::start(
            name.clone(),
            Profile::Node(NodeOptions::default()),
            true,
            self.progress,
        )?;
        let traces = Traces::of(&name)?;
        let kubectl = Kubectl::new(beside.bins(), &beside.kubeconfig());
        let nodes = kubectl.run(
            "list the second cluster's nodes",
            &["get", "nodes", "--output=name"],
        )?;
        expect("the second cluster's nodes", &nodes, "node/node0")?;
        drop(beside);
        traces.expect_gone()?;
        self.done("a second cluster came and went beside it");
        Ok(())
    }
}

/// The tenant's kubeconfig, by the address of its Service and with the tenant's own authority.
fn tenant_kubeconfig(dir: &Path, kubectl: &Kubectl) -> Result<PathBuf> {
    let secret = &["--namespace=tenant", "secret/vc-tenant"];
    kubectl.wait(
        "wait for the tenant's kubeconfig",
        "create",
        secret,
        READY_LIMIT,
    )?;
    let secret = kubectl.run(
        "read the tenant's kubeconfig",
        &[
            "--namespace=tenant",
            "get",
            "secret",
            "vc-tenant",
            "--output=go-template={{.data.config | base64decode}}",
        ],
    )?;
    let address = tenant_address(kubectl)?;
    let text = secret.replace(
        "https://localhost:8443",
        &format!("https://{address}:443\n    tls-server-name: tenant.tenant"),
    );
    let path = dir.join("tenant.kubeconfig");
    crate::pki::write_private(&path, &text)?;
    Ok(path)
}

fn tenant_address(kubectl: &Kubectl) -> Result<Ipv4Addr> {
    address_of(kubectl, "tenant", "tenant")
}

fn load_balancer(kubectl: &Kubectl, service: &str) -> Result<Ipv4Addr> {
    address_of(kubectl, "smoke", service)
}

fn address_of(kubectl: &Kubectl, namespace: &str, service: &str) -> Result<Ipv4Addr> {
    let (namespace, object) = (
        format!("--namespace={namespace}"),
        format!("service/{service}"),
    );
    let path = "{.status.loadBalancer.ingress[0].ip}";
    kubectl.wait(
        "wait for the Service's address",
        &format!("jsonpath={path}"),
        &[&namespace, &object],
        READY_LIMIT,
    )?;
    let text = kubectl.run(
        "read the Service's address",
        &[
            &namespace,
            "get",
            &object,
            &format!("--output=jsonpath={path}"),
        ],
    )?;
    text.parse().map_err(|_| Error::Unexpected {
        what: format!("the address of {object}"),
        seen: text,
    })
}

fn wget(kubectl: &Kubectl, pod: &str, url: &str) -> Result<String> {
    kubectl.run(
        &format!("fetch {url} in {pod}"),
        &[NAMESPACE, "exec", pod, "--", "wget", "-q", "-O", "-", url],
    )
}

/// A page over HTTP from this machine.
fn get(address: Ipv4Addr) -> Result<String> {
    let fetch = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&(address, 80).into(), Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET / HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    fetch().map_err(Error::file("fetch", format!("http://{address}/")))
}

fn expect(what: &str, seen: &str, wanted: &str) -> Result<()> {
    if seen.contains(wanted) {
        return Ok(());
    }
    Err(Error::Unexpected {
        what: what.to_owned(),
        seen: seen.to_owned(),
    })
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_until(what, ANSWER_LIMIT, &mut [], || Ok(condition()))
}
