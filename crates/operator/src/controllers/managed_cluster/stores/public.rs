//! The watches of what clusters share to be public, and which cluster each event concerns.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use futures::{FutureExt, StreamExt, stream::BoxStream};
use kubebyon_api::{ManagedCluster, labels, names, types::Hostname};
use kubebyon_k8s::{
    gateway_api::{gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute},
    k8s_openapi::{
        api::core::v1::{ConfigMap, Namespace},
        apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    },
    kube::{
        Api, Client, Resource, ResourceExt,
        core::{ApiResource, DynamicObject, PartialObjectMeta},
        runtime::{
            PredicateConfig, WatchStreamExt,
            reflector::{ObjectRef, Store},
        },
    },
};
use kubebyon_render::{
    Cluster,
    exposure::{claim::Claim, names::is_default},
    gateway_api::{Layout, parents, reading, tls_route::Version},
};
use tokio::sync::watch::Sender;

use super::{ClusterRef, Guarded, GuardedAccess, OURS};
use crate::{
    served,
    watches::{
        Watched, authored, cached, everywhere, refs, watch, watch_metadata, watch_served, whole,
    },
};

/// The watches.
pub struct Public {
    pub definitions: Watched<CustomResourceDefinition>,
    pub accesses: Watched<GuardedAccess>,
    pub all_namespaces: Watched<PartialObjectMeta<Namespace>>,
    pub gateway_classes: Watched<GatewayClass>,
    pub gateways: Watched<Gateway>,
    pub claims: Watched<ConfigMap>,
    pub tls_routes: Watched<DynamicObject>,
    pub http_routes: Watched<HttpRoute>,
    version: Sender<Option<ApiResource>>,
    operator_namespace: String,
}

impl Public {
    pub fn watch(client: &Client, operator_namespace: &str) -> Self {
        let (version, served) = tokio::sync::watch::channel(None);
        Self {
            definitions: watch(everywhere(client), "", served::slim),
            accesses: watch(everywhere(client), "", |access: &mut GuardedAccess| {
                if let Ok(access) = &mut access.0 {
                    access.status = None;
                }
            }),
            all_namespaces: watch_metadata(Api::all(client.clone()), ""),
            gateway_classes: watch(everywhere(client), "", whole),
            gateways: watch(everywhere(client), OURS, whole),
            claims: watch(
                Api::namespaced(client.clone(), operator_namespace),
                labels::CLUSTER_UID,
                whole,
            ),
            tls_routes: watch_served(client, served, Version::V1.resource(), reading::slim),
            http_routes: watch(everywhere(client), "", |route: &mut HttpRoute| {
                route.spec.rules = None;
                route.spec.parent_refs = None;
                route.status = None;
            }),
            version,
            operator_namespace: operator_namespace.to_owned(),
        }
    }

    /// Which clusters the events concern.
    pub fn streams(self, clusters: &Store<Guarded>) -> BoxStream<'static, ClusterRef> {
        let concerned = Concerned {
            clusters: clusters.clone(),
            claims: self.claims.store.clone(),
            tls_routes: self.tls_routes.store.clone(),
            operator_namespace: self.operator_namespace,
        };
        // A PublicAccess's status changes with each cluster that attaches.
        let accesses = self
            .accesses
            .touched
            .predicate_filter(authored(), PredicateConfig::default());
        let gateways = self
            .gateways
            .touched
            .predicate_filter(addresses, PredicateConfig::default());
        let by_access = concerned.clone();
        let by_class = concerned.clone();
        let by_gateway = concerned.clone();
        let by_namespace = concerned.clone();
        let by_claim = concerned.clone();
        let by_tls_route = concerned.clone();
        let by_http_route = concerned.clone();
        let streams: Vec<BoxStream<'static, ClusterRef>> = vec![
            follow_version(self.definitions, self.version, concerned),
            refs(accesses, move |access: &GuardedAccess| {
                let meta = access.meta();
                let mut found = by_access.at((meta.namespace.as_deref(), meta.name.as_deref()));
                found.extend(by_access.routed_through(access));
                found
            })
            .boxed(),
            refs(self.gateway_classes.touched, move |_: &GatewayClass| {
                by_class.attached(|_| true)
            })
            .boxed(),
            refs(gateways, move |gateway: &Gateway| {
                let label = |key| gateway.labels().get(key).map(String::as_str);
                by_gateway.at((
                    label(labels::PUBLIC_ACCESS_NAMESPACE),
                    label(labels::PUBLIC_ACCESS_NAME),
                ))
            })
            .boxed(),
            refs(
                self.all_namespaces.touched,
                move |namespace: &PartialObjectMeta<Namespace>| {
                    let name = namespace.name_any();
                    by_namespace.attached(|cluster| cluster.namespace_str() == name)
                },
            )
            .boxed(),
            refs(self.claims.touched, move |object: &ConfigMap| {
                Claim::read(object).map_or_else(
                    |_| Vec::new(),
                    |claim| by_claim.attached(|cluster| concerns(&claim, cluster)),
                )
            })
            .boxed(),
            refs(self.tls_routes.touched, move |route: &DynamicObject| {
                let mut found: Vec<ClusterRef> = made_for(route).into_iter().collect();
                found.extend(by_tls_route.holders(reading::hostnames(route)));
                found
            })
            .boxed(),
            refs(self.http_routes.touched, move |route: &HttpRoute| {
                let names = route.spec.hostnames.iter().flatten();
                by_http_route.holders(names.filter_map(|name| name.parse().ok()))
            })
            .boxed(),
        ];
        futures::stream::select_all(streams).boxed()
    }
}

/// Tells which version of TLSRoute is served, at the start and whenever that changes.
fn follow_version(
    definitions: Watched<CustomResourceDefinition>,
    version: Sender<Option<ApiResource>>,
    concerned: Concerned,
) -> BoxStream<'static, ClusterRef> {
    let store = definitions.store;
    let version = Arc::new(version);
    let told = {
        let store = store.clone();
        let version = version.clone();
        move || {
            let found = served::gateway_api(&store);
            let resource = found.map(|found| found.tls_route.resource());
            version.send_if_modified(|current| {
                let changed = *current != resource;
                current.clone_from(&resource);
                changed
            })
        }
    };
    // What was there at the start is in the store only when all of it is told.
    let at_start = {
        let told = told.clone();
        async move {
            if store.wait_until_ready().await.is_ok() {
                told();
            }
        }
    };
    let at_start = at_start
        .into_stream()
        .flat_map(|()| futures::stream::empty::<ClusterRef>());
    let changes = refs(
        definitions.touched,
        move |definition: &CustomResourceDefinition| {
            if served::concerns_gateways(definition) {
                told();
                concerned.attached(|_| true)
            } else {
                Vec::new()
            }
        },
    );
    futures::stream::select(at_start, changes).boxed()
}

/// Finds the clusters that an event concerns.
#[derive(Clone)]
struct Concerned {
    clusters: Store<Guarded>,
    claims: Store<ConfigMap>,
    tls_routes: Store<DynamicObject>,
    operator_namespace: String,
}

impl Concerned {
    /// The clusters with a public name of which `matches` holds.
    fn attached(&self, matches: impl Fn(&ManagedCluster) -> bool) -> Vec<ClusterRef> {
        let clusters = self.clusters.state_filter(|cluster| {
            cluster
                .0
                .as_ref()
                .is_ok_and(|cluster| cluster.spec.public_access.is_some() && matches(cluster))
        });
        clusters
            .iter()
            .map(|cluster| ClusterRef::from_obj(cluster))
            .collect()
    }

    /// The clusters of the PublicAccess of that namespace and name.
    fn at(&self, access: (Option<&str>, Option<&str>)) -> Vec<ClusterRef> {
        self.attached(|cluster| {
            let named = cluster.public_access_ref();
            named.map(|(namespace, name)| (Some(namespace), Some(name))) == Some(access)
        })
    }

    /// The clusters with a route at the Gateway of `access`, whichever they name by now.
    fn routed_through(&self, access: &GuardedAccess) -> Vec<ClusterRef> {
        let layout = access
            .0
            .as_ref()
            .ok()
            .and_then(|access| Layout::of(access).ok());
        let Some(gateway) = layout.map(|layout| layout.parent()) else {
            return Vec::new();
        };
        let routes = self.tls_routes.state_filter(|route| {
            made_for(route).is_some() && parents::of(route).any(|parent| parent == gateway)
        });
        routes.iter().filter_map(|route| made_for(route)).collect()
    }

    /// The clusters that hold `names`.
    fn holders(&self, names: impl IntoIterator<Item = Hostname>) -> Vec<ClusterRef> {
        names
            .into_iter()
            .filter_map(|name| {
                let claim = names::hostname_claim(&name);
                cached(&self.claims, &self.operator_namespace, &claim)
            })
            .filter_map(|object| Claim::read(&object).ok())
            .map(|claim| ClusterRef::new(&claim.owner.name).within(&claim.owner.namespace))
            .collect()
    }
}

/// Whether a claim is the cluster's own, or on a name that it wants.
fn concerns(claim: &Claim, cluster: &ManagedCluster) -> bool {
    let binding = cluster.spec.public_access.as_ref();
    let wanted = binding.and_then(|binding| binding.hostname.as_deref());
    Cluster::of(cluster).is_some_and(|identity| {
        claim.owner == identity
            || wanted.map_or_else(
                || is_default(&claim.hostname, &identity),
                |wanted| wanted == claim.hostname.as_str(),
            )
    })
}

fn made_for(route: &DynamicObject) -> Option<ClusterRef> {
    let labels = route.labels();
    let name = labels.get(labels::CLUSTER_NAME)?;
    let namespace = labels.get(labels::CLUSTER_NAMESPACE)?;
    Some(ObjectRef::new(name).within(namespace))
}

/// A Gateway's status changes with each route that attaches; its addresses are what counts.
#[expect(clippy::unnecessary_wraps, reason = "the runtime's signature")]
fn addresses(gateway: &Gateway) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    gateway.metadata.uid.hash(&mut hasher);
    let status = gateway.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_ref());
    for address in addresses.into_iter().flatten() {
        address.value.hash(&mut hasher);
    }
    Some(hasher.finish())
}
