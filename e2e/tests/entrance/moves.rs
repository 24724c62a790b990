//! A tenant moves from one entrance to another, with another GatewayClass and another Envoy.

use kubebyon_api::names;
use kubebyon_e2e::edge::{calls::Calls, until};
use serde_json::json;

use super::{
    READY, SOON, World,
    calls::{HUNDRED, SECOND, set_ahead},
    tenants::{DOMAIN, EDGE, OTHER_TEAM, Town, highly_available},
};

/// The highly available tenant moves under calls that go on all the time; then its old entrance may go.
pub fn to_the_shared_entrance(world: &World, town: &Town) {
    let tenant = &town.steady;
    let kept = tenant.published("steady-moves").unwrap();
    let calls = [
        tenant.calls_with_the_newest(SECOND, HUNDRED),
        tenant.calls_with(&kept, SECOND, HUNDRED),
    ];
    let mut spec = highly_available(world, "json");
    spec["publicAccess"]["ref"] = json!({"namespace": EDGE, "name": "tenants"});
    tenant.object.apply(&spec);
    let took = tenant.object.ready(READY).as_secs_f32();
    let name = names::control_plane_hostname(OTHER_TEAM, "steady", DOMAIN);
    let server = tenant.published("steady-moved").unwrap().server;
    assert_eq!(server, format!("https://{name}"));
    world.done(&format!(
        "another entrance for the highly available tenant, proved {took:.1} s after kubectl apply"
    ));
    world.kubectl(&[
        "delete",
        "publicaccess",
        &town.other.name,
        &format!("--namespace={}", town.other.namespace),
        "--wait=false",
    ]);
    let (condition, _) = town.other.because("Accepted", "InUse", SOON);
    let says = format!("{OTHER_TEAM}/steady");
    assert!(condition.message.contains(&says), "{condition:?}");
    let tallies = calls.map(Calls::end);
    for tally in &tallies {
        world.done(&tally.to_string());
        assert!(tally.failed.is_empty(), "{tally}");
    }

    // The kubeconfig and the route remember since when; here the clock is set ahead.
    let namespace = format!("--namespace={OTHER_TEAM}");
    let secret = ["secret", "steady-kubeconfig", &namespace];
    set_ahead(world, secret, "kubebyon.app/retiring-names");
    let namespace = tenant.object.status("/hostNamespace");
    let namespace = format!("--namespace={}", namespace.as_str().unwrap());
    let route = ["tlsroute", "kubebyon-control-plane", &namespace];
    set_ahead(world, route, "kubebyon.app/left-gateways");
    let ((), took) = until("the old entrance to go", READY, || {
        let all = world.kubectl(&["get", "publicaccesses", "--all-namespaces", "--output=name"]);
        (!all.contains(&format!("/{}", town.other.name))).then_some(())
    });
    tenant.object.ready(READY);
    world.done(&format!(
        "the old entrance, once it is left, is gone within {:.1} s",
        took.as_secs_f32()
    ));
}
