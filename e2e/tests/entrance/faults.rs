//! What goes wrong with one entrance, and that another one does not notice.

use std::time::Duration;

use kubebyon_e2e::edge::{
    calls::Calls,
    object::{Condition, Object},
    site::{API, WEB},
    until,
};
use serde_json::{Value, json};

use super::{
    Entrance, READY, SOON, World,
    site::{says, single},
    tenants::{OTHER_TEAM, THIEF, Town, tenant},
};

/// Runs each fault while a client looks at the site of `other`.
pub fn each_has_its_reason(world: &World, entrance: &Entrance, other: &Entrance) {
    let before = other.object.condition("Ready").unwrap();
    assert_eq!(before.status, "True");
    let (outside, authority) = (world.outside.clone(), other.site.authority.clone());
    let url = format!("https://{}/healthz", other.site.hostname);
    let looks = Calls::begin(
        "the other entrance's site, meanwhile",
        Duration::from_millis(250),
        1,
        move || {
            let answer = outside.curl(&authority, &url);
            if answer == says(API) {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        },
    );
    no_controller(world, entrance);
    deleted_by_hand(world, entrance);
    not_ours(world);
    no_such_class(world);
    not_released(world);
    let tally = looks.end();
    assert!(tally.failed.is_empty(), "{tally}");
    let after = other.object.condition("Ready").unwrap();
    assert_eq!(after, before, "its status has not moved");
    world.done(&tally.to_string());
}

/// What can go wrong with tenants' entrances, while a client of the other entrance's tenant looks on.
pub fn of_tenants(world: &World, town: &Town) {
    let kept = town.steady.published("steady-calm").unwrap();
    let calls = town.steady.calls_with(&kept, Duration::from_secs(1), 1);
    no_envoy(world, town);
    let tally = calls.end();
    assert!(tally.failed.is_empty(), "{tally}");
    world.done(&format!("the other entrance, meanwhile: {tally}"));
    not_admitted(world, town);
}

/// No data plane: the Gateway's status says nothing of it, the probe does.
fn no_envoy(world: &World, town: &Town) {
    let envoys = world.shared_envoys();
    let three = [&town.red, &town.green, &town.blue];
    // Its controller would bring it back.
    scale(world, "deployment/envoy-gateway", 0);
    scale(world, &envoys, 0);
    let took = three.map(|tenant| {
        let object = &tenant.object;
        let (condition, took) = object.because("PublicEndpointReady", "ProbeFailed", SOON);
        assert_eq!(condition.status, "False");
        object.because("Ready", "ProbeFailed", SOON);
        took.as_secs_f32()
    });
    let noticed = took.iter().sum::<f32>();
    scale(world, &envoys, 2);
    scale(world, "deployment/envoy-gateway", 1);
    let took = three.map(|tenant| tenant.object.ready(READY).as_secs_f32());
    let back = took.iter().sum::<f32>();
    world.done(&format!(
        "without Envoy its three tenants are ProbeFailed within {noticed:.1} s, and well {back:.1} s after its return"
    ));
}

fn not_admitted(world: &World, town: &Town) {
    let outsider = Object::cluster(&world.installation.kubectl, THIEF, "outsider");
    outsider.apply(&tenant(world, "edge-other", "other"));
    let (condition, _) = outsider.because("Ready", "AttachmentNotAllowed", SOON);
    assert_eq!(condition.status, "False");
    assert_eq!(outsider.status("/release"), Value::Null);
    outsider.delete();
    let steady = &town.steady.object;
    assert_eq!(steady.condition("Ready").unwrap().status, "True");
    world.kubectl(&["label", "namespace", OTHER_TEAM, "tenants-"]);
    steady.because("Ready", "AttachmentNotAllowed", SOON);
    assert_eq!(town.red.object.condition("Ready").unwrap().status, "True");
    world.kubectl(&["label", "namespace", OTHER_TEAM, "tenants=welcome"]);
    steady.ready(READY);
    world.done("a namespace that an entrance does not admit is AttachmentNotAllowed, and so is one that it admits no more");
}

fn scale(world: &World, deployment: &str, replicas: u8) {
    let namespace = "--namespace=envoy-gateway-system";
    let wanted = format!("--replicas={replicas}");
    world.kubectl(&["scale", deployment, namespace, &wanted]);
    let path = "--output=jsonpath={.status.replicas}";
    until(&format!("{deployment} to come or go"), SOON, || {
        let now = world.kubectl(&["get", deployment, namespace, path]);
        (now.parse::<u8>().unwrap_or_default() == replicas).then_some(())
    });
}

fn no_controller(world: &World, entrance: &Entrance) {
    let controller = "deployment/envoy-gateway";
    scale(world, controller, 0);
    let mut closed = entrance.spec.clone();
    closed["platform"]["httpToHttpsRedirect"] = json!(false);
    entrance.object.apply(&closed);
    let reason = "GatewayNotProgrammed";
    let (programmed, _) = entrance.object.because("Programmed", reason, SOON);
    assert_eq!(programmed.status, "False");
    let wanted = "no controller has said Accepted of its present generation";
    assert!(programmed.message.contains(wanted), "{programmed:?}");
    assert!(
        programmed.message.contains("edge/public-platform-gateway"),
        "{programmed:?}"
    );
    let (ready, _) = entrance.object.because("Ready", reason, SOON);
    assert_eq!(ready.status, "False");
    let (reconciling, _) = entrance.object.because("Reconciling", reason, SOON);
    assert_eq!(reconciling.status, "True");
    assert_eq!(
        entrance.get(world, "https", "/healthz"),
        says(API),
        "the data plane goes on"
    );
    scale(world, controller, 1);
    let took = entrance.object.ready(READY);
    entrance.object.apply(&entrance.spec);
    entrance.object.ready(READY);
    world.done(&format!(
        "without the gateways' controller a change is {reason}, and what there was goes on; {:.1} s after its return all is well",
        took.as_secs_f32()
    ));
}

fn deleted_by_hand(world: &World, entrance: &Entrance) {
    let uid = || {
        let found = world.installation.kubectl.run(
            "look at the Gateway",
            &[
                "get",
                "gateway",
                "public-platform-gateway",
                "--namespace=edge",
                "--output=jsonpath={.metadata.uid}",
            ],
        );
        found.ok().filter(|uid| !uid.is_empty())
    };
    let old = uid().unwrap();
    world.kubectl(&[
        "delete",
        "gateway",
        "public-platform-gateway",
        "--namespace=edge",
    ]);
    let ((), back) = until("the Gateway to come back", SOON, || {
        uid().filter(|new| *new != old).map(drop)
    });
    let ready = entrance.object.ready(READY);
    entrance.answers(world, "https", "/", &says(WEB));
    world.done(&format!(
        "a Gateway that is deleted by hand is back after {:.1} s, and programmed {:.1} s later",
        back.as_secs_f32(),
        ready.as_secs_f32()
    ));
}

fn not_ours(world: &World) {
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "taken-gateway", "namespace": "taken"},
        "spec": {"gatewayClassName": "eg", "listeners": [{"name": "theirs", "port": 80, "protocol": "HTTP"}]},
    });
    world.namespace("taken");
    world.apply(&gateway);
    let condition = refused(world, "taken", &single("merged"), "NotOwned");
    assert!(
        condition.message.contains("kubectl annotate gateway"),
        "{condition:?}"
    );
    let text = world.kubectl(&[
        "get",
        "gateway",
        "taken-gateway",
        "--namespace=taken",
        "--output=json",
    ]);
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["spec"]["listeners"][0]["name"], "theirs");
    assert_eq!(found["metadata"]["generation"], 1, "nobody changed it");
    assert_eq!(found["metadata"]["labels"], Value::Null);
    world.kubectl(&["delete", "namespace", "taken", "--wait=false"]);
    world.done("a Gateway of somebody else with our name is NotOwned, and is left as it is");
}

fn no_such_class(world: &World) {
    let condition = refused(
        world,
        "classless",
        &single("nobody"),
        "GatewayClassNotFound",
    );
    assert!(
        condition.message.contains("GatewayClass nobody"),
        "{condition:?}"
    );
    world.done("a GatewayClass that does not exist is GatewayClassNotFound");
}

fn not_released(world: &World) {
    let mut elsewhere = single("merged");
    elsewhere["controlPlane"] = json!({"namespace": "default"});
    let condition = refused(world, "away", &elsewhere, "GatewayNamespaceNotAllowed");
    assert!(
        condition
            .message
            .contains("kubectl annotate namespace default"),
        "{condition:?}"
    );
    let made = world.kubectl(&["get", "gateways", "--namespace=default", "--output=name"]);
    assert_eq!(made, "", "nothing was made there");
    world.done("a Gateway in a namespace that nobody released is GatewayNamespaceNotAllowed");
}

/// An entrance that is not to be, alone in a namespace of its name: what it says, and that it goes away again.
fn refused(world: &World, name: &str, gateway_api: &Value, reason: &str) -> Condition {
    world.namespace(name);
    let spec = json!({
        "provider": "GatewayAPI", "controlPlane": {"domain": format!("clusters.{name}.test")}, "gatewayAPI": gateway_api,
    });
    let access = world.access(name, name, &spec);
    let (stalled, _) = access.because("Stalled", reason, SOON);
    assert_eq!(stalled.status, "True");
    let (ready, _) = access.because("Ready", reason, SOON);
    assert_eq!(ready.status, "False");
    access.delete();
    stalled
}
