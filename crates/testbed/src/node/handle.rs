//! A cluster of profile `node` as demos, tests and benches hold it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use crate::{
    agent::zone::Zone,
    error::{Error, Result},
    name::ClusterName,
    node::{
        NodeOptions,
        machine::Node,
        sandbox::{Sandbox, enter},
    },
    parts::{Bins, Part},
    pki::write_private,
    process::output,
    profile::Profile,
    progress::Progress,
    state::ClusterDir,
    supervisor::{
        client::{self, Owned},
        protocol::Request,
    },
};

const FILE: &str = "namespaces.json";

/// A running cluster with nodes. One that was started here ends with this value, and with this process.
#[derive(Debug)]
pub struct NodeCluster {
    dir: ClusterDir,
    bins: Bins,
    owned: Option<Owned>,
}

impl NodeCluster {
    /// Starts a cluster of this name and returns when it is ready. Needs root.
    ///
    /// # Errors
    /// What this machine lacks, or what could not be started; then nothing of it is left.
    pub fn start(name: &str, options: NodeOptions) -> Result<Self> {
        let name: ClusterName = name.parse()?;
        let owned = Owned::start(
            name.clone(),
            Profile::Node(options),
            true,
            Progress::stderr(),
        )?;
        Ok(Self {
            dir: ClusterDir::find(&name)?,
            bins: owned.bins().clone(),
            owned: Some(owned),
        })
    }

    /// A cluster that `testbed up` has started, which lives on after this value.
    ///
    /// # Errors
    /// [`Error::NoCluster`] when there is none of this name, or it is dead.
    pub fn attach(name: &str) -> Result<Self> {
        let name: ClusterName = name.parse()?;
        let dir = ClusterDir::find(&name)?;
        if !dir.is_alive()? {
            return Err(Error::NoCluster {
                name: name.to_string(),
            });
        }
        Ok(Self {
            dir,
            bins: Bins::locate()?,
            owned: None,
        })
    }

    /// The cluster's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The admin's kubeconfig, which works on this machine.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.kubeconfig()
    }

    /// The parts that the cluster is made of.
    pub fn bins(&self) -> &Bins {
        &self.bins
    }

    /// The kubectl program of the cluster's version.
    pub fn kubectl(&self) -> PathBuf {
        self.bins.path(Part::Kubectl)
    }

    /// The helm program.
    pub fn helm(&self) -> PathBuf {
        self.bins.path(Part::Helm)
    }

    /// The public DNS zone, which this machine's `outside` and the cluster's pods resolve by.
    pub fn zone(&self) -> Zone {
        Zone::of(self.dir())
    }

    /// Gives every node the image of an archive, such as [`crate::images::build`] makes.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        client::ask(&self.dir, &Request::LoadImage(archive.to_path_buf()))
    }

    /// A command that runs outside the nodes, on their LAN, and resolves names by the public zone: what a user of the
    /// cluster's public names sees. Files are this machine's.
    pub fn outside(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let resolv = self.dir().join("zone/resolv.conf");
        let mut command = Command::new("nsenter");
        command
            .arg(format!(
                "--net=/proc/{}/ns/net",
                Namespaces::read(self.dir())?.lan
            ))
            .args([
                "unshare",
                "--mount",
                "sh",
                "-euc",
                "mount --bind \"$1\" /etc/resolv.conf; shift; exec \"$@\"",
                "sh",
            ])
            .arg(resolv)
            .arg(program);
        Ok(command)
    }

    /// A command that runs on a node, in all of its namespaces.
    ///
    /// # Errors
    /// [`Error::NoSuchNode`].
    pub fn on_node(&self, node: &str, program: impl AsRef<OsStr>) -> Result<Command> {
        let process = Namespaces::read(self.dir())?.of_node(node)?;
        let mut command = Command::new("nsenter");
        command.args(enter(process)).arg(program);
        Ok(command)
    }

    /// Pulls a node's network cable: pods on it run on, unseen, and the node is NotReady within a minute.
    ///
    /// # Errors
    /// [`Error::NoSuchNode`]; so for [`reconnect`](Self::reconnect).
    pub fn cut(&self, node: &str) -> Result<()> {
        self.link(node, "down")
    }

    /// Plugs a node's network cable in again.
    pub fn reconnect(&self, node: &str) -> Result<()> {
        self.link(node, "up")
    }

    fn link(&self, node: &str, state: &str) -> Result<()> {
        let namespaces = Namespaces::read(self.dir())?;
        namespaces.of_node(node)?;
        let mut command = Command::new("nsenter");
        // The LAN's end of a node's link has the node's name.
        command
            .arg(format!("--net=/proc/{}/ns/net", namespaces.lan))
            .args(["ip", "link", "set", node, state]);
        output(&format!("set the link of {node} {state}"), &mut command).map(drop)
    }

    /// The supervisor's process id, for tests that kill it; none for a cluster that was not started here.
    pub fn supervisor(&self) -> Option<u32> {
        self.owned.as_ref().map(Owned::supervisor)
    }
}

/// The processes that hold a cluster's namespaces.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    lan: u32,
    nodes: BTreeMap<String, u32>,
}

impl Namespaces {
    pub(crate) fn of(lan: &Sandbox, nodes: &[Node]) -> Self {
        Self {
            lan: lan.init(),
            nodes: nodes
                .iter()
                .map(|node| (node.name().to_owned(), node.sandbox.init()))
                .collect(),
        }
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let text = serde_json::to_string(self).map_err(|source| Error::BadRecord {
            path: path.clone(),
            source,
        })?;
        write_private(&path, &text)
    }

    fn of_node(&self, node: &str) -> Result<u32> {
        self.nodes
            .get(node)
            .copied()
            .ok_or_else(|| Error::NoSuchNode {
                node: node.to_owned(),
            })
    }

    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        serde_json::from_str(&text).map_err(|source| Error::BadRecord { path, source })
    }
}
