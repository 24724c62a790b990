//! The images that a cluster needs, each assembled from built parts under the name that its users ask for.

use std::{path::Path, process::Command};

use crate::{
    error::Result,
    images::archive::ImageSpec,
    node::containerd::SANDBOX_IMAGE,
    parts::{Bins, KubernetesVersion, Part},
    process::output,
};

/// The image of the cluster DNS.
pub const COREDNS_IMAGE: &str = "docker.io/coredns/coredns:1.14.2";
/// The image of shells and small servers in tests.
pub const BUSYBOX_IMAGE: &str = "docker.io/library/busybox:1.36";
/// The image of Envoy Gateway's controller.
pub const GATEWAY_IMAGE: &str = "docker.io/envoyproxy/gateway:v1.9.1";
/// The image of Envoy Gateway's data plane.
pub const ENVOY_IMAGE: &str = "docker.io/envoyproxy/envoy:v1.40.0";
/// The image of cert-manager's controllers.
pub const CERT_MANAGER_IMAGE: &str = "docker.io/local/cert-manager:1";

const BUSYBOX: &str = "/bin/busybox";
const NOBODY: u32 = 65532;

/// A set of images that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageSet {
    /// What each cluster needs: the pods' sandbox, the cluster DNS, busybox.
    Base,
    /// Envoy Gateway and Envoy.
    EnvoyGateway,
    /// cert-manager.
    CertManager,
    /// What a vCluster tenant runs: its syncer, and Kubernetes in two minors.
    Vcluster,
}

impl ImageSet {
    /// The parts that the set's images are made of.
    pub fn parts(self) -> &'static [Part] {
        match self {
            Self::Base => &[Part::Coredns],
            Self::EnvoyGateway => &[Part::EnvoyGateway, Part::Envoy],
            Self::CertManager => &[Part::CertManager],
            Self::Vcluster => &[
                Part::Vcluster,
                Part::Kine,
                Part::Helm,
                Part::Etcd,
                Part::KubeApiserver,
                Part::KubeControllerManager,
                Part::KubeApiserverPrevious,
                Part::KubeControllerManagerPrevious,
            ],
        }
    }

    /// The set's images.
    ///
    /// # Errors
    /// When a program cannot be inspected; all parts of the set must be there.
    pub fn images(self, bins: &Bins) -> Result<Vec<ImageSpec>> {
        Ok(match self {
            Self::Base => vec![
                ImageSpec::new(SANDBOX_IMAGE, &[BUSYBOX, "sleep", "infinity"])
                    .linked_program(BUSYBOX, Path::new(BUSYBOX))?,
                with_busybox(ImageSpec::new(BUSYBOX_IMAGE, &["/bin/sh"]))?
                    // vCluster's helper for the pods of a tenant's StatefulSets needs sh, and names this one.
                    .also("mirror.gcr.io/library/alpine:3.20"),
                ImageSpec::new(COREDNS_IMAGE, &["/coredns"])
                    // The tag that a tenant of the minor before asks for.
                    .also("docker.io/coredns/coredns:1.14.1")
                    .program("/coredns", &bins.path(Part::Coredns)),
            ],
            Self::EnvoyGateway => vec![
                ImageSpec::new(GATEWAY_IMAGE, &["/usr/local/bin/envoy-gateway"])
                    .program(
                        "/usr/local/bin/envoy-gateway",
                        &bins.path(Part::EnvoyGateway),
                    )
                    .user(NOBODY),
                with_busybox(ImageSpec::new(ENVOY_IMAGE, &["/usr/local/bin/envoy"]))?
                    .linked_program("/usr/local/bin/envoy", &bins.path(Part::Envoy))?
                    .user(NOBODY),
            ],
            Self::CertManager => vec![
                ImageSpec::new(CERT_MANAGER_IMAGE, &["/cert-manager"])
                    .program("/cert-manager", &bins.path(Part::CertManager))
                    .user(NOBODY),
            ],
            Self::Vcluster => {
                let kubernetes =
                    |version: KubernetesVersion, apiserver: Part, controller_manager: Part| {
                        let name = format!("ghcr.io/loft-sh/kubernetes:{}", version.git_version());
                        with_busybox(ImageSpec::new(name, &["/bin/sh"])).map(|image| {
                            image
                                .program("/kubernetes/kube-apiserver", &bins.path(apiserver))
                                .program(
                                    "/kubernetes/kube-controller-manager",
                                    &bins.path(controller_manager),
                                )
                                .program("/kubernetes/kine", &bins.path(Part::Kine))
                                .program("/kubernetes/helm", &bins.path(Part::Helm))
                        })
                    };
                vec![
                    kubernetes(
                        KubernetesVersion::Current,
                        Part::KubeApiserver,
                        Part::KubeControllerManager,
                    )?,
                    kubernetes(
                        KubernetesVersion::Previous,
                        Part::KubeApiserverPrevious,
                        Part::KubeControllerManagerPrevious,
                    )?,
                    with_busybox(ImageSpec::new(
                        "ghcr.io/loft-sh/vcluster-oss:0.36.1",
                        &["/vcluster", "start"],
                    ))?
                    .program("/vcluster", &bins.path(Part::Vcluster)),
                    with_busybox(ImageSpec::new(
                        "registry.k8s.io/etcd:3.6.8-0",
                        &["/usr/local/bin/etcd"],
                    ))?
                    .program("/usr/local/bin/etcd", &bins.path(Part::Etcd)),
                ]
            }
        })
    }
}

/// Adds busybox under the names of all that it can do.
fn with_busybox(image: ImageSpec) -> Result<ImageSpec> {
    let names = output(
        "list what busybox can do",
        Command::new(BUSYBOX).arg("--list"),
    )?;
    let image = image.linked_program(BUSYBOX, Path::new(BUSYBOX))?;
    Ok(names
        .lines()
        .filter(|&name| name != "busybox")
        .fold(image, |image, name| {
            image.link(&format!("/bin/{name}"), BUSYBOX)
        }))
}
