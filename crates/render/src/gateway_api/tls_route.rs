//! The TLSRoute of a tenant's API.

use std::fmt;

use kubebyon_k8s::gateway_api::tlsroutes::{
    TlsRouteParentRefs, TlsRouteRules, TlsRouteRulesBackendRefs, TlsRouteSpec,
};
use kubebyon_k8s::kube::core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use serde_json::json;

use kubebyon_api::labels;

use super::{GROUP, parents::Parents};
use crate::Cluster;
use crate::exposure::TenantApi;

/// Name of the route in the host namespace: there is one tenant a namespace.
pub const NAME: &str = "kubebyon-control-plane";
/// Plural of the kind.
pub const PLURAL: &str = "tlsroutes";

/// A version of TLSRoute. The fields that we write are the same in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// Since Gateway API 1.5, in its standard channel.
    V1,
    /// Experimental.
    V1Alpha3,
    /// Experimental; up to Gateway API 1.4 the most common one.
    V1Alpha2,
}

impl Version {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::V1, Self::V1Alpha3, Self::V1Alpha2];

    /// The best of the versions that the host cluster serves; none when it serves none that we know.
    pub fn best<'a>(served: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let served: Vec<_> = served.into_iter().collect();
        Self::ALL
            .into_iter()
            .find(|version| served.contains(&version.as_str()))
    }

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Alpha3 => "v1alpha3",
            Self::V1Alpha2 => "v1alpha2",
        }
    }

    /// The resource to ask the api-server for.
    pub fn resource(self) -> ApiResource {
        let kind = GroupVersionKind::gvk(GROUP, self.as_str(), "TLSRoute");
        ApiResource::from_gvk_with_plural(&kind, PLURAL)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The route of `cluster`: its names to its Service, TLS passed through, on the listeners of
/// `parents`. It is in the host namespace, beside the Service.
pub fn tls_route(
    cluster: &Cluster,
    api: &TenantApi,
    parents: &Parents,
    version: Version,
) -> DynamicObject {
    let resource = version.resource();
    let parent_refs = parents.iter().map(|parent| TlsRouteParentRefs {
        group: Some(GROUP.to_owned()),
        kind: Some("Gateway".to_owned()),
        namespace: Some(parent.namespace.clone()),
        name: parent.name.clone(),
        section_name: Some(parent.section_name.clone()),
        port: None,
    });
    let spec = TlsRouteSpec {
        hostnames: api
            .hostnames
            .as_slice()
            .iter()
            .map(ToString::to_string)
            .collect(),
        parent_refs: Some(parent_refs.collect()),
        rules: vec![TlsRouteRules {
            backend_refs: vec![TlsRouteRulesBackendRefs {
                group: Some(String::new()),
                kind: Some("Service".to_owned()),
                name: api.backend.service.to_string(),
                port: Some(i32::from(api.backend.port.get())),
                weight: Some(1),
                namespace: None,
            }],
            name: None,
        }],
    };
    let mut metadata = cluster.meta(&api.backend.namespace, NAME);
    if let Some(memory) = parents.memory() {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(labels::LEFT_GATEWAYS.to_owned(), memory);
    }
    DynamicObject {
        types: Some(TypeMeta {
            api_version: resource.api_version,
            kind: resource.kind,
        }),
        metadata,
        data: json!({"spec": spec}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::Hostnames;
    use crate::gateway_api::{Layout, tests::access};
    use crate::metadata::example;

    fn route(version: Version) -> DynamicObject {
        let hostnames = ["new.clusters.example.com", "old.clusters.example.com"]
            .map(|name| name.parse().unwrap());
        let api = TenantApi::of(
            &example(),
            "byon-demo-0a1b2c3d".parse().unwrap(),
            Hostnames::new(&hostnames).unwrap(),
        )
        .unwrap();
        let access = access(
            &serde_json::json!({"controlPlane": {"namespace": "edge", "name": "apis", "listenerName": "apis"}}),
            &serde_json::json!({}),
        );
        let parents = Parents::new(Layout::of(&access).unwrap().parent());
        tls_route(&example(), &api, &parents, version)
    }

    #[test]
    fn the_route() {
        insta::assert_yaml_snapshot!(route(Version::V1));
    }

    #[test]
    fn versions_differ_in_the_version_alone() {
        for version in Version::ALL {
            let mut one = route(version);
            assert_eq!(
                one.types.as_ref().unwrap().api_version,
                format!("gateway.networking.k8s.io/{version}")
            );
            one.types = route(Version::V1).types;
            assert_eq!(one, route(Version::V1));
        }
    }

    #[test]
    fn the_best_version_that_is_served() {
        for (served, best) in [
            (&["v1alpha2", "v1", "v1alpha3"][..], Some(Version::V1)),
            (&["v1alpha2", "v1alpha3"], Some(Version::V1Alpha3)),
            (&["v1alpha2"], Some(Version::V1Alpha2)),
            (&["v2"], None),
            (&[], None),
        ] {
            assert_eq!(Version::best(served.iter().copied()), best, "{served:?}");
        }
    }
}
