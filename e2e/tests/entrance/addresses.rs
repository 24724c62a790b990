//! Which Gateways share an address.

use std::collections::BTreeSet;

use kubebyon_e2e::edge::{
    object::Object,
    site::{API, Site},
};
use serde_json::{Value, json};

use super::{
    Entrance, READY, World,
    site::{says, spec},
};

const NAMESPACE: &str = "edge-dual";
const HOSTNAME: &str = "console.dual.test";
const ROLES: [&str; 3] = ["ControlPlane", "Platform", "Workload"];

/// In mode Single the three Gateways are one data plane, whether or not there are clusters.
pub fn single_shares_one(world: &World, entrance: &Entrance) {
    let object = &entrance.object;
    assert_eq!(object.status("/attachedClusters"), json!(0));
    let all: BTreeSet<String> = ROLES.iter().flat_map(|role| of(object, role)).collect();
    assert_eq!(all.len(), 1, "one address: {all:?}");
    programmed(world, &entrance.object.namespace);
    let address = all.first().unwrap();
    let shown = world.outside.certificate(address, &entrance.site.hostname);
    let shown = shown.expect("the site shows a certificate");
    assert!(shown.contains(&entrance.site.hostname), "{shown}");
    for unknown in ["nobody.clusters.example.test", "clusters.example.test"] {
        let shown = world.outside.certificate(address, unknown);
        assert_eq!(shown, None, "under {unknown} nobody answers");
    }
    world.done(&format!(
        "Single: three Gateways of one merged class share the address {address}, with no cluster attached"
    ));
}

/// In mode Dual the tenants' sites have another address than the tenants' APIs.
pub fn dual_has_two(world: &World) -> Entrance {
    world.namespace(NAMESPACE);
    let kubectl = &world.installation.kubectl;
    let site = Site::start(kubectl, &world.outside, NAMESPACE, HOSTNAME).unwrap();
    let spec = spec(
        HOSTNAME,
        "dual.test",
        &json!({
            "gatewayClassName": "eg", "addressMode": "Dual",
            "gatewayClassProfiles": {"edge": "edge", "workload": "workload"},
        }),
    );
    let object = world.access(NAMESPACE, "dual", &spec);
    let took = object.ready(READY);
    let classes: Vec<Value> = ROLES
        .map(|role| gateway(&object, role)["className"].clone())
        .to_vec();
    assert_eq!(classes, ["edge", "edge", "workload"].map(Value::from));
    let (apis, sites) = (of(&object, "ControlPlane"), of(&object, "Workload"));
    assert!(!apis.is_empty() && !sites.is_empty());
    assert!(
        apis.iter().all(|address| !sites.contains(address)),
        "{apis:?} and {sites:?} are apart"
    );
    programmed(world, NAMESPACE);
    world.resolve(HOSTNAME, &object, "Platform");
    let entrance = Entrance { object, spec, site };
    entrance.answers(world, "https", "/healthz", &says(API));
    world.done(&format!(
        "Dual: classes edge and workload, {apis:?} apart from {sites:?}; ready after {:.1} s",
        took.as_secs_f32()
    ));
    entrance
}

/// The addresses of one of an entrance's Gateways.
pub fn of(entrance: &Object, role: &str) -> Vec<String> {
    let addresses = gateway(entrance, role)["addresses"].clone();
    serde_json::from_value(addresses).unwrap_or_default()
}

fn gateway(entrance: &Object, role: &str) -> Value {
    let all = entrance.status("/gateways");
    let found = all.as_array().into_iter().flatten();
    let found = found.into_iter().find(|gateway| gateway["role"] == role);
    found.cloned().unwrap_or_else(|| panic!("no {role}: {all}"))
}

/// Asks the Gateways themselves, each about its newest generation.
fn programmed(world: &World, namespace: &str) {
    let text = world.kubectl(&[
        "get",
        "gateways",
        &format!("--namespace={namespace}"),
        "--output=json",
    ]);
    let list: Value = serde_json::from_str(&text).unwrap();
    let list = list["items"].as_array().unwrap().clone();
    assert_eq!(list.len(), 3);
    for gateway in list {
        let conditions = gateway["status"]["conditions"].as_array().unwrap().clone();
        for wanted in ["Accepted", "Programmed"] {
            let found = conditions.iter().any(|condition| {
                condition["type"] == wanted
                    && condition["status"] == "True"
                    && condition["observedGeneration"] == gateway["metadata"]["generation"]
            });
            assert!(found, "{wanted}: {gateway:#}");
        }
    }
}
