//! What was tried and failed, so that an event does not bring the same failure about
//! again before its time, and which chart succeeded, before the status tells.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kubebyon_helm::{Sha256Digest, chart::ChartRequest};
use kubebyon_render::Cluster;
use tokio::time::Instant;

use super::error::{Error, Halt, Recalled};
use crate::backoff::{Backoff, jittered};

/// First and longest pause between tries of a release.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// Pause after a failure that only a change can mend: somebody may have made the change
/// where no watch of ours sees it, in a chart repository for example.
const STALLED_PAUSE: Duration = Duration::from_secs(600);

struct Failure {
    of: String,
    recalled: Recalled,
    not_before: Instant,
}

/// The last failure of each cluster's release, by the cluster's uid.
pub struct Attempts {
    failures: Mutex<HashMap<String, Failure>>,
    backoff: Backoff<String>,
    charts: Mutex<HashMap<String, Chart>>,
}

/// A chart that a release was made from.
struct Chart {
    version: Option<String>,
    digest: Sha256Digest,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            failures: Mutex::default(),
            backoff: Backoff::new(PAUSES.0, PAUSES.1),
            charts: Mutex::default(),
        }
    }
}

impl Attempts {
    /// The failure of the same thing, while its pause lasts. `of` tells what was tried:
    /// another chart or other values are another thing.
    pub fn recall(&self, uid: &str, of: &str) -> Option<Halt> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = failures.get(uid)?;
        let pause = failure.not_before.saturating_duration_since(Instant::now());
        if failure.of != of || pause.is_zero() {
            return None;
        }
        Some(Halt::Recalled(Recalled {
            pause,
            ..failure.recalled.clone()
        }))
    }

    /// Remembers a failure, and says when to try again.
    pub fn failed(&self, uid: &str, of: &str, error: &Error) -> Halt {
        let backoff = self.backoff.failed(uid.to_owned());
        let pause = if error.is_terminal() && !error.is_mended_outside() {
            jittered(STALLED_PAUSE)
        } else {
            backoff
        };
        let recalled = Recalled {
            reason: error.reason(),
            message: error.to_string(),
            terminal: error.is_terminal(),
            pause,
        };
        let failure = Failure {
            of: of.to_owned(),
            recalled: recalled.clone(),
            not_before: Instant::now() + pause,
        };
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid.to_owned(), failure);
        Halt::Recalled(recalled)
    }

    /// The release is made from this chart.
    pub fn succeeded(&self, cluster: &Cluster, request: &ChartRequest, digest: Sha256Digest) {
        self.forget_failures(&cluster.uid);
        let chart = Chart {
            version: request.version.clone(),
            digest,
        };
        self.charts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(cluster.uid.clone(), chart);
    }

    /// The chart of that version which the release was last made from.
    pub fn digest(&self, cluster: &Cluster, version: &str) -> Option<Sha256Digest> {
        self.charts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&cluster.uid)
            .filter(|chart| chart.version.as_deref() == Some(version))
            .map(|chart| chart.digest)
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        self.forget_failures(uid);
        self.charts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    fn forget_failures(&self, uid: &str) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
        self.backoff.forget(&uid.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden() -> Error {
        Error::ArgoCdNotConfigured
    }

    #[test]
    fn the_same_thing_is_not_tried_again_at_once() {
        let attempts = Attempts::default();
        attempts.failed("uid", "values-a", &forbidden());
        let Some(Halt::Recalled(recalled)) = attempts.recall("uid", "values-a") else {
            panic!("forgotten")
        };
        assert!(recalled.terminal);
        assert!(recalled.pause > Duration::from_secs(400));
    }

    #[test]
    fn another_thing_is_tried_at_once() {
        let attempts = Attempts::default();
        attempts.failed("uid", "values-a", &forbidden());
        assert!(attempts.recall("uid", "values-b").is_none());
        assert!(attempts.recall("other", "values-a").is_none());
    }

    #[test]
    fn success_forgets() {
        let attempts = Attempts::default();
        attempts.failed("uid", "values-a", &forbidden());
        attempts.forget("uid");
        assert!(attempts.recall("uid", "values-a").is_none());
    }
}
