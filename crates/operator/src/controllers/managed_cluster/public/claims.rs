//! The claims on public host names.

use kubebyon_api::{Reason, names, types::Hostname};
use kubebyon_k8s::{
    k8s_openapi::api::core::v1::ConfigMap,
    kube::{
        self, Api, ResourceExt,
        api::{ListParams, PostParams},
    },
};
use kubebyon_render::{
    Cluster,
    exposure::{
        claim::{Claim, Holder},
        names::is_default,
    },
};

use super::super::{
    Context,
    error::{Error, Halt},
    stores::Stores,
};
use crate::{apply::delete_exactly, watches::cached};

/// A claim that is in the way may be gone when it is looked at, and taken when it is made again.
const TRIES: usize = 3;

/// Claims `hostname` for the cluster, unless it holds it.
pub async fn hold(
    context: &Context,
    identity: &Cluster,
    hostname: &Hostname,
    suspended: bool,
) -> Result<(), Halt> {
    let namespace = context.options.namespace.as_str();
    let name = names::hostname_claim(hostname);
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let known = cached(&context.stores.claims, namespace, &name);
    let mut found = known.map(|known| (*known).clone());
    for _ in 0..TRIES {
        if let Some(object) = &found {
            let claim = Claim::read(object).map_err(Error::from)?;
            match claim.holder(identity) {
                Holder::Own => return Ok(()),
                Holder::Predecessor => {
                    delete_exactly(&api, &name, object.uid())
                        .await
                        .map_err(Error::api("remove the claim of an earlier cluster"))?;
                }
                Holder::Other(owner) => {
                    // The watch may not know yet that the name is free.
                    let live = get(&api, &name).await?;
                    if live.as_ref().and_then(ResourceExt::uid) == object.uid() {
                        let hostname = hostname.clone();
                        return Err(Error::HostnameConflict { hostname, owner }.into());
                    }
                    found = live;
                    continue;
                }
            }
        }
        if suspended {
            return Err(Halt::wait(
                Reason::Suspended,
                format!("{hostname} is not claimed, and spec.suspend holds that back"),
            ));
        }
        let claim = Claim {
            hostname: hostname.clone(),
            owner: identity.clone(),
        };
        match api
            .create(&PostParams::default(), &claim.object(namespace))
            .await
        {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                found = get(&api, &name).await?;
            }
            Err(source) => {
                return Err(Error::Api {
                    what: "claim a host name",
                    source,
                }
                .into());
            }
        }
    }
    Err(Halt::wait_for(
        Reason::Progressing,
        format!("the claim on {hostname} changes hands; looking again"),
        std::time::Duration::from_millis(200),
    ))
}

async fn get(api: &Api<ConfigMap>, name: &str) -> Result<Option<ConfigMap>, Error> {
    api.get_opt(name)
        .await
        .map_err(Error::api("read the claim on a host name"))
}

/// The names that the cluster holds, as the watch knows.
pub fn of(stores: &Stores, identity: &Cluster) -> Vec<Hostname> {
    let mut names: Vec<Hostname> = stores
        .claims
        .state_filter(|object| identity.made(&object.metadata))
        .iter()
        .filter_map(|object| Claim::read(object).ok())
        .filter(|claim| claim.owner == *identity)
        .map(|claim| claim.hostname)
        .collect();
    names.sort_unstable();
    names
}

/// Gives up the names that are not in `kept`, save the default one, which is the cluster's for life.
pub async fn give_up(
    context: &Context,
    identity: &Cluster,
    kept: &[&Hostname],
    for_life: bool,
) -> Result<(), Error> {
    let namespace = context.options.namespace.as_str();
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    for name in of(&context.stores, identity) {
        if kept.contains(&&name) || for_life && is_default(&name, identity) {
            continue;
        }
        let object = names::hostname_claim(&name);
        if let Some(claim) = cached(&context.stores.claims, namespace, &object) {
            delete_exactly(&api, &object, claim.uid())
                .await
                .map_err(Error::api("give up a host name"))?;
        }
    }
    Ok(())
}

/// Gives up every name, whatever the watch knows: the cluster is on its way out.
pub async fn give_up_all(context: &Context, identity: &Cluster) -> Result<(), Error> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.options.namespace);
    let claims = api
        .list_metadata(&ListParams::default().labels(&identity.selector()))
        .await
        .map_err(Error::api("list the claims on host names"))?;
    for claim in claims.items {
        delete_exactly(&api, &claim.name_any(), claim.uid())
            .await
            .map_err(Error::api("give up a host name"))?;
    }
    Ok(())
}
