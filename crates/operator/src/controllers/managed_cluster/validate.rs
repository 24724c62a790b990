//! Spec and facts to what may be built, or the reason why not.

use kubebyon_api::{
    ManagedCluster,
    managed_cluster::{BackingStoreType, NodeMode},
    names,
    types::KubernetesVersion,
};

use kubebyon_render::values::split_image;

use super::{
    error::Error,
    observe::{Observed, Workload},
};
use crate::config::Options;

/// What every reconcile needs of the options, parsed once.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Kubernetes versions with their patches; never empty.
    versions: Vec<KubernetesVersion>,
    highest: KubernetesVersion,
    allowed_images: Vec<String>,
    default_image: String,
}

impl Offer {
    /// Reads the host admin's options.
    pub fn new(options: &Options) -> Result<Self, String> {
        let parse = |text: &String| match text.parse::<KubernetesVersion>() {
            Ok(version) if version.patch().is_some() => Ok(version),
            Ok(_) => Err(format!(
                "--kubernetes-versions: {text} needs a patch, such as {text}.0"
            )),
            Err(error) => Err(format!("--kubernetes-versions: {text}: {error}")),
        };
        let versions = options
            .kubernetes_versions
            .iter()
            .map(parse)
            .collect::<Result<Vec<_>, _>>()?;
        let highest = versions
            .iter()
            .copied()
            .max_by_key(|version| (version.minor(), version.patch()))
            .ok_or("--kubernetes-versions: name at least one version")?;
        Ok(Self {
            versions,
            highest,
            allowed_images: options.allowed_images.clone(),
            default_image: options.default_image.clone(),
        })
    }

    /// The version that a tenant is to run: what runs, as long as that is what the spec
    /// asks for, so that a new offer alone moves nobody.
    fn resolve(
        &self,
        wanted: Option<KubernetesVersion>,
        running: Option<KubernetesVersion>,
    ) -> Result<KubernetesVersion, Error> {
        let wanted = match (wanted, running) {
            (None, Some(running)) => return Ok(running),
            (None, None) => return Ok(self.highest),
            (Some(wanted), Some(running)) if wanted.is_met_by(running) => return Ok(running),
            (Some(wanted), Some(running)) => {
                running.step_to(wanted)?;
                wanted
            }
            (Some(wanted), None) => wanted,
        };
        if wanted.patch().is_some() {
            return Ok(wanted);
        }
        let newest = self
            .versions
            .iter()
            .copied()
            .filter(|offered| offered.minor() == wanted.minor())
            .max_by_key(|offered| offered.patch());
        newest.ok_or_else(|| Error::VersionNotSupported {
            wanted: wanted.to_string(),
            offered: self
                .versions
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// Whether the control plane's image is one that the host admin allows.
    fn check_image(&self, cluster: &ManagedCluster) -> Result<(), Error> {
        let image = &cluster.spec.control_plane.image;
        if image.registry.is_none() && image.repository.is_none() {
            return Ok(());
        }
        let (default_registry, default_repository) = split_image(&self.default_image);
        let registry = image
            .registry
            .as_deref()
            .or(default_registry)
            .unwrap_or("docker.io");
        let full = format!(
            "{registry}/{}",
            image.repository.as_deref().unwrap_or(default_repository)
        );
        if self
            .allowed_images
            .iter()
            .any(|prefix| full.starts_with(prefix.as_str()))
        {
            Ok(())
        } else {
            Err(Error::ImageNotAllowed {
                image: full,
                allowed: self.allowed_images.join(", "),
            })
        }
    }
}

/// A cluster that may be built.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validated {
    /// The Kubernetes version to run, with its patch.
    pub version: KubernetesVersion,
}

/// Checks what the schema cannot: what crosses objects, needs the options, or slipped
/// past an older schema.
pub fn validate(
    offer: &Offer,
    cluster: &ManagedCluster,
    observed: &Observed,
) -> Result<Validated, Error> {
    let length = observed.release.len() + observed.host_namespace.len();
    if length > names::MAX_RELEASE_AND_NAMESPACE {
        return Err(Error::NameTooLong {
            namespace: observed.host_namespace.clone(),
            length,
            limit: names::MAX_RELEASE_AND_NAMESPACE,
        });
    }
    let wanted = cluster.kubernetes_version()?;
    let version = offer.resolve(wanted, running(cluster, observed)?)?;
    let spec = &cluster.spec;
    if spec.nodes.mode == NodeMode::Private
        && spec
            .nodes
            .private
            .as_ref()
            .is_none_or(|private| private.platform_secret_ref.is_none())
    {
        return Err(Error::LicenseMissing {
            feature: "nodes.mode Private",
        });
    }
    if spec.control_plane.backing_store.type_ == BackingStoreType::EmbeddedDatabase
        && spec.control_plane.replicas > 1
    {
        return Err(Error::InvalidField {
            field: "spec.controlPlane.replicas",
            message: "more than one replica needs a backingStore other than EmbeddedDatabase",
        });
    }
    offer.check_image(cluster)?;
    Ok(Validated { version })
}

/// What the tenant runs: as recorded, or, should the record be lost, as its pods say.
fn running(
    cluster: &ManagedCluster,
    observed: &Observed,
) -> Result<Option<KubernetesVersion>, Error> {
    let recorded = cluster.running_version()?;
    Ok(recorded.or_else(|| image_version(observed.workload.as_ref()?)))
}

fn image_version(workload: &Workload) -> Option<KubernetesVersion> {
    let template = match workload {
        Workload::StatefulSet(set) => &set.spec.as_ref()?.template,
        Workload::Deployment(deployment) => &deployment.spec.as_ref()?.template,
    };
    let images = template
        .spec
        .as_ref()?
        .init_containers
        .iter()
        .flatten()
        .filter_map(|container| container.image.as_deref());
    images
        .filter_map(|image| image.rsplit_once(":v"))
        .filter(|(name, _)| name.ends_with("/kubernetes"))
        .find_map(|(_, tag)| tag.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        let versions = ["1.35.0", "1.35.6", "1.36.3"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        Offer {
            versions,
            highest: "1.36.3".parse().unwrap(),
            allowed_images: vec!["ghcr.io/loft-sh/".to_owned()],
            default_image: "ghcr.io/loft-sh/vcluster-oss".to_owned(),
        }
    }

    fn resolve(wanted: Option<&str>, running: Option<&str>) -> Result<String, Error> {
        let parse = |text: &str| text.parse().unwrap();
        offer()
            .resolve(wanted.map(parse), running.map(parse))
            .map(|version| version.to_string())
    }

    #[test]
    fn a_minor_resolves_to_its_newest_patch_once() {
        assert_eq!(resolve(Some("1.35"), None).unwrap(), "1.35.6");
        assert_eq!(resolve(Some("1.35"), Some("1.35.0")).unwrap(), "1.35.0");
    }

    #[test]
    fn without_a_version_the_newest_is_taken_and_kept() {
        assert_eq!(resolve(None, None).unwrap(), "1.36.3");
        assert_eq!(resolve(None, Some("1.34.9")).unwrap(), "1.34.9");
    }

    #[test]
    fn steps_go_one_minor_up() {
        assert_eq!(resolve(Some("1.36"), Some("1.35.6")).unwrap(), "1.36.3");
        assert!(matches!(
            resolve(Some("1.36"), Some("1.34.0")),
            Err(Error::VersionStep(_))
        ));
        assert!(matches!(
            resolve(Some("1.35"), Some("1.36.3")),
            Err(Error::VersionStep(_))
        ));
    }

    #[test]
    fn what_is_not_on_offer_is_named_with_what_is() {
        let error = resolve(Some("1.40"), None).unwrap_err();
        assert!(
            error.to_string().contains("1.35.0, 1.35.6, 1.36.3"),
            "{error}"
        );
    }

    #[test]
    fn images_need_an_allowed_repository() {
        let mut cluster = ManagedCluster::default();
        assert!(offer().check_image(&cluster).is_ok());
        cluster.spec.control_plane.image.repository = Some("loft-sh/vcluster-pro".to_owned());
        assert!(offer().check_image(&cluster).is_ok());
        cluster.spec.control_plane.image.registry = Some("evil.example".to_owned());
        assert!(matches!(
            offer().check_image(&cluster),
            Err(Error::ImageNotAllowed { .. })
        ));
    }
}
