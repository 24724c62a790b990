//! `make bench`: what the product costs, beside the same work without it, in one run.

pub mod audit;
mod cpu;
mod entrance;
mod fleet;
mod flux;
mod helm_alone;
mod limits;
mod node;
pub mod process;
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
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Options {
    /// Clusters at once.
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u16).range(2..=900))]
    pub clusters: u16,

    /// How long the converged clusters are watched at rest.
    #[arg(long, default_value_t = 120)]
    pub rest_seconds: u64,

    /// Runs of each side of the comparison by hand, on a real node.
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u8).range(1..=50))]
    pub runs: u8,

    /// Leaves out what needs a real node, and so root.
    #[arg(long)]
    pub without_node: bool,

    /// Leaves out everything but what needs a real node.
    #[arg(long, conflicts_with = "without_node")]
    pub node_only: bool,

    /// Leaves Flux out, which is built first, for five minutes.
    #[arg(long)]
    pub without_flux: bool,

    /// Five clusters, a short rest, and no node: whether it runs at all, not how fast.
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
            self.without_node = true;
            self.without_flux = true;
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
    if !options.node_only && !options.without_flux {
        // Not while anything is measured.
        tokio::task::spawn_blocking(flux::program)
            .await
            .expect("a thread");
    }
    let fleet = if options.node_only {
        None
    } else {
        Some(fleet::measure(&options).await)
    };
    let entrance = if options.node_only {
        None
    } else {
        Some(entrance::measure(&options).await)
    };
    let node = if options.without_node {
        None
    } else {
        let options = options.clone();
        let measured = tokio::task::spawn_blocking(move || node::measure(&options)).await;
        Some(measured.expect("a thread").expect("a node"))
    };
    Report::new(&options, fleet, entrance, node)
}

/// A line about what is going on, for whoever waits.
fn say(line: &str) {
    eprintln!("bench: {line}");
}
