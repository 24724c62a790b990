//! Whether `make bench` still runs. How fast anything is, no test says: machines differ.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use clap::Parser;
use kubebyon_e2e::{
    bench::{Options, run},
    operator::built,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_bench_fills_its_table() {
    let operator = format!("--operator={}", built().unwrap().display());
    let options = Options::try_parse_from(["bench", "--quick", &operator]).unwrap();
    let report = run(options).await.to_string();
    for row in [
        "| 5 clusters at once",
        "| clusters beside helm alone | **",
        "| the restart's helm runs; writes | 0; 0 |",
        "| 5 clusters at rest for 5 s: writes; programs run | **0; 0** |",
        "| create namespaces | 1.00 |",
    ] {
        assert!(report.contains(row), "{row} is missing in:\n{report}");
    }
}
