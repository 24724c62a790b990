//! A client that goes silent in the middle of its work, as the api-server seems to a
//! process that is about to die: for every cluster after a request of its own choice.
//!
//! Requests are told apart by the namespace in their path, so that one manager can be
//! crashed at a different request for each of its clusters at once: for any of them it
//! is as if the whole manager stopped there, since nothing of it goes on.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Method, Request};
use kubebyon_k8s::kube::{
    Client,
    client::{Body, ClientBuilder},
};
use serde_json::Value;
use tower::service_fn;

/// Where a cluster's requests end. They are counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// This request does not arrive.
    Unsent(usize),
    /// This request arrives, and nobody hears of its answer.
    Unheard(usize),
}

/// One request of a cluster.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method and path.
    pub what: String,
    /// Whether it writes.
    pub writes: bool,
}

#[derive(Default)]
struct Lane {
    point: Option<Point>,
    seen: Vec<Seen>,
    /// No further request is let through.
    cut: bool,
    /// The last request has come to its end.
    settled: bool,
}

#[derive(Default)]
struct State {
    by_namespace: HashMap<String, usize>,
    by_claim: HashMap<String, usize>,
    lanes: Vec<Lane>,
    stray: Vec<String>,
}

/// The plan of all crashes of one manager, and what happened.
#[derive(Clone, Default)]
pub struct Crashes {
    state: Arc<Mutex<State>>,
    dead: Arc<AtomicBool>,
}

enum Verdict {
    Pass,
    Never,
    Last(usize),
}

impl Crashes {
    /// The cluster that lives in these namespaces crashes at `point`, or never. Gives the
    /// cluster's number.
    pub fn lane(&self, namespaces: [&str; 2], point: Option<Point>) -> usize {
        let mut state = self.locked();
        state.lanes.push(Lane {
            point,
            ..Lane::default()
        });
        let lane = state.lanes.len() - 1;
        for namespace in namespaces {
            state.by_namespace.insert(namespace.to_owned(), lane);
        }
        lane
    }

    /// The claims on these host names are the cluster's too.
    pub fn claims(&self, lane: usize, hostnames: &[String]) {
        let mut state = self.locked();
        for hostname in hostnames {
            let claim = kubebyon_api::names::hostname_claim(hostname);
            state.by_claim.insert(claim, lane);
        }
    }

    /// Whether the cluster crashed, and its last request came to its end.
    pub fn crashed(&self, lane: usize) -> bool {
        let state = self.locked();
        state.lanes[lane].cut && state.lanes[lane].settled
    }

    /// The cluster's requests up to now.
    pub fn seen(&self, lane: usize) -> Vec<Seen> {
        self.locked().lanes[lane].seen.clone()
    }

    /// Writes that belong to no cluster; the Lease left out.
    pub fn stray(&self) -> Vec<String> {
        self.locked().stray.clone()
    }

    /// From now on nothing at all is let through.
    pub fn silence(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    /// A client over `inner` that keeps to the plan.
    pub fn client(&self, inner: Client) -> Client {
        let crashes = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let (crashes, inner) = (crashes.clone(), inner.clone());
            async move {
                let (request, created) = created(request).await;
                match crashes.judge(&request, created.as_deref()) {
                    Verdict::Pass => inner.send(request).await,
                    Verdict::Never => std::future::pending().await,
                    Verdict::Last(lane) => {
                        // Whatever the answer is, nobody hears it.
                        let _ = inner.send(request).await;
                        crashes.locked().lanes[lane].settled = true;
                        std::future::pending().await
                    }
                }
            }
        });
        ClientBuilder::new(service, "default").build()
    }

    fn judge(&self, request: &Request<Body>, created: Option<&str>) -> Verdict {
        if self.dead.load(Ordering::SeqCst) {
            return Verdict::Never;
        }
        let uri = request.uri();
        let watch = uri
            .query()
            .is_some_and(|query| query.contains("watch=true"));
        if watch || uri.path().contains("/leases") {
            return Verdict::Pass;
        }
        let writes = request.method() != Method::GET;
        let what = format!("{} {}", request.method(), uri.path());
        let mut state = self.locked();
        let namespace = uri
            .path()
            .split('/')
            .skip_while(|part| *part != "namespaces")
            .nth(1)
            .or(created);
        let claim = created.or(uri.path().rsplit('/').next());
        let lane = namespace
            .and_then(|name| state.by_namespace.get(name))
            .or_else(|| state.by_claim.get(claim?))
            .copied();
        let Some(lane) = lane else {
            if writes {
                state.stray.push(what);
            }
            return Verdict::Pass;
        };
        let this = &mut state.lanes[lane];
        if this.cut {
            return Verdict::Never;
        }
        this.seen.push(Seen { what, writes });
        let number = this.seen.len();
        match this.point {
            Some(Point::Unsent(point)) if point == number => {
                this.cut = true;
                this.settled = true;
                Verdict::Never
            }
            Some(Point::Unheard(point)) if point == number => {
                this.cut = true;
                Verdict::Last(lane)
            }
            _ => Verdict::Pass,
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the namespace or ConfigMap that a request makes: it is in no path.
async fn created(request: Request<Body>) -> (Request<Body>, Option<String>) {
    let path = request.uri().path();
    let unnamed = path == "/api/v1/namespaces" || path.ends_with("/configmaps");
    if request.method() != Method::POST || !unnamed {
        return (request, None);
    }
    let (parts, body) = request.into_parts();
    let bytes = body.collect_bytes().await.expect("a body");
    let object: Value = serde_json::from_slice(&bytes).expect("JSON");
    let name = object["metadata"]["name"].as_str().map(str::to_owned);
    (Request::from_parts(parts, Body::from(bytes)), name)
}
