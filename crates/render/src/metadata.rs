//! What every object that is made for a ManagedCluster or a PublicAccess carries.

use std::collections::BTreeMap;

use kubebyon_api::{ManagedCluster, PublicAccess, labels};
use kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kubebyon_k8s::kube::Resource;

/// Which ManagedCluster an object is made for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// Namespace of the ManagedCluster.
    pub namespace: String,
    /// Name of the ManagedCluster.
    pub name: String,
    /// Uid of the ManagedCluster: objects of an earlier one of the same name are not ours.
    pub uid: String,
}

impl Cluster {
    /// The identity of `cluster`; none before the api-server has given it a uid.
    pub fn of(cluster: &ManagedCluster) -> Option<Self> {
        let meta = &cluster.metadata;
        Some(Self {
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
        })
    }

    /// `namespace/name`: the claim on a host namespace, and a name for people.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Name of the tenant's Helm release.
    pub fn release(&self) -> &str {
        &self.name
    }

    /// Name of the tenant's Service with its namespace on the host: a name that the tenant's
    /// certificate holds.
    pub fn service_dns_name(&self, host_namespace: &str) -> String {
        format!("{}.{host_namespace}.svc", self.release())
    }

    /// The labels of every object made for this cluster.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [
            (labels::MANAGED_BY, labels::MANAGER),
            (labels::CLUSTER_NAMESPACE, &self.namespace),
            (labels::CLUSTER_NAME, &self.name),
            (labels::CLUSTER_UID, &self.uid),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// Whether an object says that it was made for this cluster.
    pub fn made(&self, meta: &ObjectMeta) -> bool {
        let has = |key: &str, value: &str| {
            let labels = meta.labels.as_ref();
            labels
                .and_then(|labels| labels.get(key))
                .map(String::as_str)
                == Some(value)
        };
        has(labels::MANAGED_BY, labels::MANAGER) && has(labels::CLUSTER_UID, &self.uid)
    }

    /// Selects every object made for this cluster.
    pub fn selector(&self) -> String {
        format!("{}={}", labels::CLUSTER_UID, self.uid)
    }

    /// The reference by which an object of this cluster's own namespace goes with it.
    pub fn owner_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: ManagedCluster::api_version(&()).into_owned(),
            kind: ManagedCluster::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            // The cluster's deletion waits for a finalizer of ours, not for its Secrets.
            block_owner_deletion: Some(false),
        }
    }

    /// Metadata of an object in `namespace`.
    pub(crate) fn meta(&self, namespace: &str, name: impl Into<String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(namespace.to_owned()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }
}

/// Which PublicAccess an object is made for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entrance {
    /// Namespace of the PublicAccess.
    pub namespace: String,
    /// Name of the PublicAccess.
    pub name: String,
    /// Uid of the PublicAccess: objects of an earlier one of the same name are not ours.
    pub uid: String,
}

impl Entrance {
    /// The identity of `access`; none before the api-server has given it a uid.
    pub fn of(access: &PublicAccess) -> Option<Self> {
        let meta = &access.metadata;
        Some(Self {
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
        })
    }

    /// `namespace/name`: what the annotations of adoption and release say, and a name for people.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The labels of every object made for this PublicAccess.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [
            (labels::MANAGED_BY, labels::MANAGER),
            (labels::PUBLIC_ACCESS_NAMESPACE, &self.namespace),
            (labels::PUBLIC_ACCESS_NAME, &self.name),
            (labels::PUBLIC_ACCESS_UID, &self.uid),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// Selects every object made for this PublicAccess.
    pub fn selector(&self) -> String {
        format!("{}={}", labels::PUBLIC_ACCESS_UID, self.uid)
    }

    /// Metadata of an object in `namespace`.
    pub(crate) fn meta(&self, namespace: &str, name: impl Into<String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(namespace.to_owned()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }
}

#[cfg(test)]
pub(crate) fn example() -> Cluster {
    Cluster {
        namespace: "team-a".to_owned(),
        name: "demo".to_owned(),
        uid: "11111111-2222-3333-4444-555555555555".to_owned(),
    }
}
