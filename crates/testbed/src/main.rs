//! The `testbed` program.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "testbed", about = "A real local Kubernetes for demo, tests and benches")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Becomes a daemon that ends with its parent.
    #[command(hide = true)]
    Exec {
        #[arg(long)]
        parent: u32,
        #[arg(long)]
        netns: Option<PathBuf>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Exec { parent, netns, command } => {
            eprintln!("{}", kubebyon_testbed::process::become_daemon(parent, netns.as_deref(), &command));
            ExitCode::FAILURE
        }
    }
}
