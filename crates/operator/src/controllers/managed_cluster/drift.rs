//! What of the release differs from what helm applied, by somebody's hand.
//!
//! The manifest of the deployed revision is compared with what the watches hold, so a
//! restart of the operator finds what happened while it was away, and nothing is run
//! when nothing did.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kubebyon_api::labels;
use kubebyon_helm::Revision;
use kubebyon_k8s::{
    k8s_openapi::{
        NamespaceResourceScope,
        api::{
            apps::v1::{Deployment, StatefulSet},
            core::v1::{Secret, Service, ServiceAccount},
            rbac::v1::{Role, RoleBinding},
        },
    },
    kube::{Api, Client, Resource, core::PartialObjectMeta},
};
use kubebyon_render::Cluster;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Context, error::Error, observe::Observed, stores::Stores};
use crate::{apply::difference, watches::cached};

/// Manifests of deployed revisions, by host namespace, and what could not be put back.
#[derive(Default)]
pub struct Manifests(Mutex<HashMap<String, Entry>>);

struct Entry {
    revision: String,
    objects: Arc<Vec<Object>>,
    /// Differences that a forced upgrade left: something else sets them each time, and
    /// to fight over them would restart the tenant without end.
    lasting: Vec<String>,
    repaired: Option<String>,
}

/// One object of a manifest, of a kind that is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    kind: Kind,
    name: String,
    content: Value,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
enum Kind {
    StatefulSet,
    Deployment,
    Service,
    Secret,
    ServiceAccount,
    Role,
    RoleBinding,
    #[serde(other)]
    Unwatched,
}

/// What the release looks like beside its manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Drift {
    /// As helm applied it.
    None,
    /// As helm applied it, but the watches have not told so yet: what they say of the
    /// control plane's pods is about the revision before.
    Behind,
    /// Somebody changed this.
    Changed(String),
}

/// Compares what is there with the deployed revision's manifest.
pub async fn find(
    context: &Context,
    identity: &Cluster,
    observed: &Observed,
    latest: &Revision,
) -> Result<Drift, Error> {
    if latest.status != kubebyon_helm::release::Status::Deployed {
        return Ok(Drift::None);
    }
    let Some(objects) = manifest(context, observed, latest).await? else {
        return Ok(Drift::None);
    };
    let namespace = observed.host_namespace.as_str();
    let mut drift = Drift::None;
    for object in objects.iter() {
        let Some(suspicion) = compare(&context.stores, namespace, object) else {
            continue;
        };
        if context.manifests.is_lasting(namespace, &suspicion) {
            continue;
        }
        // A watch may be behind the write that put this very thing right.
        let Some(difference) = compare_now(&context.client, namespace, object).await? else {
            if matches!(object.kind, Kind::StatefulSet | Kind::Deployment) {
                drift = Drift::Behind;
            }
            continue;
        };
        if context.manifests.was_repaired(namespace, &difference) {
            tracing::warn!(cluster = %identity.key(), %difference, "helm cannot put this back; it is left as it is");
            continue;
        }
        return Ok(Drift::Changed(difference));
    }
    Ok(drift)
}

impl Manifests {
    fn with<T>(&self, namespace: &str, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(namespace)
            .map(act)
    }

    fn is_lasting(&self, namespace: &str, difference: &String) -> bool {
        self.with(namespace, |entry| entry.lasting.contains(difference))
            .unwrap_or(false)
    }

    /// Whether the last repair was of the same thing, and so did not help.
    fn was_repaired(&self, namespace: &str, difference: &String) -> bool {
        let lasts = |entry: &mut Entry| {
            let same = entry.repaired.as_ref() == Some(difference);
            if same {
                entry.lasting.push(difference.clone());
            }
            same
        };
        self.with(namespace, lasts).unwrap_or(false)
    }

    /// Remembers that an upgrade has put `difference` back, or should have. Call it with
    /// none after any other upgrade.
    pub fn repaired(&self, namespace: &str, difference: Option<&String>) {
        self.with(namespace, |entry| {
            entry.revision.clear();
            // What is gone and comes back, and goes again, is no fight with helm.
            entry.repaired = difference
                .filter(|difference| !difference.ends_with(GONE))
                .cloned();
        });
    }

    /// Forgets a host namespace: its cluster is gone.
    pub fn forget(&self, namespace: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(namespace);
    }
}

const GONE: &str = "is gone";

async fn manifest(
    context: &Context,
    observed: &Observed,
    latest: &Revision,
) -> Result<Option<Arc<Vec<Object>>>, Error> {
    let namespace = observed.host_namespace.as_str();
    {
        let entries = context
            .manifests
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries
            .get(namespace)
            .filter(|entry| entry.revision == latest.secret.uid)
        {
            return Ok(Some(entry.objects.clone()));
        }
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let secret = api
        .get_opt(&latest.secret.name)
        .await
        .map_err(Error::api("read the release's manifest"))?;
    let payload = secret
        .and_then(|secret| secret.data)
        .and_then(|mut data| data.remove("release"));
    let Some(payload) =
        payload.and_then(|bytes| kubebyon_helm::release::Payload::decode(&bytes.0).ok())
    else {
        return Ok(None);
    };
    let objects = Arc::new(parse(&payload.manifest));
    let mut entries = context
        .manifests
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let before = entries.remove(namespace);
    let (lasting, repaired) =
        before.map_or((Vec::new(), None), |entry| (entry.lasting, entry.repaired));
    entries.insert(
        namespace.to_owned(),
        Entry {
            revision: latest.secret.uid.clone(),
            objects: objects.clone(),
            lasting,
            repaired,
        },
    );
    Ok(Some(objects))
}

fn parse(manifest: &str) -> Vec<Object> {
    #[derive(Deserialize)]
    struct Head {
        kind: Kind,
        metadata: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        name: String,
        #[serde(default)]
        labels: HashMap<String, String>,
    }
    // The watches select by this label.
    let watched = |meta: &Meta| {
        meta.labels
            .get(labels::vcluster::APP)
            .is_some_and(|app| labels::vcluster::APPS.contains(&app.as_str()))
    };
    let documents: Vec<Option<Value>> = serde_saphyr::from_multiple(manifest).unwrap_or_default();
    let objects = documents.into_iter().flatten().filter_map(|mut content| {
        let head = Head::deserialize(&content).ok()?;
        if head.kind == Kind::Service {
            leave_any_node_port(&mut content);
        }
        (head.kind != Kind::Unwatched && watched(&head.metadata)).then_some(Object {
            kind: head.kind,
            name: head.metadata.name,
            content,
        })
    });
    objects.collect()
}

/// The chart writes a node port of 0 where any will do, and the api-server then picks one.
fn leave_any_node_port(service: &mut Value) {
    let ports = service.pointer_mut("/spec/ports");
    for port in ports.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            port.retain(|key, value| key != "nodePort" || value.as_i64() != Some(0));
        }
    }
}

/// By what the watches hold.
fn compare(stores: &Stores, namespace: &str, object: &Object) -> Option<String> {
    let name = object.name.as_str();
    let presence = |there: bool| (!there).then(|| object.gone());
    match object.kind {
        Kind::StatefulSet => {
            object.against(cached(&stores.stateful_sets, namespace, name).as_deref())
        }
        Kind::Deployment => object.against(cached(&stores.deployments, namespace, name).as_deref()),
        Kind::Service => object.against(cached(&stores.services, namespace, name).as_deref()),
        Kind::Secret => presence(
            cached::<PartialObjectMeta<Secret>>(&stores.secrets, namespace, name).is_some(),
        ),
        Kind::ServiceAccount => {
            presence(cached(&stores.chart_service_accounts, namespace, name).is_some())
        }
        Kind::Role => object.against(cached(&stores.chart_roles, namespace, name).as_deref()),
        Kind::RoleBinding => {
            object.against(cached(&stores.chart_role_bindings, namespace, name).as_deref())
        }
        Kind::Unwatched => None,
    }
}

/// By what the api-server holds now.
async fn compare_now(
    client: &Client,
    namespace: &str,
    object: &Object,
) -> Result<Option<String>, Error> {
    let found = match object.kind {
        Kind::StatefulSet => object.against(
            get::<StatefulSet>(client, namespace, object)
                .await?
                .as_ref(),
        ),
        Kind::Deployment => {
            object.against(get::<Deployment>(client, namespace, object).await?.as_ref())
        }
        Kind::Service => object.against(get::<Service>(client, namespace, object).await?.as_ref()),
        Kind::Secret => object.presence(get::<Secret>(client, namespace, object).await?.as_ref()),
        Kind::ServiceAccount => object.presence(
            get::<ServiceAccount>(client, namespace, object)
                .await?
                .as_ref(),
        ),
        Kind::Role => object.against(get::<Role>(client, namespace, object).await?.as_ref()),
        Kind::RoleBinding => object.against(
            get::<RoleBinding>(client, namespace, object)
                .await?
                .as_ref(),
        ),
        Kind::Unwatched => None,
    };
    Ok(found)
}

async fn get<K>(client: &Client, namespace: &str, object: &Object) -> Result<Option<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.get_opt(&object.name)
        .await
        .map_err(Error::api("read an object of the release"))
}

impl Object {
    fn gone(&self) -> String {
        format!("{:?} {} {GONE}", self.kind, self.name)
    }

    fn presence<K>(&self, live: Option<&K>) -> Option<String> {
        live.is_none().then(|| self.gone())
    }

    fn against<K: Serialize>(&self, live: Option<&K>) -> Option<String> {
        let Some(live) = live else {
            return Some(self.gone());
        };
        let live = serde_json::to_value(live).ok()?;
        difference(&live, &self.content)
            .map(|path| format!("{:?} {}: {path}", self.kind, self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(node_port: u16) -> Object {
        let manifest = format!(
            "kind: Service\nmetadata:\n  name: demo\n  labels:\n    app: {}\nspec:\n  type: LoadBalancer\n  ports:\n  \
             - port: 443\n    nodePort: {node_port}\n",
            labels::vcluster::APPS[0]
        );
        parse(&manifest).remove(0)
    }

    fn with_port(node_port: u16) -> Value {
        serde_json::json!({
            "kind": "Service",
            "metadata": {"name": "demo", "labels": {"app": labels::vcluster::APPS[0]}},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 443, "nodePort": node_port}]},
        })
    }

    #[test]
    fn the_port_that_the_server_picked_is_no_drift_but_another_than_the_asked_one_is() {
        assert_eq!(service(0).against(Some(&with_port(31234))), None);
        assert_eq!(
            service(30443).against(Some(&with_port(31234))).as_deref(),
            Some("Service demo: spec.ports.0.nodePort")
        );
    }
}
