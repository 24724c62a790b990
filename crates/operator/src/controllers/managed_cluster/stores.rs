//! The watches of this controller, and which cluster each event concerns.

mod public;

use std::time::Duration;

use futures::{Stream, StreamExt, stream::BoxStream};
use kubebyon_api::{ManagedCluster, PublicAccess, labels};
use kubebyon_k8s::{
    gateway_api::{gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute},
    k8s_openapi::{
        api::{
            apps::v1::{Deployment, StatefulSet},
            core::v1::{
                ConfigMap, LimitRange, Namespace, Pod, ResourceQuota, Secret, Service,
                ServiceAccount,
            },
            networking::v1::NetworkPolicy,
            rbac::v1::{Role, RoleBinding},
        },
        apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    },
    kube::{
        Client, Resource, ResourceExt,
        core::{DeserializeGuard, DynamicObject, PartialObjectMeta},
        runtime::reflector::{ObjectRef, Store},
    },
};

use tokio::time::timeout;

use self::public::Public;
use crate::watches::{everywhere, refs, watch, watch_metadata, watch_metadata_keeping, whole};

/// A ManagedCluster as it comes off the wire: one that cannot be read must not stop the watch.
pub type Guarded = DeserializeGuard<ManagedCluster>;
/// As [`Guarded`], for a PublicAccess.
pub type GuardedAccess = DeserializeGuard<PublicAccess>;
/// The name of a ManagedCluster.
pub type ClusterRef = ObjectRef<Guarded>;

/// What the watches hold.
pub struct Stores {
    /// Host namespaces that we made or claimed.
    pub namespaces: Store<Namespace>,
    /// Release Secrets, tenants' certificates and our kubeconfigs; their metadata alone.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    /// Control planes with a volume.
    pub stateful_sets: Store<StatefulSet>,
    /// Control planes without.
    pub deployments: Store<Deployment>,
    /// Control planes' Services.
    pub services: Store<Service>,
    /// Control planes' pods, without their specs.
    pub pods: Store<Pod>,
    /// Our release ServiceAccounts.
    pub service_accounts: Store<ServiceAccount>,
    /// Our bindings of them.
    pub role_bindings: Store<RoleBinding>,
    /// Our NetworkPolicies.
    pub network_policies: Store<NetworkPolicy>,
    /// Our ResourceQuotas.
    pub resource_quotas: Store<ResourceQuota>,
    /// Our LimitRanges.
    pub limit_ranges: Store<LimitRange>,
    /// The charts' ServiceAccounts, for their presence.
    pub chart_service_accounts: Store<PartialObjectMeta<ServiceAccount>>,
    /// The charts' Roles.
    pub chart_roles: Store<Role>,
    /// Their bindings.
    pub chart_role_bindings: Store<RoleBinding>,
    /// Which APIs are served.
    pub definitions: Store<CustomResourceDefinition>,
    /// All PublicAccesses.
    pub accesses: Store<GuardedAccess>,
    /// All namespaces: their labels decide who may attach.
    pub all_namespaces: Store<PartialObjectMeta<Namespace>>,
    /// All GatewayClasses, for who serves them.
    pub gateway_classes: Store<GatewayClass>,
    /// Our Gateways, for their addresses.
    pub gateways: Store<Gateway>,
    /// The claims on host names.
    pub claims: Store<ConfigMap>,
    /// All TLSRoutes; of those that are not ours the host names alone.
    pub tls_routes: Store<DynamicObject>,
    /// All HTTPRoutes, without their rules.
    pub http_routes: Store<HttpRoute>,
}

/// How long to wait for the watches of Gateway API.
const ENTRANCES_LIMIT: Duration = Duration::from_secs(5);
const OURS: &str = "app.kubernetes.io/managed-by=kubebyon";
const CHARTS: &str = "app in (vcluster, vcluster-etcd)";

impl Stores {
    /// Begins to watch. The stream names each cluster that an event concerns; the stores
    /// fill while it is polled.
    pub fn watch(
        client: &Client,
        operator_namespace: &str,
        clusters: Store<Guarded>,
    ) -> (Self, impl Stream<Item = ClusterRef> + Send + 'static) {
        let namespaces = watch::<Namespace>(everywhere(client), OURS, whole);
        let secrets = watch_metadata_keeping::<Secret>(everywhere(client), is_of_interest);
        let config_maps = watch_metadata_keeping::<ConfigMap>(everywhere(client), |_| false);
        let stateful_sets = watch::<StatefulSet>(everywhere(client), CHARTS, whole);
        let deployments = watch::<Deployment>(everywhere(client), CHARTS, whole);
        let services = watch::<Service>(everywhere(client), CHARTS, whole);
        let pods = watch::<Pod>(everywhere(client), CHARTS, |pod| pod.spec = None);
        let service_accounts = watch::<ServiceAccount>(everywhere(client), OURS, whole);
        let role_bindings = watch::<RoleBinding>(everywhere(client), OURS, whole);
        let network_policies = watch::<NetworkPolicy>(everywhere(client), OURS, whole);
        let resource_quotas =
            watch::<ResourceQuota>(everywhere(client), OURS, |quota| quota.status = None);
        let limit_ranges = watch::<LimitRange>(everywhere(client), OURS, whole);
        let chart_service_accounts = watch_metadata::<ServiceAccount>(everywhere(client), CHARTS);
        let chart_roles = watch::<Role>(everywhere(client), CHARTS, whole);
        let chart_role_bindings = watch::<RoleBinding>(everywhere(client), CHARTS, whole);
        let public = Public::watch(client, operator_namespace);

        let stores = Self {
            namespaces: namespaces.store.clone(),
            secrets: secrets.store,
            stateful_sets: stateful_sets.store,
            deployments: deployments.store,
            services: services.store,
            pods: pods.store,
            service_accounts: service_accounts.store,
            role_bindings: role_bindings.store,
            network_policies: network_policies.store,
            resource_quotas: resource_quotas.store,
            limit_ranges: limit_ranges.store,
            chart_service_accounts: chart_service_accounts.store,
            chart_roles: chart_roles.store,
            chart_role_bindings: chart_role_bindings.store,
            definitions: public.definitions.store.clone(),
            accesses: public.accesses.store.clone(),
            all_namespaces: public.all_namespaces.store.clone(),
            gateway_classes: public.gateway_classes.store.clone(),
            gateways: public.gateways.store.clone(),
            claims: public.claims.store.clone(),
            tls_routes: public.tls_routes.store.clone(),
            http_routes: public.http_routes.store.clone(),
        };

        let hosts = namespaces.store;
        let in_host = move |namespace: Option<String>| holder_of(&hosts, namespace.as_deref());
        let users = clusters.clone();
        let clusters_for_public = clusters.clone();
        let by_secret = {
            let in_host = in_host.clone();
            refs(
                secrets.touched,
                move |secret: &PartialObjectMeta<Secret>| {
                    let mut found = in_host(secret.namespace());
                    found.extend(named_by_spec(
                        &users,
                        secret.namespace().as_deref(),
                        |cluster| names_secret(cluster, &secret.name_any()),
                    ));
                    found
                },
            )
        };
        let by_config_map = refs(
            config_maps.touched,
            move |object: &PartialObjectMeta<ConfigMap>| {
                named_by_spec(&clusters, object.namespace().as_deref(), |cluster| {
                    names_config_map(cluster, &object.name_any())
                })
            },
        );
        let of_public = public.streams(&clusters_for_public);
        let streams: Vec<BoxStream<'static, ClusterRef>> = vec![
            of_public,
            refs(namespaces.touched, |namespace: &Namespace| {
                holder(namespace).into_iter().collect()
            })
            .boxed(),
            by_secret.boxed(),
            by_config_map.boxed(),
            hosted(stateful_sets.touched, &in_host),
            hosted(deployments.touched, &in_host),
            hosted(services.touched, &in_host),
            hosted(pods.touched, &in_host),
            hosted(service_accounts.touched, &in_host),
            hosted(role_bindings.touched, &in_host),
            hosted(network_policies.touched, &in_host),
            hosted(resource_quotas.touched, &in_host),
            hosted(limit_ranges.touched, &in_host),
            hosted(chart_service_accounts.touched, &in_host),
            hosted(chart_roles.touched, &in_host),
            hosted(chart_role_bindings.touched, &in_host),
        ];
        (stores, futures::stream::select_all(streams))
    }

    /// Waits until every watch has told what was there when it began.
    pub async fn ready(
        &self,
    ) -> Result<(), kubebyon_k8s::kube::runtime::reflector::store::WriterDropped> {
        self.namespaces.wait_until_ready().await?;
        self.secrets.wait_until_ready().await?;
        self.stateful_sets.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.service_accounts.wait_until_ready().await?;
        self.role_bindings.wait_until_ready().await?;
        self.network_policies.wait_until_ready().await?;
        self.resource_quotas.wait_until_ready().await?;
        self.limit_ranges.wait_until_ready().await?;
        self.chart_service_accounts.wait_until_ready().await?;
        self.chart_roles.wait_until_ready().await?;
        self.chart_role_bindings.wait_until_ready().await?;
        self.definitions.wait_until_ready().await?;
        self.accesses.wait_until_ready().await?;
        self.all_namespaces.wait_until_ready().await?;
        // Those of Gateway API may have nothing to watch yet.
        self.claims.wait_until_ready().await
    }

    /// Waits until the watches of what an entrance is made of have told what was there, where
    /// Gateway API is served. One that was installed a moment ago is not waited for any longer.
    pub async fn entrances_told(&self) {
        let told = async {
            let _ = self.gateway_classes.wait_until_ready().await;
            let _ = self.gateways.wait_until_ready().await;
            let _ = self.tls_routes.wait_until_ready().await;
            let _ = self.http_routes.wait_until_ready().await;
        };
        // Without them something may be said that is not so, and is corrected.
        let _ = timeout(ENTRANCES_LIMIT, told).await;
    }
}

/// Events of a kind that lives in host namespaces.
fn hosted<K>(
    touched: BoxStream<'static, Result<K, kubebyon_k8s::kube::runtime::watcher::Error>>,
    in_host: &(impl Fn(Option<String>) -> Vec<ClusterRef> + Clone + Send + 'static),
) -> BoxStream<'static, ClusterRef>
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    let in_host = in_host.clone();
    refs(touched, move |object: &K| in_host(object.namespace())).boxed()
}

fn is_of_interest(secret: &PartialObjectMeta<Secret>) -> bool {
    let found = secret.labels();
    let has = |key: &str, value: &str| found.get(key).is_some_and(|label| label == value);
    has("owner", "helm")
        || found
            .get(labels::vcluster::APP)
            .is_some_and(|app| labels::vcluster::APPS.contains(&app.as_str()))
        || has(labels::MANAGED_BY, labels::MANAGER)
}

/// The cluster that holds a host namespace, by the namespace's own claim.
fn holder(namespace: &Namespace) -> Option<ClusterRef> {
    let (cluster_namespace, name) = namespace
        .annotations()
        .get(labels::CLAIMED_BY)?
        .split_once('/')?;
    Some(ClusterRef::new(name).within(cluster_namespace))
}

fn holder_of(hosts: &Store<Namespace>, namespace: Option<&str>) -> Vec<ClusterRef> {
    namespace
        .and_then(|namespace| hosts.get(&ObjectRef::new(namespace)))
        .and_then(|namespace| holder(&namespace))
        .into_iter()
        .collect()
}

fn named_by_spec(
    clusters: &Store<Guarded>,
    namespace: Option<&str>,
    names: impl Fn(&ManagedCluster) -> bool,
) -> Vec<ClusterRef> {
    clusters
        .state_filter(|cluster| {
            cluster.meta().namespace.as_deref() == namespace && cluster.0.as_ref().is_ok_and(&names)
        })
        .iter()
        .map(|cluster| ClusterRef::from_obj(cluster))
        .collect()
}

fn names_secret(cluster: &ManagedCluster, name: &str) -> bool {
    use kubebyon_api::managed_cluster::ValuesSourceKind::Secret;
    let spec = &cluster.spec;
    let of_chart = [&spec.chart.auth_secret_ref, &spec.chart.ca_secret_ref];
    spec.values_from
        .iter()
        .any(|source| source.kind == Secret && source.name == name)
        || of_chart.iter().any(|reference| {
            reference
                .as_ref()
                .is_some_and(|reference| reference.name == name)
        })
        || cluster.kubeconfig_secret_name() == name
}

fn names_config_map(cluster: &ManagedCluster, name: &str) -> bool {
    use kubebyon_api::managed_cluster::ValuesSourceKind::ConfigMap;
    cluster
        .spec
        .values_from
        .iter()
        .any(|source| source.kind == ConfigMap && source.name == name)
}
