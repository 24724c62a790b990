//! The operator as a process of its own, and what the kernel says about it.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::{cpu::times, limits::PATIENCE};
use crate::operator::Host;

/// A running operator.
pub struct Operator {
    child: Child,
    pid: u32,
    admin: String,
    children: Children,
    log: PathBuf,
}

/// What the kernel counted of the operator up to now.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Its own CPU time, in seconds.
    pub cpu_seconds: f64,
    /// The CPU time of children that ended: of helm.
    pub helm_cpu_seconds: f64,
    /// Page faults of children that ended; any child has some.
    pub child_faults: u64,
    /// The most memory that was resident, in MiB.
    pub peak_mib: f64,
}

/// Samples what the children hold; ends when it is dropped.
struct Children {
    peak_kib: Arc<AtomicU64>,
    sampler: tokio::task::JoinHandle<()>,
}

impl Drop for Children {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}

impl Operator {
    /// Starts `program` on `host`.
    pub fn start(program: &Path, host: &Host, folder: &Path, extra: &[String]) -> Self {
        let port = free_port();
        let mut arguments = host.arguments(&[]);
        arguments.push(format!("--listen=127.0.0.1:{port}"));
        arguments.extend(extra.iter().cloned());
        let log = folder.join(format!("operator-{port}.log"));
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log file"))
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let pid = child.id().expect("a process");
        Self {
            child,
            pid,
            admin: format!("127.0.0.1:{port}"),
            children: Children::sample(pid),
            log,
        }
    }

    /// What the kernel says now.
    pub fn usage(&self) -> Usage {
        let times = times(self.pid);
        Usage {
            cpu_seconds: times.own,
            helm_cpu_seconds: times.children,
            child_faults: times.child_faults,
            peak_mib: peak_mib(self.pid),
        }
    }

    /// The most that all helm children together held, sampled, in MiB.
    pub fn helm_peak_mib(&self) -> f64 {
        mib(self.children.peak_kib.load(Ordering::Relaxed))
    }

    /// The sum over all label values of one of its own metrics.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = timeout(PATIENCE, scrape(&self.admin))
            .await
            .expect("an answer in time")
            .unwrap_or_default();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            if !rest.starts_with(['{', ' ']) {
                return None;
            }
            rest.rsplit(' ').next()?.parse::<u64>().ok()
        });
        values.sum()
    }

    /// Panics with the end of its log if it has ended.
    pub fn assert_running(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("the operator ended with {status}: {}", self.log_end());
        }
    }

    /// All of its log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid.cast_signed()).expect("a process");
        kill_process(pid, signal).expect("a signal");
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait())
            .await
            .expect("it ends in time")
            .expect("a status")
    }

    /// Ends it as the kubelet would.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert!(
            status.success(),
            "the operator ended with {status}: {}",
            self.log_end()
        );
    }
}

impl Children {
    fn sample(parent: u32) -> Self {
        let peak_kib = Arc::new(AtomicU64::new(0));
        let peak = peak_kib.clone();
        let sampler = tokio::spawn(async move {
            loop {
                peak.fetch_max(resident_children(parent), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { peak_kib, sampler }
    }
}

/// What the children of `parent` hold together, in KiB.
fn resident_children(parent: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{parent}/task")) else {
        return 0;
    };
    let children = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let mut sum = 0;
    for list in children {
        for child in list.split_whitespace() {
            let status = fs::read_to_string(format!("/proc/{child}/status"));
            sum += status_kib(&status.unwrap_or_default(), "VmRSS:");
        }
    }
    sum
}

fn status_kib(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// The most memory that was resident in a process, in MiB.
pub(super) fn peak_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    mib(status_kib(&status.unwrap_or_default(), "VmHWM:"))
}

#[expect(clippy::cast_precision_loss)]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// A port of loopback that nobody listens on.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

async fn scrape(address: &str) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = "GET /metrics HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
