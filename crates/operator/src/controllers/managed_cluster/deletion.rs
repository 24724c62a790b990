//! The way out, in stages. Each stage is safe to repeat, ends by what is observed and
//! not by what was sent, has a time after which the object in the way is named, and
//! needs neither the tenant nor the chart's repository.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kubebyon_api::{ManagedCluster, Reason, labels, managed_cluster::DeletionPolicy};
use kubebyon_helm::{ReleaseHistory, ServiceAccount, Uninstall, WaitFor};
use kubebyon_k8s::{
    k8s_openapi::{
        NamespaceResourceScope,
        api::{
            apps::v1::{Deployment, StatefulSet},
            core::v1::{
                ConfigMap, Endpoints, Namespace, PersistentVolumeClaim, Pod, Secret, Service,
            },
            discovery::v1::EndpointSlice,
        },
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    },
    kube::{
        self, Api, Client, Resource, ResourceExt,
        api::{DeleteParams, ListParams, Preconditions},
        core::PartialObjectMeta,
    },
};
use kubebyon_render::{Cluster, host_namespace::RELEASE_SERVICE_ACCOUNT};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    Context,
    error::{Error, Halt},
    observe::{self, Observed},
    public,
};
use crate::client::impersonate;

/// The stages, in their order.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stage {
    /// What leads to the tenant from outside.
    Routes,
    /// `helm uninstall`.
    Release,
    /// What the tenant had on the host.
    SyncedObjects,
    /// The tenant's volumes and PKI.
    Volumes,
    /// The kubeconfig and the registration with Argo CD.
    Kubeconfig,
    /// The claims on host names.
    Claims,
    /// The host namespace.
    Namespace,
}

impl Stage {
    fn doing(self) -> &'static str {
        match self {
            Self::Routes => "removing the routes",
            Self::Release => "uninstalling the release",
            Self::SyncedObjects => "removing what the tenant had on the host",
            Self::Volumes => "removing the tenant's volumes and PKI",
            Self::Kubeconfig => "removing the kubeconfig",
            Self::Claims => "giving up the host names",
            Self::Namespace => "removing the host namespace",
        }
    }
}

/// Since when each cluster's deletion is in its stage.
#[derive(Debug, Default)]
pub struct Clock(Mutex<HashMap<String, (Stage, Instant)>>);

impl Clock {
    fn in_stage(&self, uid: &str, stage: Stage) -> Duration {
        let mut stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = stages
            .entry(uid.to_owned())
            .or_insert((stage, Instant::now()));
        if entry.0 != stage {
            *entry = (stage, Instant::now());
        }
        entry.1.elapsed()
    }

    fn forget(&self, uid: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}

/// How long to wait for objects to go that no watch of ours covers.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Takes the next steps of the deletion. `Ok`: nothing is left, the finalizer may go.
pub async fn advance(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
) -> Result<(), Halt> {
    let mut stage = Stage::Routes;
    let result = stages(context, cluster, identity, observed, &mut stage).await;
    let Err(halt) = result else {
        context.deletions.forget(&identity.uid);
        return Ok(());
    };
    let waited = context.deletions.in_stage(&identity.uid, stage);
    let limit = context.options.deletion_stage_timeout;
    let message = format!("{}: {}", stage.doing(), halt.message());
    match halt {
        Halt::Waiting(_) if waited >= limit => Err(Halt::wait_for(
            Reason::DeletionBlocked,
            format!(
                "{message}; this has taken longer than {} s",
                limit.as_secs()
            ),
            LOOK_AGAIN * 5,
        )),
        Halt::Waiting(wait) => Err(Halt::wait_for(
            Reason::Deleting,
            message,
            wait.look_again.unwrap_or(LOOK_AGAIN * 15),
        )),
        failed @ (Halt::Failed(_) | Halt::Recalled(_)) => Err(failed),
    }
}

async fn stages(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
    stage: &mut Stage,
) -> Result<(), Halt> {
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    let found = namespaces
        .get_opt(&observed.host_namespace)
        .await
        .map_err(Error::api("read the host namespace"))?;
    // Somebody else's namespace is none of our business, whatever the spec says.
    let ours = found.filter(|namespace| {
        namespace
            .annotations()
            .get(labels::CLAIMED_BY)
            .is_some_and(|holder| *holder == identity.key())
    });
    if ours.is_some() {
        public::remove_route(context, identity, &observed.host_namespace).await?;
    }
    *stage = Stage::Release;
    if let Some(namespace) = &ours {
        let tenant = impersonate(
            &context.client,
            &observed.host_namespace,
            RELEASE_SERVICE_ACCOUNT,
        )
        .map_err(|error| Error::Internal {
            what: "an impersonating client",
            message: error.to_string(),
        })?;
        let history =
            observe::history_now(&context.client, &observed.host_namespace, &observed.release)
                .await?;
        // A release of somebody else's, with all that it keeps, stays where it is.
        if namespace.metadata.deletion_timestamp.is_none() && !observe::is_foreign(&history) {
            context.guard(identity, cluster, observed).await?;
            uninstall(context, &tenant, observed, &history).await?;
            *stage = Stage::SyncedObjects;
            remove_synced(&tenant, observed).await?;
            *stage = Stage::Volumes;
            if cluster.spec.deletion_policy == DeletionPolicy::Delete {
                remove_volumes(&tenant, observed).await?;
            }
        }
    }
    *stage = Stage::Kubeconfig;
    context.unpublish(cluster, identity).await?;
    *stage = Stage::Claims;
    public::give_up_all(context, identity).await?;
    *stage = Stage::Namespace;
    match ours {
        Some(namespace) if cluster.spec.deletion_policy == DeletionPolicy::Delete => {
            if namespace.annotations().contains_key(labels::CREATED_BY_US) {
                remove_namespace(&namespaces, &namespace).await
            } else {
                context.give_back(identity, &namespace).await
            }
        }
        // Kept, and still claimed: the same namespace/name may have it again.
        Some(_) | None => Ok(()),
    }
}

async fn uninstall(
    context: &Context,
    tenant: &Client,
    observed: &Observed,
    history: &ReleaseHistory,
) -> Result<(), Halt> {
    let namespace = observed.host_namespace.as_str();
    if history.latest().is_some() {
        let run_as = ServiceAccount {
            namespace: namespace.to_owned(),
            name: RELEASE_SERVICE_ACCOUNT.to_owned(),
        };
        let request = Uninstall {
            release: &observed.release,
            namespace,
            run_as: Some(&run_as),
            wait: WaitFor::Hooks,
        };
        if let Err(error) = context.run_uninstall(&request).await {
            // A record that helm cannot use must not keep the tenant alive.
            tracing::warn!(%error, "helm uninstall failed; removing the release's objects by their label");
            remove_release_by_label(tenant, observed, history).await?;
        }
    }
    let workload = format!("{}={}", labels::vcluster::RELEASE, observed.release);
    gone::<StatefulSet>(tenant, namespace, &workload).await?;
    gone::<Deployment>(tenant, namespace, &workload).await?;
    gone::<Pod>(tenant, namespace, &workload).await
}

async fn remove_release_by_label(
    tenant: &Client,
    observed: &Observed,
    history: &ReleaseHistory,
) -> Result<(), Halt> {
    let namespace = observed.host_namespace.as_str();
    let release = format!("{}={}", labels::vcluster::RELEASE, observed.release);
    delete_all::<StatefulSet>(tenant, namespace, &release, |_| true).await?;
    delete_all::<Deployment>(tenant, namespace, &release, |_| true).await?;
    delete_all::<Service>(tenant, namespace, &release, |_| true).await?;
    let secrets: Api<Secret> = Api::namespaced(tenant.clone(), namespace);
    for revision in history.revisions() {
        delete(&secrets, &revision.secret.name, &revision.secret.uid).await?;
    }
    Ok(())
}

/// The syncer's objects on the host; nothing owns them, so nothing else removes them.
async fn remove_synced(tenant: &Client, observed: &Observed) -> Result<(), Halt> {
    let namespace = observed.host_namespace.as_str();
    let synced = format!("{}={}", labels::vcluster::MANAGED_BY, observed.release);
    delete_all::<Pod>(tenant, namespace, &synced, |_| true).await?;
    delete_all::<Service>(tenant, namespace, &synced, |_| true).await?;
    delete_all::<Endpoints>(tenant, namespace, &synced, |_| true).await?;
    delete_all::<EndpointSlice>(tenant, namespace, &synced, |_| true).await?;
    delete_all::<ConfigMap>(tenant, namespace, &synced, |_| true).await?;
    delete_all::<Secret>(tenant, namespace, &synced, |_| true).await?;
    gone::<Pod>(tenant, namespace, &synced).await
}

async fn remove_volumes(tenant: &Client, observed: &Observed) -> Result<(), Halt> {
    let namespace = observed.host_namespace.as_str();
    let synced = format!("{}={}", labels::vcluster::MANAGED_BY, observed.release);
    delete_all::<PersistentVolumeClaim>(tenant, namespace, &synced, |_| true).await?;
    let (own, etcd) = (
        format!("data-{}-", observed.release),
        format!("data-{}-etcd-", observed.release),
    );
    let numbered = move |meta: &ObjectMeta| {
        let name = meta.name.as_deref().unwrap_or_default();
        let number = name.strip_prefix(&etcd).or_else(|| name.strip_prefix(&own));
        number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    delete_all::<PersistentVolumeClaim>(tenant, namespace, "", numbered.clone()).await?;
    let pki = [
        kubebyon_api::names::vcluster::pki_secret(&observed.release),
        kubebyon_api::names::vcluster::kubeconfig_secret(&observed.release),
    ];
    delete_all::<Secret>(tenant, namespace, "", move |meta| {
        meta.name.as_ref().is_some_and(|name| pki.contains(name))
    })
    .await?;
    let left = list::<PersistentVolumeClaim>(tenant, namespace, "").await?;
    match left.iter().find(|claim| numbered(&claim.metadata)) {
        None => Ok(()),
        Some(claim) => Err(in_the_way::<PersistentVolumeClaim>(claim)),
    }
}

async fn remove_namespace(api: &Api<Namespace>, namespace: &Namespace) -> Result<(), Halt> {
    if namespace.metadata.deletion_timestamp.is_none() {
        delete(
            api,
            &namespace.name_any(),
            namespace.metadata.uid.as_deref().unwrap_or_default(),
        )
        .await?;
    }
    Err(Halt::wait(
        Reason::NamespaceTerminating,
        format!(
            "namespace {} is being deleted: {}",
            namespace.name_any(),
            what_is_left(namespace)
        ),
    ))
}

/// What the namespace controller says keeps a namespace: it names kinds and finalizers.
pub fn what_is_left(namespace: &Namespace) -> String {
    let conditions = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let left: Vec<String> = conditions
        .into_iter()
        .flatten()
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message.clone())
        .collect();
    if left.is_empty() {
        "its contents are on their way out".to_owned()
    } else {
        left.join("; ")
    }
}

async fn list<K>(
    client: &Client,
    namespace: &str,
    labels: &str,
) -> Result<Vec<PartialObjectMeta<K>>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = api
        .list_metadata(&ListParams::default().labels(labels))
        .await;
    Ok(found
        .map_err(Error::api("list what is left of the tenant"))?
        .items)
}

async fn delete_all<K>(
    client: &Client,
    namespace: &str,
    labels: &str,
    pick: impl Fn(&ObjectMeta) -> bool,
) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    for object in list::<K>(client, namespace, labels).await? {
        if pick(&object.metadata) && object.metadata.deletion_timestamp.is_none() {
            delete(
                &api,
                &object.name_any(),
                object.metadata.uid.as_deref().unwrap_or_default(),
            )
            .await?;
        }
    }
    Ok(())
}

/// Deletes exactly the object that was looked at.
async fn delete<K>(api: &Api<K>, name: &str, uid: &str) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(source) => Err(Error::Api {
            what: "delete an object of the tenant",
            source,
        }),
    }
}

async fn gone<K>(client: &Client, namespace: &str, labels: &str) -> Result<(), Halt>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    match list::<K>(client, namespace, labels).await?.first() {
        None => Ok(()),
        Some(object) => Err(in_the_way::<K>(object)),
    }
}

fn in_the_way<K: Resource<DynamicType = ()>>(object: &PartialObjectMeta<K>) -> Halt {
    let finalizers = object
        .metadata
        .finalizers
        .clone()
        .unwrap_or_default()
        .join(", ");
    let held = if finalizers.is_empty() {
        String::new()
    } else {
        format!(", held by finalizers {finalizers}")
    };
    Halt::wait_for(
        Reason::Deleting,
        format!(
            "{} {}/{} is still there{held}",
            K::kind(&()),
            object.namespace().unwrap_or_default(),
            object.name_any()
        ),
        LOOK_AGAIN,
    )
}
