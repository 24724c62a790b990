//! A hundred calls of kubectl, a second apart, while something changes that nobody is to notice.

use std::time::{Duration, Instant};

use kubebyon_e2e::edge::{calls::Calls, tenant::Published, until};
use serde_json::{Value, json};

use super::{
    READY, SOON, World,
    tenants::{DOMAIN, Town, at_shared, highly_available, switched},
};

pub const HUNDRED: usize = 100;
pub const SECOND: Duration = Duration::from_secs(1);

/// One tenant gets another name, the highly available one is upgraded, every Envoy of the shared entrance is replaced,
/// and the operator is: one after the other, under calls that go on all the time.
pub fn nobody_notices(world: &World, town: &Town) {
    let red = town.red.published("red-kept").unwrap();
    let blue = town.blue.published("blue-kept").unwrap();
    let steady = town.steady.published("steady-kept").unwrap();
    let began = Instant::now();
    let calls = [
        town.red.calls_with_the_newest(SECOND, HUNDRED),
        town.red.calls_with(&red, SECOND, HUNDRED),
        town.blue.calls_with(&blue, SECOND, HUNDRED),
        town.steady.calls_with(&steady, SECOND, HUNDRED),
    ];
    let happened = |what: &str| {
        let at = began.elapsed().as_secs_f32();
        world.done(&format!("after {at:.1} s of calls: {what}"));
    };
    let took = another_name(world, town).as_secs_f32();
    happened(&format!(
        "another name within the domain, {took:.1} s from kubectl apply to the kubeconfig with it"
    ));
    an_upgrade(world, town);
    happened("other values for the highly available tenant, and all its pods are new");
    let envoys = world.shared_envoys();
    restart(world, "envoy-gateway-system", &envoys, 2);
    happened("both Envoys of the shared entrance were replaced");
    a_new_operator(world, town);
    happened("the operator was replaced, and wrote to no tenant that had not changed");
    let tallies = calls.map(Calls::end);
    for tally in &tallies {
        world.done(&tally.to_string());
    }
    for tally in &tallies {
        assert!(tally.failed.is_empty(), "{tally}");
    }
    the_old_name_ends(world, town, &red);
}

fn another_name(world: &World, town: &Town) -> Duration {
    let name = format!("scarlet.{DOMAIN}");
    town.red.object.apply(&at_shared(world, Some(&name)));
    let took = switched(&town.red, world, &name);
    town.red.object.ready(READY);
    took
}

fn an_upgrade(world: &World, town: &Town) {
    let old = pods(world, town);
    town.steady.object.apply(&highly_available(world, "json"));
    until("the control plane's pods to be new", READY, || {
        let new = pods(world, town);
        (new.len() == 2 && new.iter().all(|pod| !old.contains(pod))).then_some(())
    });
    town.steady.object.ready(READY);
}

/// What was ready stays so under a new operator, and is not written to.
fn a_new_operator(world: &World, town: &Town) {
    let tenants = [&town.red, &town.green, &town.steady];
    for tenant in tenants {
        tenant.object.ready(READY);
    }
    let versions =
        || tenants.map(|tenant| tenant.object.get()["metadata"]["resourceVersion"].clone());
    let before = versions();
    restart(world, "kubebyon-system", "deployment/kubebyon-operator", 1);
    // It looks at all that was there before it takes up what comes later.
    let spec = town.blue.object.get()["spec"].clone();
    let mut changed = spec.clone();
    changed["deletionPolicy"] = json!("Retain");
    for spec in [changed, spec] {
        town.blue.object.apply(&spec);
        town.blue.object.ready(READY);
    }
    assert_eq!(versions(), before);
}

/// A name that the kubeconfig has left works for ten minutes; here the clock is set ahead.
fn the_old_name_ends(world: &World, town: &Town, kept: &Published) {
    let secret = ["secret", "red-kubeconfig", "--namespace=team-a"];
    let retiring = set_ahead(world, secret, "kubebyon.app/retiring-names");
    assert_eq!(
        format!("https://{}", retiring[0]["name"].as_str().unwrap()),
        kept.server
    );
    let ((), took) = until("the old name to end", SOON, || {
        let url = format!("{}/readyz", kept.server);
        (world.outside.curl(&kept.authority, &url).status == 0).then_some(())
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

/// Has what an annotation remembers be long ago, and gives that.
pub fn set_ahead(world: &World, object: [&str; 3], annotation: &str) -> Value {
    let key = annotation.replace('.', r"\.");
    let path = format!("--output=jsonpath={{.metadata.annotations.{key}}}");
    let text = world.kubectl(&["get", object[0], object[1], object[2], &path]);
    let mut remembered: Value = serde_json::from_str(&text).unwrap();
    for entry in remembered.as_array_mut().unwrap() {
        entry["since"] = json!("2026-01-01T00:00:00Z");
    }
    let annotation = format!("{annotation}={remembered}");
    world.kubectl(&[
        "annotate",
        "--overwrite",
        object[0],
        object[1],
        object[2],
        &annotation,
    ]);
    remembered
}
