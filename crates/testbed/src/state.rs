//! The record of each cluster on disk, written before anything is made, so that any later command can end it.
//!
//! A cluster is the directory `clusters/NAME`. Its supervisor's log is locked by the supervisor for as long as it
//! lives, which tells the living from the dead without trusting process ids.

use std::{
    fs,
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    dirs,
    error::{Error, Result},
    name::ClusterName,
    pki::write_private,
    profile::Profile,
};

const RECORD: &str = "cluster.json";
const SUPERVISOR_LOG: &str = "supervisor.log";
const REMOVE_LIMIT: Duration = Duration::from_secs(10);

/// What is known of a cluster; what must be undone for it follows from the name and the profile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The cluster's name.
    pub name: ClusterName,
    /// What was asked for.
    pub profile: Profile,
    /// Whether the cluster belongs to a process and is to be swept away once that is gone.
    pub owned: bool,
    /// The supervisor's process id, once it runs.
    pub supervisor: Option<u32>,
    /// Whether the cluster has been ready.
    pub ready: bool,
}

/// A cluster's directory.
#[derive(Debug, Clone)]
pub struct ClusterDir {
    path: PathBuf,
}

impl ClusterDir {
    /// Claims the name: makes the directory with its record, and returns it with the supervisor's log, open and
    /// locked. Remains of a dead cluster of that name, and of owned clusters whose owner is gone, are removed first.
    ///
    /// # Errors
    /// [`Error::AlreadyRuns`] when a living cluster has the name.
    pub fn create(record: &Record) -> Result<(Self, File)> {
        let clusters = clusters()?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&clusters)
            .map_err(Error::file("create", &clusters))?;
        let _claims = lock(&clusters.join(".lock"))?;
        for dir in list_in(&clusters)? {
            let same = dir
                .path
                .file_name()
                .is_some_and(|name| name == record.name.as_str());
            let swept = same || dir.read().is_ok_and(|record| record.owned);
            match (swept, dir.is_alive()?) {
                (true, false) => dir.clean()?,
                (true, true) if same => {
                    return Err(Error::AlreadyRuns {
                        name: record.name.to_string(),
                    });
                }
                _ => {}
            }
        }
        let dir = Self {
            path: clusters.join(record.name.as_str()),
        };
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir.path)
            .map_err(Error::file("create", &dir.path))?;
        let log = lock(&dir.path.join(SUPERVISOR_LOG))?;
        dir.write(record)?;
        Ok((dir, log))
    }

    /// The directory that a supervisor was told to work in.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The directory of a cluster that there is.
    ///
    /// # Errors
    /// [`Error::NoCluster`].
    pub fn find(name: &ClusterName) -> Result<Self> {
        let dir = Self {
            path: clusters()?.join(name.as_str()),
        };
        if dir.path.is_dir() {
            Ok(dir)
        } else {
            Err(Error::NoCluster {
                name: name.to_string(),
            })
        }
    }

    /// All clusters, living and dead, by name.
    pub fn list() -> Result<Vec<Self>> {
        let clusters = clusters()?;
        if clusters.is_dir() {
            list_in(&clusters)
        } else {
            Ok(Vec::new())
        }
    }

    /// Where everything of the cluster is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("admin.kubeconfig")
    }

    /// The supervisor's log.
    pub fn supervisor_log(&self) -> PathBuf {
        self.path.join(SUPERVISOR_LOG)
    }

    /// Reads the record.
    pub fn read(&self) -> Result<Record> {
        let path = self.path.join(RECORD);
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        serde_json::from_str(&text).map_err(|source| Error::BadRecord { path, source })
    }

    /// Replaces the record in one step.
    pub fn write(&self, record: &Record) -> Result<()> {
        let path = self.path.join(RECORD);
        let text = serde_json::to_string_pretty(record).map_err(|source| Error::BadRecord {
            path: path.clone(),
            source,
        })?;
        write_private(&path, &text)
    }

    /// Whether the cluster's supervisor lives.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(self.pulse()?.is_some_and(|pulse| pulse.beats()))
    }

    /// The pulse of the cluster's supervisor, good beyond the removal of the directory; none when there was no
    /// supervisor.
    pub fn pulse(&self) -> Result<Option<Pulse>> {
        let path = self.supervisor_log();
        match File::open(&path) {
            Ok(log) => Ok(Some(Pulse(log))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File {
                action: "open",
                path,
                source,
            }),
        }
    }

    /// Removes all that a dead cluster left behind; its daemons died with its supervisor.
    pub fn clean(&self) -> Result<()> {
        if let Ok(record) = self.read() {
            record.profile.clean(&record.name)?;
        }
        let deadline = Instant::now() + REMOVE_LIMIT;
        loop {
            match fs::remove_dir_all(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                // A daemon that is being killed may still write.
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(source) => {
                    return Err(Error::File {
                        action: "remove",
                        path: self.path.clone(),
                        source,
                    });
                }
            }
        }
    }
}

/// Tells whether a supervisor lives: it holds the lock of its log until the kernel has ended it.
#[derive(Debug)]
pub struct Pulse(File);

impl Pulse {
    /// Whether the supervisor lives.
    pub fn beats(&self) -> bool {
        match self.0.try_lock_shared() {
            Ok(()) => {
                // Only looked; closing the file would release it as well.
                let _ = self.0.unlock();
                false
            }
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(_)) => false,
        }
    }
}

fn clusters() -> Result<PathBuf> {
    Ok(dirs::state()?.join("clusters"))
}

fn list_in(clusters: &Path) -> Result<Vec<ClusterDir>> {
    let mut dirs: Vec<ClusterDir> = fs::read_dir(clusters)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(Error::file("read", clusters))?
        .into_iter()
        .filter(|path| path.is_dir())
        .map(|path| ClusterDir { path })
        .collect();
    dirs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(dirs)
}

/// Opens a file and waits for its lock, which lasts as long as the file, also in a process that inherits it.
fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::file("open", path))?;
    file.lock().map_err(Error::file("lock", path))?;
    Ok(file)
}
