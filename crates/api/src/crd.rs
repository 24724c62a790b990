//! The CustomResourceDefinitions as they are installed.
//!
//! `kube`'s derive makes the schema out of the types; the functions here add what a derive on the
//! spec cannot say: the rules on the whole object, which see its name and its status. Take the
//! definitions from here, never from `CustomResourceExt::crd`.

use kubebyon_k8s::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kubebyon_k8s::kube::CustomResourceExt;

use crate::{ManagedCluster, PublicAccess, WorkloadRoutePlan};

/// All definitions.
pub fn all() -> [CustomResourceDefinition; 3] {
    [
        ManagedCluster::crd(),
        PublicAccess::crd(),
        WorkloadRoutePlan::crd(),
    ]
}
