//! The tenant's control plane.

use kubebyon_k8s::k8s_openapi::api::core::v1::ResourceRequirements;
use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::refs::{SecretRef, is_default, none_if_empty};
use crate::schema::cel;

/// The tenant's control plane.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "self.replicas == 1 || self.backingStore.type != 'EmbeddedDatabase'",
    "controlPlane.replicas above 1 needs a store that replicas can share: set controlPlane.backingStore.type to DeployedEtcd (or ExternalDatabase), or replicas to 1",
)])))]
pub struct ControlPlane {
    /// Number of control plane pods. More than one needs a store other than EmbeddedDatabase;
    /// with one, each change of values is a short gap.
    #[serde(default = "ControlPlane::default_replicas")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,
    /// The Service in front of the control plane, in the host namespace.
    #[serde(default)]
    pub service: Service,
    /// Image of the control plane. What is unset comes from the chart.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image: Image,
    /// Where the tenant's objects are kept. Immutable.
    #[serde(default)]
    pub backing_store: BackingStore,
    /// Volume of the control plane.
    #[serde(default)]
    pub storage: Storage,
    /// Compute resources of each control plane pod. Unset: those of the chart.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(schema_with = "crate::schema::bounded::<ResourceRequirements>")]
    pub resources: ResourceRequirements,
    /// More names and addresses for the API's certificate. The public names are added by the
    /// operator and need no entry here. A change restarts the control plane.
    #[serde(default, rename = "extraSANs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::subject_alt_names")]
    pub extra_sans: Vec<String>,
}

impl ControlPlane {
    fn default_replicas() -> i32 {
        1
    }
}

impl Default for ControlPlane {
    fn default() -> Self {
        Self {
            replicas: Self::default_replicas(),
            service: Service::default(),
            image: Image::default(),
            backing_store: BackingStore::default(),
            storage: Storage::default(),
            resources: ResourceRequirements::default(),
            extra_sans: Vec::new(),
        }
    }
}

/// The Service in front of the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Type of the Service.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
}

/// Type of the control plane's Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ServiceType {
    /// Reachable from inside the host cluster; a public name still works through the gateway.
    #[default]
    ClusterIP,
    /// Reachable on a port of each host node.
    NodePort,
    /// Reachable on an address of the host cluster's load balancer.
    LoadBalancer,
}

impl ServiceType {
    /// The word that Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// An image, by its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Registry of the image, such as ghcr.io.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::image_part")]
    pub registry: Option<String>,
    /// Repository of the image, such as loft-sh/vcluster-oss.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::image_part")]
    pub repository: Option<String>,
    /// Tag of the image.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::image_tag")]
    pub tag: Option<String>,
}

/// Where the tenant's objects are kept: a union by type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "self.type == oldSelf.type && (has(self.deployedEtcd) ? self.deployedEtcd.replicas : 3) == (has(oldSelf.deployedEtcd) ? oldSelf.deployedEtcd.replicas : 3) && (!has(self.externalDatabase) || !has(oldSelf.externalDatabase) || (has(self.externalDatabase.secretRef.name) ? self.externalDatabase.secretRef.name : '') == (has(oldSelf.externalDatabase.secretRef.name) ? oldSelf.externalDatabase.secretRef.name : ''))",
        "controlPlane.backingStore is immutable: the tenant's objects cannot be moved between stores; create a new cluster with the other store",
    ),
    (
        "!has(self.deployedEtcd) || self.type == 'DeployedEtcd'",
        "controlPlane.backingStore.deployedEtcd is given only with type DeployedEtcd: set the type, or remove deployedEtcd",
    ),
    (
        "has(self.externalDatabase) == (self.type == 'ExternalDatabase')",
        "controlPlane.backingStore.externalDatabase is given exactly with type ExternalDatabase: set both, or remove both",
    ),
])))]
pub struct BackingStore {
    /// Kind of the store.
    #[serde(default, rename = "type")]
    pub type_: BackingStoreType,
    /// The etcd that is deployed beside the control plane; only with type DeployedEtcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed_etcd: Option<DeployedEtcd>,
    /// The database outside; exactly with type ExternalDatabase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_database: Option<ExternalDatabase>,
}

/// Kind of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum BackingStoreType {
    /// A database file on the control plane's own volume; one replica only.
    #[default]
    EmbeddedDatabase,
    /// An etcd of its own in the host namespace.
    DeployedEtcd,
    /// A database that the user runs; needs a vCluster licence.
    ExternalDatabase,
}

/// An etcd beside the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployedEtcd {
    /// Number of etcd members: 1, 3 or 5. Immutable.
    #[serde(default = "DeployedEtcd::default_replicas")]
    #[schemars(range(min = 1, max = 5), extend("x-kubernetes-validations" = cel(&[(
        "self in [1, 3, 5]",
        "controlPlane.backingStore.deployedEtcd.replicas must be 1, 3 or 5: an even number of members survives no more failures",
    )])))]
    pub replicas: i32,
}

impl DeployedEtcd {
    fn default_replicas() -> i32 {
        3
    }
}

impl Default for DeployedEtcd {
    fn default() -> Self {
        Self {
            replicas: Self::default_replicas(),
        }
    }
}

/// A database that the user runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "self.secretRef.?name.orValue('') != ''",
    "controlPlane.backingStore.externalDatabase.secretRef.name is required: name the Secret whose key dataSource holds the connection",
)])))]
pub struct ExternalDatabase {
    /// Secret of this namespace whose key dataSource holds the connection string.
    pub secret_ref: SecretRef,
}

/// Volume of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "!isQuantity(self.size) || !isQuantity(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
        "controlPlane.storage.size only grows: volumes cannot be shrunk; set it to the old size or more",
    ),
    (
        "(has(self.className) ? self.className : '') == (has(oldSelf.className) ? oldSelf.className : '')",
        "controlPlane.storage.className is immutable, also from unset to set: create a new cluster to use another storage class",
    ),
])))]
pub struct Storage {
    /// Size of the volume. It only grows.
    #[serde(default = "Storage::default_size")]
    #[schemars(schema_with = "crate::schema::size")]
    pub size: String,
    /// Storage class of the volume. Immutable. Default: the host cluster's default class.
    #[serde(
        default,
        deserialize_with = "none_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub class_name: Option<String>,
}

impl Storage {
    fn default_size() -> String {
        "5Gi".to_owned()
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            size: Self::default_size(),
            class_name: None,
        }
    }
}
