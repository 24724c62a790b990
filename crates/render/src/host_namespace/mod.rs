//! The namespace of a tenant on the host cluster, and the fence around it.
//!
//! A tenant is hostile: it runs any pod that its host namespace admits. So the namespace admits
//! little (Pod Security baseline), its pods reach little ([`network`]), and what Helm may do there
//! is bound to a ServiceAccount that has rights in this namespace alone.

pub mod network;
mod quota;

use std::collections::BTreeSet;

use kubebyon_api::labels;
use kubebyon_api::managed_cluster::Quota;
use kubebyon_api::types::HostPattern;
use kubebyon_k8s::k8s_openapi::api::core::v1::{
    LimitRange, Namespace, ResourceQuota, ServiceAccount,
};
use kubebyon_k8s::k8s_openapi::api::networking::v1::NetworkPolicy;
use kubebyon_k8s::k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Cluster;
use crate::exposure::certificate;
use crate::gateway_api::ROUTES_LABEL;
use network::Reach;

/// Name of the ServiceAccount that Helm runs as, in each host namespace, and of its RoleBinding.
pub const RELEASE_SERVICE_ACCOUNT: &str = "kubebyon-release";
/// Name of the ClusterRole that is bound to it there; `config/rbac` has its rules.
pub const RELEASE_CLUSTER_ROLE: &str = "kubebyon-release";
/// Name of the ResourceQuota and of the LimitRange.
pub const QUOTA: &str = "kubebyon-quota";

const POD_SECURITY: &str = "pod-security.kubernetes.io";

/// Who made a host namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator; it deletes the namespace with the tenant.
    Created,
    /// The host admin, who released it by annotation; it stays.
    Adopted,
}

/// What a host namespace is made from.
#[derive(Clone, Copy)]
pub struct HostNamespace<'a> {
    /// Whose it is.
    pub cluster: &'a Cluster,
    /// Its name.
    pub name: &'a str,
    /// Who made it.
    pub origin: Origin,
    /// What the tenant may use.
    pub quota: &'a Quota,
    /// What its pods may reach, and who may reach them.
    pub reach: Reach<'a>,
}

/// Everything that is applied before the first Helm run, in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    /// The namespace.
    pub namespace: Namespace,
    /// The fence.
    pub network_policies: Vec<NetworkPolicy>,
    /// What the tenant may use; only when the spec says so.
    pub resource_quota: Option<ResourceQuota>,
    /// Defaults for containers that ask for nothing, which a quota would otherwise refuse.
    pub limit_range: Option<LimitRange>,
    /// Who Helm runs as.
    pub service_account: ServiceAccount,
    /// What Helm may do.
    pub role_binding: RoleBinding,
}

impl Objects {
    /// The same for a tenant with a public name: routes of the namespace may attach to the Gateways
    /// of a PublicAccess.
    #[must_use]
    pub fn with_routes(mut self) -> Self {
        let (key, value) = ROUTES_LABEL;
        self.namespace
            .metadata
            .labels
            .get_or_insert_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }

    /// The same for a tenant whose certificate has public names: they are remembered here, for a name
    /// that once was in the certificate stays, and the release is asked for it again each time.
    #[must_use]
    pub fn with_public_sans(mut self, names: &BTreeSet<HostPattern>) -> Self {
        if !names.is_empty() {
            self.namespace
                .metadata
                .annotations
                .get_or_insert_default()
                .insert(labels::PUBLIC_SANS.to_owned(), certificate::to_text(names));
        }
        self
    }
}

impl HostNamespace<'_> {
    /// The objects of this namespace.
    pub fn objects(&self) -> Objects {
        Objects {
            namespace: self.namespace(),
            network_policies: network::policies(self.cluster, self.name, &self.reach),
            resource_quota: quota::resource_quota(self.cluster, self.name, self.quota),
            limit_range: quota::limit_range(self.cluster, self.name, self.quota),
            service_account: self.service_account(),
            role_binding: self.role_binding(),
        }
    }

    /// The namespace, with the claim on it.
    pub fn namespace(&self) -> Namespace {
        let mut namespace_labels = self.cluster.labels();
        namespace_labels.insert(
            labels::HOST_NAMESPACE.to_owned(),
            labels::HOST_NAMESPACE_TENANT.to_owned(),
        );
        // Baseline is what the chart's own pods need: the control plane runs as root. What would be
        // refused at the next level up is shown to the tenant's owner as a warning.
        for (mode, level) in [("enforce", "baseline"), ("warn", "restricted")] {
            namespace_labels.insert(format!("{POD_SECURITY}/{mode}"), level.to_owned());
        }
        let mut annotations = [(labels::CLAIMED_BY.to_owned(), self.cluster.key())]
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>();
        if self.origin == Origin::Created {
            annotations.insert(labels::CREATED_BY_US.to_owned(), "true".to_owned());
        }
        Namespace {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                labels: Some(namespace_labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        }
    }

    fn service_account(&self) -> ServiceAccount {
        ServiceAccount {
            metadata: self.cluster.meta(self.name, RELEASE_SERVICE_ACCOUNT),
            // Nobody runs a pod as this account; the operator impersonates it.
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        }
    }

    fn role_binding(&self) -> RoleBinding {
        RoleBinding {
            metadata: self.cluster.meta(self.name, RELEASE_SERVICE_ACCOUNT),
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".to_owned(),
                kind: "ClusterRole".to_owned(),
                name: RELEASE_CLUSTER_ROLE.to_owned(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: RELEASE_SERVICE_ACCOUNT.to_owned(),
                namespace: Some(self.name.to_owned()),
                ..Subject::default()
            }]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::example;

    fn namespace(origin: Origin) -> Objects {
        HostNamespace {
            cluster: &example(),
            name: "byon-demo-0a1b2c3d",
            origin,
            quota: &Quota::default(),
            reach: Reach::default(),
        }
        .objects()
    }

    #[test]
    fn created() {
        let objects = namespace(Origin::Created);
        insta::assert_yaml_snapshot!((
            objects.namespace,
            objects.service_account,
            objects.role_binding
        ));
        assert_eq!((objects.resource_quota, objects.limit_range), (None, None));
    }

    #[test]
    fn routes_attach_only_where_that_is_asked_for() {
        let label = |objects: Objects| {
            objects
                .namespace
                .metadata
                .labels
                .unwrap()
                .remove(labels::ROUTES)
        };
        assert_eq!(label(namespace(Origin::Created)), None);
        assert_eq!(
            label(namespace(Origin::Created).with_routes()).as_deref(),
            Some(labels::ROUTES_ALLOWED)
        );
    }

    #[test]
    fn an_adopted_namespace_is_not_said_to_be_ours_to_delete() {
        let annotations = namespace(Origin::Adopted)
            .namespace
            .metadata
            .annotations
            .unwrap();
        assert_eq!(
            annotations.get(labels::CLAIMED_BY).map(String::as_str),
            Some("team-a/demo")
        );
        assert!(!annotations.contains_key(labels::CREATED_BY_US));
    }
}
