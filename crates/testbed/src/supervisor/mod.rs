//! The process that holds a cluster together: it starts the daemons, answers requests, and ends everything when it
//! is told to, when its owner is gone, or when a daemon ends by itself.
//!
//! The owner holds the other end of the supervisor's standard input. Its end of file means that the owner is gone,
//! however it went, unless the owner wrote [`DETACH`] before. The daemons are tied to the supervisor by the kernel.

pub mod client;
pub mod protocol;

use std::{
    io::{BufRead, BufReader},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    time::Duration,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    error::{Error, Result},
    parts::Bins,
    process::cancel_waits,
    profile::RunningCluster,
    progress::Progress,
    state::ClusterDir,
};
use protocol::{Answer, Event, Request};

/// The line with which an owner lets the cluster live on without it.
pub(crate) const DETACH: &str = "detach";

const CHECK_EVERY: Duration = Duration::from_millis(500);
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

enum Input {
    End,
    Request(Request, UnixStream),
}

/// Runs a cluster until its end, on the calling thread, which must be the main one.
///
/// Everything is removed before this returns, also on failure.
pub fn run(dir: PathBuf) -> Result<()> {
    let dir = ClusterDir::at(dir);
    let (inputs, queue) = mpsc::channel();
    watch_owner(inputs.clone());
    watch_signals(inputs.clone())?;
    let ended = match start(&dir) {
        Ok(mut cluster) => serve(&dir, cluster.as_mut(), inputs, &queue),
        Err(error) => Err(error),
    };
    let cleaned = dir.clean();
    let result = ended.and(cleaned);
    if let Err(error) = &result {
        Event::Failed(error.to_string()).send();
    }
    result
}

fn start(dir: &ClusterDir) -> Result<Box<dyn RunningCluster>> {
    let mut record = dir.read()?;
    record.supervisor = Some(std::process::id());
    dir.write(&record)?;
    let bins = Bins::locate()?;
    let cluster = record
        .profile
        .start(&record.name, dir.path(), &bins, Progress::Events)?;
    record.ready = true;
    dir.write(&record)?;
    Ok(cluster)
}

fn serve(
    dir: &ClusterDir,
    cluster: &mut dyn RunningCluster,
    inputs: Sender<Input>,
    queue: &Receiver<Input>,
) -> Result<()> {
    let listener = protocol::listen(dir.path())
        .map_err(Error::file("open the control socket in", dir.path()))?;
    std::thread::spawn(move || accept(&listener, &inputs));
    Event::Ready.send();
    loop {
        match queue.recv_timeout(CHECK_EVERY) {
            Ok(Input::Request(Request::Stop, mut stream)) => {
                // Who asked may be gone; the end comes all the same.
                let _ = protocol::write_line(&mut stream, &Answer::Ok(()));
                return Ok(());
            }
            Ok(Input::Request(request, mut stream)) => {
                let answer: Answer = answer(cluster, request).map_err(|error| error.to_string());
                let _ = protocol::write_line(&mut stream, &answer);
            }
            Ok(Input::End) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = cluster.check() {
                    // Into the supervisor's log, for a cluster that nobody is waiting for any more.
                    eprintln!("{error}");
                    return Err(error);
                }
            }
        }
    }
}

fn answer(cluster: &mut dyn RunningCluster, request: Request) -> Result<()> {
    match request {
        Request::Stop => Ok(()),
        Request::StopApiserver => {
            cluster.control_plane().stop_apiserver();
            Ok(())
        }
        Request::StartApiserver => cluster.control_plane().start_apiserver(),
        Request::LoadImage(archive) => cluster.load_image(&archive),
    }
}

fn watch_owner(inputs: Sender<Input>) {
    std::thread::spawn(move || {
        for line in BufReader::new(std::io::stdin()).lines() {
            match line {
                Ok(line) if line == DETACH => return,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        end(&inputs);
    });
}

fn watch_signals(inputs: Sender<Input>) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(Error::file("watch for signals in", "the supervisor"))?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            end(&inputs);
        }
    });
    Ok(())
}

fn end(inputs: &Sender<Input>) {
    // The main thread is in one of the two: waiting for a daemon, or for the next input.
    cancel_waits();
    let _ = inputs.send(Input::End);
}

fn accept(listener: &UnixListener, inputs: &Sender<Input>) {
    for stream in listener.incoming().flatten() {
        let _ = stream.set_read_timeout(Some(REQUEST_LIMIT));
        let request = stream
            .try_clone()
            .and_then(|read| protocol::read_line(&mut BufReader::new(read)));
        if let Ok(request) = request
            && inputs.send(Input::Request(request, stream)).is_err()
        {
            return;
        }
    }
}
