//! Proof of public names: what they resolve to, and whether the tenant's API answers under
//! them through the data plane.
//!
//! Each name has a task of its own that dials it: seldom at rest, often while something changes
//! or is wrong. How many dial at once is bounded. Whoever asks gets the newest finding, and is
//! told when it changes.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kubebyon_api::types::Hostname;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    backoff::{jittered, share},
    dial::{DialError, Dialer},
    dns::{Dns, Unanswered},
};

/// Dials at once.
const CONCURRENCY: usize = 64;
/// Time limit of one dial.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// Time limit of the wait for a first finding: one dial, and a look at DNS beside it.
const FIRST_LIMIT: Duration = Duration::from_secs(6);
/// Shortest pause, while something changes or is wrong.
const SHORTEST: Duration = Duration::from_millis(100);
/// Something that was proved is dialled again before it is called wrong: one lost packet is no news.
const SECOND_LOOK: Duration = Duration::from_millis(500);
/// Findings that wait for whoever is to be told.
const NEWS: usize = 1024;
/// Public names are served on this port.
const HTTPS: u16 = 443;

/// Where an entrance is: an address, or, at some cloud providers, a name for one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// An address.
    Ip(IpAddr),
    /// A name that leads to addresses.
    Name(Hostname),
}

/// What is to be proved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The public name.
    pub name: Hostname,
    /// Where the entrance is.
    pub entrance: Vec<Address>,
    /// The tenant's certificate authorities, as PEM.
    pub authority: Vec<u8>,
    /// Whether the name has to resolve to the entrance.
    pub check_dns: bool,
    /// DNS servers to ask; none: the system's.
    pub servers: Vec<SocketAddr>,
    /// Pause between two dials at rest.
    pub interval: Duration,
    /// For tests without a data plane: what is dialled in place of the entrance.
    pub dial_at: Option<SocketAddr>,
}

/// What the last look at a name found.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Whether the tenant's API answered through every address of the entrance.
    pub dial: Result<(), String>,
    /// Whether the name leads to the entrance.
    pub dns: Result<(), DnsFault>,
    /// How long it has been wrong.
    pub wrong_for: Option<Duration>,
}

/// Why a name does not count as leading to the entrance.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DnsFault {
    /// There is no record.
    #[error("{0} does not resolve to any address")]
    NoRecord(Hostname),
    /// The record leads elsewhere.
    #[error("{name} resolves to {found}, and not to the entrance alone")]
    Elsewhere {
        /// The name.
        name: Hostname,
        /// The addresses found.
        found: String,
    },
    /// Nobody answered.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

/// The names that are proved, by whose they are.
pub struct Prober<K> {
    entries: Mutex<HashMap<K, Entry>>,
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    dns: Dns,
    permits: Semaphore,
    news: mpsc::Sender<K>,
}

struct Entry {
    target: Target,
    state: Arc<State>,
    // Dropped with the entry, and with it the dialling ends.
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Seen>,
    hurried: Notify,
    /// There is a finding.
    found: Notify,
}

#[derive(Default)]
struct Seen {
    found: Option<Found>,
    hurry: bool,
}

#[derive(Clone)]
struct Found {
    dial: Result<(), String>,
    dns: Result<(), DnsFault>,
    /// Since when it has been right, or wrong.
    since: Instant,
}

impl Found {
    fn is_right(&self) -> bool {
        self.dial.is_ok() && self.dns.is_ok()
    }

    fn says_the_same(&self, other: &Self) -> bool {
        self.dial == other.dial && self.dns == other.dns
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Prober<K> {
    /// A prober, and the keys whose finding has changed.
    pub fn new() -> (Self, mpsc::Receiver<K>) {
        let (news, changed) = mpsc::channel(NEWS);
        let shared = Shared {
            dns: Dns::default(),
            permits: Semaphore::new(CONCURRENCY),
            news,
        };
        let prober = Self {
            entries: Mutex::default(),
            shared: Arc::new(shared),
        };
        (prober, changed)
    }

    /// The newest finding about `target`, from now on the one thing that is proved for `key`;
    /// none before the first. With `hurry` something is changing: it is dialled at once and
    /// often, and a finding from before the hurry does not count.
    pub fn look(&self, key: &K, target: Target, hurry: bool) -> Option<Proof> {
        let mut entries = locked(&self.entries);
        let known = entries.get(key).is_some_and(|entry| entry.target == target);
        if !known {
            entries.insert(key.clone(), self.start(key.clone(), target, hurry));
            return None;
        }
        let state = &entries.get(key)?.state;
        let mut seen = locked(&state.seen);
        if hurry && !seen.hurry {
            seen.found = None;
            state.hurried.notify_one();
        }
        seen.hurry = hurry;
        seen.found.as_ref().map(|found| Proof {
            dial: found.dial.clone(),
            dns: found.dns.clone(),
            wrong_for: (!found.is_right()).then(|| found.since.elapsed()),
        })
    }

    /// As [`Prober::look`]; before the first finding it waits for that, within bounds: who begins
    /// to look at something that has been right is not to call it unproved in the meantime.
    pub async fn first(&self, key: &K, target: Target) -> Option<Proof> {
        if let Some(proof) = self.look(key, target.clone(), false) {
            return Some(proof);
        }
        let state = locked(&self.entries).get(key)?.state.clone();
        let found = state.found.notified();
        tokio::pin!(found);
        found.as_mut().enable();
        let early = self.look(key, target.clone(), false);
        if early.is_some() || timeout(FIRST_LIMIT, found).await.is_err() {
            return early;
        }
        self.look(key, target, false)
    }

    /// Ends the dialling for `key`.
    pub fn forget(&self, key: &K) {
        locked(&self.entries).remove(key);
    }

    fn start(&self, key: K, target: Target, hurry: bool) -> Entry {
        let state = Arc::new(State::default());
        locked(&state.seen).hurry = hurry;
        let task = tokio::spawn(watch(
            self.shared.clone(),
            key,
            target.clone(),
            state.clone(),
        ));
        Entry {
            target,
            state,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

async fn watch<K: Clone>(shared: Arc<Shared<K>>, key: K, target: Target, state: Arc<State>) {
    let mut doubted = false;
    loop {
        let (dial, dns) = {
            let Ok(_permit) = shared.permits.acquire().await else {
                return;
            };
            prove(&shared.dns, &target).await
        };
        doubted = !doubted && state.doubts(&dial, &dns);
        if doubted {
            sleep(SECOND_LOOK).await;
            continue;
        }
        let (changed, pause) = state.record(dial, dns, target.interval);
        if changed && shared.news.send(key.clone()).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(jittered(pause)) => {}
            () = state.hurried.notified() => {}
        }
    }
}

impl State {
    /// Whether something that was right looks wrong now.
    fn doubts(&self, dial: &Result<(), String>, dns: &Result<(), DnsFault>) -> bool {
        let wrong = dial.is_err() || dns.is_err();
        wrong
            && locked(&self.seen)
                .found
                .as_ref()
                .is_some_and(Found::is_right)
    }

    /// Keeps a finding. Gives whether it is news, and the pause until the next look.
    fn record(
        &self,
        dial: Result<(), String>,
        dns: Result<(), DnsFault>,
        at_rest: Duration,
    ) -> (bool, Duration) {
        let mut seen = locked(&self.seen);
        let before = seen.found.take();
        let right = dial.is_ok() && dns.is_ok();
        let since = before.as_ref().map(|before| before.since);
        let since = since.filter(|_| before.as_ref().map(Found::is_right) == Some(right));
        let found = Found {
            dial,
            dns,
            since: since.unwrap_or_else(Instant::now),
        };
        let changed = before.is_none_or(|before| !before.says_the_same(&found));
        let pause = pause(right, seen.hurry, found.since.elapsed(), at_rest);
        seen.found = Some(found);
        self.found.notify_waiters();
        (changed, pause)
    }
}

fn pause(right: bool, hurry: bool, lasted: Duration, at_rest: Duration) -> Duration {
    if right && !hurry {
        at_rest
    } else {
        share(lasted, SHORTEST, at_rest)
    }
}

async fn prove(dns: &Dns, target: &Target) -> (Result<(), String>, Result<(), DnsFault>) {
    let entrance = match addresses(dns, target).await {
        Ok(entrance) => entrance,
        Err(unanswered) => return (Err(unanswered.to_string()), Err(unanswered.into())),
    };
    if entrance.is_empty() {
        let missing = "the entrance's own name does not resolve to any address".to_owned();
        return (Err(missing), Err(DnsFault::NoRecord(target.name.clone())));
    }
    tokio::join!(dial(target, &entrance), check_dns(dns, target, &entrance))
}

/// The addresses of the entrance.
async fn addresses(dns: &Dns, target: &Target) -> Result<BTreeSet<IpAddr>, Unanswered> {
    let mut found = BTreeSet::new();
    for address in &target.entrance {
        match address {
            Address::Ip(ip) => {
                found.insert(*ip);
            }
            Address::Name(name) => found.extend(dns.addresses(&target.servers, name).await?),
        }
    }
    Ok(found)
}

/// Every address has to answer: a client may get any of them. An address of a family that this
/// machine has no route to is left out, unless it is the only one.
async fn dial(target: &Target, entrance: &BTreeSet<IpAddr>) -> Result<(), String> {
    let dialer = Dialer::new(&target.authority).map_err(|error| error.to_string())?;
    let all: Vec<SocketAddr> = match target.dial_at {
        Some(address) => vec![address],
        None => entrance
            .iter()
            .map(|ip| SocketAddr::new(*ip, HTTPS))
            .collect(),
    };
    let mut answered = false;
    let mut unreachable = None;
    for address in all {
        match dialer.readyz(address, &target.name, DIAL_LIMIT).await {
            Ok(()) => answered = true,
            Err(error) if has_no_route(&error) => unreachable = Some(error.to_string()),
            Err(error) => return Err(error.to_string()),
        }
    }
    match unreachable {
        Some(error) if !answered => Err(error),
        _ => Ok(()),
    }
}

fn has_no_route(error: &DialError) -> bool {
    matches!(error, DialError::Connect { source, .. }
        if matches!(source.kind(), ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable))
}

async fn check_dns(
    dns: &Dns,
    target: &Target,
    entrance: &BTreeSet<IpAddr>,
) -> Result<(), DnsFault> {
    if !target.check_dns {
        return Ok(());
    }
    let found = dns.addresses(&target.servers, &target.name).await?;
    if found.is_empty() {
        return Err(DnsFault::NoRecord(target.name.clone()));
    }
    if found.is_subset(entrance) {
        return Ok(());
    }
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    Err(DnsFault::Elsewhere {
        name: target.name.clone(),
        found: texts.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(30);

    #[test]
    fn at_rest_it_is_dialled_seldom() {
        assert_eq!(pause(true, false, Duration::from_secs(900), REST), REST);
    }

    #[test]
    fn what_changes_or_is_wrong_is_dialled_often_and_then_less() {
        for (right, hurry) in [(true, true), (false, false), (false, true)] {
            let after = |seconds| pause(right, hurry, Duration::from_secs(seconds), REST);
            assert_eq!(after(0), SHORTEST);
            assert_eq!(after(20), Duration::from_secs(2));
            assert_eq!(after(3600), REST);
        }
    }

    fn target(port: u16) -> Target {
        Target {
            name: "demo.clusters.example.test".parse().unwrap(),
            entrance: vec![Address::Ip(IpAddr::from([127, 0, 0, 1]))],
            authority: b"no certificate".to_vec(),
            check_dns: false,
            servers: Vec::new(),
            interval: REST,
            dial_at: Some(SocketAddr::from(([127, 0, 0, 1], port))),
        }
    }

    #[tokio::test]
    async fn the_first_finding_is_waited_for() {
        let (prober, _news) = Prober::new();
        let proof = prober.first(&"demo", target(9)).await.unwrap();
        assert!(proof.dial.unwrap_err().contains("CA bundle"));
        assert!(prober.look(&"demo", target(9), false).is_some());
    }

    #[tokio::test]
    async fn a_finding_comes_with_news_and_goes_with_a_new_target() {
        let (prober, mut news) = Prober::new();
        assert!(prober.look(&"demo", target(9), true).is_none());
        assert_eq!(news.recv().await, Some("demo"));
        let proof = prober.look(&"demo", target(9), true).unwrap();
        assert!(proof.dial.unwrap_err().contains("CA bundle"));
        assert!(proof.wrong_for.is_some());
        assert!(prober.look(&"demo", target(8), true).is_none());
        prober.forget(&"demo");
        assert!(locked(&prober.entries).is_empty());
    }
}
