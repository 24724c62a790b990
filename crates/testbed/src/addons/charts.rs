//! Charts out of the parts: vCluster's, packaged for whoever installs tenants, and Envoy Gateway's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    dirs,
    error::{Error, Result},
    images::catalog::GATEWAY_IMAGE,
    kubectl::Kubectl,
    parts::{Bins, Part},
    process::output,
};

/// The version of vCluster: of its chart and of its image.
pub const VCLUSTER_VERSION: &str = "0.36.1";

/// vCluster's chart as an archive in the cache, packaged when it is not there yet.
///
/// # Errors
/// When helm refuses to package it; the parts `vcluster-chart` and `helm` must be there.
pub fn vcluster_chart(bins: &Bins) -> Result<PathBuf> {
    let source = bins.path(Part::VclusterChart);
    let entry = bins
        .dir(Part::VclusterChart)
        .file_name()
        .unwrap_or_default()
        .to_owned();
    let dir = dirs::cache()?.join("charts").join(entry);
    let archive = dir.join(format!("vcluster-{VCLUSTER_VERSION}.tgz"));
    if !archive.exists() {
        fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
        let staging =
            tempfile::tempdir_in(&dir).map_err(Error::file("create a directory in", &dir))?;
        let mut helm = Command::new(bins.path(Part::Helm));
        helm.arg("package").arg(&source).args([
            "--version",
            VCLUSTER_VERSION,
            "--app-version",
            VCLUSTER_VERSION,
        ]);
        output(
            "package vCluster's chart",
            helm.arg("--destination").arg(staging.path()),
        )?;
        let made = staging
            .path()
            .join(format!("vcluster-{VCLUSTER_VERSION}.tgz"));
        fs::rename(&made, &archive).map_err(Error::file("move into place", &archive))?;
    }
    Ok(archive)
}

/// Installs Envoy Gateway's chart; Gateway API's CRDs must be there.
pub(super) fn install_envoy_gateway(
    bins: &Bins,
    kubectl: &Kubectl,
    kubeconfig: &Path,
) -> Result<()> {
    let staging =
        tempfile::tempdir().map_err(Error::file("create a directory in", std::env::temp_dir()))?;
    let chart = staging.path().join("gateway-helm");
    let source = bins.path(Part::EnvoyGatewayChart).join("gateway-helm");
    output(
        "copy Envoy Gateway's chart",
        Command::new("cp")
            .arg("--recursive")
            .args([&source, &chart]),
    )?;
    // What was copied out of a module's folder is read-only, as everything there.
    output(
        "copy Envoy Gateway's chart",
        Command::new("chmod")
            .args(["--recursive", "u+w"])
            .arg(&chart),
    )?;
    let template = chart.join("values.tmpl.yaml");
    let values = fs::read_to_string(&template).map_err(Error::file("read", &template))?;
    let values = values
        .replace("${GatewayImage}", GATEWAY_IMAGE)
        .replace("${GatewayImagePullPolicy}", "IfNotPresent");
    let path = chart.join("values.yaml");
    fs::write(&path, values).map_err(Error::file("write", path))?;
    let crds = chart.join("charts/crds/crds/generated");
    kubectl.apply_files("install Envoy Gateway's CRDs", &[crds])?;
    let mut helm = Command::new(bins.path(Part::Helm));
    helm.arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["upgrade", "--install", "eg"])
        .arg(&chart);
    helm.args([
        "--namespace",
        "envoy-gateway-system",
        "--create-namespace",
        "--skip-crds",
    ]);
    helm.args([
        "--set",
        "crds.enabled=false",
        "--set",
        "deployment.envoyGateway.resources.requests.memory=64Mi",
    ]);
    // Its own homes, so that nothing of the user's helm is read or written.
    for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(home, staging.path().join(home));
    }
    output("install Envoy Gateway's chart", &mut helm).map(drop)
}
