//! The same call again and again, while something happens to what answers it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

/// Calls that go on in a thread of their own.
pub struct Calls {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<Tally>>,
}

/// How the calls went.
#[derive(Debug)]
pub struct Tally {
    /// What was called.
    pub what: String,
    /// How many calls were made.
    pub made: usize,
    /// When, since the first call, one failed, and why.
    pub failed: Vec<(Duration, String)>,
    /// How long the slowest took.
    pub slowest: Duration,
}

impl Calls {
    /// Begins to make `call` each `period`. It goes on until it is ended and at least `least` calls were made.
    pub fn begin(
        what: &str,
        period: Duration,
        least: usize,
        mut call: impl FnMut() -> Result<(), String> + Send + 'static,
    ) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let (what, end) = (what.to_owned(), enough.clone());
        let thread = spawn(move || {
            let began = Instant::now();
            let mut tally = Tally {
                what,
                made: 0,
                failed: Vec::new(),
                slowest: Duration::ZERO,
            };
            let mut next = began;
            while tally.made < least || !end.load(Ordering::Relaxed) {
                sleep(next.saturating_duration_since(Instant::now()));
                next = Instant::now() + period;
                let at = Instant::now();
                if let Err(why) = call() {
                    tally.failed.push((at.duration_since(began), why));
                }
                tally.made += 1;
                tally.slowest = tally.slowest.max(at.elapsed());
            }
            tally
        });
        Self {
            enough,
            thread: Some(thread),
        }
    }

    /// Waits for the last call.
    ///
    /// # Panics
    /// When the thread did.
    pub fn end(mut self) -> Tally {
        self.enough.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().expect("the thread does not panic")
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            made,
            failed,
            slowest,
        } = self;
        write!(
            f,
            "{what}: {} of {made} failed, the slowest took {:.2} s",
            failed.len(),
            slowest.as_secs_f32()
        )?;
        for (at, why) in failed {
            write!(f, "\n             after {:.1} s: {why}", at.as_secs_f32())?;
        }
        Ok(())
    }
}
