//! Daemons: started, watched, and ended with a bound.
//!
//! A daemon is started through the testbed's own `exec` command, which asks the kernel to kill the daemon when its
//! parent dies, enters a network namespace if told to, and then becomes the daemon. The kernel ties that wish to the
//! *thread* that forked, so daemons are spawned from a thread that lives as long as the process: the main thread.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use crate::error::{Error, Result};

static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Makes every [`wait_until`] of this process fail with [`Error::Cancelled`]: its owner is gone or wants it to end.
pub fn cancel_waits() {
    CANCELLED.store(true, Ordering::Relaxed);
}

const POLL: Duration = Duration::from_millis(20);
const TAIL_LINES: usize = 15;

/// What to run and where its output goes.
#[derive(Debug, Clone)]
pub struct DaemonSpec {
    /// The name in messages and of the log file.
    pub name: String,
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments; never a secret, for any user can read them.
    pub args: Vec<String>,
    /// Variables added to the environment.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub cwd: PathBuf,
    /// Standard output and error are appended here.
    pub log: PathBuf,
    /// The network namespace to run in, as a path such as `/run/netns/NAME`.
    pub netns: Option<PathBuf>,
}

impl DaemonSpec {
    /// A daemon that runs in `dir` and logs to `dir/logs/NAME.log`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, dir: &Path) -> Self {
        let name = name.into();
        let log = dir.join("logs").join(format!("{name}.log"));
        Self {
            name,
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: dir.to_path_buf(),
            log,
            netns: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it in a network namespace.
    #[must_use]
    pub fn netns(mut self, path: impl Into<PathBuf>) -> Self {
        self.netns = Some(path.into());
        self
    }
}

/// A running daemon; dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    spec: DaemonSpec,
    child: Child,
}

impl Daemon {
    /// Starts the daemon. To be called from the main thread (see the module's text).
    pub fn spawn(spec: DaemonSpec) -> Result<Self> {
        if let Some(dir) = spec.log.parent() {
            std::fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log)
            .map_err(Error::file("open", &spec.log))?;
        let log_too = log.try_clone().map_err(Error::file("open", &spec.log))?;
        let testbed = testbed_program()?;
        let mut command = Command::new(&testbed);
        command
            .arg("exec")
            .arg("--parent")
            .arg(std::process::id().to_string());
        if let Some(netns) = &spec.netns {
            command.arg("--netns").arg(netns);
        }
        command.arg("--").arg(&spec.program).args(&spec.args);
        command.envs(spec.env.iter().map(|(name, value)| (name, value)));
        command
            .current_dir(&spec.cwd)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too);
        // A Ctrl-C in the terminal must reach the supervisor alone, which then ends its daemons in order.
        command.process_group(0);
        let child = command.spawn().map_err(|source| Error::Spawn {
            program: testbed.display().to_string(),
            source,
            hint: format!("it should have started {}", spec.name),
        })?;
        Ok(Self { spec, child })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Fails when the daemon has ended, with the last lines of its log.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(source) => Err(Error::File {
                action: "wait for",
                path: self.spec.program.clone(),
                source,
            }),
        }
    }

    /// Asks the daemon to end, waits for at most `grace`, then kills it. Either way it is reaped.
    pub fn stop(&mut self, grace: Duration) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::TERM);
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        self.kill();
    }

    /// Kills the daemon without asking, and reaps it.
    pub fn kill(&mut self) {
        // Both fail only when the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal, without waiting for what it does.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // The child is not reaped while we hold it, so its id cannot be another process's.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn ended(&self, status: ExitStatus) -> Error {
        Error::DaemonEnded {
            name: self.spec.name.clone(),
            status: status.to_string(),
            log: self.spec.log.clone(),
            tail: tail(&self.spec.log),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(5));
    }
}

/// Polls `condition` until it holds. Fails at `limit`, or at once when one of `daemons` ends.
///
/// `what` completes the sentence "... did not happen within N s".
pub fn wait_until(
    what: &str,
    limit: Duration,
    daemons: &mut [&mut Daemon],
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        if condition()? {
            return Ok(());
        }
        for daemon in daemons.iter_mut() {
            daemon.check()?;
        }
        if CANCELLED.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if Instant::now() >= deadline {
            let detail = daemons
                .first()
                .map(|daemon| {
                    format!(
                        ". Last lines of {}:\n{}",
                        daemon.spec.log.display(),
                        tail(&daemon.spec.log)
                    )
                })
                .unwrap_or_default();
            return Err(Error::Timeout {
                what: what.to_owned(),
                limit,
                detail,
            });
        }
        std::thread::sleep(POLL);
    }
}

/// Runs a command to its end and returns what it wrote to standard output.
///
/// # Errors
/// [`Error::Spawn`] when it cannot start, [`Error::Command`] with its last lines when it fails.
pub fn output(what: &str, command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Spawn {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
            hint: format!("it is needed for: {what}"),
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(Error::Command {
        what: what.to_owned(),
        status: output.status.to_string(),
        tail: last_lines(text.lines().map(str::to_owned)),
    })
}

/// The last lines of a log file, or a note that there is none.
pub fn tail(log: &Path) -> String {
    match File::open(log) {
        Ok(file) => last_lines(BufReader::new(file).lines().map_while(io::Result::ok)),
        Err(_) => "(no log)".to_owned(),
    }
}

fn last_lines(lines: impl Iterator<Item = String>) -> String {
    let mut last = VecDeque::with_capacity(TAIL_LINES + 1);
    for line in lines {
        last.push_back(format!("    {line}"));
        if last.len() > TAIL_LINES {
            last.pop_front();
        }
    }
    Vec::from(last).join("\n")
}

/// The `testbed` program: `KUBEBYON_TESTBED`, this very program, or the one that cargo put beside or above it.
pub fn testbed_program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KUBEBYON_TESTBED") {
        return Ok(PathBuf::from(path));
    }
    // While cargo replaces the program, the running one's path reads "testbed (deleted)": then the new one is taken.
    let own = std::env::current_exe().map_err(Error::file("read", "/proc/self/exe"))?;
    if own.file_name().is_some_and(|name| name == "testbed") {
        return Ok(own);
    }
    // Cargo puts programs into target/PROFILE, test programs into target/PROFILE/deps.
    let dirs: Vec<&Path> = own.ancestors().skip(1).take(2).collect();
    dirs.iter()
        .map(|dir| dir.join("testbed"))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::NoTestbed {
            looked: dirs
                .iter()
                .map(|dir| dir.join("testbed").display().to_string())
                .collect::<Vec<_>>()
                .join(" or "),
        })
}

/// Becomes `command`, which is then killed when `parent` dies. Returns only on failure.
///
/// `parent` guards against a parent that died before the kernel was asked.
pub fn become_daemon(parent: u32, netns: Option<&Path>, command: &[OsString]) -> Error {
    let program = command.first().cloned().unwrap_or_default();
    let failed = |source: io::Error, hint: &str| Error::Spawn {
        program: program.to_string_lossy().into_owned(),
        source,
        hint: hint.to_owned(),
    };
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return failed(error.into(), "the kernel refused to tie it to its parent");
    }
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if now != i32::try_from(parent).ok() {
        return failed(io::ErrorKind::BrokenPipe.into(), "its supervisor is gone");
    }
    if let Some(path) = netns
        && let Err(source) = enter_netns(path)
    {
        return failed(source, "its network namespace could not be entered");
    }
    let source = Command::new(&program).args(command.iter().skip(1)).exec();
    failed(
        source,
        "is it on PATH, and, for a part, complete? `testbed parts` lists the parts",
    )
}

fn enter_netns(path: &Path) -> io::Result<()> {
    use std::os::fd::AsFd;
    let namespace = File::open(path)?;
    rustix::thread::move_into_link_name_space(
        namespace.as_fd(),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )?;
    Ok(())
}
