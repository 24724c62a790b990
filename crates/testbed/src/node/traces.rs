//! What a cluster shows on this machine, and whether all of it is gone after its end.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    dirs,
    error::{Error, Result},
    name::ClusterName,
    node::{cgroup, lan},
    state::ClusterDir,
};

/// How long the kernel may take to let go of what is killed.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// The traces of a running cluster.
#[derive(Debug)]
pub(crate) struct Traces {
    name: ClusterName,
    dir: PathBuf,
    namespaces: BTreeSet<PathBuf>,
    mounts: usize,
}

impl Traces {
    /// Looks at a cluster that runs.
    ///
    /// # Errors
    /// When there is no such cluster, or it shows no trace at all, which would make the later comparison worthless.
    pub(crate) fn of(name: &ClusterName) -> Result<Self> {
        let dir = ClusterDir::find(name)?.path().to_path_buf();
        let own =
            fs::read_link("/proc/self/ns/net").map_err(Error::file("read", "/proc/self/ns/net"))?;
        let mut namespaces: BTreeSet<_> = processes(&dir)
            .iter()
            .filter_map(|pid| namespace(*pid))
            .collect();
        namespaces.remove(&own);
        if namespaces.is_empty() || cgroup::of(name)?.is_empty() {
            return Err(Error::Unexpected {
                what: format!("the traces of cluster {name}"),
                seen: "none".to_owned(),
            });
        }
        Ok(Self {
            name: name.clone(),
            dir,
            namespaces,
            mounts: mounts()?,
        })
    }

    /// Fails unless processes, namespaces, mounts, cgroups, addresses and files of the cluster are gone.
    pub(crate) fn expect_gone(&self) -> Result<()> {
        let deadline = Instant::now() + GONE_LIMIT;
        loop {
            let left = self.left()?;
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::Unexpected {
                    what: format!("what is left of cluster {}", self.name),
                    seen: left.join(", "),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn left(&self) -> Result<Vec<String>> {
        let mut left: Vec<String> = processes(&self.dir)
            .iter()
            .map(|pid| format!("process {pid}"))
            .collect();
        let all = all_processes();
        let alive: BTreeSet<_> = all.iter().filter_map(|pid| namespace(*pid)).collect();
        left.extend(
            self.namespaces
                .intersection(&alive)
                .map(|namespace| namespace.display().to_string()),
        );
        left.extend(
            cgroup::of(&self.name)?
                .iter()
                .map(|dir| dir.display().to_string()),
        );
        let now = mounts()?;
        if now > self.mounts {
            left.push(format!("{} mounts", now - self.mounts));
        }
        if self.dir.exists() {
            left.push(self.dir.display().to_string());
        }
        left.extend(
            lan::reserved_by(&self.name)?
                .iter()
                .map(|file| file.display().to_string()),
        );
        Ok(left)
    }
}

/// The processes that name the cluster's directory in their command line or work in it.
fn processes(dir: &Path) -> Vec<u32> {
    let text = dir.display().to_string();
    all_processes()
        .into_iter()
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let works_in =
                fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
            works_in || String::from_utf8_lossy(&line).contains(&text)
        })
        .collect()
}

fn all_processes() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// How many mounts of the testbed this machine sees: those below its directories, and those of namespaces.
fn mounts() -> Result<usize> {
    let text = fs::read_to_string("/proc/self/mountinfo")
        .map_err(Error::file("read", "/proc/self/mountinfo"))?;
    let (state, cache) = (
        dirs::state()?.display().to_string(),
        dirs::cache()?.display().to_string(),
    );
    Ok(text
        .lines()
        .filter(|line| line.contains(&state) || line.contains(&cache) || line.contains(" nsfs "))
        .count())
}
