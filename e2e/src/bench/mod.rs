//! `make bench`: what the product costs, beside the same work without it, in one run.

mod audit;
mod fleet;
mod helm_alone;
mod process;
mod report;

use std::{path::PathBuf, time::Duration};

use clap::Parser;

pub use self::report::Report;

/// What is measured, and how much of it.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "bench",
    about = "Measures KubeBYON beside the same work without it"
)]
pub struct Options {
    /// Clusters at once.
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u16).range(2..=900))]
    pub clusters: u16,

    /// How long the converged clusters are watched at rest.
    #[arg(long, default_value_t = 120)]
    pub rest_seconds: u64,

    /// Five clusters and a short rest: whether it runs at all, not how fast.
    #[arg(long)]
    pub quick: bool,

    /// The operator: a release build, or the figures mean nothing.
    #[arg(long)]
    pub operator: PathBuf,

    /// Helm runs at once, of the operator and of helm alone. Default: the operator's own.
    #[arg(long)]
    pub helm_concurrency: Option<u16>,

    /// Where the table goes. Default: standard output.
    #[arg(long)]
    pub output: Option<PathBuf>,
}

impl Options {
    fn sized(mut self) -> Self {
        if self.quick {
            self.clusters = 5;
            self.rest_seconds = 5;
        }
        self
    }

    fn rest(&self) -> Duration {
        Duration::from_secs(self.rest_seconds)
    }
}

/// Measures everything that the options ask for.
///
/// # Panics
/// When a part of it fails: half a table would be taken for a whole one.
pub async fn run(options: Options) -> Report {
    let options = options.sized();
    let fleet = fleet::measure(&options).await;
    Report::new(&options, fleet)
}

/// A line about what is going on, for whoever waits.
fn say(line: &str) {
    eprintln!("bench: {line}");
}
