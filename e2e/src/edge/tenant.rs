//! A ManagedCluster with a public name, and its API as those with a kubeconfig reach it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kubebyon_testbed::{Error, NodeCluster, Result, kubectl::Kubectl};
use serde_json::Value;

use super::{calls::Calls, object::Object, outside::Outside};
use crate::in_cluster::tenant;

/// A tenant cluster.
#[derive(Clone)]
pub struct Tenant {
    /// The ManagedCluster.
    pub object: Object,
    cluster: Arc<NodeCluster>,
    kubectl: Kubectl,
    outside: Outside,
}

/// A kubeconfig as it was published at one moment.
#[derive(Debug, Clone)]
pub struct Published {
    /// The file.
    pub path: PathBuf,
    /// The file of the tenant's authority.
    pub authority: PathBuf,
    /// Where it says that the API is.
    pub server: String,
}

impl Tenant {
    /// The tenant of this name, which may not be there yet.
    pub fn new(cluster: &Arc<NodeCluster>, kubectl: &Kubectl, namespace: &str, name: &str) -> Self {
        Self {
            object: Object::cluster(kubectl, namespace, name),
            cluster: cluster.clone(),
            kubectl: kubectl.clone(),
            outside: Outside::of(cluster),
        }
    }

    /// The kubeconfig that is published now, in a file that stays as it is.
    ///
    /// # Errors
    /// When there is none, or it is not one.
    pub fn published(&self, as_file: &str) -> Result<Published> {
        let path = self.fetch(as_file)?;
        let text = tenant::kubectl(&self.cluster, &path).run(
            "read the kubeconfig",
            &["config", "view", "--raw", "--minify", "--output=json"],
        )?;
        let view: Value = serde_json::from_str(&text).unwrap_or_default();
        let entry = &view["clusters"][0]["cluster"];
        let authority = entry["certificate-authority-data"].as_str();
        let authority = STANDARD.decode(authority.unwrap_or_default());
        let file = path.with_extension("crt");
        std::fs::write(&file, authority.unwrap_or_default())
            .map_err(Error::file("write", &file))?;
        Ok(Published {
            path,
            authority: file,
            server: entry["server"].as_str().unwrap_or_default().to_owned(),
        })
    }

    fn fetch(&self, as_file: &str) -> Result<PathBuf> {
        let path = self.outside.file(as_file).with_extension("kubeconfig");
        let (namespace, name) = (&self.object.namespace, &self.object.name);
        tenant::write_kubeconfig(&self.kubectl, namespace, name, &path)?;
        Ok(path)
    }

    /// `kubectl get ns`, each `period` and at least `least` times, with a kubeconfig that is read anew for each call.
    pub fn calls_with_the_newest(&self, period: Duration, least: usize) -> Calls {
        let tenant = self.clone();
        let what = format!("kubectl at {}, newest kubeconfig", self.object.name);
        let file = format!("{}-newest", self.object.name);
        Calls::begin(&what, period, least, move || {
            let newest = tenant.fetch(&file).map_err(|error| error.to_string())?;
            namespaces(&tenant.outside, &newest)
        })
    }

    /// `kubectl get ns`, each `period` and at least `least` times, with a kubeconfig of before.
    pub fn calls_with(&self, kept: &Published, period: Duration, least: usize) -> Calls {
        let (outside, path) = (self.outside.clone(), kept.path.clone());
        let what = format!("kubectl at {}, kubeconfig of before", self.object.name);
        Calls::begin(&what, period, least, move || namespaces(&outside, &path))
    }
}

fn namespaces(outside: &Outside, kubeconfig: &Path) -> std::result::Result<(), String> {
    let found = outside.kubectl(kubeconfig, &["get", "ns", "--output=name"])?;
    if found.contains("namespace/kube-system") {
        Ok(())
    } else {
        Err(format!("no kube-system: {found}"))
    }
}
