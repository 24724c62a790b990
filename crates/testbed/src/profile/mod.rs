//! The kinds of cluster, and what the supervisor asks of a running one.

pub mod api;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    control_plane::ControlPlane,
    error::Result,
    name::ClusterName,
    node::{self, NodeOptions},
    parts::{Bins, Part},
    profile::api::ApiOptions,
    progress::Progress,
};

/// What to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// A control plane without nodes; needs no rights.
    Api(ApiOptions),
    /// A whole cluster with nodes; needs root.
    Node(NodeOptions),
}

/// A cluster that runs inside its supervisor. Dropping it ends its daemons.
pub trait RunningCluster {
    /// Its control plane.
    fn control_plane(&mut self) -> &mut ControlPlane;

    /// Fails when something that should run has ended.
    fn check(&mut self) -> Result<()> {
        self.control_plane().check()
    }

    /// Gives every node the images of an archive.
    fn load_image(&mut self, archive: &Path) -> Result<()>;
}

impl Profile {
    /// The word on the command line.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Api(_) => "api",
            Self::Node(_) => "node",
        }
    }

    /// The parts that the cluster is made of.
    pub fn parts(&self) -> Vec<Part> {
        match self {
            Self::Api(options) => options.parts(),
            Self::Node(options) => options.parts(),
        }
    }

    /// Fails early, and clearly, when the cluster cannot be started here.
    pub fn check_rights(&self) -> Result<()> {
        match self {
            Self::Api(_) => Ok(()),
            Self::Node(options) => options.check(Progress::stderr()),
        }
    }

    /// Starts the cluster below `dir`. Called on the supervisor's main thread.
    pub fn start(
        &self,
        name: &ClusterName,
        dir: &Path,
        bins: &Bins,
        progress: Progress,
    ) -> Result<Box<dyn RunningCluster>> {
        match self {
            Self::Api(options) => {
                progress.say(&format!("starting the control plane of {name}"));
                Ok(Box::new(options.start(name, dir, bins)?))
            }
            Self::Node(options) => Ok(Box::new(options.start(name, dir, bins, progress)?)),
        }
    }

    /// Removes what a cluster leaves outside its directory when its supervisor was killed.
    pub fn clean(&self, name: &ClusterName) -> Result<()> {
        match self {
            Self::Api(_) => Ok(()),
            Self::Node(_) => node::remove_leftovers(name),
        }
    }
}
