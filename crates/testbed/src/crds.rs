//! The CRDs that a cluster starts with.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    dirs,
    error::{Error, Result},
    https::Client,
    parts::{Bins, Part},
    process::wait_until,
};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const POLICY_BINDINGS: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
const TLS_ROUTE: &str = "tlsroutes.gateway.networking.k8s.io";
const ESTABLISHED_LIMIT: Duration = Duration::from_secs(30);

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
    if dir.is_dir() {
        manifests(&dir)
    } else {
        Ok(Vec::new())
    }
}

/// Installs CRDs, with the policies that come in their files, and waits until the api-server serves them.
pub(crate) fn install(client: &Client, files: &[PathBuf]) -> Result<()> {
    for file in files {
        let text = fs::read_to_string(file).map_err(Error::file("read", file))?;
        for document in text
            .split("\n---")
            .filter(|document| kind(document).is_some())
        {
            let path = match kind(document) {
                Some("ValidatingAdmissionPolicy") => POLICIES,
                Some("ValidatingAdmissionPolicyBinding") => POLICY_BINDINGS,
                _ => CRDS,
            };
            client.request("POST", path, document.trim_start_matches("---"))?;
        }
    }
    wait_until(
        "all CRDs becoming Established",
        ESTABLISHED_LIMIT,
        &mut [],
        || {
            let crds = json(&client.request("GET", CRDS, "")?)?;
            Ok(crds["items"]
                .as_array()
                .is_some_and(|items| items.iter().all(is_established)))
        },
    )
}

/// Serves only the versions of TLSRoute that are in `versions`, as clusters with an older Gateway API do.
pub(crate) fn serve_tls_route(client: &Client, versions: &[String]) -> Result<()> {
    if versions.is_empty() {
        return Ok(());
    }
    let path = format!("{CRDS}/{TLS_ROUTE}");
    let mut crd = json(&client.request("GET", &path, "")?)?;
    let mut served = 0;
    for version in crd["spec"]["versions"].as_array_mut().into_iter().flatten() {
        let wanted = version["name"]
            .as_str()
            .is_some_and(|name| versions.iter().any(|wanted| wanted == name));
        version["served"] = Value::Bool(wanted);
        served += usize::from(wanted);
    }
    if served != versions.len() {
        return Err(Error::NoSuchVersion {
            crd: TLS_ROUTE,
            versions: versions.join(", "),
        });
    }
    client.request("PUT", &path, &crd.to_string()).map(drop)
}

fn is_established(crd: &Value) -> bool {
    crd["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|source| Error::BadRecord {
        path: PathBuf::from(CRDS),
        source,
    })
}

/// The kind of one YAML document; none of an empty one.
fn kind(document: &str) -> Option<&str> {
    document
        .lines()
        .find_map(|line| line.strip_prefix("kind:"))
        .map(str::trim)
}

/// The YAML files of a folder, by name.
fn manifests(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()
        })
        .map_err(Error::file("read", dir))?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "yaml")
            && file
                .file_name()
                .is_none_or(|name| name != "kustomization.yaml")
    });
    files.sort();
    Ok(files)
}
