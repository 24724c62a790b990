//! A sandbox: the namespaces that make one machine out of part of this one.
//!
//! Each holds its own network, mounts, processes, host name and IPC. All of it hangs on one process, the sandbox's
//! init: when that dies, the kernel kills every process inside, and with the last one go the mounts and the network
//! devices. The init in turn is killed by the kernel when its supervisor dies, so nothing has to be tidied by hand
//! after a crash, and nothing of it is ever seen in the mount table or device list of the machine.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use crate::{
    error::{Error, Result},
    process::{Daemon, DaemonSpec, output, wait_until},
};

const START_LIMIT: Duration = Duration::from_secs(10);
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A running sandbox; dropping it kills everything inside.
#[derive(Debug)]
pub struct Sandbox {
    daemon: Daemon,
    init: u32,
}

impl Sandbox {
    /// Starts a sandbox whose host name is `name`. To be called from the main thread, as [`Daemon::spawn`].
    pub fn start(name: &str, dir: &Path) -> Result<Self> {
        let spec = DaemonSpec::new(format!("sandbox-{name}"), "unshare", dir)
            .args([
                "--mount",
                "--propagation",
                "private",
                "--net",
                "--uts",
                "--ipc",
                "--pid",
                "--fork",
            ])
            .args(["--kill-child", "--mount-proc"])
            // An init that ignores SIGCHLD has its orphans reaped by the kernel.
            .args(["env", "--ignore-signal=CHLD", "sleep", "infinity"]);
        let mut daemon = Daemon::spawn(spec)?;
        let mut init = None;
        let outer = daemon.pid();
        wait_until(
            &format!("the start of sandbox {name}"),
            START_LIMIT,
            &mut [&mut daemon],
            || {
                init = init_of(outer);
                Ok(init.is_some())
            },
        )?;
        let init = init.ok_or_else(|| Error::Timeout {
            what: format!("the start of sandbox {name}"),
            limit: START_LIMIT,
            detail: String::new(),
        })?;
        let sandbox = Self { daemon, init };
        // Volumes that pods mount have to appear in their containers, so mounts are shared inside the sandbox.
        sandbox.run("prepare the sandbox", ["mount", "--make-rshared", "/"])?;
        sandbox.run("name the sandbox", ["hostname", name])?;
        sandbox.network("bring up loopback", "ip link set lo up")?;
        Ok(sandbox)
    }

    /// The process id of the init, as the machine sees it.
    pub fn init(&self) -> u32 {
        self.init
    }

    /// The network namespace's path, valid as long as the sandbox runs.
    pub fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.init))
    }

    /// Runs a command inside to its end and returns its output.
    pub fn run<const N: usize>(&self, what: &str, command: [&str; N]) -> Result<String> {
        output(
            what,
            Command::new("nsenter").args(enter(self.init)).args(command),
        )
    }

    /// Runs a shell script inside, stopping at its first failure.
    pub fn script(&self, what: &str, script: &str) -> Result<String> {
        self.run(what, ["sh", "-euc", script])
    }

    /// Runs a shell script in the sandbox's network, but with the machine's processes and files in sight.
    pub fn network(&self, what: &str, script: &str) -> Result<String> {
        let netns = format!("--net={}", self.netns().display());
        output(
            what,
            Command::new("nsenter").args([&netns, "sh", "-euc", script]),
        )
    }

    /// A daemon that runs inside, logging to `dir/logs`.
    pub fn daemon(&self, name: &str, program: &Path, dir: &Path) -> DaemonSpec {
        DaemonSpec::new(name, "nsenter", dir)
            .args(enter(self.init))
            .arg(program.display().to_string())
    }

    /// Kills everything inside and waits until it is gone.
    pub fn kill(&mut self) {
        if self.daemon.check().is_ok()
            && let Some(init) = i32::try_from(self.init).ok().and_then(Pid::from_raw)
        {
            // `unshare` reaps the init and ends with it; until then the id is the init's.
            let _ = rustix::process::kill_process(init, Signal::KILL);
            let deadline = Instant::now() + KILL_LIMIT;
            while self.daemon.check().is_ok() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.daemon.kill();
    }

    /// Fails when the sandbox has ended.
    pub fn check(&mut self) -> Result<()> {
        self.daemon.check()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The arguments with which `nsenter` enters all namespaces of a sandbox.
pub fn enter(init: u32) -> Vec<String> {
    let mut args = vec!["--target".to_owned(), init.to_string()];
    args.extend(["--mount", "--net", "--uts", "--ipc", "--pid", "--"].map(str::to_owned));
    args
}

/// The child of the `unshare` process, once it has become the init.
fn init_of(outer: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
    let child = children.split_whitespace().next()?.parse().ok()?;
    // Before that it still is `unshare`, with the namespaces half made.
    let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    (name.trim() == "sleep").then_some(child)
}
