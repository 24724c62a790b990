//! The other side of a supervisor: whoever starts a cluster, asks it for something, or ends it.

use std::{
    fs::File,
    io::{BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use super::{
    DETACH,
    protocol::{self, Event, Request},
};
use crate::{
    error::{Error, Result},
    name::ClusterName,
    parts::{self, Bins},
    process::{tail, testbed_program},
    profile::Profile,
    progress::Progress,
    state::{ClusterDir, Pulse, Record},
};

const STOP_LIMIT: Duration = Duration::from_mins(1);
const REQUEST_LIMIT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(20);

/// A cluster that ends with this value, or with this process, whichever is first.
#[derive(Debug)]
pub struct Owned {
    name: ClusterName,
    dir: ClusterDir,
    bins: Bins,
    child: Child,
    // The supervisor reads the end of this pipe as the owner's end.
    stdin: Option<ChildStdin>,
}

impl Owned {
    /// Ensures the parts, starts the cluster, and returns when it is ready.
    ///
    /// # Errors
    /// Whatever kept the cluster from starting; then nothing of it is left.
    pub fn start(
        name: ClusterName,
        profile: Profile,
        owned: bool,
        progress: Progress,
    ) -> Result<Self> {
        profile.check_rights()?;
        let program = testbed_program()?;
        let bins = parts::ensure(&profile.parts(), progress)?;
        let record = Record {
            name,
            profile,
            owned,
            supervisor: None,
            ready: false,
        };
        let (dir, log) = ClusterDir::create(&record)?;
        let mut child = match spawn(&program, dir.path(), log) {
            Ok(child) => child,
            Err(error) => {
                dir.clean()?;
                return Err(error);
            }
        };
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let owned = Self {
            name: record.name,
            dir,
            bins,
            child,
            stdin,
        };
        let mut events = BufReader::new(stdout.ok_or_else(|| owned.gone("has no output"))?);
        loop {
            match protocol::read_line(&mut events) {
                Ok(Event::Progress(line)) => progress.say(&line),
                Ok(Event::Ready) => return Ok(owned),
                Ok(Event::Failed(message)) => return Err(Error::Supervisor { message }),
                Err(_) => return Err(owned.gone("ended while it was starting")),
            }
        }
    }

    /// Lets the cluster live on after this process.
    pub fn detach(mut self) -> Result<()> {
        if let Some(mut stdin) = self.stdin.take() {
            writeln!(stdin, "{DETACH}").map_err(|_| self.gone("ended"))?;
        }
        // Its end is no longer ours to wait for.
        std::mem::forget(self);
        Ok(())
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.kubeconfig()
    }

    /// The cluster's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The parts that it is made of.
    pub fn bins(&self) -> &Bins {
        &self.bins
    }

    /// The supervisor's process id.
    pub fn supervisor(&self) -> u32 {
        self.child.id()
    }

    /// Asks the supervisor for something.
    pub fn ask(&self, request: &Request) -> Result<()> {
        ask(&self.dir, request)
    }

    fn gone(&self, problem: &'static str) -> Error {
        Error::SupervisorGone {
            name: self.name.to_string(),
            problem,
            tail: tail(&self.dir.supervisor_log()),
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let deadline = Instant::now() + STOP_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(POLL);
        }
        // A supervisor that was killed left this to us; one that ended by itself left nothing.
        if let Err(error) = self.dir.clean() {
            eprintln!("{error}");
        }
    }
}

fn spawn(program: &Path, dir: &Path, log: File) -> Result<Child> {
    // The log is locked: the lock passes to the supervisor with the file.
    Command::new(program)
        .arg("supervise")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|source| Error::Spawn {
            program: program.display().to_string(),
            source,
            hint: "build it with `cargo build -p kubebyon-testbed`".to_owned(),
        })
}

/// Asks the supervisor of a cluster for something.
pub fn ask(dir: &ClusterDir, request: &Request) -> Result<()> {
    match protocol::ask(dir.path(), request, REQUEST_LIMIT) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(message)) => Err(Error::Supervisor { message }),
        Err(_) => {
            let name = dir
                .path()
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            Err(Error::SupervisorGone {
                name,
                problem: "does not answer",
                tail: tail(&dir.supervisor_log()),
            })
        }
    }
}

/// Ends a cluster and removes all that is left of it, whatever state it is in.
pub fn down(dir: &ClusterDir) -> Result<()> {
    if let Some(pulse) = dir.pulse()? {
        // One that does not answer, because it is still starting or hangs, gets signals instead.
        if protocol::ask(dir.path(), &Request::Stop, REQUEST_LIMIT).is_err() {
            signal(dir, &pulse, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while pulse.beats() {
            if Instant::now() >= deadline {
                signal(dir, &pulse, Signal::KILL);
            }
            std::thread::sleep(POLL);
        }
    }
    dir.clean()
}

fn signal(dir: &ClusterDir, pulse: &Pulse, signal: Signal) {
    let pid = dir
        .read()
        .ok()
        .and_then(|record| record.supervisor)
        .and_then(|pid| i32::try_from(pid).ok());
    // As long as its pulse beats, the process id is the supervisor's own.
    if let (Some(pid), true) = (pid.and_then(Pid::from_raw), pulse.beats()) {
        // It fails only when the process has just ended.
        let _ = rustix::process::kill_process(pid, signal);
    }
}
