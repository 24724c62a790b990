//! Volumes: a directory on this machine for each claim of the class `local`, the same on all nodes.

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
};

use kubebyon_k8s::{
    k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    kube::{
        Api, Client, ResourceExt,
        api::{DeleteParams, Patch, PatchParams, PostParams},
    },
};
use serde_json::json;

use crate::{
    error::{Error, Result},
    node::VOLUMES,
};

const CLASS: &str = "local";
const PROVISIONER: &str = "testbed.kubebyon.app/local";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

pub(super) struct Provisioner {
    client: Client,
    dir: PathBuf,
}

/// What a claim needs now.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// A volume of its own.
    Volume,
    /// A larger volume than this one, which it has.
    Growth(String),
}

impl Provisioner {
    pub(super) fn new(client: Client, dir: PathBuf) -> Self {
        Self { client, dir }
    }

    pub(super) async fn reconcile(
        &self,
        claims: &[Arc<PersistentVolumeClaim>],
        volumes: &[Arc<PersistentVolume>],
    ) -> Result<()> {
        for claim in claims {
            match need(claim) {
                Need::Nothing => {}
                Need::Volume => self.provision(claim).await?,
                Need::Growth(volume) => self.grow(claim, &volume).await?,
            }
        }
        for volume in volumes.iter().filter(|volume| is_released(volume)) {
            self.remove(&volume.name_any()).await?;
        }
        Ok(())
    }

    async fn provision(&self, claim: &PersistentVolumeClaim) -> Result<()> {
        let uid = claim.uid().unwrap_or_default();
        let name = format!("pvc-{uid}");
        let dir = self.dir.join(&name);
        fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
        // Pods of any user write into it, as into a disk that the kubelet has handed over.
        fs::set_permissions(&dir, Permissions::from_mode(0o777))
            .map_err(Error::file("change", &dir))?;
        let spec = claim.spec.as_ref();
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
            "spec": {
                "storageClassName": CLASS,
                "capacity": {"storage": requested(claim)},
                "accessModes": spec.and_then(|spec| spec.access_modes.clone()),
                "volumeMode": "Filesystem",
                "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": claim.namespace(),
                    "name": claim.name_any(),
                    "uid": uid,
                },
                "hostPath": {"path": format!("{VOLUMES}/{name}"), "type": "Directory"},
            },
        });
        let volume: PersistentVolume =
            serde_json::from_value(manifest).map_err(|error| Error::Agent {
                reason: format!("{name}: {error}"),
            })?;
        let api = Api::<PersistentVolume>::all(self.client.clone());
        match api.create(&PostParams::default(), &volume).await {
            Ok(_) => Ok(()),
            Err(error) if super::is_conflict(&error) => Ok(()),
            Err(error) => Err(failed("make the volume", &name, &error)),
        }
    }

    async fn grow(&self, claim: &PersistentVolumeClaim, volume: &str) -> Result<()> {
        let size = requested(claim);
        let params = PatchParams::default();
        let patch = Patch::Merge(json!({"spec": {"capacity": {"storage": size}}}));
        let volumes = Api::<PersistentVolume>::all(self.client.clone());
        volumes
            .patch(volume, &params, &patch)
            .await
            .map_err(|error| failed("grow the volume", volume, &error))?;
        let claims = Api::<PersistentVolumeClaim>::namespaced(
            self.client.clone(),
            &claim.namespace().unwrap_or_default(),
        );
        let patch = Patch::Merge(json!({"status": {"capacity": {"storage": size}}}));
        match claims
            .patch_status(&claim.name_any(), &params, &patch)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if super::is_gone(&error) => Ok(()),
            Err(error) => Err(failed("grow the claim", &claim.name_any(), &error)),
        }
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let dir = self.dir.join(name);
        match fs::remove_dir_all(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Error::File {
                    action: "remove",
                    path: dir,
                    source,
                });
            }
        }
        let api = Api::<PersistentVolume>::all(self.client.clone());
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if super::is_gone(&error) => Ok(()),
            Err(error) => Err(failed("remove the volume", name, &error)),
        }
    }
}

fn failed(what: &str, name: &str, error: &kubebyon_k8s::kube::Error) -> Error {
    Error::Agent {
        reason: format!("cannot {what} {name}: {error}"),
    }
}

fn need(claim: &PersistentVolumeClaim) -> Need {
    let Some(spec) = &claim.spec else {
        return Need::Nothing;
    };
    if spec.storage_class_name.as_deref() != Some(CLASS)
        || claim.metadata.deletion_timestamp.is_some()
    {
        return Need::Nothing;
    }
    match &spec.volume_name {
        None => Need::Volume,
        Some(volume) => {
            let capacity = claim
                .status
                .as_ref()
                .and_then(|status| status.capacity.as_ref()?.get("storage"));
            match capacity {
                // The api-server lets a request only grow, so another one is a larger one.
                Some(capacity) if capacity.0 != requested(claim) => Need::Growth(volume.clone()),
                _ => Need::Nothing,
            }
        }
    }
}

fn requested(claim: &PersistentVolumeClaim) -> String {
    let requests = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    requests
        .and_then(|requests| requests.get("storage"))
        .map(|size| size.0.clone())
        .unwrap_or_default()
}

/// Whether a volume of ours has lost its claim for good.
fn is_released(volume: &PersistentVolume) -> bool {
    let ours = volume
        .annotations()
        .get(PROVISIONED_BY)
        .is_some_and(|by| by == PROVISIONER);
    let deleted = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
        == Some("Delete");
    let released = volume
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some("Released");
    ours && deleted && released
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(value: serde_json::Value) -> PersistentVolumeClaim {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_claim_gets_a_volume_once_and_grows_when_it_asks_for_more() {
        let spec = |class: &str, volume: Option<&str>| {
            json!({
                "storageClassName": class,
                "volumeName": volume,
                "resources": {"requests": {"storage": "2Gi"}},
            })
        };
        assert_eq!(
            need(&claim(json!({"spec": spec("local", None)}))),
            Need::Volume
        );
        assert_eq!(
            need(&claim(json!({"spec": spec("other", None)}))),
            Need::Nothing
        );
        let bound = |size: &str| {
            claim(
                json!({"spec": spec("local", Some("pvc-1")), "status": {"capacity": {"storage": size}}}),
            )
        };
        assert_eq!(need(&bound("2Gi")), Need::Nothing);
        assert_eq!(need(&bound("1Gi")), Need::Growth("pvc-1".to_owned()));
    }

    #[test]
    fn only_our_released_volumes_are_removed() {
        let volume = |by: &str, policy: &str, phase: &str| -> PersistentVolume {
            serde_json::from_value(json!({
                "metadata": {"annotations": {PROVISIONED_BY: by}},
                "spec": {"persistentVolumeReclaimPolicy": policy},
                "status": {"phase": phase},
            }))
            .unwrap()
        };
        assert!(is_released(&volume(PROVISIONER, "Delete", "Released")));
        assert!(!is_released(&volume(PROVISIONER, "Delete", "Bound")));
        assert!(!is_released(&volume(PROVISIONER, "Retain", "Released")));
        assert!(!is_released(&volume("somebody", "Delete", "Released")));
    }
}
