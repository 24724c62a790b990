//! Which optional APIs the host cluster serves now, from its CustomResourceDefinitions:
//! an API that is installed, upgraded or removed later is noticed without a restart.

use kubebyon_k8s::{
    k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube::runtime::reflector::{ObjectRef, Store},
};
use kubebyon_render::gateway_api::{GROUP, gateways::ListenerSets, tls_route::Version};

/// What is served of Gateway API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GatewayApi {
    /// The version of TLSRoute to use.
    pub tls_route: Version,
    /// Whether ListenerSet v1 is there: more listeners than one Gateway holds.
    pub listener_sets: ListenerSets,
}

/// Reads what `definitions` say of Gateway API; none when Gateway, HTTPRoute or TLSRoute
/// is not served.
pub fn gateway_api(definitions: &Store<CustomResourceDefinition>) -> Option<GatewayApi> {
    let versions = |plural: &str| {
        definitions
            .get(&ObjectRef::new(&format!("{plural}.{GROUP}")))
            .map(|definition| served(&definition))
            .unwrap_or_default()
    };
    let has = |plural: &str, version: &str| versions(plural).iter().any(|served| served == version);
    if !has("gateways", "v1") || !has("gatewayclasses", "v1") || !has("httproutes", "v1") {
        return None;
    }
    let tls_routes = versions("tlsroutes");
    let tls_route = Version::best(tls_routes.iter().map(String::as_str))?;
    let listener_sets = if has("listenersets", "v1") {
        ListenerSets::Served
    } else {
        ListenerSets::NotServed
    };
    Some(GatewayApi {
        tls_route,
        listener_sets,
    })
}

fn served(definition: &CustomResourceDefinition) -> Vec<String> {
    let established = definition
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let established = established
        .into_iter()
        .any(|condition| condition.type_ == "Established" && condition.status == "True");
    if !established {
        return Vec::new();
    }
    definition
        .spec
        .versions
        .iter()
        .filter(|version| version.served)
        .map(|version| version.name.clone())
        .collect()
}

/// Whether a definition is one of Gateway API's.
pub fn concerns_gateways(definition: &CustomResourceDefinition) -> bool {
    definition.spec.group == GROUP
}

/// Keeps of a definition what [`gateway_api`] reads: its schemas are large.
pub fn slim(definition: &mut CustomResourceDefinition) {
    for version in &mut definition.spec.versions {
        version.schema = None;
        version.additional_printer_columns = None;
    }
}

#[cfg(test)]
mod tests {
    use kubebyon_k8s::kube::runtime::{reflector, watcher::Event};
    use serde_json::json;

    use super::*;

    fn store(plurals: &[(&str, &[&str])]) -> Store<CustomResourceDefinition> {
        let (store, mut writer) = reflector::store();
        for (plural, versions) in plurals {
            let versions: Vec<_> = versions
                .iter()
                .map(|version| json!({"name": version, "served": true, "storage": true, "schema": {}}))
                .collect();
            let definition = json!({
                "metadata": {"name": format!("{plural}.{GROUP}")},
                "spec": {"group": GROUP, "scope": "Namespaced", "names": {"kind": "K", "plural": plural}, "versions": versions},
                "status": {"conditions": [{"type": "Established", "status": "True"}], "acceptedNames": {"kind": "K", "plural": plural}, "storedVersions": []},
            });
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(definition).unwrap()));
        }
        store
    }

    const CORE: [(&str, &[&str]); 3] = [
        ("gateways", &["v1"]),
        ("gatewayclasses", &["v1"]),
        ("httproutes", &["v1", "v1beta1"]),
    ];

    fn with(tls_routes: &'static [&'static str]) -> Store<CustomResourceDefinition> {
        store(&[&CORE[..], &[("tlsroutes", tls_routes)]].concat())
    }

    #[test]
    fn the_newest_tls_route_is_preferred() {
        assert_eq!(
            gateway_api(&with(&["v1alpha2", "v1", "v1alpha3"]))
                .unwrap()
                .tls_route,
            Version::V1
        );
        assert_eq!(
            gateway_api(&with(&["v1alpha2", "v1alpha3"]))
                .unwrap()
                .tls_route,
            Version::V1Alpha3
        );
        assert_eq!(
            gateway_api(&with(&["v1alpha2"])).unwrap().tls_route,
            Version::V1Alpha2
        );
    }

    #[test]
    fn without_tls_routes_there_is_no_entrance() {
        assert_eq!(gateway_api(&store(&CORE)), None);
        assert_eq!(gateway_api(&with(&["v9"])), None);
        assert_eq!(gateway_api(&store(&[("tlsroutes", &["v1"])])), None);
    }
}
