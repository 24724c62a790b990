//! `make bench`: one table, written where the documentation keeps it.

use clap::Parser;
use kubebyon_e2e::bench::{Options, run};

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let output = options.output.clone();
    let text = run(options).await.to_string();
    match output {
        Some(path) => std::fs::write(&path, text).expect("the report can be written"),
        None => print!("{text}"),
    }
}
