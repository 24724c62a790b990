//! Retries per object: exponential, capped, jittered, forgotten on success.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

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
