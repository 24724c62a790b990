//! Growth of a tenant's volumes.
//!
//! Volume claims cannot grow through a StatefulSet's template, which is immutable: the
//! claims are grown by hand, and the StatefulSet is made anew around its running pods.
//! It is taken away only once helm, and so the chart with all its checks, has come as
//! far as that template.

use std::time::Duration;

use kubebyon_api::{ManagedCluster, Reason, types::Quantity};
use kubebyon_k8s::{
    k8s_openapi::api::{apps::v1::StatefulSet, core::v1::PersistentVolumeClaim},
    kube::{
        self, Api,
        api::{DeleteParams, ListParams, Patch, PatchParams},
    },
};
use serde_json::json;

use super::{
    super::{
        Context,
        error::{Error, Halt},
        observe::Observed,
    },
    named, tenant,
};

/// How long to wait for a claim to be bound, which no watch of ours tells.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// Grows the claims of the control plane and of its etcd to the size of the spec.
pub async fn grow_claims(
    context: &Context,
    cluster: &ManagedCluster,
    observed: &Observed,
) -> Result<(), Halt> {
    let size = size(cluster)?;
    let claims: Api<PersistentVolumeClaim> =
        Api::namespaced(tenant(context, observed)?, &observed.host_namespace);
    let found = claims
        .list(&ListParams::default())
        .await
        .map_err(Error::api("list the tenant's volume claims"))?;
    for claim in found.items {
        let name = claim.metadata.name.clone().unwrap_or_default();
        if !is_own(&name, &observed.release)
            || requested(&claim).is_none_or(|stored| is(&stored, &size))
        {
            continue;
        }
        let phase = claim
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if phase != Some("Bound") {
            return Err(Halt::wait_for(
                Reason::VolumePending,
                format!(
                    "volume claim {name} grows to {size} once it is bound; see: kubectl describe pvc -n {} {name}",
                    observed.host_namespace
                ),
                LOOK_AGAIN,
            ));
        }
        grow(&claims, &name, &size).await?;
    }
    Ok(())
}

async fn grow(
    claims: &Api<PersistentVolumeClaim>,
    name: &str,
    size: &Quantity,
) -> Result<(), Error> {
    let patch = json!({"spec": {"resources": {"requests": {"storage": size.as_str()}}}});
    let grown = claims
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    match grown {
        Ok(_) => Ok(()),
        // A right that is missing is another matter than a volume that cannot grow.
        Err(kube::Error::Api(status))
            if matches!(status.code, 403 | 422) && !status.message.contains("cannot patch") =>
        {
            Err(Error::StorageExpansionRefused {
                claim: name.to_owned(),
                size: size.to_string(),
                message: status.message.clone(),
            })
        }
        Err(source) => Err(Error::Api {
            what: "grow a volume claim",
            source,
        }),
    }
}

/// Takes the StatefulSet `object` away, and leaves its pods, when it is of another size:
/// whether it did.
pub async fn replace_stateful_set(
    context: &Context,
    cluster: &ManagedCluster,
    observed: &Observed,
    object: &str,
) -> Result<bool, Error> {
    let Some(name) = named("StatefulSet", object) else {
        return Ok(false);
    };
    let size = size(cluster)?;
    let sets: Api<StatefulSet> =
        Api::namespaced(tenant(context, observed)?, &observed.host_namespace);
    let set = sets
        .get_opt(name)
        .await
        .map_err(Error::api("read the StatefulSet whose volumes grow"))?;
    let templates = set
        .and_then(|set| set.spec)
        .and_then(|spec| spec.volume_claim_templates);
    let grows = templates
        .iter()
        .flatten()
        .filter_map(requested)
        .any(|stored| !is(&stored, &size));
    if !grows {
        return Ok(false);
    }
    match sets.delete(name, &DeleteParams::orphan()).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(source) => Err(Error::Api {
            what: "replace the StatefulSet whose volumes grow",
            source,
        }),
    }
}

fn size(cluster: &ManagedCluster) -> Result<Quantity, Error> {
    Ok(cluster.spec.control_plane.storage.size()?)
}

/// Whether a claim is the control plane's or its etcd's, and not one of the tenant's pods.
fn is_own(claim: &str, release: &str) -> bool {
    let number = claim
        .strip_prefix(&format!("data-{release}-etcd-"))
        .or_else(|| claim.strip_prefix(&format!("data-{release}-")));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn requested(claim: &PersistentVolumeClaim) -> Option<String> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").map(|quantity| quantity.0.clone())
}

fn is(stored: &str, wanted: &Quantity) -> bool {
    stored
        .parse::<Quantity>()
        .is_ok_and(|stored| stored.units() == wanted.units())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_claims_of_the_control_plane_and_its_etcd_grow() {
        assert!(is_own("data-demo-0", "demo"));
        assert!(is_own("data-demo-etcd-2", "demo"));
        assert!(!is_own("data-demo-", "demo"));
        assert!(!is_own("data-demo-x-default-x-demo", "demo"));
        assert!(!is_own("data-other-0", "demo"));
    }
}
