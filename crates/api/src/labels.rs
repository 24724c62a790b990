//! Labels, annotations, finalizers and field managers.

/// Label on every object that we make; its value is [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Our name as a manager, in labels and in `endpointslice.kubernetes.io/managed-by`.
pub const MANAGER: &str = "kubebyon";

/// Label: namespace of the ManagedCluster that an object was made for.
pub const CLUSTER_NAMESPACE: &str = "kubebyon.app/cluster-namespace";
/// Label: name of the ManagedCluster that an object was made for.
pub const CLUSTER_NAME: &str = "kubebyon.app/cluster-name";
/// Label: uid of the ManagedCluster that an object was made for. Only objects with our uid are pruned.
pub const CLUSTER_UID: &str = "kubebyon.app/cluster-uid";

/// Label: namespace of the PublicAccess that an object was made for.
pub const PUBLIC_ACCESS_NAMESPACE: &str = "kubebyon.app/public-access-namespace";
/// Label: name of the PublicAccess that an object was made for.
pub const PUBLIC_ACCESS_NAME: &str = "kubebyon.app/public-access-name";
/// Label: uid of the PublicAccess that an object was made for.
pub const PUBLIC_ACCESS_UID: &str = "kubebyon.app/public-access-uid";

/// Label on namespaces from which routes may attach to our Gateways. Only the operator sets it;
/// its value is [`ROUTES_ALLOWED`].
pub const ROUTES: &str = "kubebyon.app/routes";
/// Value of [`ROUTES`].
pub const ROUTES_ALLOWED: &str = "allowed";
/// Label on host namespaces, which the admission policies select; its value is [`HOST_NAMESPACE_TENANT`].
pub const HOST_NAMESPACE: &str = "kubebyon.app/host-namespace";
/// Value of [`HOST_NAMESPACE`].
pub const HOST_NAMESPACE_TENANT: &str = "tenant";

/// Label on objects of the workload edge; its value is [`SYNC_KIND_WORKLOAD_EDGE`].
pub const SYNC_KIND: &str = "kubebyon.app/gateway-api-sync-kind";
/// Value of [`SYNC_KIND`].
pub const SYNC_KIND_WORKLOAD_EDGE: &str = "workload-edge";
/// Annotation on the shim Service and its slices: `podip` or `nodeport`.
pub const BACKEND_MODE: &str = "kubebyon.app/workload-edge-backend-mode";
/// Annotation on the shim Service and its slices: the port that is dialled.
pub const BACKEND_PORT: &str = "kubebyon.app/workload-edge-backend-port";
/// Annotation on the shim Service and its slices: the tenant's Service that the addresses come from.
pub const BACKEND_SOURCE: &str = "kubebyon.app/workload-edge-backend-source";

/// Annotation on a host namespace: the `namespace/name` of the ManagedCluster that holds it.
pub const CLAIMED_BY: &str = "kubebyon.app/claimed-by";
/// Annotation by which the host admin releases an existing namespace: to host one tenant, with the
/// tenant's `namespace/name`, or to hold the Gateways of a PublicAccess, with its `namespace/name`.
pub const ADMIN_ALLOW: &str = "kubebyon.app/allow";
/// Annotation on a host namespace that we made: only such a namespace is deleted with its tenant.
pub const CREATED_BY_US: &str = "kubebyon.app/created";
/// Annotation by which the owner of an existing object hands it to us; its value is the
/// `namespace/name` of the object that may adopt it.
pub const ADOPT: &str = "kubebyon.app/adopt";

/// Annotation on a kubeconfig's Secret: the public host name that the kubeconfig names.
pub const PUBLIC_NAME: &str = "kubebyon.app/public-name";
/// Annotation on a kubeconfig's Secret: the public host names that the kubeconfig has left and that
/// still work for a while, as a JSON list of `{name, since}`.
pub const RETIRING_NAMES: &str = "kubebyon.app/retiring-names";
/// Annotation on a tenant's route: the Gateways that it leaves, as a JSON list of
/// `{namespace, name, sectionName, since}`.
pub const LEFT_GATEWAYS: &str = "kubebyon.app/left-gateways";
/// Annotation on a host namespace: the public names in its tenant's certificate, separated by commas.
pub const PUBLIC_SANS: &str = "kubebyon.app/public-sans";

/// Finalizer on a ManagedCluster.
pub const CLUSTER_FINALIZER: &str = "kubebyon.app/managed-cluster";
/// Finalizer on a ManagedCluster for what the workload edge made.
pub const WORKLOAD_EDGE_FINALIZER: &str = "kubebyon.app/workload-edge";
/// Finalizer on a PublicAccess.
pub const PUBLIC_ACCESS_FINALIZER: &str = "kubebyon.app/public-access";
/// Finalizer on a WorkloadRoutePlan.
pub const ROUTE_PLAN_FINALIZER: &str = "kubebyon.app/workload-route-plan";

/// Field managers: each controller applies its own full set, under its own name.
pub mod field_manager {
    /// The managed_cluster controller.
    pub const MANAGED_CLUSTER: &str = "kubebyon-managed-cluster";
    /// The public_access controller.
    pub const PUBLIC_ACCESS: &str = "kubebyon-public-access";
    /// The workload_edge controller.
    pub const WORKLOAD_EDGE: &str = "kubebyon-workload-edge";
    /// The workload_route_plan controller.
    pub const WORKLOAD_ROUTE_PLAN: &str = "kubebyon-workload-route-plan";

    /// The agent of a host node: one name a node, at most 128 characters.
    pub fn route_agent(node: &str) -> String {
        let mut name = format!("kubebyon-route-agent-{node}");
        if name.len() > 128 {
            name = format!("kubebyon-route-agent-{}", crate::names::hash(node, 32));
        }
        name
    }
}

/// Labels that the vCluster chart and its syncer set.
pub mod vcluster {
    /// On what the syncer made on the host: the name of the tenant's release.
    pub const MANAGED_BY: &str = "vcluster.loft.sh/managed-by";
    /// On what the syncer made on the host: the namespace inside the tenant.
    pub const NAMESPACE: &str = "vcluster.loft.sh/namespace";
    /// On what the chart made: one of [`APPS`].
    pub const APP: &str = "app";
    /// The control plane, and an etcd of its own.
    pub const APPS: [&str; 2] = ["vcluster", "vcluster-etcd"];
    /// On what the chart made: the name of the release.
    pub const RELEASE: &str = "release";
}
