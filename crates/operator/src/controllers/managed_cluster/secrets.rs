//! What is known of Secrets without asking again: what was read stays true for as long as the
//! watch shows the version that was read, and what we wrote ourselves is known before the watch
//! tells of it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kubebyon_api::ManagedCluster;
use kubebyon_k8s::{
    k8s_openapi::api::core::v1::Secret,
    kube::{Api, ResourceExt},
};
use kubebyon_render::{
    Cluster,
    kubeconfig::{PkiError, TenantPki},
};

use super::{
    Context,
    error::{Error, Halt},
    observe::Observed,
};
use crate::watches::cached;

/// What is known, by the cluster's uid.
#[derive(Default)]
pub struct Known {
    pki: Mutex<HashMap<String, Pki>>,
    kubeconfigs: Mutex<HashMap<String, String>>,
}

struct Pki {
    version: Option<String>,
    pki: Arc<TenantPki>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// The tenant's certificates as they were last read.
    pub fn pki(&self, uid: &str) -> Option<Arc<TenantPki>> {
        locked(&self.pki).get(uid).map(|known| known.pki.clone())
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        locked(&self.pki).remove(uid);
        locked(&self.kubeconfigs).remove(uid);
    }

    /// The version of the kubeconfig's Secret that was last read or written.
    pub fn kubeconfig_version(&self, uid: &str) -> Option<String> {
        locked(&self.kubeconfigs).get(uid).cloned()
    }

    /// Keeps the version of the kubeconfig's Secret that was read or written.
    pub fn kubeconfig_is(&self, uid: &str, version: Option<String>) {
        let mut known = locked(&self.kubeconfigs);
        match version {
            Some(version) => known.insert(uid.to_owned(), version),
            None => known.remove(uid),
        };
    }
}

/// The tenant's certificates, as its control plane wrote them.
pub async fn tenant_pki(
    context: &Context,
    identity: &Cluster,
    observed: &Observed,
) -> Result<Arc<TenantPki>, Halt> {
    let name = kubebyon_api::names::vcluster::kubeconfig_secret(&observed.release);
    let namespace = &observed.host_namespace;
    let shown = cached(&context.stores.secrets, namespace, &name)
        .and_then(|secret| secret.resource_version());
    if let Some(known) = locked(&context.known.pki).get(&identity.uid)
        && known.version == shown
    {
        return Ok(known.pki.clone());
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let secret = api
        .get_opt(&name)
        .await
        .map_err(Error::api("read the tenant's certificates"))?
        .ok_or_else(not_written)?;
    let version = secret.resource_version();
    let pki = match TenantPki::parse(&secret.data.unwrap_or_default()) {
        Ok(pki) => pki,
        Err(PkiError::Missing(_)) => return Err(not_written()),
        Err(error) => {
            let (namespace, message) = (namespace.clone(), error.to_string());
            return Err(Error::PkiInvalid {
                namespace,
                name,
                message,
            }
            .into());
        }
    };
    let pki = Arc::new(pki);
    let known = Pki {
        version,
        pki: pki.clone(),
    };
    locked(&context.known.pki).insert(identity.uid.clone(), known);
    Ok(pki)
}

/// The control plane has not come so far.
pub fn not_written() -> Halt {
    Halt::wait(
        kubebyon_api::Reason::KubeconfigPending,
        "the control plane has not written its certificates yet",
    )
}

/// The annotations of the kubeconfig's Secret, if it is there and ours: what is remembered
/// between two reconciles. The watch may not know yet what we wrote a moment ago.
pub async fn kubeconfig_memory(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
) -> Result<Option<BTreeMap<String, String>>, Error> {
    let name = cluster.kubeconfig_secret_name();
    let shown = cached(&context.stores.secrets, &identity.namespace, &name);
    let written = context.known.kubeconfig_version(&identity.uid);
    let shown_version = shown.as_ref().and_then(|secret| secret.resource_version());
    if written.is_none() || written == shown_version {
        return Ok(shown
            .filter(|secret| identity.made(&secret.metadata))
            .map(|secret| secret.annotations().clone()));
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &identity.namespace);
    let live = api
        .get_metadata_opt(&name)
        .await
        .map_err(Error::api("read the kubeconfig's Secret"))?;
    context.known.kubeconfig_is(
        &identity.uid,
        live.as_ref().and_then(ResourceExt::resource_version),
    );
    Ok(live
        .filter(|secret| identity.made(&secret.metadata))
        .map(|secret| secret.annotations().clone()))
}
