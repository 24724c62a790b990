//! A chart repository inside the cluster: vCluster's chart over HTTPS, signed by an authority that nobody knows.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kubebyon_helm::Sha256Digest;
use kubebyon_testbed::{
    Error, NodeCluster, Result, addons::vcluster_chart, kubectl::Kubectl, pki::Authority,
    process::output,
};
use serde_json::{Value, json};

use super::rolled_out;

/// Where the repository is, for pods.
pub const URL: &str = "https://charts.kubebyon-demo.svc";
/// The version of the chart in it.
pub const CHART_VERSION: &str = kubebyon_testbed::addons::VCLUSTER_VERSION;
/// Name of the Secret with the repository's authority, in the namespaces of ManagedClusters.
pub const AUTHORITY_SECRET: &str = "charts-ca";

const NAMESPACE: &str = "kubebyon-demo";
const OBJECTS: &str = include_str!("../../demo/charts.yaml");

/// What the repository serves, and what a client has to know of it.
#[derive(Debug)]
pub struct Repository {
    folder: PathBuf,
    /// Digest of the chart's archive, as `spec.chart.digest` takes it.
    pub digest: String,
}

impl Repository {
    /// Makes the index, the authority and the certificate, or finds those that this cluster has.
    ///
    /// # Errors
    /// When helm cannot index the chart, or a file not be written.
    pub fn prepare(cluster: &NodeCluster) -> Result<Self> {
        let folder = cluster.dir().join("charts");
        let archive = vcluster_chart(cluster.bins())?;
        let served = folder.join("served").join(file_name(&archive));
        let content = fs::read(&archive).map_err(Error::file("read", &archive))?;
        let digest = Sha256Digest::of(&content).to_string();
        if !folder.join("ca.crt").exists() {
            let dir = folder.join("served");
            fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
            fs::write(&served, content).map_err(Error::file("write", &served))?;
            let mut helm = Command::new(cluster.helm());
            helm.args(["repo", "index", "--url", URL]).arg(&dir);
            output("index the chart repository", &mut helm)?;
            let authority = Authority::create(&folder, "ca")?;
            let host = URL.trim_start_matches("https://").to_owned();
            authority.server("server", &[host], &[])?;
        }
        Ok(Self { folder, digest })
    }

    /// Starts the repository, and returns when it serves.
    ///
    /// # Errors
    /// What the api-server refuses, or that it does not become ready.
    pub fn serve(&self, kubectl: &Kubectl) -> Result<()> {
        kubectl.apply("deploy the chart repository", OBJECTS)?;
        let served = self.folder.join("served");
        let mut files = serde_json::Map::new();
        for entry in fs::read_dir(&served).map_err(Error::file("read", &served))? {
            let path = entry.map_err(Error::file("read", &served))?.path();
            let content = fs::read(&path).map_err(Error::file("read", &path))?;
            files.insert(file_name(&path), STANDARD.encode(content).into());
        }
        let files = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "charts", "namespace": NAMESPACE},
            "binaryData": files,
        });
        let tls = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "charts-tls", "namespace": NAMESPACE},
            "stringData": {"tls.crt": self.text("server.crt")?, "tls.key": self.text("server.key")?},
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [files, tls]});
        kubectl.apply("fill the chart repository", &list.to_string())?;
        rolled_out(kubectl, "--namespace=kubebyon-demo", "deployment/charts")
    }

    /// The Secret that `spec.chart.caSecretRef` names.
    ///
    /// # Errors
    /// When the authority's file cannot be read.
    pub fn authority(&self, namespace: &str) -> Result<Value> {
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": AUTHORITY_SECRET, "namespace": namespace},
            "stringData": {"ca.crt": self.text("ca.crt")?},
        }))
    }

    fn text(&self, file: &str) -> Result<String> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).map_err(Error::file("read", path))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
