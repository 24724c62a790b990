//! What a tenant may use of the host cluster.

use std::collections::BTreeMap;

use kubebyon_api::managed_cluster::Quota;
use kubebyon_k8s::k8s_openapi::api::core::v1::{
    LimitRange, LimitRangeItem, LimitRangeSpec, ResourceQuota, ResourceQuotaSpec,
};
use kubebyon_k8s::k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::QUOTA;
use crate::Cluster;

/// The quota, when one is asked for. There is none by default: which amounts are right only the
/// people of the host cluster know.
pub(super) fn resource_quota(
    cluster: &Cluster,
    namespace: &str,
    quota: &Quota,
) -> Option<ResourceQuota> {
    (!quota.hard.is_empty()).then(|| ResourceQuota {
        metadata: cluster.meta(namespace, QUOTA),
        spec: Some(ResourceQuotaSpec {
            hard: Some(quota.hard.clone()),
            ..ResourceQuotaSpec::default()
        }),
        ..ResourceQuota::default()
    })
}

/// What a container gets that asks for nothing: resource, request, limit. A quota on a compute
/// resource refuses pods that do not name it, CoreDNS of the tenant and most charts among them.
/// The amounts are those of the vCluster chart's own LimitRange.
const DEFAULTS: [(&str, &str, &str); 3] = [
    ("cpu", "100m", "1"),
    ("memory", "128Mi", "512Mi"),
    ("ephemeral-storage", "3Gi", "8Gi"),
];

/// Defaults for the compute resources that the quota names, and for no other.
pub(super) fn limit_range(cluster: &Cluster, namespace: &str, quota: &Quota) -> Option<LimitRange> {
    let mut requests = BTreeMap::new();
    let mut limits = BTreeMap::new();
    for (resource, request, limit) in DEFAULTS {
        let named = |key: &str| quota.hard.contains_key(key);
        let limited = named(&format!("limits.{resource}"));
        if limited {
            limits.insert(resource.to_owned(), Quantity(limit.to_owned()));
        }
        // A default limit alone would become the request too.
        if limited || named(resource) || named(&format!("requests.{resource}")) {
            requests.insert(resource.to_owned(), Quantity(request.to_owned()));
        }
    }
    (!requests.is_empty()).then(|| LimitRange {
        metadata: cluster.meta(namespace, QUOTA),
        spec: Some(LimitRangeSpec {
            limits: vec![LimitRangeItem {
                type_: "Container".to_owned(),
                default: (!limits.is_empty()).then_some(limits),
                default_request: Some(requests),
                ..LimitRangeItem::default()
            }],
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::example;

    fn quota(hard: &[(&str, &str)]) -> Quota {
        Quota {
            hard: hard
                .iter()
                .map(|(key, amount)| ((*key).to_owned(), Quantity((*amount).to_owned())))
                .collect(),
        }
    }

    #[test]
    fn a_quota_on_compute_comes_with_defaults() {
        let quota = quota(&[
            ("requests.cpu", "4"),
            ("limits.memory", "8Gi"),
            ("services.loadbalancers", "1"),
        ]);
        insta::assert_yaml_snapshot!((
            resource_quota(&example(), "byon-demo", &quota),
            limit_range(&example(), "byon-demo", &quota)
        ));
    }

    #[test]
    fn a_quota_on_objects_needs_no_defaults() {
        let quota = quota(&[("count/pods", "20")]);
        assert!(resource_quota(&example(), "byon-demo", &quota).is_some());
        assert_eq!(limit_range(&example(), "byon-demo", &quota), None);
    }

    #[test]
    fn no_quota_no_objects() {
        assert_eq!(
            resource_quota(&example(), "byon-demo", &Quota::default()),
            None
        );
        assert_eq!(
            limit_range(&example(), "byon-demo", &Quota::default()),
            None
        );
    }
}
