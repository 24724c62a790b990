//! What a test finds out from outside, as a person with kubectl would, and a host that
//! the tests of one binary share.

use std::{
    fmt::Debug,
    future::Future,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use kubebyon_api::ManagedCluster;
use kubebyon_k8s::{
    k8s_openapi::{
        NamespaceResourceScope,
        api::{core::v1::Secret, events::v1::Event},
    },
    kube::{
        Api, Client, Resource, ResourceExt,
        api::{ListParams, Patch, PatchParams, PostParams},
        runtime::{WatchStreamExt, watcher},
    },
};
use kubebyon_testbed::ApiOptions;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{runtime::Runtime, task::JoinHandle, time::Instant};

use crate::operator::{Host, Manager, PATIENCE};

/// A host with a manager on it that all tests of a binary share, and the runtime that
/// both live in. The cluster ends with the process.
pub struct Shared {
    runtime: Runtime,
    /// The host.
    pub host: Host,
    /// The manager.
    pub manager: Manager,
}

impl Shared {
    /// The binary's one host: made by the first test that asks, with the manager's
    /// further flags out of `flags`.
    pub fn get(
        cell: &'static OnceLock<Self>,
        lease: &str,
        flags: impl FnOnce(&Host) -> Vec<String>,
    ) -> &'static Self {
        Self::get_with(cell, lease, ApiOptions::default(), flags)
    }

    /// As [`Shared::get`], with options of the api-server. `flags` runs inside the runtime.
    pub fn get_with(
        cell: &'static OnceLock<Self>,
        lease: &str,
        options: ApiOptions,
        flags: impl FnOnce(&Host) -> Vec<String>,
    ) -> &'static Self {
        cell.get_or_init(|| {
            let runtime = Runtime::new().expect("a runtime");
            let (host, manager) = runtime.block_on(async {
                let host = Host::start_with(options).await;
                let mut arguments = vec![format!("--lease-name={lease}")];
                arguments.extend(flags(&host));
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let manager = host.manager(host.options(&arguments)).await;
                (host, manager)
            });
            Self {
                runtime,
                host,
                manager,
            }
        })
    }

    /// Runs a test on it.
    pub fn run<F: Future>(&'static self, test: impl FnOnce(&'static Self) -> F) -> F::Output {
        self.runtime.block_on(test(self))
    }

    /// Waits until a reconcile that ended with `reason` is counted, which it is when it has ended:
    /// after the status that it wrote.
    pub async fn counts(&self, reason: &str) {
        eventually(&format!("{reason} is counted"), || async {
            (self.failures(reason) > 0).then_some(())
        })
        .await;
    }

    fn failures(&self, reason: &str) -> u64 {
        let text = self.manager.metrics.render().expect("metrics");
        let label = format!("reason=\"{reason}\"");
        text.lines()
            .filter(|line| line.starts_with("kubebyon_reconcile_failures_total"))
            .filter(|line| line.contains(&label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }
}

/// Looks until there is something; panics when that takes longer than [`PATIENCE`].
pub async fn eventually<T, F>(what: &str, look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    within(PATIENCE, what, look).await
}

/// As [`eventually`], with a limit of its own.
pub async fn within<T, F>(limit: Duration, what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The object, if it is there.
pub async fn find<K>(client: &Client, namespace: &str, name: &str) -> Option<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    Api::<K>::namespaced(client.clone(), namespace)
        .get_opt(name)
        .await
        .expect("an answer")
}

/// The uid of an object that has to be there.
pub async fn uid<K>(client: &Client, namespace: &str, name: &str) -> String
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let found: Option<K> = find(client, namespace, name).await;
    found
        .unwrap_or_else(|| panic!("no {} {namespace}/{name}", K::kind(&())))
        .uid()
        .expect("a uid")
}

/// Deletes an object by hand.
pub async fn remove<K>(client: &Client, namespace: &str, name: &str)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    Api::<K>::namespaced(client.clone(), namespace)
        .delete(name, &kubebyon_k8s::kube::api::DeleteParams::background())
        .await
        .expect("the deletion");
}

/// Edits an object by hand, by a merge patch, as `kubectl edit` would.
pub async fn edit<K>(client: &Client, namespace: &str, name: &str, patch: Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let parameters = PatchParams {
        field_manager: Some("kubectl-edit".to_owned()),
        ..PatchParams::default()
    };
    Api::<K>::namespaced(client.clone(), namespace)
        .patch(name, &parameters, &Patch::Merge(&patch))
        .await
        .expect("the edit");
}

/// Creates an object that is not there.
pub async fn create<K>(api: &Api<K>, object: &K)
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    api.create(&PostParams::default(), object)
        .await
        .expect("the api-server takes it");
}

/// Makes an object out of JSON.
pub async fn make<K>(client: &Client, namespace: &str, object: Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let object: K = serde_json::from_value(object).expect("an object");
    create(&Api::namespaced(client.clone(), namespace), &object).await;
}

/// Key `key` of a Secret, as text.
pub async fn secret_text(client: &Client, namespace: &str, name: &str, key: &str) -> String {
    let secret: Option<Secret> = find(client, namespace, name).await;
    let data = secret
        .unwrap_or_else(|| panic!("no Secret {namespace}/{name}"))
        .data;
    let bytes = data.and_then(|mut data| data.remove(key)).expect("the key");
    String::from_utf8(bytes.0).expect("text")
}

/// The events about the ManagedCluster `name`: type, reason, note.
pub async fn events(client: &Client, namespace: &str, name: &str) -> Vec<(String, String, String)> {
    let found = Api::<Event>::namespaced(client.clone(), namespace)
        .list(&ListParams::default())
        .await
        .expect("events");
    let about = |event: &Event| {
        let regarding = event.regarding.as_ref();
        regarding.and_then(|object| object.name.as_deref()) == Some(name)
    };
    found
        .items
        .into_iter()
        .filter(about)
        .map(|event| {
            (
                event.type_.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.note.unwrap_or_default(),
            )
        })
        .collect()
}

/// Revisions that helm holds of a release.
pub async fn revisions(client: &Client, namespace: &str, release: &str) -> usize {
    let selector = ListParams::default().labels(&format!("owner=helm,name={release}"));
    let found = Api::<Secret>::namespaced(client.clone(), namespace)
        .list_metadata(&selector)
        .await;
    found.expect("the release's Secrets").items.len()
}

/// Every version of a ManagedCluster that a watch sees.
pub struct Journal {
    seen: Arc<Mutex<Vec<ManagedCluster>>>,
    task: JoinHandle<()>,
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Journal {
    /// Begins to write; what is there now is in it.
    pub async fn begin(client: &Client, namespace: &str, name: &str) -> Self {
        let seen: Arc<Mutex<Vec<ManagedCluster>>> = Arc::default();
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut versions = watcher(Api::namespaced(client.clone(), namespace), config)
            .default_backoff()
            .applied_objects()
            .boxed();
        let pages = seen.clone();
        let task = tokio::spawn(async move {
            while let Some(version) = versions.next().await {
                if let Ok(version) = version {
                    pages
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(version);
                }
            }
        });
        let journal = Self { seen, task };
        eventually("the watch begins", || {
            let begun = !journal.pages().is_empty();
            async move { begun.then_some(()) }
        })
        .await;
        journal
    }

    /// What was seen so far, in order.
    pub fn pages(&self) -> Vec<ManagedCluster> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
