//! Runs children with a bound on their number and their time, and kills them for certain.
//!
//! Three things make sure that no helm outlives the process that may run it:
//! - Linux sends each child SIGKILL when the *thread* that made it ends
//!   (PR_SET_PDEATHSIG), so one thread that lives as long as the [`Runner`] makes them
//!   all. A kill -9 of this process thus takes the children along.
//! - Each child is watched by a task of its own, not by its caller's future: when that is
//!   dropped, the task kills the child, reaps it and only then gives its place to the next.
//! - [`Runner::kill_all`] returns when the last child is reaped.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process_group, set_parent_process_death_signal,
};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::output::capture;
use crate::error::{Error, Result};

/// How long a child may take to end after SIGTERM, before SIGKILL.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// How long a dead child's pipes may stay open.
const DRAIN: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The child ended by itself, with this exit code.
    Code(i32),
    /// A signal from outside killed it.
    Signal(i32),
    /// It did not end in time and was stopped.
    TimedOut,
    /// Its caller went away or the runner was shut down; it was killed.
    Cancelled,
}

/// A reaped child.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) ended: Ended,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

struct Job {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Runs children.
#[derive(Debug)]
pub(crate) struct Runner {
    jobs: mpsc::Sender<Job>,
    permits: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Runner {
    /// A runner of at most `concurrency` children at a time.
    pub(crate) fn new(concurrency: usize) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        std::thread::Builder::new()
            .name("helm-spawner".to_owned())
            .spawn(move || spawn_jobs(&queue))?;
        Ok(Self {
            jobs,
            permits: Arc::new(Semaphore::new(concurrency.max(1))),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Runs `command` for `limit` at most, once it is its turn. `keep` is dropped when the
    /// child is reaped: it owns the files that the child reads.
    ///
    /// # Errors
    /// [`Error::ShutDown`] after [`Runner::kill_all`]; [`Error::Io`] if the child cannot be made.
    pub(crate) async fn run<K: Send + 'static>(
        &self,
        command: Command,
        limit: Duration,
        keep: K,
    ) -> Result<Finished> {
        let permit = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(Error::ShutDown),
            permit = Arc::clone(&self.permits).acquire_owned() => permit.map_err(|_| Error::ShutDown)?,
        };
        let cancel = self.stop.child_token();
        let _cancel_on_drop = cancel.clone().drop_guard();
        let jobs = self.jobs.clone();
        let task = self.tasks.spawn(async move {
            let finished = supervise(&jobs, command, limit, &cancel, permit).await;
            drop(keep);
            finished
        });
        let finished = task.await.map_err(|error| Error::Io {
            what: "watch helm",
            source: io::Error::other(error),
        })??;
        if finished.ended == Ended::Cancelled {
            Err(Error::ShutDown)
        } else {
            Ok(finished)
        }
    }

    /// Kills every child, refuses new ones, and returns when the last one is reaped.
    pub(crate) async fn kill_all(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // The tasks hold the queue to the spawner, so its thread outlives their children.
        self.stop.cancel();
    }
}

fn spawn_jobs(queue: &mpsc::Receiver<Job>) {
    while let Ok(Job {
        mut command,
        runtime,
        reply,
    }) = queue.recv()
    {
        let _inside = runtime.enter();
        // When nobody waits any more, the child is dropped, and that kills it.
        let _ = reply.send(command.spawn());
    }
}

async fn supervise(
    jobs: &mpsc::Sender<Job>,
    mut command: Command,
    limit: Duration,
    cancel: &CancellationToken,
    _permit: OwnedSemaphorePermit,
) -> Result<Finished> {
    if cancel.is_cancelled() {
        return Err(Error::ShutDown);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    die_with_parent(&mut command);
    let (reply, spawned) = oneshot::channel();
    let gone = || Error::Io {
        what: "start helm",
        source: io::Error::other("the spawner thread is gone"),
    };
    jobs.send(Job {
        command,
        runtime: Handle::current(),
        reply,
    })
    .map_err(|_| gone())?;
    let mut child = spawned
        .await
        .map_err(|_| gone())?
        .map_err(Error::io("start helm"))?;

    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let stdout = child.stdout.take().map(|pipe| tokio::spawn(capture(pipe)));
    let stderr = child.stderr.take().map(|pipe| tokio::spawn(capture(pipe)));
    let ended = tokio::select! {
        biased;
        () = cancel.cancelled() => Ended::Cancelled,
        status = child.wait() => ended(status.map_err(Error::io("wait for helm"))?),
        () = sleep(limit) => Ended::TimedOut,
    };
    if ended == Ended::TimedOut {
        // Helm marks the release as failed on SIGTERM, which leaves no lock behind.
        signal(group, Signal::TERM);
        tokio::select! {
            () = cancel.cancelled() => {}
            _ = child.wait() => {}
            () = sleep(GRACE) => {}
        }
    }
    if child.id().is_some() {
        signal(group, Signal::KILL);
        child.wait().await.map_err(Error::io("wait for helm"))?;
    }
    Ok(Finished {
        ended,
        stdout: drained(stdout).await,
        stderr: drained(stderr).await,
    })
}

async fn drained(reader: Option<tokio::task::JoinHandle<String>>) -> String {
    let Some(mut reader) = reader else {
        return String::new();
    };
    if let Ok(text) = timeout(DRAIN, &mut reader).await {
        return text.unwrap_or_default();
    }
    reader.abort();
    String::new()
}

fn ended(status: ExitStatus) -> Ended {
    status.code().map_or_else(
        || Ended::Signal(status.signal().unwrap_or_default()),
        Ended::Code,
    )
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // It fails only if the group is gone already.
        let _ = kill_process_group(group, signal);
    }
}

/// Has the kernel kill the child when the spawner thread ends.
#[expect(
    unsafe_code,
    reason = "what runs between fork and exec can only be set so"
)]
fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let setup = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the line above.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::Error::from(rustix::io::Errno::SRCH))
        }
    };
    // SAFETY: after fork only async-signal-safe calls are allowed; prctl and getppid are plain
    // system calls here, and nothing allocates or takes a lock.
    unsafe {
        command.pre_exec(setup);
    }
}

#[cfg(test)]
mod tests;
