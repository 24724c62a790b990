//! The CRDs that a cluster starts with.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    dirs,
    error::{Error, Result},
    parts::{Bins, Part},
    process::output,
};

const ESTABLISHED_LIMIT: &str = "--timeout=30s";

/// CRDs of other projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrdSet {
    /// Gateway API's standard channel.
    GatewayApi,
    /// Gateway API's experimental channel, with the old versions of TLSRoute.
    GatewayApiExperimental,
    /// cert-manager's.
    CertManager,
}

impl CrdSet {
    /// The part that they are in.
    pub const fn part(self) -> Part {
        match self {
            Self::GatewayApi | Self::GatewayApiExperimental => Part::GatewayApiCrds,
            Self::CertManager => Part::CertManagerCrds,
        }
    }

    /// The files, in an order in which they can be installed.
    pub fn files(self, bins: &Bins) -> Result<Vec<PathBuf>> {
        let part = bins.path(self.part());
        match self {
            Self::GatewayApi => manifests(&part.join("standard")),
            Self::GatewayApiExperimental => manifests(&part.join("experimental")),
            Self::CertManager => manifests(&part),
        }
    }
}

impl FromStr for CrdSet {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "gateway-api" => Ok(Self::GatewayApi),
            "gateway-api-experimental" => Ok(Self::GatewayApiExperimental),
            "cert-manager" => Ok(Self::CertManager),
            _ => Err(Error::UnknownExtra {
                word: word.to_owned(),
                profile: "api",
                known: "gateway-api, gateway-api-experimental, cert-manager",
            }),
        }
    }
}

/// The project's own CRDs; none in a clone where they are not generated yet.
pub(crate) fn own() -> Result<Vec<PathBuf>> {
    let dir = dirs::repository().join("crds");
    if dir.is_dir() { manifests(&dir) } else { Ok(Vec::new()) }
}

/// Installs CRDs and waits until the api-server serves them.
pub(crate) fn install(kubectl: &Path, kubeconfig: &Path, files: &[PathBuf]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    // Created, not applied: the larger ones do not fit into the annotation that apply keeps.
    let mut create = kubectl_command(kubectl, kubeconfig);
    create.args(["create", "--validate=false"]);
    create.args(files.iter().flat_map(|file| [Path::new("--filename"), file]));
    output("installing CRDs", &mut create)?;
    let mut wait = kubectl_command(kubectl, kubeconfig);
    wait.args(["wait", "--for=condition=Established", ESTABLISHED_LIMIT, "customresourcedefinitions", "--all"]);
    output("waiting for CRDs to be Established", &mut wait).map(drop)
}

/// Stops serving the versions of TLSRoute that are not in `versions`, as clusters with an older Gateway API do.
pub(crate) fn serve_tls_route(kubectl: &Path, kubeconfig: &Path, versions: &[String]) -> Result<()> {
    const NAME: &str = "tlsroutes.gateway.networking.k8s.io";
    if versions.is_empty() {
        return Ok(());
    }
    let text = output("reading the CRD of TLSRoute", kubectl_command(kubectl, kubeconfig).args(["get", "crd", NAME, "-o", "json"]))?;
    let unexpected = |source| Error::BadRecord { path: PathBuf::from(NAME), source };
    let mut crd: Value = serde_json::from_str(&text).map_err(unexpected)?;
    let mut served = 0;
    if let Some(list) = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in list {
            let wanted = version["name"].as_str().is_some_and(|name| versions.iter().any(|v| v == name));
            version["served"] = Value::Bool(wanted);
            served += usize::from(wanted);
        }
    }
    if served != versions.len() {
        return Err(Error::NoSuchVersion { crd: NAME, versions: versions.join(", ") });
    }
    let mut replace = kubectl_command(kubectl, kubeconfig);
    replace.args(["replace", "--filename", "-"]);
    feed("serving older versions of TLSRoute", &mut replace, &crd.to_string())
}

fn feed(what: &str, command: &mut Command, text: &str) -> Result<()> {
    let failed = |source| Error::Spawn { program: "kubectl".to_owned(), source, hint: format!("it is needed for: {what}") };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // When kubectl ended early its message, read below, says more than the broken pipe.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Command {
        what: what.to_owned(),
        status: output.status.to_string(),
        tail: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn kubectl_command(kubectl: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new(kubectl);
    command.arg("--kubeconfig").arg(kubeconfig).arg("--request-timeout=30s");
    command
}

/// The YAML files of a folder, by name.
fn manifests(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>())
        .map_err(Error::file("read", dir))?;
    files.retain(|file| {
        file.extension().is_some_and(|extension| extension == "yaml")
            && file.file_name().is_none_or(|name| name != "kustomization.yaml")
    });
    files.sort();
    Ok(files)
}
