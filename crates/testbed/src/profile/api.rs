//! Profile `api`: a control plane with CRDs installed and no nodes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    control_plane::{ControlPlane, ControlPlaneOptions},
    crds::{self, CrdSet},
    error::{Error, Result},
    name::ClusterName,
    parts::{Bins, Part},
    profile::RunningCluster,
};

/// What a cluster of profile `api` is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiOptions {
    /// CRDs beside the project's own.
    pub with: Vec<CrdSet>,
    /// The versions of TLSRoute that are served, such as `v1alpha3`; all of the CRD's when empty.
    pub tls_route_versions: Vec<String>,
    /// Whether every request is logged.
    pub audit: bool,
    /// Further flags of the api-server.
    pub apiserver_args: Vec<String>,
    /// Further flags of the controller manager.
    pub controller_manager_args: Vec<String>,
}

/// A control plane alone.
#[derive(Debug)]
pub(crate) struct ApiRunning(ControlPlane);

impl RunningCluster for ApiRunning {
    fn control_plane(&mut self) -> &mut ControlPlane {
        &mut self.0
    }

    fn load_image(&mut self, _archive: &Path) -> Result<()> {
        Err(Error::NoNodes)
    }
}

impl ApiOptions {
    /// The parts that it needs.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let mut parts = vec![
            Part::Etcd,
            Part::KubeApiserver,
            Part::KubeControllerManager,
            Part::Kubectl,
            Part::Helm,
        ];
        parts.extend(self.with.iter().map(|set| set.part()));
        parts
    }

    pub(crate) fn start(&self, name: &ClusterName, dir: &Path, bins: &Bins) -> Result<ApiRunning> {
        let options = ControlPlaneOptions {
            audit: self.audit,
            apiserver_args: self.apiserver_args.clone(),
            controller_manager_args: self.controller_manager_args.clone(),
            ..ControlPlaneOptions::new(name.as_str())
        };
        let files = self.crd_files(bins)?;
        let control_plane = ControlPlane::start(options, bins, dir, |_, client| {
            crds::install(client, &files)?;
            crds::serve_tls_route(client, &self.tls_route_versions)
        })?;
        Ok(ApiRunning(control_plane))
    }

    fn crd_files(&self, bins: &Bins) -> Result<Vec<PathBuf>> {
        let mut files = crds::own()?;
        for set in &self.with {
            files.extend(set.files(bins)?);
        }
        Ok(files)
    }
}
