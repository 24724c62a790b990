//! Those who would have another's name.

use kubebyon_e2e::edge::object::Object;
use serde_json::{Value, json};

use super::{
    READY, SOON, World,
    tenants::{CONSOLE, DOMAIN, EDGE, THIEF, Town, at_shared},
};

/// No traffic moves, whatever is tried, and each attempt is answered.
pub fn moves_no_traffic(world: &World, town: &Town) {
    let green = format!("green.{DOMAIN}");
    let kept = town.green.published("green-kept").unwrap();
    let unmoved = || {
        let ready = format!("https://{green}/readyz");
        assert_eq!(world.outside.curl(&kept.authority, &ready).status, 200);
        world.outside.kubectl(&kept.path, &["get", "ns"]).unwrap();
        let site = town.entrance.get(world, "https", "/healthz");
        assert_eq!(site.body, kubebyon_e2e::edge::site::API);
    };
    routes_are_refused(world, &green);
    a_gateway_beside_ours_is_refused(world, &green);
    unmoved();
    an_early_route_is_reported(world, town, &green);
    unmoved();
    other_names_are_refused(world, &green);
    unmoved();
    a_tenant_keeps_its_own(world, town, &green);
    unmoved();
}

fn routes_are_refused(world: &World, green: &str) {
    let http = |gateway: &str, hostname: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "lure", "namespace": THIEF},
            "spec": {
                "hostnames": [hostname], "parentRefs": [{"name": gateway, "namespace": EDGE}],
                "rules": [{"backendRefs": [{"name": "lure", "port": 80}]}],
            },
        })
    };
    for route in [
        tls_route("lure", green),
        http("tenants-workload-gateway", green),
        http("tenants-platform-gateway", CONSOLE),
    ] {
        let applied = world
            .installation
            .kubectl
            .apply("attach a route to our Gateway", &route.to_string());
        let refusal = applied.unwrap_err().to_string();
        assert!(
            refusal.contains("which the operator keeps for public names"),
            "{refusal}"
        );
    }
    world.done("nobody else attaches a TLSRoute or an HTTPRoute to our Gateways");
}

/// On the data plane that Gateways of one class share, two routes of one name would end every change.
fn a_gateway_beside_ours_is_refused(world: &World, green: &str) {
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "lure", "namespace": THIEF},
        "spec": {"gatewayClassName": "steady", "listeners": [{
            "name": "lure", "hostname": green, "port": 443, "protocol": "TLS", "tls": {"mode": "Passthrough"},
        }]},
    });
    let applied = world
        .installation
        .kubectl
        .apply("make a Gateway beside ours", &gateway.to_string());
    let refusal = applied.unwrap_err().to_string();
    assert!(refusal.contains("take another class"), "{refusal}");
    world.done("nobody else makes a Gateway of the class whose data plane our Gateways share");
}

/// It was there before the Gateway was, so nothing could refuse it.
fn an_early_route_is_reported(world: &World, town: &Town, green: &str) {
    let reason = |wanted: &Value| {
        let object = &town.green.object;
        object.wait(&format!("the reason {wanted} of its name"), SOON, || {
            (object.status("/hostnames/0/reason") == *wanted).then_some(())
        });
    };
    assert_eq!(town.green.object.status("/hostnames/0/name"), json!(green));
    reason(&json!("ForeignRoute"));
    town.green.object.ready(READY);
    assert_eq!(town.blue.object.status("/hostnames/0/reason"), Value::Null);
    world.kubectl(&[
        "delete",
        "tlsroute",
        "early",
        &format!("--namespace={THIEF}"),
    ]);
    reason(&Value::Null);
    world.done(
        "a route of somebody else with a tenant's name is ForeignRoute there, and serves nobody",
    );
}

fn other_names_are_refused(world: &World, green: &str) {
    let greedy = Object::cluster(&world.installation.kubectl, THIEF, "greedy");
    for (name, reason, says) in [
        (green, "HostnameConflict", "team-a/green"),
        (CONSOLE, "HostnameReserved", "platform's own name"),
        (DOMAIN, "HostnameReserved", "apex"),
        ("apps.tenants.test", "HostnameReserved", "apex"),
        ("greedy.elsewhere.test", "HostnameNotAllowed", DOMAIN),
    ] {
        greedy.apply(&at_shared(world, Some(name)));
        let (condition, _) = greedy.because("Ready", reason, SOON);
        assert_eq!(condition.status, "False", "{name}");
        assert!(condition.message.contains(says), "{name}: {condition:?}");
        assert_eq!(
            greedy.status("/release"),
            Value::Null,
            "nothing is installed"
        );
    }
    greedy.delete();
    world.done(
        "a tenant gets no name that is another's, the platform's, an apex or of a foreign domain",
    );
}

/// One that serves already goes on under the name that it has.
fn a_tenant_keeps_its_own(world: &World, town: &Town, green: &str) {
    let blue = &town.blue;
    let kept = blue.published("blue-own").unwrap();
    blue.object.apply(&at_shared(world, Some(green)));
    let (condition, _) = blue.object.because("Ready", "HostnameConflict", SOON);
    assert_eq!(condition.status, "False");
    assert_eq!(blue.published("blue-then").unwrap().server, kept.server);
    world.outside.kubectl(&kept.path, &["get", "ns"]).unwrap();
    blue.object
        .apply(&at_shared(world, Some(&format!("blue.{DOMAIN}"))));
    blue.object.ready(READY);
    world.done("one that asks for another's name later keeps its own, and is told whose it is");
}

/// A TLSRoute of the thief that names the Gateway of the tenants.
pub fn tls_route(name: &str, hostname: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "TLSRoute",
        "metadata": {"name": name, "namespace": THIEF},
        "spec": {
            "hostnames": [hostname], "parentRefs": [{"name": "tenants-gateway", "namespace": EDGE}],
            "rules": [{"backendRefs": [{"name": "lure", "port": 443}]}],
        },
    })
}
