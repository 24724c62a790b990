//! The host namespace: claimed for one cluster, and fenced in.

use kubebyon_api::{ManagedCluster, Reason, labels, managed_cluster::BackingStoreType};
use kubebyon_k8s::{
    k8s_openapi::api::{
        core::v1::{LimitRange, Namespace, ResourceQuota},
        networking::v1::NetworkPolicy,
    },
    kube::{
        self, Api, ResourceExt,
        api::{Patch, PatchParams},
    },
};
use kubebyon_render::{
    Cluster,
    host_namespace::{HostNamespace, Objects, Origin, network::Reach},
};

use super::super::{
    Context,
    deletion::what_is_left,
    error::{Error, Halt},
    observe::Observed,
    stores::Stores,
};

impl Context {
    /// Makes the host namespace so, fence included. The claim is made by a create, or on
    /// exactly the object that was looked at: two clusters never hold one namespace.
    pub async fn host_namespace(
        &self,
        cluster: &ManagedCluster,
        identity: &Cluster,
        observed: &Observed,
    ) -> Result<Home, Halt> {
        let (origin, made) = match self.claim(cluster, identity, observed).await? {
            Claim::Held(origin) => (origin, None),
            Claim::Made(namespace) => (Origin::Created, Some(namespace)),
            Claim::Free(version) => {
                self.adopt(cluster, identity, observed, version).await?;
                (Origin::Adopted, None)
            }
        };
        if cluster.spec.suspend {
            return Ok(Home {
                message: format!("namespace {} is there", observed.host_namespace),
                is_new: false,
            });
        }
        let live = made.as_deref().or(observed.namespace.as_deref());
        self.fence(cluster, identity, observed, origin, live)
            .await?;
        Ok(Home {
            message: format!(
                "namespace {} is claimed and fenced",
                observed.host_namespace
            ),
            is_new: made.is_some(),
        })
    }

    /// The fence alone: what a deletion needs to be allowed to act in the namespace.
    pub async fn guard(
        &self,
        identity: &Cluster,
        cluster: &ManagedCluster,
        observed: &Observed,
    ) -> Result<(), Halt> {
        let objects = objects(cluster, identity, observed, Origin::Adopted);
        let what = "apply the release's ServiceAccount";
        self.ensure(&self.stores.service_accounts, objects.service_account, what)
            .await?;
        let what = "apply the release's RoleBinding";
        self.ensure(&self.stores.role_bindings, objects.role_binding, what)
            .await?;
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
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        self.applier
            .ensure(&namespaces, live, namespace)
            .await
            .map_err(Error::api("apply the host namespace"))?;
        for policy in &network_policies {
            let (store, policy) = (&self.stores.network_policies, policy.clone());
            self.ensure(store, policy, "apply a NetworkPolicy").await?;
        }
        let wanted: Vec<String> = network_policies.iter().map(ResourceExt::name_any).collect();
        self.prune::<NetworkPolicy>(&self.stores.network_policies, identity, name, |policy| {
            wanted.contains(&policy.name_any())
        })
        .await?;
        if let Some(quota) = resource_quota.clone() {
            let store = &self.stores.resource_quotas;
            self.ensure(store, quota, "apply the ResourceQuota").await?;
        }
        self.prune::<ResourceQuota>(&self.stores.resource_quotas, identity, name, |_| {
            resource_quota.is_some()
        })
        .await?;
        if let Some(limits) = limit_range.clone() {
            let store = &self.stores.limit_ranges;
            self.ensure(store, limits, "apply the LimitRange").await?;
        }
        self.prune::<LimitRange>(&self.stores.limit_ranges, identity, name, |_| {
            limit_range.is_some()
        })
        .await?;
        let what = "apply the release's ServiceAccount";
        self.ensure(&self.stores.service_accounts, service_account, what)
            .await?;
        let what = "apply the release's RoleBinding";
        self.ensure(&self.stores.role_bindings, role_binding, what)
            .await?;
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
}

/// A host namespace that is ours.
pub struct Home {
    /// What there is to say of it.
    pub message: String,
    /// Whether it was made a moment ago: then nobody can have put a release into it.
    pub is_new: bool,
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
