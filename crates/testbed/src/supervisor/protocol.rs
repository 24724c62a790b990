//! What a supervisor and those who talk to it say to each other: one JSON value a line.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

const SOCKET: &str = "control";

/// What a supervisor tells the process that started it, on its standard output.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A line for the user.
    Progress(String),
    /// The cluster is ready; nothing follows.
    Ready,
    /// The cluster could not be started and nothing of it is left; nothing follows.
    Failed(String),
}

impl Event {
    /// Sends it. A listener that is gone is not missed.
    pub(crate) fn send(&self) {
        if let Ok(line) = serde_json::to_string(self) {
            let mut out = io::stdout().lock();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }
}

/// What a supervisor can be asked, over the socket in the cluster's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// End the cluster; the answer comes before the end.
    Stop,
    /// Kill the api-server.
    StopApiserver,
    /// Start the api-server again and wait until it is ready.
    StartApiserver,
    /// Give every node the images of an archive.
    LoadImage(PathBuf),
}

/// The answer: done, or why not.
pub type Answer = Result<(), String>;

/// Opens the socket. Its path goes through an open directory, for a socket's name has at most 107 bytes.
pub(crate) fn listen(dir: &Path) -> io::Result<UnixListener> {
    let open = File::open(dir)?;
    UnixListener::bind(short(&open))
}

/// Asks the supervisor of a cluster and waits for at most `limit`.
pub(crate) fn ask(dir: &Path, request: &Request, limit: Duration) -> io::Result<Answer> {
    let open = File::open(dir)?;
    let mut stream = UnixStream::connect(short(&open))?;
    stream.set_read_timeout(Some(limit))?;
    write_line(&mut stream, request)?;
    read_line(&mut BufReader::new(stream))
}

/// Writes one value.
pub(crate) fn write_line<T: Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    out.write_all(line.as_bytes())
}

/// Reads one value.
pub(crate) fn read_line<T: DeserializeOwned>(input: &mut impl BufRead) -> io::Result<T> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

fn short(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
}
