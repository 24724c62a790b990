//! What the host's api-server tells without being asked: one watch a kind, kept in
//! memory without the parts that nobody reads.

use std::{fmt::Debug, future::ready, hash::Hash, time::Duration};

use futures::{Stream, StreamExt};
use kubebyon_k8s::{
    k8s_openapi::NamespaceResourceScope,
    kube::{
        self, Api, Client, Resource, ResourceExt,
        core::{ApiResource, DynamicObject, PartialObjectMeta},
        runtime::{
            Predicate, WatchStreamExt, predicates,
            reflector::{self, Store, store::Writer},
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
/// A watch that lasted so long went well: one of what is not installed fails at once.
const WELL: Duration = Duration::from_secs(5);

impl Default for Pauses {
    fn default() -> Self {
        Self {
            next: SHORTEST,
            since: Instant::now(),
        }
    }
}

impl Pauses {
    /// The pause after a failure at `now`.
    fn after(&mut self, now: Instant) -> Duration {
        if now.saturating_duration_since(self.since) > WELL {
            self.next = SHORTEST;
        }
        let pause = self.next;
        self.next = (2 * pause).min(LONGEST);
        self.since = now + pause;
        pause
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(jittered(self.after(Instant::now())))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {}
}

/// The events of a watch that is taken up again whenever it fails, after a pause.
///
/// That a version is too old to go on from is no failure of the server: it is so each time that it
/// was away. Then everything is listed anew at once, unless that was so a moment ago too.
pub fn lasting<K: Send + 'static>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static {
    let mut last = None::<Instant>;
    events
        .filter_map(move |event| {
            let expired =
                matches!(&event, Err(watcher::Error::WatchError(status)) if status.code == 410);
            let forgiven = expired && last.is_none_or(|last| last.elapsed() > LONGEST);
            if forgiven {
                last = Some(Instant::now());
            }
            ready((!forgiven).then_some(event))
        })
        .backoff(Pauses::default())
}

/// Keeps what `events` tell, less what `slim` drops and the record of who set which field.
fn keep<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    writer: Writer<K>,
    slim: fn(&mut K),
) -> Watched<K>
where
    K: Resource + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Eq + Hash + Send + Sync,
{
    let store = writer.as_reader();
    let touched = events
        .modify(move |object| {
            object.managed_fields_mut().clear();
            slim(object);
        })
        .reflect(writer)
        .touched_objects()
        .boxed();
    Watched { store, touched }
}

/// Watches the objects of `api` that carry `labels`; `slim` drops what is not read.
pub fn watch<K>(api: Api<K>, labels: &str, slim: fn(&mut K)) -> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let events = watcher(api, watcher::Config::default().labels(labels));
    keep(lasting(events), Writer::default(), slim)
}

/// As [`watch`], of the metadata alone.
pub fn watch_metadata<K>(
    api: Api<PartialObjectMeta<K>>,
    labels: &str,
) -> Watched<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    watch(api, labels, whole)
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
    let touched = lasting(watcher(api, watcher::Config::default()))
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
    keep(versions(client.clone(), served), Writer::new(key), slim)
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
                lasting(watcher(api, watcher::Config::default())).boxed()
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

/// What of an object tells that its author, or a finalizer's holder, did something: not its
/// status. A deletion counts as a generation (apiserver/pkg/registry/generic/registry/store.go).
pub fn authored<K: Resource>() -> impl Predicate<K> {
    predicates::generation
        .combine(predicates::finalizers)
        .combine(predicates::annotations)
}

/// `namespace/name`, as logs have it.
pub fn key<K: Resource>(object: &K) -> String {
    let meta = object.meta();
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&meta.namespace), part(&meta.name))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_keeps_failing_is_asked_ever_more_seldom() {
        let mut pauses = Pauses::default();
        let mut now = Instant::now();
        let told = [(); 6].map(|()| {
            let pause = pauses.after(now);
            // Each try begins well, and fails a moment later.
            pauses.reset();
            now += pause + SHORTEST / 2;
            pause.as_secs()
        });
        assert_eq!(told, [1, 2, 4, 8, 10, 10]);
    }

    #[tokio::test]
    async fn what_is_too_old_is_listed_anew_at_once_and_once_alone() {
        let expired = || {
            let status: kube::core::Status =
                serde_json::from_value(serde_json::json!({"code": 410})).unwrap();
            Err::<Event<()>, _>(watcher::Error::WatchError(Box::new(status)))
        };
        let events = futures::stream::iter([expired(), Ok(Event::Init), expired()]);
        let told: Vec<bool> = lasting(events).map(|event| event.is_ok()).collect().await;
        assert_eq!(told, [true, false]);
    }

    #[test]
    fn a_watch_that_went_well_for_a_while_is_soon_taken_up() {
        let mut pauses = Pauses::default();
        let mut now = Instant::now();
        for _ in 0..6 {
            now += pauses.after(now);
        }
        assert_eq!(pauses.after(now + 3 * LONGEST), SHORTEST);
    }
}
