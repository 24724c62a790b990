//! The watches of this controller, and which PublicAccess each event concerns.

use futures::{Stream, StreamExt, stream::BoxStream};
use kubebyon_api::{ManagedCluster, PublicAccess, labels};
use kubebyon_k8s::{
    gateway_api::{gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute},
    k8s_openapi::{
        api::core::v1::Namespace,
        apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    },
    kube::{
        Api, Client, Resource, ResourceExt,
        core::{DeserializeGuard, PartialObjectMeta},
        runtime::reflector::{ObjectRef, Store},
    },
};

use crate::{
    served,
    watches::{Watched, everywhere, refs, watch, watch_metadata, whole},
};

/// A PublicAccess as it comes off the wire: one that cannot be read must not stop the watch.
pub type Guarded = DeserializeGuard<PublicAccess>;
/// The name of a PublicAccess.
pub type AccessRef = ObjectRef<Guarded>;

/// What the watches hold.
pub struct Stores {
    /// Which APIs are served.
    pub definitions: Store<CustomResourceDefinition>,
    /// All clusters, for those that are attached.
    pub clusters: Store<DeserializeGuard<ManagedCluster>>,
    /// All namespaces: their labels decide who may attach, and their annotations where Gateways may be.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// All GatewayClasses.
    pub classes: Store<GatewayClass>,
    /// Our Gateways.
    pub gateways: Store<Gateway>,
    /// Our HTTPRoutes.
    pub http_routes: Store<HttpRoute>,
}

/// Selects what the operator makes.
pub const OURS: &str = "app.kubernetes.io/managed-by=kubebyon";

impl Stores {
    /// Begins to watch. The stream names each PublicAccess that an event concerns; the
    /// stores fill while it is polled.
    pub fn watch(
        client: &Client,
        accesses: &Store<Guarded>,
    ) -> (Self, impl Stream<Item = AccessRef> + Send + 'static) {
        let definitions = watch::<CustomResourceDefinition>(everywhere(client), "", served::slim);
        let clusters: Watched<DeserializeGuard<ManagedCluster>> =
            watch(everywhere(client), "", |cluster| {
                if let Ok(cluster) = &mut cluster.0 {
                    cluster.status = None;
                }
            });
        let namespaces = watch_metadata::<Namespace>(Api::all(client.clone()), "");
        let classes = watch::<GatewayClass>(everywhere(client), "", whole);
        let gateways = watch::<Gateway>(everywhere(client), OURS, whole);
        let http_routes = watch::<HttpRoute>(everywhere(client), OURS, whole);
        let stores = Self {
            definitions: definitions.store,
            clusters: clusters.store,
            namespaces: namespaces.store,
            classes: classes.store,
            gateways: gateways.store,
            http_routes: http_routes.store,
        };
        let those = |matches: fn(&Guarded) -> bool| {
            let accesses = accesses.clone();
            move || {
                accesses
                    .state_filter(matches)
                    .iter()
                    .map(|access| AccessRef::from_obj(access))
                    .collect::<Vec<_>>()
            }
        };
        let all = those(|_| true);
        let going = those(|access| access.meta().deletion_timestamp.is_some());
        let (on_definition, on_namespace, on_class) = (all.clone(), all.clone(), all);
        let streams: Vec<BoxStream<'static, AccessRef>> = vec![
            refs(
                definitions.touched,
                move |definition: &CustomResourceDefinition| {
                    if served::concerns_gateways(definition) {
                        on_definition()
                    } else {
                        Vec::new()
                    }
                },
            )
            .boxed(),
            refs(
                namespaces.touched,
                move |_: &PartialObjectMeta<Namespace>| on_namespace(),
            )
            .boxed(),
            refs(classes.touched, move |_: &GatewayClass| on_class()).boxed(),
            refs(
                clusters.touched,
                move |cluster: &DeserializeGuard<ManagedCluster>| {
                    let attached = cluster.0.as_ref().ok().and_then(attached_to);
                    // What is to go waits for clusters that name another by now, or none.
                    attached.into_iter().chain(going()).collect()
                },
            )
            .boxed(),
            refs(gateways.touched, made_for).boxed(),
            refs(http_routes.touched, made_for).boxed(),
        ];
        (stores, futures::stream::select_all(streams))
    }

    /// Waits until the watches of what every host cluster serves have told what was there.
    /// Those of Gateway API may have nothing to watch yet.
    pub async fn ready(
        &self,
    ) -> Result<(), kubebyon_k8s::kube::runtime::reflector::store::WriterDropped> {
        self.definitions.wait_until_ready().await?;
        self.clusters.wait_until_ready().await?;
        self.namespaces.wait_until_ready().await
    }
}

/// The PublicAccess that a cluster names.
pub fn attached_to(cluster: &ManagedCluster) -> Option<AccessRef> {
    let (namespace, name) = cluster.public_access_ref()?;
    Some(AccessRef::new(name).within(namespace))
}

fn made_for<K: Resource<DynamicType = ()>>(object: &K) -> Vec<AccessRef> {
    let labels = object.labels();
    let name = labels
        .get(labels::PUBLIC_ACCESS_NAME)
        .zip(labels.get(labels::PUBLIC_ACCESS_NAMESPACE));
    name.map(|(name, namespace)| AccessRef::new(name).within(namespace))
        .into_iter()
        .collect()
}
