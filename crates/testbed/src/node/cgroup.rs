//! The cgroups of a node: one directory in each hierarchy (cgroup v1) or one in all (v2), and their removal.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    name::ClusterName,
};

const MOUNT: &str = "/sys/fs/cgroup";
const REMOVE_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// The cgroup of a node, by its name directly below the root of each hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeCgroup {
    name: String,
}

impl NodeCgroup {
    /// The cgroup of a cluster's node.
    pub(crate) fn new(cluster: &ClusterName, node: &str) -> Self {
        Self {
            name: format!("kubebyon-{cluster}-{node}"),
        }
    }

    /// The path as the kubelet wants it in `cgroupRoot`.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Makes the cgroup in every hierarchy.
    ///
    /// # Errors
    /// When a hierarchy refuses: not root, or no cgroups mounted.
    pub(crate) fn create(&self) -> Result<()> {
        for hierarchy in hierarchies()? {
            let dir = hierarchy.join(&self.name);
            fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
            // A new cpuset of v1 is empty, and nothing can run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (from, to) = (hierarchy.join(file), dir.join(file));
                if from.exists() {
                    let set = fs::read_to_string(&from).map_err(Error::file("read", &from))?;
                    fs::write(&to, set.trim()).map_err(Error::file("write", &to))?;
                }
            }
        }
        if let Some(root) = unified_root() {
            let path = root.join("cgroup.controllers");
            let controllers = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
            let enable: Vec<_> = controllers
                .split_whitespace()
                .map(|name| format!("+{name}"))
                .collect();
            for dir in [root.clone(), root.join(&self.name)] {
                let path = dir.join("cgroup.subtree_control");
                fs::write(&path, enable.join(" ")).map_err(Error::file("write", path))?;
            }
        }
        Ok(())
    }
}

/// The cgroups of a cluster's nodes.
///
/// # Errors
/// When no cgroups are mounted.
pub(crate) fn of(cluster: &ClusterName) -> Result<Vec<PathBuf>> {
    let prefix = format!("kubebyon-{cluster}-node");
    let is_node = |dir: &PathBuf| {
        let number = dir
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(&prefix));
        number.is_some_and(|number| number.parse::<u8>().is_ok())
    };
    Ok(hierarchies()?
        .iter()
        .flat_map(|hierarchy| children(hierarchy))
        .filter(is_node)
        .collect())
}

/// Removes every cgroup of a cluster, waiting for its last processes to be gone.
///
/// # Errors
/// [`Error::File`] when one is still in use after the limit.
pub(crate) fn remove_all(cluster: &ClusterName) -> Result<()> {
    let deadline = Instant::now() + REMOVE_LIMIT;
    of(cluster)?
        .iter()
        .try_for_each(|dir| remove_tree(dir, deadline))
}

fn remove_tree(dir: &Path, deadline: Instant) -> Result<()> {
    for child in children(dir) {
        remove_tree(&child, deadline)?;
    }
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // Busy until the kernel has let go of processes that were just killed.
            Err(_) if Instant::now() < deadline => std::thread::sleep(POLL),
            Err(source) => {
                return Err(Error::File {
                    action: "remove",
                    path: dir.to_path_buf(),
                    source,
                });
            }
        }
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The root of cgroup v2 where it is the only one.
fn unified_root() -> Option<PathBuf> {
    let root = PathBuf::from(MOUNT);
    root.join("cgroup.controllers").exists().then_some(root)
}

/// The roots of all hierarchies.
fn hierarchies() -> Result<Vec<PathBuf>> {
    if let Some(root) = unified_root() {
        return Ok(vec![root]);
    }
    let entries = fs::read_dir(MOUNT).map_err(Error::file("read", MOUNT))?;
    let mut found: Vec<_> = entries
        .flatten()
        // Names such as `cpu,cpuacct` come with links to the same hierarchy.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|dir| dir.join("cgroup.procs").exists())
        .collect();
    found.sort();
    Ok(found)
}
