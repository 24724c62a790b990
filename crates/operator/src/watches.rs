//! What the host's api-server tells without being asked: one watch a kind, kept in
//! memory without the parts that nobody reads.

use std::{fmt::Debug, hash::Hash, time::Duration};

use futures::{Stream, StreamExt};
use kubebyon_k8s::{
    k8s_openapi::NamespaceResourceScope,
    kube::{
        self, Api, Client, Resource, ResourceExt,
        core::{ApiResource, DynamicObject, PartialObjectMeta},
        runtime::{
            WatchStreamExt,
            reflector::{self, Store},
            utils::Backoff,
            watcher::{self, Event, watcher},
        },
    },
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::backoff::jittered;

/// Everything that is kept of a watched kind.
pub struct Watched<K>
where
    K: reflector::Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash,
{
    /// What is there now.
    pub store: Store<K>,
    /// Each object that was added, changed or deleted. It has to be polled for the store to fill.
    pub touched: futures::stream::BoxStream<'static, Result<K, watcher::Error>>,
}

/// Pauses between tries of a watch that fails: from one second to ten. Kube's own
/// begin anew at each try, for a try begins with an item that is no error, and so would ask
/// every second for an API that is not installed.
struct Pauses {
    next: Duration,
    since: Instant,
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);

impl Default for Pauses {
    fn default() -> Self {
        Self {
            next: SHORTEST,
            since: Instant::now(),
        }
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // It went well for a while.
        if self.since.elapsed() > 2 * self.next {
            self.next = SHORTEST;
        }
        let pause = self.next;
        self.next = (2 * pause).min(LONGEST);
        self.since = Instant::now() + pause;
        Some(jittered(pause))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {}
}

/// Watches the objects of `api` that carry `labels`; `slim` drops what is not read.
pub fn watch<K>(api: Api<K>, labels: &str, slim: fn(&mut K)) -> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let touched = watcher(api, watcher::Config::default().labels(labels))
        .backoff(Pauses::default())
        .modify(move |object| {
            object.managed_fields_mut().clear();
            slim(object);
        })
        .reflect(writer)
        .touched_objects()
        .boxed();
    Watched { store, touched }
}

/// As [`watch`], of the metadata alone.
pub fn watch_metadata<K>(
    api: Api<PartialObjectMeta<K>>,
    labels: &str,
) -> Watched<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let touched = watcher(api, watcher::Config::default().labels(labels))
        .backoff(Pauses::default())
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects()
        .boxed();
    Watched { store, touched }
}

/// As [`watch_metadata`], of all objects, of which only those that `keep` picks are
/// remembered. The others are passed on and forgotten: there may be very many.
pub fn watch_metadata_keeping<K>(
    api: Api<PartialObjectMeta<K>>,
    keep: fn(&PartialObjectMeta<K>) -> bool,
) -> Watched<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, mut writer) = reflector::store();
    let touched = watcher(api, watcher::Config::default())
        .backoff(Pauses::default())
        .modify(|object| object.managed_fields_mut().clear())
        .inspect(move |event| {
            let Ok(event) = event else { return };
            let kept = match event {
                Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => {
                    keep(object)
                }
                Event::Init | Event::InitDone => true,
            };
            if kept {
                writer.apply_watcher_event(event);
            }
        })
        .touched_objects()
        .boxed();
    Watched { store, touched }
}

/// As [`watch`], of a kind that the host cluster serves in one version or another, or not at
/// all: in the version that `served` says, and anew when that changes. In the store every
/// object is of the kind `key`, whatever its version.
pub fn watch_served(
    client: &Client,
    served: tokio::sync::watch::Receiver<Option<ApiResource>>,
    key: ApiResource,
    slim: fn(&mut DynamicObject),
) -> Watched<DynamicObject> {
    let writer = reflector::store::Writer::<DynamicObject>::new(key);
    let store = writer.as_reader();
    let touched = versions(client.clone(), served)
        .modify(move |object| {
            object.managed_fields_mut().clear();
            slim(object);
        })
        .reflect(writer)
        .touched_objects()
        .boxed();
    Watched { store, touched }
}

type Events = futures::stream::BoxStream<'static, watcher::Result<Event<DynamicObject>>>;

/// The events of the version that is served now. When none is, everything is gone.
fn versions(
    client: Client,
    served: tokio::sync::watch::Receiver<Option<ApiResource>>,
) -> impl Stream<Item = watcher::Result<Event<DynamicObject>>> + Send + 'static {
    let begin = move |resource: Option<ApiResource>| -> Events {
        match resource {
            Some(resource) => {
                let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
                watcher(api, watcher::Config::default())
                    .backoff(Pauses::default())
                    .boxed()
            }
            None => futures::stream::iter([Ok(Event::Init), Ok(Event::InitDone)])
                .chain(futures::stream::pending())
                .boxed(),
        }
    };
    futures::stream::unfold(
        (served, None::<Events>, begin),
        |(mut served, mut events, begin)| async move {
            loop {
                let current = match &mut events {
                    Some(current) => current,
                    None => events.insert(begin(served.borrow_and_update().clone())),
                };
                tokio::select! {
                    biased;
                    changed = served.changed() => {
                        changed.ok()?;
                        events = None;
                    }
                    event = current.next() => return event.map(|event| (event, (served, events, begin))),
                }
            }
        },
    )
}

/// The cached object of that name.
pub fn cached<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<std::sync::Arc<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + 'static,
{
    store.get(&reflector::ObjectRef::new(name).within(namespace))
}

/// For kinds that are kept whole.
pub fn whole<K>(_: &mut K) {}

/// An api for all namespaces.
pub fn everywhere<K>(client: &Client) -> Api<K>
where
    K: Resource<DynamicType = ()>,
{
    Api::all(client.clone())
}

/// A stream of one kind, for a controller that maps it to its own objects.
pub fn refs<K, M>(
    touched: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
    map: impl Fn(&K) -> Vec<reflector::ObjectRef<M>> + Send + 'static,
) -> impl Stream<Item = reflector::ObjectRef<M>> + Send + 'static
where
    K: Send + 'static,
    M: reflector::Lookup + Send + 'static,
    M::DynamicType: Eq + Hash + Send,
{
    touched.flat_map(move |item| {
        let refs = match item {
            Ok(object) => map(&object),
            // An API that is not installed yet is asked for again and again.
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                if status.code == 404 =>
            {
                tracing::debug!(message = %status.message, "nothing to watch yet");
                Vec::new()
            }
            Err(error) => {
                tracing::warn!(%error, "a watch failed; it is taken up again");
                Vec::new()
            }
        };
        futures::stream::iter(refs)
    })
}
