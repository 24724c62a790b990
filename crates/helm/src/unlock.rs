//! Takes away the lock that a dead helm left.

use kubebyon_k8s::{
    k8s_openapi::api::core::v1::Secret,
    kube::{
        Api, Client, Error as KubeError,
        api::{DeleteParams, Patch, PatchParams, Preconditions},
    },
};
use serde_json::json;
use std::time::Duration;

use crate::{
    error::{Error, Result},
    release::{SecretVersion, VALUES_HASH_LABEL},
};

/// Time limit of each request here.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Removes a dead `pending-*` revision, as [`crate::Action::Unlock`] names it.
///
/// First the deployed revision loses its values-hash label, so that the next plan is an
/// upgrade even if what is desired is what was deployed: the dead operation may have
/// changed objects. Then the dead revision's Secret is deleted. Both writes are guarded
/// by uid and resourceVersion. Returns whether the lock is gone by this call; false means
/// that somebody else wrote meanwhile: read again and plan again.
///
/// # Errors
/// [`Error::Kube`] when the api-server refuses or does not answer within 30 s.
pub async fn unlock(
    client: Client,
    namespace: &str,
    dead: &SecretVersion,
    deployed: Option<&SecretVersion>,
) -> Result<bool> {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    if let Some(deployed) = deployed {
        let patch = Patch::Merge(json!({"metadata": {
            "uid": deployed.uid,
            "resourceVersion": deployed.resource_version,
            "labels": {VALUES_HASH_LABEL: null},
        }}));
        let params = PatchParams::default();
        let request = secrets.patch_metadata(&deployed.name, &params, &patch);
        if !guarded("mark the deployed revision before an unlock", request).await? {
            return Ok(false);
        }
    }
    let guard = Preconditions {
        uid: Some(dead.uid.clone()),
        resource_version: Some(dead.resource_version.clone()),
    };
    let params = DeleteParams::default().preconditions(guard);
    guarded(
        "delete the dead revision's Secret",
        secrets.delete(&dead.name, &params),
    )
    .await
}

/// Runs a guarded write; false when its guard failed.
async fn guarded<T>(
    what: &'static str,
    request: impl Future<Output = std::result::Result<T, KubeError>>,
) -> Result<bool> {
    match tokio::time::timeout(REQUEST_LIMIT, request).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(KubeError::Api(status))) if status.code == 404 || status.code == 409 => Ok(false),
        Ok(Err(source)) => Err(Error::Kube {
            what,
            source: Box::new(source),
        }),
        Err(_) => Err(Error::Timeout {
            after: REQUEST_LIMIT,
        }),
    }
}
