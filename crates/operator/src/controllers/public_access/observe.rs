//! All that is read for one reconcile, mostly from what the watches hold.

use kubebyon_api::{PublicAccess, labels};
use kubebyon_k8s::{
    gateway_api::gateways::Gateway,
    kube::{Api, ResourceExt, api::ListParams, core::DynamicObject, runtime::reflector::ObjectRef},
};
use kubebyon_render::gateway_api::{Layout, gateways::Gateways, parents};

use super::{
    Context,
    error::Error,
    stores::{OURS, attached_to},
};
use crate::served::{self, GatewayApi};

/// The facts about one entrance.
pub struct Observed {
    /// What the host cluster serves of Gateway API.
    pub served: Option<GatewayApi>,
    /// Clusters that name this entrance, as namespace/name.
    pub attached: Vec<String>,
}

impl Observed {
    /// Reads what the watches hold about `access`.
    pub fn read(context: &Context, access: &PublicAccess) -> Self {
        let names = |cluster: &kubebyon_api::ManagedCluster| {
            attached_to(cluster).is_some_and(|named| {
                named.name == access.name_any() && named.namespace == access.namespace()
            })
        };
        let mut attached: Vec<String> = context
            .stores
            .clusters
            .state()
            .iter()
            .filter_map(|cluster| cluster.0.as_ref().ok())
            .filter(|cluster| names(cluster))
            .map(|cluster| format!("{}/{}", cluster.namespace_str(), cluster.name_str()))
            .collect();
        attached.sort_unstable();
        Self {
            served: served::gateway_api(&context.stores.definitions),
            attached,
        }
    }

    /// Clusters whose routes are attached to the Gateway of `access`, though they name another
    /// entrance or none by now. To be asked for before it goes away: no watch of this controller
    /// knows the tenants' routes.
    pub async fn leaving(
        &self,
        context: &Context,
        access: &PublicAccess,
    ) -> Result<Vec<String>, Error> {
        let (Some(served), Ok(layout)) = (self.served, Layout::of(access)) else {
            return Ok(Vec::new());
        };
        let (gateway, resource) = (layout.parent(), served.tls_route.resource());
        let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource);
        let routes = api
            .list(&ListParams::default().labels(OURS))
            .await
            .map_err(Error::api("list the tenants' routes"))?;
        let mut leaving: Vec<String> = routes
            .items
            .iter()
            .filter(|route| parents::of(route).any(|parent| parent == gateway))
            .map(|route| {
                let label = |key| route.labels().get(key).map_or("", String::as_str);
                format!(
                    "{}/{}",
                    label(labels::CLUSTER_NAMESPACE),
                    label(labels::CLUSTER_NAME)
                )
            })
            .collect();
        leaving.sort_unstable();
        Ok(leaving)
    }

    /// What Gateways may not be: in a namespace that nobody released, of a class that is
    /// not there, or somebody else's.
    pub async fn check(
        &self,
        context: &Context,
        layout: &Layout,
        gateways: &Gateways,
    ) -> Result<(), Error> {
        let access = layout.owner().key();
        for (role, gateway) in gateways.iter() {
            let place = layout.place(role);
            let (namespace, name) = (place.at.namespace.clone(), place.at.name.clone());
            let full = format!("{namespace}/{name}");
            if namespace != layout.owner().namespace
                && !Self::released(context, &namespace, &access)
            {
                return Err(Error::NamespaceNotAllowed {
                    gateway: full,
                    namespace,
                    annotation: labels::ADMIN_ALLOW,
                    access,
                });
            }
            if context
                .stores
                .classes
                .get(&ObjectRef::new(&place.class))
                .is_none()
            {
                return Err(Error::GatewayClassNotFound {
                    class: place.class.clone(),
                    gateway: full,
                });
            }
            let api: Api<Gateway> = Api::namespaced(context.client.clone(), &namespace);
            // The watch holds ours alone: whose it is, the api-server says.
            if context
                .stores
                .gateways
                .get(&ObjectRef::from_obj(gateway))
                .is_some()
            {
                continue;
            }
            let found = api
                .get_opt(&name)
                .await
                .map_err(Error::api("read a Gateway"))?;
            let foreign = found.as_ref().is_some_and(|found| {
                found.labels().get(labels::PUBLIC_ACCESS_UID) != Some(&layout.owner().uid)
                    && found.annotations().get(labels::ADOPT) != Some(&access)
            });
            if foreign {
                return Err(Error::NotOwned {
                    gateway: full,
                    namespace,
                    name,
                    annotation: labels::ADOPT,
                    access,
                });
            }
        }
        Ok(())
    }

    fn released(context: &Context, namespace: &str, access: &String) -> bool {
        let found = context.stores.namespaces.get(&ObjectRef::new(namespace));
        found.is_some_and(|namespace| {
            namespace.annotations().get(labels::ADMIN_ALLOW) == Some(access)
        })
    }
}
