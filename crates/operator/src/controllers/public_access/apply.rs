//! What is written: Gateways, the platform's routes, the marks of protection, the status.

use kubebyon_api::{
    PublicAccess, PublicAccessStatus, labels, names::GatewayName, public_access::GatewayRole,
};
use kubebyon_k8s::{
    gateway_api::{gateways::Gateway, httproutes::HttpRoute},
    k8s_openapi::{NamespaceResourceScope, api::core::v1::ConfigMap},
    kube::{
        self, Api, Resource, ResourceExt,
        api::{ListParams, Patch, PatchParams, PostParams},
        core::PartialObjectMeta,
        runtime::reflector::ObjectRef,
    },
};
use kubebyon_render::{
    Entrance,
    exposure::Exposure,
    gateway_api::{Layout, gateways::Gateways},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Context, error::Error, report};
use crate::apply::{delete_exactly, set_finalizer};

impl Context {
    /// Applies everything that `access` asks for, removes what it asks for no more, and
    /// gives the Gateways as they are.
    pub async fn apply_entrance(
        &self,
        layout: &Layout,
        exposure: &Exposure,
        gateways: &Gateways,
    ) -> Result<report::Gateways, Error> {
        // The marks first: from its first moment a Gateway is nobody else's to attach to.
        let marks: Vec<ConfigMap> = layout
            .protected_gateways(gateways, &self.operator_namespace)
            .into_iter()
            .chain(layout.protected_class(&self.operator_namespace))
            .collect();
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.operator_namespace);
        let known = marks_of(&api, layout.owner()).await?;
        for mark in &marks {
            let is_there = known
                .iter()
                .any(|known| known.name_any() == mark.name_any());
            if is_there {
                continue;
            }
            match api.create(&PostParams::default(), mark).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(source) => {
                    return Err(Error::Api {
                        what: "mark a Gateway as ours",
                        source,
                    });
                }
            }
        }
        let mut found = Vec::new();
        for (role, gateway) in gateways.iter() {
            let live = self.stores.gateways.get(&ObjectRef::from_obj(gateway));
            if let Some(live) = &live {
                self.remove_foreign_listeners(live, gateway).await?;
            }
            self.applier
                .namespaced(live.as_deref(), gateway.clone())
                .await
                .map_err(Error::api("apply a Gateway"))?;
            found.push((
                GatewayRole::from(role),
                live.map_or_else(|| gateway.clone(), |live| (*live).clone()),
            ));
        }
        let routes: Vec<HttpRoute> = exposure
            .site
            .iter()
            .flat_map(|site| layout.site_routes(site))
            .collect();
        for route in &routes {
            let live = self.stores.http_routes.get(&ObjectRef::from_obj(route));
            self.applier
                .namespaced(live.as_deref(), route.clone())
                .await
                .map_err(Error::api("apply an HTTPRoute"))?;
        }
        let owner = layout.owner();
        let wanted = |name: &GatewayName| routes.iter().any(|route| is_at(route, name));
        self.prune(&self.stores.http_routes.state(), owner, wanted)
            .await?;
        let wanted = |name: &GatewayName| gateways.iter().any(|(_, gateway)| is_at(gateway, name));
        self.prune(&self.stores.gateways.state(), owner, wanted)
            .await?;
        for old in &known {
            if !marks.iter().any(|mark| mark.name_any() == old.name_any()) {
                remove(&api, old).await?;
            }
        }
        Ok(found)
    }

    /// Listeners are a list by name, of which an apply leaves alone what others added. The
    /// Gateways are ours whole: what we did not ask for goes.
    async fn remove_foreign_listeners(
        &self,
        live: &Gateway,
        wanted: &Gateway,
    ) -> Result<(), Error> {
        let ours = |name: &str| {
            wanted
                .spec
                .listeners
                .iter()
                .any(|listener| listener.name == name)
        };
        if live
            .spec
            .listeners
            .iter()
            .all(|listener| ours(&listener.name))
        {
            return Ok(());
        }
        let namespace = live.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Gateway> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({
            "metadata": {"resourceVersion": live.metadata.resource_version},
            "spec": {"listeners": wanted.spec.listeners},
        });
        let parameters = PatchParams {
            field_manager: Some(self.applier.manager().to_owned()),
            ..PatchParams::default()
        };
        match api
            .patch(&live.name_any(), &parameters, &Patch::Merge(&patch))
            .await
        {
            Ok(_) => Ok(()),
            // It changed or went since; the watch tells, and it is looked at again.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(source) => Err(Error::Api {
                what: "remove a listener that is not ours",
                source,
            }),
        }
    }

    /// Removes everything that was made for `access`.
    pub async fn remove_entrance(&self, access: &PublicAccess) -> Result<(), Error> {
        let Some(owner) = Entrance::of(access) else {
            return Ok(());
        };
        self.prune(&self.stores.http_routes.state(), &owner, |_| false)
            .await?;
        self.prune(&self.stores.gateways.state(), &owner, |_| false)
            .await?;
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.operator_namespace);
        for mark in marks_of(&api, &owner).await? {
            remove(&api, &mark).await?;
        }
        Ok(())
    }

    /// Deletes what carries our uid and is not wanted any more.
    async fn prune<K>(
        &self,
        objects: &[std::sync::Arc<K>],
        owner: &Entrance,
        wanted: impl Fn(&GatewayName) -> bool,
    ) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        for object in objects {
            let at = GatewayName {
                namespace: object.namespace().unwrap_or_default(),
                name: object.name_any(),
            };
            if object.labels().get(labels::PUBLIC_ACCESS_UID) == Some(&owner.uid) && !wanted(&at) {
                remove(
                    &Api::<K>::namespaced(self.client.clone(), &at.namespace),
                    &**object,
                )
                .await?;
            }
        }
        Ok(())
    }

    /// Adds or removes our finalizer, on exactly the object that was looked at.
    pub async fn set_finalizer(&self, access: &PublicAccess, present: bool) -> Result<(), Error> {
        let api: Api<PublicAccess> = Api::namespaced(self.client.clone(), access.namespace_str());
        set_finalizer(&api, access, labels::PUBLIC_ACCESS_FINALIZER, present)
            .await
            .map_err(Error::api("set the finalizer"))
    }

    /// Writes the status, as this controller's own full set.
    pub async fn write_status(
        &self,
        access: &PublicAccess,
        status: &PublicAccessStatus,
    ) -> Result<(), Error> {
        self.applier
            .status(access, status)
            .await
            .map(drop)
            .map_err(Error::api("write the status"))
    }
}

fn is_at<K: ResourceExt>(object: &K, at: &GatewayName) -> bool {
    object.name_any() == at.name && object.namespace().as_deref() == Some(at.namespace.as_str())
}

/// The marks that were made for a PublicAccess.
async fn marks_of(
    api: &Api<ConfigMap>,
    owner: &Entrance,
) -> Result<Vec<PartialObjectMeta<ConfigMap>>, Error> {
    let marks = api
        .list_metadata(&ListParams::default().labels(&owner.selector()))
        .await;
    Ok(marks
        .map_err(Error::api("list the marks of Gateways"))?
        .items)
}

async fn remove<K, M>(api: &Api<K>, object: &M) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
    M: ResourceExt,
{
    delete_exactly(api, &object.name_any(), object.uid())
        .await
        .map_err(Error::api("remove an object that is no longer wanted"))
}
