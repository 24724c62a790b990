//! Our own look at a chart's values beside the real helm's, with the real vCluster chart.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a failed helper is a failed test, and other tests use more of the helpers"
)]

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::{CLUSTER, Fixture};

#[tokio::test(flavor = "multi_thread")]
async fn no_values_are_accepted_that_helm_would_refuse() {
    let f = Fixture::new().await;
    let bare = f
        .chart
        .bare
        .as_ref()
        .expect("the chart's schema can be checked");
    // Whether the values are good, and whether that can be said here.
    let cases = [
        (json!({}), true, true),
        (
            json!({"sync": {"toHost": {"ingresses": {"enabled": true}}}}),
            true,
            true,
        ),
        (
            json!({"controlPlane": {"statefulSet": {"highAvailability": {"replicas": 3}}}}),
            true,
            true,
        ),
        (
            json!({"controlPlane": {"proxy": {"extraSANs": ["a.test", "*.b.test"]}}}),
            true,
            true,
        ),
        (
            json!({"controlPlane": {"distro": {"k8s": {"version": "v1.36.3"}}}}),
            true,
            true,
        ),
        (
            json!({"exportKubeConfig": {"server": "https://a.test", "additionalSecrets": []}}),
            true,
            true,
        ),
        (
            json!({"sync": {"toHost": {"pods": {"enabled": null}}}}),
            true,
            false,
        ),
        (json!({"nonsense": true}), false, true),
        (json!({"controlPlane": {"statefulset": {}}}), false, true),
        (
            json!({"controlPlane": {"statefulSet": {"highAvailability": {"replicas": "3"}}}}),
            false,
            true,
        ),
        (
            json!({"controlPlane": {"statefulSet": {"highAvailability": {"replicas": 1.5}}}}),
            false,
            true,
        ),
        (
            json!({"controlPlane": {"proxy": {"extraSANs": "a.test"}}}),
            false,
            true,
        ),
        (
            json!({"controlPlane": {"proxy": {"extraSANs": [1]}}}),
            false,
            true,
        ),
        (
            json!({"sync": {"toHost": {"ingresses": {"enabled": "yes"}}}}),
            false,
            true,
        ),
        (
            json!({"networking": {"advanced": {"proxyKubelets": {"byHostname": 1}}}}),
            false,
            true,
        ),
    ];
    for (values, good, sayable) in cases {
        let accepted = f.chart.file(&values) == bare.path;
        assert_eq!(accepted, good && sayable, "{values}");
        assert_eq!(refused_by_helm(&f, &values), !good, "{values}");
    }
}

fn refused_by_helm(f: &Fixture, values: &Value) -> bool {
    let file = f.work_dir.join("values.json");
    std::fs::write(&file, values.to_string()).unwrap();
    let output = Command::new(CLUSTER.helm())
        .args(["template", "demo"])
        .arg(&f.chart.path)
        .arg("--values")
        .arg(&file)
        .env("HOME", &f.work_dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.contains("don't meet the specifications of the schema")
}
