//! The product as it runs in a cluster with nodes: what the journeys begin with.

use std::{path::PathBuf, sync::Arc, time::Instant};

use kubebyon_testbed::{NodeCluster, NodeOptions, Result, addons::Addon, kubectl::Kubectl};

use crate::operator::built;

use super::{
    OPERATOR, OPERATOR_NAMESPACE, Programs, charts::Repository, install_operator, load_images,
};

/// A cluster of one node with the operator and a chart repository in it. It ends with the last holder of the cluster,
/// and with this process.
pub struct Installation {
    /// The cluster.
    pub cluster: Arc<NodeCluster>,
    /// kubectl as the host cluster's admin.
    pub kubectl: Kubectl,
    /// Where the tenants' chart comes from.
    pub repository: Repository,
    started: Instant,
}

impl Installation {
    /// Starts a cluster of this name with the product in it; or brings the product into the cluster that `testbed up`
    /// has made and `KUBEBYON_CLUSTER` names, which stays, for those who work on a journey.
    ///
    /// # Errors
    /// What this machine lacks, or what did not start.
    pub fn start(name: &str, addons: Vec<Addon>, programs: &Programs) -> Result<Self> {
        let started = Instant::now();
        let options = NodeOptions {
            addons,
            ..NodeOptions::default()
        };
        let cluster = match std::env::var("KUBEBYON_CLUSTER") {
            Ok(there) => NodeCluster::attach(&there)?,
            Err(_) => NodeCluster::start(name, options)?,
        };
        let kubectl = Kubectl::new(cluster.bins(), &cluster.kubeconfig());
        let image = load_images(&cluster, programs)?;
        let repository = Repository::prepare(&cluster)?;
        repository.serve(&kubectl)?;
        install_operator(&kubectl, &image)?;
        let installation = Self {
            cluster: Arc::new(cluster),
            kubectl,
            repository,
            started,
        };
        installation
            .done("the operator runs in a cluster of its own, under its own ServiceAccount");
        Ok(installation)
    }

    /// Says that a promise was kept, and when.
    pub fn done(&self, promise: &str) {
        let at = self.started.elapsed().as_secs_f32();
        eprintln!("ok {at:>6.1} s  {promise}");
    }

    /// The end of the operator's log.
    pub fn operator_log(&self) -> String {
        let log = self.kubectl.run(
            "read the operator's log",
            &["logs", OPERATOR_NAMESPACE, OPERATOR, "--tail=30"],
        );
        log.unwrap_or_else(|error| error.to_string())
    }
}

impl Programs {
    /// The operator as cargo left it beside the testbed's program, with the chart repository of the test's own build.
    ///
    /// # Errors
    /// When the operator was not built.
    pub fn built(chart_repository: PathBuf) -> Result<Self> {
        Ok(Self {
            operator: built()?,
            chart_repository,
        })
    }
}
