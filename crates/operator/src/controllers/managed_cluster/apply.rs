//! What is written: the host namespace with its fence, the kubeconfig, the finalizer, the status.

use std::collections::BTreeMap;

use kubebyon_api::{
    ManagedCluster, ManagedClusterStatus, Reason, labels, managed_cluster::BackingStoreType,
};
use kubebyon_helm::{Uninstall, Upgrade};
use kubebyon_k8s::{
    k8s_openapi::{
        NamespaceResourceScope,
        api::{
            core::v1::{LimitRange, Namespace, ResourceQuota, Secret},
            networking::v1::NetworkPolicy,
        },
    },
    kube::{
        self, Api, Resource, ResourceExt,
        api::{Patch, PatchParams},
        runtime::reflector::Store,
    },
};
use kubebyon_render::{
    Cluster,
    argo_cd::{self, ArgoCd},
    host_namespace::{HostNamespace, Objects, Origin, network::Reach},
    kubeconfig::{self, Endpoint, TenantPki},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    Context,
    deletion::what_is_left,
    error::{Error, Halt},
    observe::Observed,
    stores::Stores,
};
use crate::{
    apply::{delete_exactly, set_finalizer, was_made_from},
    watches::cached,
};

impl Context {
    /// Makes the host namespace so, fence included. The claim is made by a create, or on
    /// exactly the object that was looked at: two clusters never hold one namespace.
    pub async fn host_namespace(
        &self,
        cluster: &ManagedCluster,
        identity: &Cluster,
        observed: &Observed,
    ) -> Result<String, Halt> {
        let (origin, made) = match self.claim(cluster, identity, observed).await? {
            Claim::Held(origin) => (origin, None),
            Claim::Made(namespace) => (Origin::Created, Some(namespace)),
            Claim::Free(version) => {
                self.adopt(cluster, identity, observed, version).await?;
                (Origin::Adopted, None)
            }
        };
        if cluster.spec.suspend {
            return Ok(format!("namespace {} is there", observed.host_namespace));
        }
        let live = made.as_deref().or(observed.namespace.as_deref());
        self.fence(cluster, identity, observed, origin, live)
            .await?;
        Ok(format!(
            "namespace {} is claimed and fenced",
            observed.host_namespace
        ))
    }

    /// The fence alone: what a deletion needs to be allowed to act in the namespace.
    pub async fn guard(
        &self,
        identity: &Cluster,
        cluster: &ManagedCluster,
        observed: &Observed,
    ) -> Result<(), Halt> {
        let objects = objects(cluster, identity, observed, Origin::Adopted);
        self.applier
            .namespaced(
                Self::live(&self.stores.service_accounts, &objects.service_account).as_deref(),
                objects.service_account,
            )
            .await
            .map_err(Error::api("apply the release's ServiceAccount"))?;
        self.applier
            .namespaced(
                Self::live(&self.stores.role_bindings, &objects.role_binding).as_deref(),
                objects.role_binding,
            )
            .await
            .map_err(Error::api("apply the release's RoleBinding"))?;
        Ok(())
    }

    async fn claim(
        &self,
        cluster: &ManagedCluster,
        identity: &Cluster,
        observed: &Observed,
    ) -> Result<Claim, Halt> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let live;
        let namespace = if let Some(cached) = &observed.namespace {
            &**cached
        } else {
            // Not one of ours, or not yet: the watch holds ours alone. At first sight most
            // likely nobody's, and then there is nothing to read.
            if cluster.status.is_none() && !cluster.spec.suspend {
                match self.make(cluster, identity, observed).await {
                    Err(Halt::Waiting(_)) => {}
                    made => return made,
                }
            }
            live = api
                .get_opt(&observed.host_namespace)
                .await
                .map_err(Error::api("read the host namespace"))?;
            match &live {
                Some(live) => live,
                None => return self.make(cluster, identity, observed).await,
            }
        };
        if namespace.metadata.deletion_timestamp.is_some() {
            return Err(Halt::wait_for(
                Reason::NamespaceTerminating,
                Error::NamespaceTerminating {
                    namespace: namespace.name_any(),
                    left: what_is_left(namespace),
                }
                .to_string(),
                std::time::Duration::from_secs(5),
            ));
        }
        let annotations = namespace.annotations();
        let origin = if annotations.contains_key(labels::CREATED_BY_US) {
            Origin::Created
        } else {
            Origin::Adopted
        };
        match annotations.get(labels::CLAIMED_BY) {
            Some(holder) if *holder == identity.key() => Ok(Claim::Held(origin)),
            Some(holder) => Err(Error::NamespaceClaimed {
                namespace: namespace.name_any(),
                holder: holder.clone(),
            }
            .into()),
            None if annotations.get(labels::ADMIN_ALLOW) == Some(&identity.key()) => {
                Ok(Claim::Free(namespace.metadata.resource_version.clone()))
            }
            None => Err(Error::NamespaceNotAllowed {
                namespace: namespace.name_any(),
                annotation: labels::ADMIN_ALLOW,
                cluster: identity.key(),
            }
            .into()),
        }
    }

    async fn make(
        &self,
        cluster: &ManagedCluster,
        identity: &Cluster,
        observed: &Observed,
    ) -> Result<Claim, Halt> {
        if cluster.spec.suspend {
            return Err(Halt::wait(
                Reason::Suspended,
                "the host namespace is not there, and spec.suspend holds it back",
            ));
        }
        let namespace = objects(cluster, identity, observed, Origin::Created).namespace;
        let made = self
            .applier
            .create(&Api::all(self.client.clone()), namespace)
            .await;
        made.map(|namespace| Claim::Made(Box::new(namespace)))
            .map_err(|error| not_claimed(observed, error))
    }

    async fn adopt(
        &self,
        cluster: &ManagedCluster,
        identity: &Cluster,
        observed: &Observed,
        version: Option<String>,
    ) -> Result<(), Halt> {
        if cluster.spec.suspend {
            return Err(Halt::wait(
                Reason::Suspended,
                "the host namespace is not claimed, and spec.suspend holds that back",
            ));
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let mut namespace = objects(cluster, identity, observed, Origin::Adopted).namespace;
        namespace.metadata.resource_version = version;
        let parameters = PatchParams::apply(self.applier.manager()).force();
        api.patch(
            &observed.host_namespace,
            &parameters,
            &Patch::Apply(&namespace),
        )
        .await
        .map_err(|error| not_claimed(observed, error))?;
        Ok(())
    }

    async fn fence(
        &self,
        cluster: &ManagedCluster,
        identity: &Cluster,
        observed: &Observed,
        origin: Origin,
        live: Option<&Namespace>,
    ) -> Result<(), Halt> {
        let name = observed.host_namespace.as_str();
        let Objects {
            namespace,
            network_policies,
            resource_quota,
            limit_range,
            service_account,
            role_binding,
        } = objects(cluster, identity, observed, origin);
        let applier = &self.applier;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        applier
            .ensure(&namespaces, live, namespace)
            .await
            .map_err(Error::api("apply the host namespace"))?;
        for policy in &network_policies {
            let live = Self::live(&self.stores.network_policies, policy);
            applier
                .namespaced(live.as_deref(), policy.clone())
                .await
                .map_err(Error::api("apply a NetworkPolicy"))?;
        }
        let wanted: Vec<String> = network_policies.iter().map(ResourceExt::name_any).collect();
        self.prune::<NetworkPolicy>(&self.stores.network_policies, identity, name, |policy| {
            wanted.contains(&policy.name_any())
        })
        .await?;
        if let Some(quota) = resource_quota.clone() {
            let live = Self::live(&self.stores.resource_quotas, &quota);
            applier
                .namespaced(live.as_deref(), quota)
                .await
                .map_err(Error::api("apply the ResourceQuota"))?;
        }
        self.prune::<ResourceQuota>(&self.stores.resource_quotas, identity, name, |_| {
            resource_quota.is_some()
        })
        .await?;
        if let Some(limits) = limit_range.clone() {
            let live = Self::live(&self.stores.limit_ranges, &limits);
            applier
                .namespaced(live.as_deref(), limits)
                .await
                .map_err(Error::api("apply the LimitRange"))?;
        }
        self.prune::<LimitRange>(&self.stores.limit_ranges, identity, name, |_| {
            limit_range.is_some()
        })
        .await?;
        let live = Self::live(&self.stores.service_accounts, &service_account);
        applier
            .namespaced(live.as_deref(), service_account)
            .await
            .map_err(Error::api("apply the release's ServiceAccount"))?;
        let live = Self::live(&self.stores.role_bindings, &role_binding);
        applier
            .namespaced(live.as_deref(), role_binding)
            .await
            .map_err(Error::api("apply the release's RoleBinding"))?;
        Ok(())
    }

    /// Takes the fence down, and then the claim off, in a namespace that is somebody
    /// else's to keep.
    pub async fn give_back(&self, identity: &Cluster, namespace: &Namespace) -> Result<(), Halt> {
        let name = namespace.name_any();
        let Stores {
            network_policies,
            resource_quotas,
            limit_ranges,
            role_bindings,
            service_accounts,
            ..
        } = &self.stores;
        self.prune(network_policies, identity, &name, |_| false)
            .await?;
        self.prune(resource_quotas, identity, &name, |_| false)
            .await?;
        self.prune(limit_ranges, identity, &name, |_| false).await?;
        self.prune(role_bindings, identity, &name, |_| false)
            .await?;
        self.prune(service_accounts, identity, &name, |_| false)
            .await?;
        let mut bare = Namespace::default();
        bare.metadata.name = Some(name.clone());
        bare.metadata.uid.clone_from(&namespace.metadata.uid);
        // To apply none of our fields is to remove all of them.
        let parameters = PatchParams::apply(self.applier.manager()).force();
        Api::<Namespace>::all(self.client.clone())
            .patch(&name, &parameters, &Patch::Apply(&bare))
            .await
            .map_err(Error::api("give the host namespace back"))?;
        Ok(())
    }

    fn live<K>(store: &Store<K>, desired: &K) -> Option<std::sync::Arc<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + 'static,
    {
        cached(
            store,
            desired.namespace().as_deref().unwrap_or_default(),
            &desired.name_any(),
        )
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

    /// Writes the status, as this controller's own full set.
    pub async fn write_status(
        &self,
        cluster: &ManagedCluster,
        status: &ManagedClusterStatus,
    ) -> Result<(), Error> {
        let api: Api<ManagedCluster> =
            Api::namespaced(self.client.clone(), cluster.namespace_str());
        let body = json!({
            "apiVersion": ManagedCluster::api_version(&()),
            "kind": ManagedCluster::kind(&()),
            "metadata": {"name": cluster.name_str(), "namespace": cluster.namespace_str(), "uid": cluster.metadata.uid},
            "status": status,
        });
        let parameters = PatchParams::apply(self.applier.manager()).force();
        match api
            .patch_status(cluster.name_str(), &parameters, &Patch::Apply(&body))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(response)) if response.code == 404 || response.code == 409 => {
                Ok(())
            }
            Err(source) => Err(Error::Api {
                what: "write the status",
                source,
            }),
        }
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
}

/// What the kubeconfig says, and what its Secret remembers beside it.
pub struct Publication {
    /// Where the tenant's API is dialled.
    pub endpoint: Endpoint,
    /// Annotations of the Secret.
    pub memory: BTreeMap<String, String>,
}

enum Claim {
    /// It is ours.
    Held(Origin),
    /// It is ours since now.
    Made(Box<Namespace>),
    /// It may be ours; with the version that was looked at.
    Free(Option<String>),
}

fn not_claimed(observed: &Observed, error: kube::Error) -> Halt {
    match error {
        kube::Error::Api(status) if status.code == 409 => Halt::wait_for(
            Reason::Progressing,
            format!(
                "namespace {} changed while it was claimed; looking again",
                observed.host_namespace
            ),
            std::time::Duration::from_millis(200),
        ),
        source => Error::Api {
            what: "claim the host namespace",
            source,
        }
        .into(),
    }
}

fn objects(
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
    origin: Origin,
) -> Objects {
    let external_database =
        cluster.spec.control_plane.backing_store.type_ == BackingStoreType::ExternalDatabase;
    let reach = Reach {
        external_database,
        ..Reach::default()
    };
    let objects = HostNamespace {
        cluster: identity,
        name: &observed.host_namespace,
        origin,
        quota: &cluster.spec.quota,
        reach,
    }
    .objects()
    .with_public_sans(&observed.exposed.sans);
    if observed.exposed.routes {
        objects.with_routes()
    } else {
        objects
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
