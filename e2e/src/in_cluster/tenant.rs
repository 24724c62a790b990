//! A ManagedCluster as its author and its tenant see it: through kubectl.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use kubebyon_testbed::{Error, NodeCluster, Result, kubectl::Kubectl, pki::write_private};

/// Writes the published kubeconfig of a ManagedCluster into the cluster's folder, for its owner alone.
///
/// # Errors
/// When there is none yet, or the file cannot be written.
pub fn kubeconfig(
    cluster: &NodeCluster,
    kubectl: &Kubectl,
    namespace: &str,
    name: &str,
) -> Result<PathBuf> {
    let path = cluster.dir().join(format!("{namespace}-{name}.kubeconfig"));
    write_kubeconfig(kubectl, namespace, name, &path)?;
    Ok(path)
}

/// Writes the published kubeconfig of a ManagedCluster into a file, for its owner alone.
///
/// # Errors
/// When there is none yet, or the file cannot be written.
pub fn write_kubeconfig(kubectl: &Kubectl, namespace: &str, name: &str, path: &Path) -> Result<()> {
    let encoded = kubectl.run(
        "read the published kubeconfig",
        &[
            "get",
            "secret",
            &format!("{name}-kubeconfig"),
            &format!("--namespace={namespace}"),
            "--output=jsonpath={.data.kubeconfig}",
        ],
    )?;
    let unexpected = |seen: String| Error::Unexpected {
        what: format!("key kubeconfig of Secret {namespace}/{name}-kubeconfig"),
        seen,
    };
    let text = STANDARD
        .decode(encoded.trim())
        .map_err(|error| unexpected(error.to_string()))?;
    let text = String::from_utf8(text).map_err(|error| unexpected(error.to_string()))?;
    write_private(path, &text)
}

/// kubectl inside a tenant, by a kubeconfig that was written before.
pub fn kubectl(cluster: &NodeCluster, kubeconfig: &Path) -> Kubectl {
    Kubectl::new(cluster.bins(), kubeconfig)
}
