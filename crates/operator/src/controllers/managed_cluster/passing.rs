//! States that pass by themselves, mostly within a moment: they are written down only if
//! they last. To write a status costs the api-server more than any other request of ours.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kubebyon_api::{
    ManagedClusterStatus, Reason,
    conditions::{self, ConditionType},
    managed_cluster::Phase,
};
use tokio::time::Instant;

use super::{error::Halt, report::Findings};

/// How long a state lasts before it is told.
const LASTS: Duration = Duration::from_secs(1);

/// What is on its way, by the cluster's uid.
#[derive(Default)]
pub struct Passing(Mutex<HashMap<String, Way>>);

#[derive(Default)]
struct Way {
    /// What was told last; the object at hand may be older.
    told: Option<ManagedClusterStatus>,
    /// Since when it is in a state that was not told.
    since: Option<Instant>,
}

impl Passing {
    /// For how long yet `now` need not be told; none if it has to be told at once.
    pub fn hold(
        &self,
        uid: &str,
        before: Option<&ManagedClusterStatus>,
        now: &ManagedClusterStatus,
        findings: &Findings,
    ) -> Option<Duration> {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let way = ways.entry(uid.to_owned()).or_default();
        if !passes(way.told.as_ref().or(before), now, findings) {
            way.since = None;
            return None;
        }
        let begun = *way.since.get_or_insert_with(Instant::now);
        let left = LASTS.checked_sub(begun.elapsed());
        if left.is_none() {
            way.since = None;
        }
        left
    }

    /// Remembers what is told, until the way has come to its end.
    pub fn told(&self, uid: &str, status: &ManagedClusterStatus) {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(status.phase, Some(Phase::Installing | Phase::Updating)) {
            ways.entry(uid.to_owned()).or_default().told = Some(status.clone());
        } else {
            ways.remove(uid);
        }
    }

    /// Forgets a cluster that is gone, or at rest.
    pub fn forget(&self, uid: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}

/// Whether `now` is one more step on a way that was announced: nothing failed, and nothing
/// that people or programs wait for has changed.
fn passes(
    before: Option<&ManagedClusterStatus>,
    now: &ManagedClusterStatus,
    findings: &Findings,
) -> bool {
    let Some(before) = before else { return false };
    let on_its_way = findings.announced.is_none()
        && findings.halt().is_some_and(|(_, halt)| match halt {
            Halt::Waiting(wait) => matches!(
                wait.reason,
                Reason::Progressing
                    | Reason::ControlPlaneNotReady
                    | Reason::KubeconfigPending
                    | Reason::Probing
            ),
            Halt::Failed(_) | Halt::Recalled(_) => false,
        });
    let says = |status: &ManagedClusterStatus, type_| {
        conditions::find(&status.conditions, type_).map(|condition| condition.status.clone())
    };
    on_its_way
        && before.phase == now.phase
        && before.observed_generation == now.observed_generation
        && [
            ConditionType::Ready,
            ConditionType::Reconciling,
            ConditionType::Stalled,
        ]
        .into_iter()
        .all(|type_| says(before, type_) == says(now, type_))
}
