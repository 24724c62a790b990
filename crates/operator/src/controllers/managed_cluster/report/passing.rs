//! States that pass by themselves, mostly within a moment: they are written down only if
//! they last. To write a status costs the api-server more than any other request of ours, so
//! what was written is also remembered until the watch shows it.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kubebyon_api::{
    ManagedCluster, ManagedClusterStatus, Reason,
    conditions::{self, ConditionType},
};
use tokio::time::Instant;

use super::{super::error::Halt, Findings};

/// How long a state lasts before it is told.
const LASTS: Duration = Duration::from_secs(3);

/// What is on its way, by the cluster's uid.
#[derive(Default)]
pub struct Passing(Mutex<HashMap<String, Way>>);

#[derive(Default)]
struct Way {
    told: Option<Told>,
    /// Since when it is in a state that was not told.
    since: Option<Instant>,
}

/// What was written last.
struct Told {
    status: ManagedClusterStatus,
    /// The object's version since. Versions are numbers that grow
    /// (kubernetes/enhancements, KEP-5504).
    version: u64,
}

impl Passing {
    /// The cluster with the status that was written last, where the object at hand is older: the
    /// watch comes later than the answer to a write.
    pub fn newest<'a>(&self, cluster: &'a ManagedCluster) -> Cow<'a, ManagedCluster> {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
        let Some(way) = ways.get_mut(uid) else {
            return Cow::Borrowed(cluster);
        };
        let shown = cluster.metadata.resource_version.as_deref();
        match (&way.told, shown.and_then(number)) {
            (Some(told), Some(shown)) if shown < told.version => {
                let mut newest = cluster.clone();
                newest.status = Some(told.status.clone());
                Cow::Owned(newest)
            }
            _ => {
                way.told = None;
                Cow::Borrowed(cluster)
            }
        }
    }

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
        if !passes(before, now, findings) {
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

    /// Remembers what was written, and the object's version since.
    pub fn told(&self, uid: &str, status: ManagedClusterStatus, version: Option<&str>) {
        let told = version
            .and_then(number)
            .map(|version| Told { status, version });
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ways.insert(uid.to_owned(), Way { told, since: None });
    }

    /// Nothing is on its way.
    pub fn arrived(&self, uid: &str) {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut way) = ways.entry(uid.to_owned()) {
            way.get_mut().since = None;
            if way.get().told.is_none() {
                way.remove();
            }
        }
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}

fn number(version: &str) -> Option<u64> {
    version.parse().ok()
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

    fn cluster(version: &str, kubernetes: &str) -> ManagedCluster {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "kubebyon.app/v1alpha1", "kind": "ManagedCluster",
            "metadata": {"name": "demo", "uid": "a", "resourceVersion": version},
            "spec": {}, "status": {"kubernetesVersion": kubernetes},
        }))
        .unwrap()
    }

    #[test]
    fn what_was_written_last_counts_until_the_watch_shows_it() {
        let says = |passing: &Passing, cluster: &ManagedCluster| {
            let status = passing.newest(cluster).into_owned().status.unwrap();
            status.kubernetes_version.unwrap()
        };
        let passing = Passing::default();
        let old = cluster("99", "1.35.6");
        assert_eq!(says(&passing, &old), "1.35.6");
        let written = cluster("100", "1.36.3");
        passing.told("a", written.status.clone().unwrap(), Some("100"));
        assert_eq!(says(&passing, &old), "1.36.3");
        passing.arrived("a");
        assert_eq!(says(&passing, &old), "1.36.3", "a watch may come late");
        assert_eq!(says(&passing, &written), "1.36.3");
        // Whoever changes it by hand afterwards is seen to.
        assert_eq!(says(&passing, &cluster("101", "1.0.0")), "1.0.0");
        passing.told("a", written.status.unwrap(), None);
        assert_eq!(
            says(&passing, &old),
            "1.35.6",
            "without a version it is not known"
        );
    }
}
