//! Clusters come up, and leave nothing behind, however they end. Real daemons, no rights needed.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use kubebyon_testbed::{ApiCluster, ApiOptions, CrdSet};
use rustix::process::{Pid, Signal};

const TESTBED: &str = env!("CARGO_BIN_EXE_testbed");
/// A start on a machine that other tests keep busy, not what a start should take.
const START_LIMIT: Duration = Duration::from_mins(3);
const END_LIMIT: Duration = Duration::from_secs(15);

/// A place for clusters that one test has to itself, so that whatever is found there is that test's.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(TESTBED);
        command
            .args(args)
            .env("KUBEBYON_STATE", self.dir.path())
            .env_remove("KUBECONFIG");
        command
    }

    fn run<const N: usize>(&self, args: [&str; N]) -> Output {
        self.command(args).output().unwrap()
    }

    fn succeed<const N: usize>(&self, args: [&str; N]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "testbed {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn cluster(&self, name: &str) -> PathBuf {
        self.dir.path().join("clusters").join(name)
    }

    fn supervisor(&self, name: &str) -> Option<u32> {
        let text = fs::read_to_string(self.cluster(name).join("cluster.json")).ok()?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        record["supervisor"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
    }

    /// What the clusters of this place have left: processes, and files but for the lock of the place.
    fn remains(&self) -> Vec<String> {
        let mut found = processes_of(self.dir.path());
        if let Ok(entries) = fs::read_dir(self.dir.path().join("clusters")) {
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            found.extend(names.filter(|name| name != ".lock"));
        }
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // For a test that failed half-way; `down` of nothing is fine.
        let _ = self.run(["down", "--all"]);
    }
}

/// The processes that work in a directory or have it in their arguments.
fn processes_of(dir: &Path) -> Vec<String> {
    let text = dir.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let proc = entry.path();
        if !entry
            .file_name()
            .to_string_lossy()
            .bytes()
            .all(|byte| byte.is_ascii_digit())
        {
            continue;
        }
        let args = fs::read(proc.join("cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&args).replace('\0', " ");
        let inside = fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        if inside || args.contains(&text) {
            found.push(format!("{} {args}", proc.display()));
        }
    }
    found
}

#[track_caller]
fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "not within {} s: {what}",
            limit.as_secs()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn nothing_remains(place: &Place) {
    let deadline = Instant::now() + END_LIMIT;
    while !place.remains().is_empty() {
        assert!(
            Instant::now() < deadline,
            "still there: {:#?}",
            place.remains()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Starts `testbed up` in the background and waits until the cluster's etcd runs, which is well before it is ready.
fn up_half_way(place: &Place, name: &str) -> Child {
    let child = place
        .command(["up", "--name", name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    eventually("etcd has started", START_LIMIT, || {
        place.supervisor(name).is_some() && place.cluster(name).join("logs/etcd.log").exists()
    });
    child
}

#[test]
fn ten_times_up_and_down_leaves_nothing_behind() {
    let place = Place::new();
    for round in 1..=10 {
        place.succeed(["up", "--name", "again"]);
        assert!(!place.remains().is_empty(), "nothing ran in round {round}");
        place.succeed(["down", "--name", "again"]);
        // `down` returns when all is gone, not soon before.
        assert_eq!(place.remains(), Vec::<String>::new(), "after round {round}");
    }
}

#[test]
fn two_clusters_side_by_side_are_two_clusters() {
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| ApiCluster::start(ApiOptions::default()).unwrap());
        (
            ApiCluster::start(ApiOptions::default()).unwrap(),
            other.join().unwrap(),
        )
    });
    one.run_kubectl(["create", "namespace", "only-here"])
        .unwrap();
    assert!(
        one.run_kubectl(["get", "namespaces"])
            .unwrap()
            .contains("only-here")
    );
    assert!(
        !two.run_kubectl(["get", "namespaces"])
            .unwrap()
            .contains("only-here")
    );
    let dirs = [&one, &two].map(|cluster| cluster.kubeconfig().parent().unwrap().to_path_buf());
    drop((one, two));
    for dir in dirs {
        assert!(!dir.exists(), "{} is still there", dir.display());
        assert_eq!(processes_of(&dir), Vec::<String>::new());
    }
}

#[test]
fn a_cluster_ends_with_its_owner_even_when_that_is_killed() {
    let place = Place::new();
    let mut owner = place
        .command(["run", "--", "sleep", "3600"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let name = format!("run-{}", owner.id());
    let mut command = None;
    eventually("the command runs", START_LIMIT, || {
        command = children(owner.id()).into_iter().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
        });
        command.is_some()
    });
    assert!(place.supervisor(&name).is_some());
    owner.kill().unwrap();
    owner.wait().unwrap();
    nothing_remains(&place);
    eventually("the command ends as well", END_LIMIT, || {
        !command.is_some_and(is_running)
    });
}

#[test]
fn daemons_end_with_their_supervisor_when_that_is_killed() {
    let cluster = ApiCluster::start(ApiOptions::default()).unwrap();
    let dir = cluster.kubeconfig().parent().unwrap().to_path_buf();
    let daemons = children(cluster.supervisor().unwrap());
    assert_eq!(
        daemons.len(),
        3,
        "etcd, kube-apiserver and kube-controller-manager"
    );
    kill(cluster.supervisor().unwrap());
    eventually("the daemons are gone", END_LIMIT, || {
        !daemons.iter().any(|pid| is_running(*pid))
    });
    drop(cluster);
    assert!(!dir.exists(), "the owner left {}", dir.display());
}

#[test]
fn a_start_whose_command_is_killed_leaves_nothing() {
    let place = Place::new();
    let mut up = up_half_way(&place, "half");
    up.kill().unwrap();
    up.wait().unwrap();
    nothing_remains(&place);
}

#[test]
fn a_start_whose_supervisor_is_killed_fails_and_leaves_nothing() {
    let place = Place::new();
    let mut up = up_half_way(&place, "half");
    kill(place.supervisor("half").unwrap());
    assert!(!up.wait().unwrap().success());
    nothing_remains(&place);
}

#[test]
fn what_a_machine_crash_leaves_is_seen_and_removed() {
    let place = Place::new();
    let mut up = up_half_way(&place, "half");
    let supervisor = place.supervisor("half").unwrap();
    // Stopped first, so that none of the two can tidy up after the other.
    signal(up.id(), Signal::STOP);
    signal(supervisor, Signal::KILL);
    eventually("the daemons are gone", END_LIMIT, || {
        processes_of(&place.cluster("half")).is_empty()
    });
    up.kill().unwrap();
    up.wait().unwrap();
    assert!(place.succeed(["status"]).contains("dead"));
    place.succeed(["up", "--name", "half"]);
    assert!(place.succeed(["status"]).contains("ready"));
    place.succeed(["down", "--name", "half"]);
    nothing_remains(&place);
}

#[test]
fn a_cluster_whose_etcd_dies_ends_instead_of_lingering() {
    let place = Place::new();
    place.succeed(["up", "--name", "broken"]);
    let supervisor = place.supervisor("broken").unwrap();
    let etcd = children(supervisor)
        .into_iter()
        .find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "etcd")
        })
        .unwrap();
    kill(etcd);
    nothing_remains(&place);
}

#[test]
fn a_name_is_used_once_at_a_time() {
    let place = Place::new();
    let kubeconfig = place.succeed(["up", "--name", "mine"]);
    assert!(kubeconfig.starts_with("export KUBECONFIG="), "{kubeconfig}");
    let again = place.run(["up", "--name", "mine"]);
    assert!(!again.status.success());
    let message = String::from_utf8_lossy(&again.stderr);
    assert!(
        message.contains("mine runs already") && message.contains("testbed down"),
        "{message}"
    );
    assert!(
        place.succeed(["status"]).contains("ready"),
        "the second `up` harmed the first cluster"
    );
    place.succeed(["down", "--name", "mine"]);
    let gone = place.run(["down", "--name", "mine"]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("there is no cluster mine"));
}

#[test]
fn the_api_server_can_be_stopped_and_comes_back_with_its_data() {
    let cluster = ApiCluster::start(ApiOptions {
        audit: true,
        ..ApiOptions::default()
    })
    .unwrap();
    cluster
        .run_kubectl(["create", "namespace", "kept"])
        .unwrap();
    cluster.stop_apiserver().unwrap();
    assert!(
        cluster
            .run_kubectl(["get", "namespaces", "--request-timeout=2s"])
            .is_err()
    );
    cluster.start_apiserver().unwrap();
    assert!(
        cluster
            .run_kubectl(["get", "namespaces"])
            .unwrap()
            .contains("kept")
    );
    let log = fs::read_to_string(cluster.audit_log().unwrap()).unwrap();
    let created = log.lines().filter(|line| {
        [
            "\"verb\":\"create\"",
            "\"resource\":\"namespaces\",\"name\":\"kept\"",
        ]
        .iter()
        .all(|text| line.contains(text))
    });
    assert_eq!(created.count(), 1, "the audit log has each request once");
}

#[test]
fn the_crds_that_were_asked_for_are_served_in_the_versions_that_were_asked_for() {
    let cluster = ApiCluster::start(ApiOptions {
        with: vec![CrdSet::GatewayApiExperimental, CrdSet::CertManager],
        tls_route_versions: vec!["v1alpha3".to_owned()],
        ..ApiOptions::default()
    })
    .unwrap();
    assert!(
        cluster
            .run_kubectl([
                "get",
                "certificates.cert-manager.io,gateways.gateway.networking.k8s.io",
                "-A"
            ])
            .is_ok()
    );
    let served = "jsonpath={.spec.versions[?(@.served==true)].name}";
    let versions = cluster
        .run_kubectl([
            "get",
            "crd",
            "tlsroutes.gateway.networking.k8s.io",
            "-o",
            served,
        ])
        .unwrap();
    assert_eq!(versions, "v1alpha3");
}

#[test]
fn run_gives_the_command_a_cluster_and_passes_its_status_on() {
    let place = Place::new();
    let output = place.run([
        "run",
        "--",
        "sh",
        "-c",
        "kubectl get namespace default -o name && helm version --short; exit 7",
    ]);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(7), "{err}");
    assert!(
        out.contains("namespace/default") && out.contains("v4."),
        "{out}{err}"
    );
    assert_eq!(place.remains(), Vec::<String>::new());
}

#[test]
fn run_uses_an_existing_cluster_and_starts_nothing() {
    let place = Place::new();
    let output = place
        .command(["run", "--", "sh", "-c", "echo $KUBECONFIG"])
        .env("KUBECONFIG", "/somebody/elses")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/somebody/elses\n");
    assert!(
        !place.dir.path().join("clusters").exists(),
        "something was started"
    );
}

#[test]
fn a_missing_home_and_an_unknown_part_are_named() {
    let place = Place::new();
    let output = place
        .command(["parts"])
        .env_remove("HOME")
        .env_remove("KUBEBYON_CACHE")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("HOME"));
    let output = place.run(["parts", "--ensure", "etcdd"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no part \"etcdd\""));
}

/// The children of a process, by the kernel's own list.
fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(
            text.split_whitespace()
                .filter_map(|child| child.parse::<u32>().ok()),
        );
    }
    found
}
