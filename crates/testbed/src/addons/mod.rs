//! What a cluster with nodes can have beside its own needs, by name.

mod charts;

use std::{path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

pub use charts::{VCLUSTER_VERSION, vcluster_chart};

use crate::{
    crds::CrdSet,
    error::{Error, Result},
    images::ImageSet,
    kubectl::Kubectl,
    parts::{Bins, Part},
};

const ENVOY_GATEWAY: &str = include_str!("../../../../e2e/manifests/envoy-gateway.yaml");
const CERT_MANAGER: &str = include_str!("../../../../e2e/manifests/cert-manager.yaml");
/// How long an addon may take to become available, in seconds.
const AVAILABLE_LIMIT: u32 = 180;

/// One addon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Addon {
    /// Gateway API's CRDs, experimental channel.
    GatewayApi,
    /// Envoy Gateway with the classes `eg`, `edge`, `workload` and `merged`, and the CRDs of Gateway API.
    EnvoyGateway,
    /// cert-manager with the ClusterIssuers `selfsigned` and `ca`.
    CertManager,
    /// The images that vCluster tenants run, and the packaged chart in the cache.
    Vcluster,
}

impl Addon {
    const KNOWN: &str = "gateway-api, envoy-gateway, cert-manager, vcluster";

    /// The parts that it needs.
    pub fn parts(self) -> Vec<Part> {
        let mut parts = match self {
            Self::GatewayApi => vec![Part::GatewayApiCrds],
            Self::EnvoyGateway => vec![Part::GatewayApiCrds, Part::EnvoyGatewayChart, Part::Helm],
            Self::CertManager => vec![Part::CertManagerCrds],
            Self::Vcluster => vec![Part::VclusterChart, Part::Helm],
        };
        parts.extend(self.images().iter().flat_map(|set| set.parts()));
        parts
    }

    /// The images that it needs on the nodes.
    pub fn images(self) -> Option<ImageSet> {
        match self {
            Self::GatewayApi => None,
            Self::EnvoyGateway => Some(ImageSet::EnvoyGateway),
            Self::CertManager => Some(ImageSet::CertManager),
            Self::Vcluster => Some(ImageSet::Vcluster),
        }
    }

    /// Installs it and waits until it is available.
    fn install(self, bins: &Bins, kubectl: &Kubectl, kubeconfig: &Path) -> Result<()> {
        let install_crds = |set: CrdSet| -> Result<()> {
            kubectl.apply_files("install CRDs", &set.files(bins)?)?;
            let all = &["customresourcedefinitions", "--all"];
            kubectl.wait(
                "wait for CRDs",
                "condition=Established",
                all,
                AVAILABLE_LIMIT,
            )
        };
        match self {
            Self::GatewayApi => install_crds(CrdSet::GatewayApiExperimental),
            Self::EnvoyGateway => {
                install_crds(CrdSet::GatewayApiExperimental)?;
                charts::install_envoy_gateway(bins, kubectl, kubeconfig)?;
                available(kubectl, "envoy-gateway-system", "envoy-gateway")?;
                kubectl.apply("make the classes of gateways", ENVOY_GATEWAY)?;
                kubectl.wait(
                    "wait for the classes of gateways",
                    "condition=Accepted",
                    &["gatewayclass", "--all"],
                    AVAILABLE_LIMIT,
                )
            }
            Self::CertManager => {
                install_crds(CrdSet::CertManager)?;
                kubectl.apply("start cert-manager", CERT_MANAGER)?;
                available(kubectl, "cert-manager", "cert-manager")?;
                kubectl.wait(
                    "wait for the issuers",
                    "condition=Ready",
                    &["clusterissuer", "--all"],
                    AVAILABLE_LIMIT,
                )
            }
            Self::Vcluster => vcluster_chart(bins).map(drop),
        }
    }
}

/// Installs addons, beside each other, for each mostly waits.
pub(crate) fn install(
    addons: &[Addon],
    bins: &Bins,
    kubectl: &Kubectl,
    kubeconfig: &Path,
) -> Result<()> {
    std::thread::scope(|scope| {
        let running: Vec<_> = addons
            .iter()
            .map(|addon| scope.spawn(|| addon.install(bins, kubectl, kubeconfig)))
            .collect();
        running.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

/// Each addon once, and none that another one brings along.
pub(crate) fn distinct(addons: &[Addon]) -> Vec<Addon> {
    let mut addons = addons.to_vec();
    addons.sort_unstable();
    addons.dedup();
    if addons.contains(&Addon::EnvoyGateway) {
        addons.retain(|addon| *addon != Addon::GatewayApi);
    }
    addons
}

fn available(kubectl: &Kubectl, namespace: &str, deployment: &str) -> Result<()> {
    let (namespace, deployment) = (
        format!("--namespace={namespace}"),
        format!("deployment/{deployment}"),
    );
    let what = format!("wait for {deployment}");
    kubectl.wait(
        &what,
        "condition=Available",
        &[&namespace, &deployment],
        AVAILABLE_LIMIT,
    )
}

impl FromStr for Addon {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "gateway-api" => Ok(Self::GatewayApi),
            "envoy-gateway" => Ok(Self::EnvoyGateway),
            "cert-manager" => Ok(Self::CertManager),
            "vcluster" => Ok(Self::Vcluster),
            _ => Err(Error::UnknownExtra {
                word: word.to_owned(),
                profile: "node",
                known: Self::KNOWN,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_addon_that_another_brings_along_is_not_installed_twice() {
        let asked = [Addon::EnvoyGateway, Addon::GatewayApi, Addon::EnvoyGateway];
        assert_eq!(distinct(&asked), [Addon::EnvoyGateway]);
        assert_eq!(distinct(&[Addon::GatewayApi]), [Addon::GatewayApi]);
    }

    #[test]
    fn every_known_addon_is_found_by_its_name_and_others_are_refused() {
        for word in Addon::KNOWN.split(", ") {
            assert!(word.parse::<Addon>().is_ok(), "{word}");
        }
        let message = "nonsense".parse::<Addon>().unwrap_err().to_string();
        assert!(
            message.contains("nonsense") && message.contains("envoy-gateway"),
            "{message}"
        );
    }
}
