//! The `testbed` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubebyon_testbed::cli::main()
}
