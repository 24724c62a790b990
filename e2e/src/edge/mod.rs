//! An entrance and its clusters as the people in front of it see them: by names, with curl, openssl and kubectl, from
//! outside of the nodes.

pub mod calls;
pub mod object;
pub mod outside;
pub mod site;
pub mod tenant;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// Waits until there is something, and says how long that took; panics when it takes longer than `limit`.
///
/// # Panics
/// At the limit.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> (T, Duration) {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return (found, began.elapsed());
        }
        assert!(began.elapsed() < limit, "waited {limit:?} for {what}");
        sleep(Duration::from_millis(200));
    }
}
