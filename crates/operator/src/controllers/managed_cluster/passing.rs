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
};
use tokio::time::Instant;

use super::{
    error::Halt,
    report::{self, Findings},
};

/// How long a state lasts before it is told.
const LASTS: Duration = Duration::from_secs(3);

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

    /// Remembers what is told, until the object at hand shows it.
    pub fn told(&self, uid: &str, status: &ManagedClusterStatus) {
        let told = Way {
            told: Some(status.clone()),
            since: None,
        };
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ways.insert(uid.to_owned(), told);
    }

    /// Whether something else than `now` was told last. The object at hand may be older than that,
    /// and say what `now` says again.
    pub fn told_otherwise(&self, uid: &str, now: &ManagedClusterStatus) -> bool {
        let ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = ways.get(uid).and_then(|way| way.told.as_ref());
        told.is_some_and(|told| report::differs(Some(told), now))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_last_counts_until_it_is_seen() {
        let status = |version: &str| ManagedClusterStatus {
            kubernetes_version: Some(version.to_owned()),
            ..ManagedClusterStatus::default()
        };
        let passing = Passing::default();
        assert!(!passing.told_otherwise("a", &status("1.35.6")));
        passing.told("a", &status("1.36.3"));
        assert!(passing.told_otherwise("a", &status("1.35.6")));
        assert!(!passing.told_otherwise("a", &status("1.36.3")));
        assert!(!passing.told_otherwise("b", &status("1.35.6")));
        passing.forget("a");
        assert!(!passing.told_otherwise("a", &status("1.35.6")));
    }
}
