//! What the user sees while a long step runs.
//!
//! On a terminal one line is redrawn every second; elsewhere a line is printed when a step starts, every half
//! minute while it runs, and when it ends, so that a build log shows life without being flooded.

use std::{
    io::{IsTerminal, Write},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::supervisor::protocol::Event;

const REDRAW: Duration = Duration::from_secs(1);
const PLAIN_REMINDER: Duration = Duration::from_secs(30);

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Standard error is a terminal: one redrawn line a step.
    Terminal,
    /// Standard error is a file or a pipe: plain lines.
    Plain,
    /// Lines go to the process that started this one, as [`crate::supervisor::protocol::Event`]s.
    Events,
    /// Nothing is printed.
    Quiet,
}

impl Progress {
    /// Terminal or plain lines, by what standard error is.
    pub fn stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Terminal
        } else {
            Self::Plain
        }
    }

    /// Prints one line.
    pub fn say(self, line: &str) {
        match self {
            Self::Terminal | Self::Plain => eprintln!("{line}"),
            Self::Events => Event::Progress(line.to_owned()).send(),
            Self::Quiet => {}
        }
    }

    /// Announces a step, the `index`th (from 1) of `count`; it ends with [`Step::done`], or as failed when dropped.
    pub fn step(self, index: usize, count: usize, label: &str, expected: Option<Duration>) -> Step {
        let text = format!("[{index}/{count}] {label}");
        let started = Instant::now();
        let ticker = match self {
            Self::Quiet | Self::Events => None,
            Self::Terminal => Some(ticker(
                text.clone(),
                started,
                expected,
                REDRAW,
                "\r\x1b[2K",
                "",
            )),
            Self::Plain => {
                eprintln!("{}", line(&text, Duration::ZERO, expected));
                Some(ticker(
                    text.clone(),
                    started,
                    expected,
                    PLAIN_REMINDER,
                    "",
                    "\n",
                ))
            }
        };
        Step {
            progress: self,
            text,
            started,
            ticker,
            done: false,
        }
    }
}

/// A step that is running.
#[derive(Debug)]
pub struct Step {
    progress: Progress,
    text: String,
    started: Instant,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
    done: bool,
}

impl Step {
    /// Ends the step and returns how long it took.
    pub fn done(mut self) -> Duration {
        self.done = true;
        self.started.elapsed()
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            // The ticker only prints; if it panicked there is nothing left to do for it.
            let _ = thread.join();
        }
        let clear = if self.progress == Progress::Terminal {
            "\r\x1b[2K"
        } else {
            ""
        };
        let end = if self.done { "done in" } else { "FAILED after" };
        self.progress.say(&format!(
            "{clear}{}: {end} {}",
            self.text,
            clock(self.started.elapsed())
        ));
    }
}

fn ticker(
    text: String,
    started: Instant,
    expected: Option<Duration>,
    every: Duration,
    before: &'static str,
    after: &'static str,
) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            let mut out = std::io::stderr().lock();
            // A terminal that went away must not end the build.
            let _ = write!(
                out,
                "{before}{}{after}",
                line(&text, started.elapsed(), expected)
            );
            let _ = out.flush();
        }
    });
    (stop, thread)
}

fn line(text: &str, elapsed: Duration, expected: Option<Duration>) -> String {
    match expected {
        Some(expected) => format!("{text}: {} of about {}", clock(elapsed), clock(expected)),
        None => format!("{text}: {}", clock(elapsed)),
    }
}

/// Seconds below a minute with one decimal, minutes and seconds above.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_elapsed_and_the_expected_time() {
        assert_eq!(
            line(
                "[2/9] etcd",
                Duration::from_secs(65),
                Some(Duration::from_secs(50))
            ),
            "[2/9] etcd: 1 min 05 s of about 50.0 s"
        );
    }
}
