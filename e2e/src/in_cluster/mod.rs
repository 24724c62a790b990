//! The product inside a cluster with nodes: its image, a chart repository, the operator as `config/` deploys it.

pub mod charts;
mod images;
pub mod installation;
pub mod tenant;

use std::path::PathBuf;

use kubebyon_testbed::{
    NodeCluster, Result,
    dirs::{cache, repository},
    images::build,
    kubectl::Kubectl,
};

/// How long a Deployment of the product may take to be available, in seconds.
const AVAILABLE_LIMIT: u32 = 120;
const OPERATOR: &str = "deployment/kubebyon-operator";
const OPERATOR_NAMESPACE: &str = "--namespace=kubebyon-system";

/// The programs that go into the cluster.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The operator.
    pub operator: PathBuf,
    /// The chart repository.
    pub chart_repository: PathBuf,
}

/// Assembles the images, and gives them to the nodes.
///
/// # Errors
/// When a program is missing, or a node refuses an image. Returns what names the operator's image and its content.
pub fn load_images(cluster: &NodeCluster, programs: &Programs) -> Result<String> {
    let folder = cache()?.join("images");
    let operator = build(
        &images::operator(&programs.operator, &cluster.helm())?,
        &folder,
    )?;
    let charts = build(
        &images::chart_repository(&programs.chart_repository)?,
        &folder,
    )?;
    cluster.load_image(&operator)?;
    cluster.load_image(&charts)?;
    let content = operator.file_stem().unwrap_or_default().to_string_lossy();
    Ok(content.into_owned())
}

/// Installs the operator, or brings it up to date, and returns when it is available.
///
/// # Errors
/// What the api-server refuses, or that the operator does not become ready.
pub fn install_operator(kubectl: &Kubectl, content: &str) -> Result<()> {
    let overlay = repository().join("e2e/demo/operator").display().to_string();
    let objects = kubectl.run("read e2e/demo/operator", &["kustomize", &overlay])?;
    kubectl.apply("deploy the operator", &objects.replace("@IMAGE@", content))?;
    rolled_out(kubectl, OPERATOR_NAMESPACE, OPERATOR)
}

fn rolled_out(kubectl: &Kubectl, namespace: &str, deployment: &str) -> Result<()> {
    let limit = format!("--timeout={AVAILABLE_LIMIT}s");
    kubectl.run(
        &format!("wait for {deployment}"),
        &[namespace, "rollout", "status", deployment, &limit],
    )?;
    Ok(())
}
