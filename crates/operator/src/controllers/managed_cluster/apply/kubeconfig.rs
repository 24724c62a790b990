//! The kubeconfig that people are given, and the cluster's entry at Argo CD.

use std::collections::BTreeMap;

use kubebyon_api::{ManagedCluster, labels};
use kubebyon_k8s::{
    k8s_openapi::api::core::v1::Secret,
    kube::{self, Api, ResourceExt},
};
use kubebyon_render::{
    Cluster,
    argo_cd::{self, ArgoCd},
    kubeconfig::{self, Endpoint, TenantPki},
};

use super::{
    super::{
        Context,
        error::{Error, Halt},
    },
    remove,
};
use crate::{apply::was_made_from, watches::cached};

impl Context {
    /// Publishes the kubeconfig, and registers the cluster with Argo CD where that is asked for.
    pub async fn publish(
        &self,
        cluster: &ManagedCluster,
        identity: &Cluster,
        pki: &TenantPki,
        publication: &Publication,
    ) -> Result<String, Halt> {
        let name = cluster.kubeconfig_secret_name();
        let endpoint = &publication.endpoint;
        let mut wanted = kubeconfig::secret(identity, &name, pki, endpoint);
        wanted.annotations_mut().extend(publication.memory.clone());
        if !self.is_published(identity, &wanted) {
            let version = self
                .own_secret(
                    identity,
                    wanted,
                    cluster.spec.suspend,
                    "rename spec.kubeconfig.secretName",
                )
                .await?;
            self.known.kubeconfig_is(&identity.uid, version);
        }
        let asked = cluster.spec.kubeconfig.argo_cd.enabled;
        match (asked, self.argo_cd()) {
            (true, None) => return Err(Error::ArgoCdNotConfigured.into()),
            (true, Some(argo_cd)) => {
                let wanted = argo_cd::secret(identity, argo_cd, pki, endpoint);
                self.own_secret(identity, wanted, cluster.spec.suspend, "delete it")
                    .await?;
            }
            (false, Some(argo_cd)) if !cluster.spec.suspend => {
                self.remove_secret(identity, argo_cd.namespace, &argo_cd::secret_name(identity))
                    .await?;
            }
            (false, _) => {}
        }
        self.remove_renamed(cluster, identity, &name).await?;
        Ok(format!(
            "Secret {}/{name}, key {}",
            identity.namespace,
            kubeconfig::KEY
        ))
    }

    /// Whether the Secret is made from `wanted` already and was not touched since: then nobody
    /// has to be asked.
    fn is_published(&self, identity: &Cluster, wanted: &Secret) -> bool {
        let namespace = wanted.namespace().unwrap_or_default();
        cached(&self.stores.secrets, &namespace, &wanted.name_any()).is_some_and(|shown| {
            let known = self.known.kubeconfig_version(&identity.uid);
            known.is_some()
                && known == shown.resource_version()
                && identity.made(&shown.metadata)
                && was_made_from(&*shown, wanted)
        })
    }

    /// Takes back what [`Context::publish`] gave.
    pub async fn unpublish(
        &self,
        cluster: &ManagedCluster,
        identity: &Cluster,
    ) -> Result<(), Halt> {
        self.remove_secret(
            identity,
            &identity.namespace,
            &cluster.kubeconfig_secret_name(),
        )
        .await?;
        if let Some(argo_cd) = self.argo_cd() {
            self.remove_secret(identity, argo_cd.namespace, &argo_cd::secret_name(identity))
                .await?;
        }
        Ok(())
    }

    fn argo_cd(&self) -> Option<ArgoCd<'_>> {
        let namespace = self.options.argocd_namespace.as_deref()?;
        Some(ArgoCd {
            namespace,
            project: self.options.argocd_project.as_deref()?,
        })
    }

    /// Applies a Secret, unless one of that name is somebody else's. Gives the version that
    /// is there now.
    async fn own_secret(
        &self,
        identity: &Cluster,
        wanted: Secret,
        suspended: bool,
        remedy: &'static str,
    ) -> Result<Option<String>, Halt> {
        let (namespace, name) = (wanted.namespace().unwrap_or_default(), wanted.name_any());
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        // What no watch knows is most likely not there, and then there is nothing to read.
        if !suspended && cached(&self.stores.secrets, &namespace, &name).is_none() {
            match self.applier.create(&api, wanted.clone()).await {
                Ok(made) => return Ok(made.resource_version()),
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
                Err(source) => {
                    return Err(Error::Api {
                        what: "create the kubeconfig's Secret",
                        source,
                    }
                    .into());
                }
            }
        }
        let live = api
            .get_opt(&name)
            .await
            .map_err(Error::api("read the kubeconfig's Secret"))?;
        if live
            .as_ref()
            .is_some_and(|live| !identity.made(&live.metadata))
        {
            return Err(Error::NotOwned {
                kind: "Secret",
                namespace,
                name,
                remedy,
            }
            .into());
        }
        if suspended {
            return Ok(live.and_then(|live| live.resource_version()));
        }
        let written = self
            .applier
            .ensured(&api, live.as_ref(), wanted)
            .await
            .map_err(Error::api("apply the kubeconfig's Secret"))?;
        Ok(written
            .or(live)
            .and_then(|secret| secret.resource_version()))
    }

    async fn remove_secret(
        &self,
        identity: &Cluster,
        namespace: &str,
        name: &str,
    ) -> Result<(), Halt> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        // Only what the watch knows as ours is looked at: nobody else's Secret is touched.
        let Some(known) = cached(&self.stores.secrets, namespace, name) else {
            return Ok(());
        };
        if known.labels().get(labels::CLUSTER_UID) == Some(&identity.uid) {
            remove(&api, &*known).await?;
        }
        Ok(())
    }

    /// A kubeconfig under a name that the spec no longer has.
    async fn remove_renamed(
        &self,
        cluster: &ManagedCluster,
        identity: &Cluster,
        name: &str,
    ) -> Result<(), Halt> {
        if cluster.spec.suspend {
            return Ok(());
        }
        let old = self.stores.secrets.state_filter(|secret| {
            secret.metadata.namespace.as_deref() == Some(identity.namespace.as_str())
                && secret.labels().get(labels::CLUSTER_UID) == Some(&identity.uid)
                && secret.name_any() != name
        });
        for secret in old {
            self.remove_secret(identity, &identity.namespace, &secret.name_any())
                .await?;
        }
        Ok(())
    }
}

/// What the kubeconfig says, and what its Secret remembers beside it.
pub struct Publication {
    /// Where the tenant's API is dialled.
    pub endpoint: Endpoint,
    /// Annotations of the Secret.
    pub memory: BTreeMap<String, String>,
}
