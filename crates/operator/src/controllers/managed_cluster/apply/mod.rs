//! What is written: the host namespace with its fence, the kubeconfig, the finalizer, the status.

mod host_namespace;
mod kubeconfig;

use kubebyon_api::{ManagedCluster, ManagedClusterStatus, labels};
use kubebyon_helm::{Uninstall, Upgrade};
use kubebyon_k8s::{
    k8s_openapi::NamespaceResourceScope,
    kube::{Api, Resource, ResourceExt, runtime::reflector::Store},
};
use kubebyon_render::Cluster;
use serde::{Serialize, de::DeserializeOwned};

pub use self::kubeconfig::Publication;
use super::{Context, error::Error};
use crate::{
    apply::{delete_exactly, set_finalizer},
    watches::cached,
};

impl Context {
    /// Adds or removes our finalizer, on exactly the object that was looked at.
    pub async fn set_finalizer(
        &self,
        cluster: &ManagedCluster,
        present: bool,
    ) -> Result<(), Error> {
        let api: Api<ManagedCluster> =
            Api::namespaced(self.client.clone(), cluster.namespace_str());
        set_finalizer(&api, cluster, labels::CLUSTER_FINALIZER, present)
            .await
            .map_err(Error::api("set the finalizer"))
    }

    /// Writes the status, as this controller's own full set. Gives the object's version since.
    pub async fn write_status(
        &self,
        cluster: &ManagedCluster,
        status: &ManagedClusterStatus,
    ) -> Result<Option<String>, Error> {
        self.applier
            .status(cluster, status)
            .await
            .map_err(Error::api("write the status"))
    }

    /// Runs helm, counted.
    pub async fn run_upgrade(&self, upgrade: &Upgrade<'_>) -> kubebyon_helm::Result<()> {
        let result = self.helm.upgrade_install(upgrade).await;
        self.count("upgrade", &result);
        result
    }

    /// Runs helm, counted.
    pub async fn run_uninstall(&self, uninstall: &Uninstall<'_>) -> kubebyon_helm::Result<()> {
        let result = self.helm.uninstall(uninstall).await;
        self.count("uninstall", &result);
        result
    }

    fn count(&self, verb: &'static str, result: &kubebyon_helm::Result<()>) {
        let outcome = result
            .as_ref()
            .err()
            .map_or("ok", kubebyon_helm::Error::reason);
        self.metrics
            .helm_runs
            .get_or_create(&crate::telemetry::metrics::HelmLabels { verb, outcome })
            .inc();
    }

    /// Makes an object of the host namespace so, unless `store` shows that it is.
    async fn ensure<K>(&self, store: &Store<K>, desired: K, what: &'static str) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize
            + 'static,
    {
        let namespace = desired.namespace().unwrap_or_default();
        let live = cached(store, &namespace, &desired.name_any());
        self.applier
            .namespaced(live.as_deref(), desired)
            .await
            .map(drop)
            .map_err(Error::api(what))
    }

    /// Deletes what carries our uid and is not wanted any more.
    async fn prune<K>(
        &self,
        store: &Store<K>,
        identity: &Cluster,
        namespace: &str,
        wanted: impl Fn(&K) -> bool,
    ) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + 'static,
    {
        let ours = |object: &K| {
            object.meta().namespace.as_deref() == Some(namespace)
                && object.labels().get(labels::CLUSTER_UID) == Some(&identity.uid)
                && !wanted(object)
        };
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        for object in store.state_filter(ours) {
            remove(&api, &*object).await?;
        }
        Ok(())
    }
}

async fn remove<K, M>(api: &Api<K>, object: &M) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
    M: ResourceExt,
{
    delete_exactly(api, &object.name_any(), object.uid())
        .await
        .map_err(Error::api("remove an object that is no longer wanted"))
}
