//! Pauses per object: between retries, exponential, and between looks at what no watch tells, a
//! part of the time that it has lasted. Both are capped, and forgotten on success.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Consecutive failures of each key.
#[derive(Debug)]
pub struct Backoff<K> {
    base: Duration,
    cap: Duration,
    failures: Mutex<HashMap<K, u32>>,
}

impl<K: Eq + Hash> Backoff<K> {
    /// The first retry comes after about `base`, none later than `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            failures: Mutex::default(),
        }
    }

    /// Counts a failure of `key` and says how long to wait.
    pub fn failed(&self, key: K) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key).or_default();
        *count = count.saturating_add(1);
        jittered(delay(self.base, self.cap, *count))
    }

    /// Forgets `key`: it succeeded, or is gone.
    pub fn forget(&self, key: &K) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

fn delay(base: Duration, cap: Duration, failures: u32) -> Duration {
    let factor = 2u32.saturating_pow(failures.saturating_sub(1).min(20));
    base.saturating_mul(factor).min(cap)
}

/// Since when each key is waited for.
#[derive(Debug)]
pub struct Waits<K>(Mutex<HashMap<K, Instant>>);

impl<K> Default for Waits<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Waits<K> {
    /// How long `key` has been waited for; from now on, if it was not.
    pub fn lasted(&self, key: K) -> Duration {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.entry(key).or_insert_with(Instant::now).elapsed()
    }

    /// Forgets `key`: it came, or something else is waited for first.
    pub fn forget(&self, key: &K) {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.remove(key);
    }
}

/// The pause before the next look at what has `lasted` so long: what comes soon is seen soon, and
/// what does not come costs ever less.
pub fn share(lasted: Duration, shortest: Duration, longest: Duration) -> Duration {
    (lasted / 10).clamp(shortest, longest.max(shortest))
}

/// `delay`, shifted by up to a fifth either way, so that what failed together does not
/// come back together.
pub fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap() {
        let (base, cap) = (Duration::from_secs(1), Duration::from_secs(60));
        let delays: Vec<u64> = (1..=8)
            .map(|count| delay(base, cap, count).as_secs())
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(base, cap, u32::MAX), cap);
    }

    #[test]
    fn what_lasts_is_looked_at_ever_more_seldom() {
        let (shortest, longest) = (Duration::from_millis(250), Duration::from_secs(5));
        let after = |seconds| share(Duration::from_secs(seconds), shortest, longest);
        assert_eq!(after(0), shortest);
        assert_eq!(after(20), Duration::from_secs(2));
        assert_eq!(after(3600), longest);
    }

    #[test]
    fn success_forgets() {
        let backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(1000));
        for _ in 0..5 {
            backoff.failed("a");
        }
        backoff.forget(&"a");
        assert!(backoff.failed("a") < Duration::from_secs(13));
    }

    #[test]
    fn keys_do_not_share_failures() {
        let backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(1000));
        for _ in 0..5 {
            backoff.failed("a");
        }
        assert!(backoff.failed("b") < Duration::from_secs(13));
    }
}
