//! A hundred calls of kubectl, a second apart, while something changes that nobody is to notice.

use std::time::Duration;

use kubebyon_e2e::edge::{calls::Calls, until};
use serde_json::{Value, json};

use super::{
    READY, SOON, World,
    tenants::{DOMAIN, Town, at_shared, highly_available, switched},
};

const HUNDRED: usize = 100;
const SECOND: Duration = Duration::from_secs(1);

/// A tenant gets another name, and another one's highly available control plane is upgraded.
pub fn another_name_and_an_upgrade(world: &World, town: &Town) {
    let kept = town.red.published("red-kept").unwrap();
    let before = town.steady.published("steady-kept").unwrap();
    let calls = [
        town.red.calls_with_the_newest(SECOND, HUNDRED),
        town.red.calls_with(&kept, SECOND, HUNDRED),
        town.steady.calls_with(&before, SECOND, HUNDRED),
    ];
    let name = format!("scarlet.{DOMAIN}");
    town.red.object.apply(&at_shared(world, Some(&name)));
    let took = switched(&town.red, world, &name);
    town.red.object.ready(READY);
    world.done(&format!(
        "another name within the domain: {:.1} s from kubectl apply to the kubeconfig with it",
        took.as_secs_f32()
    ));
    let old = pods(world, town);
    town.steady.object.apply(&highly_available(world, "json"));
    let took = town.steady.object.ready(READY);
    let (new, _) = until("the control plane's pods to be new", READY, || {
        let new = pods(world, town);
        let other = new.len() == old.len() && new.iter().all(|pod| !old.contains(pod));
        other.then_some(new)
    });
    assert_eq!(new.len(), 2);
    world.done(&format!(
        "other values for the highly available tenant: proved again after {:.1} s, with new pods",
        took.as_secs_f32()
    ));
    none_failed(world, "another name, and an HA upgrade", calls);
    the_old_name_ends(world, town, &kept.path, &kept.server);
}

/// Every Envoy of the shared entrance is replaced, and then the operator is.
pub fn restarts(world: &World, town: &Town) {
    let kept = town.blue.published("blue-kept").unwrap();
    let calls = [
        town.green.calls_with_the_newest(SECOND, HUNDRED),
        town.blue.calls_with(&kept, SECOND, HUNDRED),
    ];
    let envoys = world.kubectl(&[
        "get",
        "deployment",
        "--namespace=envoy-gateway-system",
        "--selector=gateway.envoyproxy.io/owning-gatewayclass=steady",
        "--output=name",
    ]);
    restart(world, "envoy-gateway-system", envoys.trim(), 2);
    world.done("both Envoys of the entrance were replaced");
    restart(world, "kubebyon-system", "deployment/kubebyon-operator", 1);
    town.green.object.ready(READY);
    world.done("the operator was replaced");
    none_failed(world, "an Envoy and an operator restart", calls);
}

fn none_failed<const N: usize>(world: &World, during: &str, calls: [Calls; N]) {
    let tallies = calls.map(Calls::end);
    for tally in &tallies {
        world.done(&format!("{during}: {tally}"));
    }
    for tally in &tallies {
        assert!(tally.failed.is_empty(), "{during}: {tally}");
    }
}

/// A name that the kubeconfig has left works for ten minutes; here the clock is set ahead.
fn the_old_name_ends(world: &World, town: &Town, kept: &std::path::Path, server: &str) {
    let secret = ["secret", "red-kubeconfig", "--namespace=team-a"];
    let path = r"--output=jsonpath={.metadata.annotations.kubebyon\.app/retiring-names}";
    let text = world.kubectl(&["get", secret[0], secret[1], secret[2], path]);
    let mut retiring: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        format!("https://{}", retiring[0]["name"].as_str().unwrap()),
        server
    );
    retiring[0]["since"] = json!("2026-01-01T00:00:00Z");
    let annotation = format!("kubebyon.app/retiring-names={retiring}");
    world.kubectl(&[
        "annotate",
        "--overwrite",
        secret[0],
        secret[1],
        secret[2],
        &annotation,
    ]);
    let ((), took) = until("the old name to end", SOON, || {
        let asked = world.outside.kubectl(kept, &["get", "ns"]);
        asked.is_err().then_some(())
    });
    town.red.object.ready(READY);
    let names = town.red.object.status("/hostnames");
    let names: Vec<_> = names
        .as_array()
        .unwrap()
        .iter()
        .map(|name| &name["name"])
        .collect();
    assert_eq!(names, [&json!(format!("scarlet.{DOMAIN}"))]);
    let now = town.red.published("red-now").unwrap();
    world.outside.kubectl(&now.path, &["get", "ns"]).unwrap();
    world.done(&format!(
        "the old name, once it is due, is off the gateway within {:.1} s",
        took.as_secs_f32()
    ));
}

fn pods(world: &World, town: &Town) -> Vec<String> {
    let namespace = town.steady.object.status("/hostNamespace");
    let pods = world.kubectl(&[
        "get",
        "pods",
        &format!("--namespace={}", namespace.as_str().unwrap()),
        "--selector=app=vcluster",
        "--field-selector=status.phase=Running",
        "--output=name",
    ]);
    pods.lines().map(str::to_owned).collect()
}

fn restart(world: &World, namespace: &str, deployment: &str, replicas: usize) {
    let namespace = format!("--namespace={namespace}");
    let pods = || -> Vec<String> {
        let selector = world.kubectl(&[
            "get",
            deployment,
            &namespace,
            "--output=go-template={{range $key, $value := .spec.selector.matchLabels}}{{$key}}={{$value}},{{end}}",
        ]);
        let selector = format!("--selector={}", selector.trim_end_matches(','));
        let pods = world.kubectl(&["get", "pods", &namespace, &selector, "--output=name"]);
        pods.lines().map(str::to_owned).collect()
    };
    let old = pods();
    assert_eq!(old.len(), replicas);
    world.kubectl(&["rollout", "restart", deployment, &namespace]);
    world.kubectl(&[
        "rollout",
        "status",
        deployment,
        &namespace,
        "--timeout=120s",
    ]);
    until("the old pods to be gone", SOON, || {
        let new = pods();
        (new.len() == replicas && new.iter().all(|pod| !old.contains(pod))).then_some(())
    });
}
