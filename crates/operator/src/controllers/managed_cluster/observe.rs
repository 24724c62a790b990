//! All that is read for one reconcile, once, mostly from what the watches hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kubebyon_api::{
    ManagedCluster, labels,
    managed_cluster::{ValuesSource, ValuesSourceKind},
    names,
    types::{HostPattern, Hostname},
};
use kubebyon_helm::{ReleaseHistory, Revision};
use kubebyon_k8s::{
    k8s_openapi::api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{ConfigMap, Namespace, Pod, Secret, Service},
    },
    kube::{
        Api, Client, ResourceExt, api::ListParams, core::PartialObjectMeta,
        runtime::reflector::ObjectRef,
    },
};
use kubebyon_render::{
    exposure::certificate,
    values::{Public, Source},
};

use super::{error::Error, stores::Stores};
use crate::watches::cached;

/// The facts about one cluster.
pub struct Observed {
    /// The host namespace's name.
    pub host_namespace: String,
    /// The release's name.
    pub release: String,
    /// The host namespace, if it is there.
    pub namespace: Option<Arc<Namespace>>,
    /// The revisions of the release, from their Secrets' metadata.
    pub history: ReleaseHistory,
    /// The control plane's pods, as their controller counts them.
    pub workload: Option<Workload>,
    /// The control plane's Service.
    pub service: Option<Arc<Service>>,
    /// Whether the tenant has written its certificates.
    pub has_pki: bool,
    /// What of the tenant is public, as far as the host namespace and the release are concerned.
    pub exposed: Exposed,
}

/// What of a tenant is public.
#[derive(Clone, Debug, Default)]
pub struct Exposed {
    /// Whether routes of the host namespace may attach to Gateways.
    pub routes: bool,
    /// The public names of the tenant's certificate: once there, they stay.
    pub sans: BTreeSet<HostPattern>,
    /// The name that the tenant's own nodes dial.
    pub hostname: Option<Hostname>,
}

impl Exposed {
    /// As the release's values have it.
    pub fn values(&self) -> Option<Public<'_>> {
        let hostname = self.hostname.as_ref()?;
        (!self.sans.is_empty()).then_some(Public {
            hostname,
            sans: &self.sans,
        })
    }

    /// What the host namespace remembers of a tenant that is or was public.
    fn remembered(namespace: Option<&Namespace>) -> Self {
        let annotation = namespace.and_then(|found| found.annotations().get(labels::PUBLIC_SANS));
        let sans = annotation
            .map(|text| certificate::from_text(text))
            .unwrap_or_default();
        let hostname = sans
            .iter()
            .find_map(|pattern| pattern.to_string().parse().ok());
        let label = namespace.and_then(|found| found.labels().get(labels::ROUTES));
        Self {
            routes: label.is_some_and(|value| value == labels::ROUTES_ALLOWED),
            sans,
            hostname,
        }
    }
}

/// The StatefulSet or Deployment of a control plane.
#[derive(Clone)]
pub enum Workload {
    /// With a volume, or an etcd of its own.
    StatefulSet(Arc<StatefulSet>),
    /// With a store elsewhere.
    Deployment(Arc<Deployment>),
}

/// How far a control plane's pods are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Replicas {
    /// Pods wanted.
    pub wanted: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods of the newest template.
    pub updated: i32,
    /// Whether the counts speak of the newest template.
    pub current: bool,
}

impl Workload {
    /// The counts.
    pub fn replicas(&self) -> Replicas {
        let (meta, wanted, counts) = match self {
            Self::StatefulSet(set) => (
                &set.metadata,
                set.spec.as_ref().and_then(|spec| spec.replicas),
                set.status.as_ref().map(|now| {
                    (
                        now.observed_generation,
                        now.ready_replicas,
                        now.updated_replicas,
                    )
                }),
            ),
            Self::Deployment(set) => (
                &set.metadata,
                set.spec.as_ref().and_then(|spec| spec.replicas),
                set.status.as_ref().map(|now| {
                    (
                        now.observed_generation,
                        now.ready_replicas,
                        now.updated_replicas,
                    )
                }),
            ),
        };
        let (observed, ready, updated) = counts.unwrap_or_default();
        Replicas {
            wanted: wanted.unwrap_or(1),
            ready: ready.unwrap_or(0),
            updated: updated.unwrap_or(0),
            current: observed >= meta.generation,
        }
    }
}

impl Observed {
    /// Reads what the watches hold about `cluster`.
    pub fn read(stores: &Stores, cluster: &ManagedCluster) -> Result<Self, Error> {
        let host_namespace = String::from(cluster.host_namespace()?);
        let release = cluster.release_name().to_owned();
        let namespace = stores.namespaces.get(&ObjectRef::new(&host_namespace));
        let secrets = stores.secrets.state_filter(|secret| {
            secret.metadata.namespace.as_deref() == Some(host_namespace.as_str())
                && is_revision_of(secret, &release)
        });
        let history = ReleaseHistory::read(&release, secrets.iter().map(|secret| &secret.metadata));
        let workload = cached(
            &stores.stateful_sets,
            &host_namespace,
            &names::vcluster::control_plane(&release),
        )
        .map(Workload::StatefulSet)
        .or_else(|| {
            cached(
                &stores.deployments,
                &host_namespace,
                &names::vcluster::control_plane(&release),
            )
            .map(Workload::Deployment)
        });
        Ok(Self {
            exposed: Exposed::remembered(namespace.as_deref()),
            namespace,
            history,
            workload,
            service: cached(
                &stores.services,
                &host_namespace,
                &names::vcluster::control_plane(&release),
            ),
            has_pki: cached(
                &stores.secrets,
                &host_namespace,
                &names::vcluster::kubeconfig_secret(&release),
            )
            .is_some(),
            host_namespace,
            release,
        })
    }

    /// `namespace/name` of the cluster that holds the host namespace.
    pub fn holder(&self) -> Option<&str> {
        self.namespace
            .as_ref()?
            .annotations()
            .get(labels::CLAIMED_BY)
            .map(String::as_str)
    }

    /// The pods of the control plane.
    pub fn pods(&self, stores: &Stores) -> Vec<Arc<Pod>> {
        stores.pods.state_filter(|pod| {
            pod.metadata.namespace.as_deref() == Some(self.host_namespace.as_str())
                && pod.labels().get(labels::vcluster::RELEASE) == Some(&self.release)
        })
    }
}

/// Whether the release was made by somebody else: no revision carries a label of ours.
/// That a claimed namespace was empty before is nothing that anybody promised.
pub fn is_foreign(history: &ReleaseHistory) -> bool {
    let unmarked = |revision: &Revision| {
        revision.values_hash.is_none()
            && revision.chart_digest.is_none()
            && revision.chart_version.is_none()
    };
    !history.revisions().is_empty() && history.revisions().iter().all(unmarked)
}

fn is_revision_of(secret: &PartialObjectMeta<Secret>, release: &str) -> bool {
    let has = |key: &str, value: &str| secret.labels().get(key).is_some_and(|found| found == value);
    has("owner", "helm") && has("name", release)
}

/// The release's revisions as the api-server has them now: before something as heavy as
/// a run of helm, a watch may not be trusted to be up to date.
pub async fn history_now(
    client: &Client,
    namespace: &str,
    release: &str,
) -> Result<ReleaseHistory, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let parameters = ListParams::default().labels(&kubebyon_helm::release::selector(release));
    let secrets = api
        .list_metadata(&parameters)
        .await
        .map_err(Error::api("list the release's Secrets"))?;
    Ok(ReleaseHistory::read(
        release,
        secrets.items.iter().map(|secret| &secret.metadata),
    ))
}

/// What the cluster author says about the release: `spec.valuesFrom` in order, then
/// `spec.values`. What is optional and missing is left out.
pub async fn values_sources(
    client: &Client,
    cluster: &ManagedCluster,
) -> Result<Vec<Source>, Error> {
    let namespace = cluster.namespace_str();
    let mut sources = Vec::new();
    for (index, source) in cluster.spec.values_from.iter().enumerate() {
        if let Some(text) = values_text(client, namespace, source).await? {
            let (kind, name, key) = (kind(source.kind), &source.name, &source.key);
            let origin = format!("spec.valuesFrom[{index}] ({kind} {namespace}/{name}, key {key})");
            sources.push(Source::from_yaml(origin, &text)?);
        }
    }
    sources.push(Source::new("spec.values", cluster.spec.values.clone()));
    Ok(sources)
}

async fn values_text(
    client: &Client,
    namespace: &str,
    source: &ValuesSource,
) -> Result<Option<String>, Error> {
    let missing = |lack: String| Error::ValuesSourceNotFound {
        kind: kind(source.kind),
        namespace: namespace.to_owned(),
        name: source.name.clone(),
        lack,
    };
    let found = match source.kind {
        ValuesSourceKind::ConfigMap => {
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
            let object = api
                .get_opt(&source.name)
                .await
                .map_err(Error::api("read a ConfigMap of spec.valuesFrom"))?;
            object.map(|object| {
                object
                    .data
                    .unwrap_or_default()
                    .remove(&source.key)
                    .map(String::into_bytes)
            })
        }
        ValuesSourceKind::Secret => {
            let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
            let object = api
                .get_opt(&source.name)
                .await
                .map_err(Error::api("read a Secret of spec.valuesFrom"))?;
            object.map(|object| {
                object
                    .data
                    .unwrap_or_default()
                    .remove(&source.key)
                    .map(|bytes| bytes.0)
            })
        }
    };
    match found {
        Some(Some(bytes)) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| missing(format!("has no text in key {}", source.key))),
        None | Some(None) if source.optional => Ok(None),
        None => Err(missing("does not exist".to_owned())),
        Some(None) => Err(missing(format!("has no key {}", source.key))),
    }
}

fn kind(kind: ValuesSourceKind) -> &'static str {
    match kind {
        ValuesSourceKind::ConfigMap => "ConfigMap",
        ValuesSourceKind::Secret => "Secret",
    }
}

/// The contents of a Secret that the spec names, in the cluster's own namespace.
pub async fn secret(
    client: &Client,
    field: &'static str,
    namespace: &str,
    name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = api
        .get_opt(name)
        .await
        .map_err(Error::api("read a Secret that the spec names"))?;
    let found = found.ok_or_else(|| Error::SecretNotFound {
        field,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        lack: "does not exist; create it".to_owned(),
    })?;
    Ok(found
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| (key, value.0))
        .collect())
}
