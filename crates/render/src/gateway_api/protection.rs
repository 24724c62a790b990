//! The marks by which the api-server knows which Gateways and ListenerSets are ours.
//!
//! `config/policies/routes.yaml` refuses everybody but the operator a route or a ListenerSet that
//! names one of them. A policy cannot look objects up, and Gateways are called as users like; so
//! each protected parent is a ConfigMap of the operator's namespace, and these are the policy's
//! parameters. As they are ConfigMaps, the policy does not care whether Gateway API is installed.
//!
//! The class whose Gateways share a data plane with ours, in address mode Single, is marked as well:
//! `config/policies/gateways.yaml` refuses everybody but the operator a Gateway of it. It would be
//! part of that data plane, and one with a host name of ours would make Envoy refuse all that comes
//! later: no name would change, and an Envoy that starts anew would serve nothing.
//!
//! A mark is written before its Gateway is, and removed after it. It is immutable, and named by the
//! hash of what it protects: nothing of it is ever updated.

use kubebyon_k8s::k8s_openapi::api::core::v1::ConfigMap;

use super::gateways::Gateways;
use super::{Layout, Role};

/// Label of the marks, by which the policy's binding selects them.
pub const LABEL: (&str, &str) = ("kubebyon.app/protected-parent", "true");

/// Label of the marks of shared classes.
pub const CLASS_LABEL: (&str, &str) = ("kubebyon.app/shared-class", "true");

/// What routes and ListenerSets name as their parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentKind {
    /// A Gateway.
    Gateway,
    /// A ListenerSet.
    ListenerSet,
}

impl ParentKind {
    /// The kind's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::ListenerSet => "ListenerSet",
        }
    }
}

impl Layout {
    /// The marks of the Gateways that there are to be.
    pub fn protected_gateways(
        &self,
        gateways: &Gateways,
        operator_namespace: &str,
    ) -> Vec<ConfigMap> {
        let mark = |(role, _): (Role, _)| {
            let at = &self.place(role).at;
            self.protected_parent(
                ParentKind::Gateway,
                &at.namespace,
                &at.name,
                operator_namespace,
            )
        };
        gateways.iter().map(mark).collect()
    }

    /// The mark of the class that is named for Gateways of one data plane, in address mode Single.
    pub fn protected_class(&self, operator_namespace: &str) -> Option<ConfigMap> {
        let class = self.shared_class.as_deref()?;
        let access = self.owner.key();
        let hash = kubebyon_api::names::hash(&format!("GatewayClass/{class}/{access}"), 40);
        let name = format!("class-{hash}");
        let data = [("class", class), ("publicAccess", &access)];
        Some(self.mark(operator_namespace, name, CLASS_LABEL, &data))
    }

    /// The mark of one parent.
    pub fn protected_parent(
        &self,
        kind: ParentKind,
        namespace: &str,
        name: &str,
        operator_namespace: &str,
    ) -> ConfigMap {
        let kind = kind.as_str();
        let hash = kubebyon_api::names::hash(&format!("{kind}/{namespace}/{name}"), 40);
        let data = [("kind", kind), ("namespace", namespace), ("name", name)];
        self.mark(operator_namespace, format!("parent-{hash}"), LABEL, &data)
    }

    fn mark(
        &self,
        operator_namespace: &str,
        name: String,
        label: (&str, &str),
        data: &[(&str, &str)],
    ) -> ConfigMap {
        let mut metadata = self.owner.meta(operator_namespace, name);
        metadata
            .labels
            .get_or_insert_default()
            .insert(label.0.to_owned(), label.1.to_owned());
        let data = data
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        ConfigMap {
            metadata,
            immutable: Some(true),
            data: Some(data.collect()),
            ..ConfigMap::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::Exposure;
    use crate::gateway_api::gateways::ListenerSets;
    use crate::gateway_api::tests::access;
    use serde_json::json;

    #[test]
    fn one_mark_a_gateway() {
        let access = access(
            &json!({}),
            &json!({"workload": {"domain": "apps.example.com"}}),
        );
        let layout = Layout::of(&access).unwrap();
        let gateways = layout.gateways(&Exposure::of(&access).unwrap(), ListenerSets::Served);
        let marks = layout.protected_gateways(&gateways, "kubebyon-system");
        assert_eq!(marks.len(), 2);
        assert_ne!(marks[0].metadata.name, marks[1].metadata.name);
        insta::assert_yaml_snapshot!(marks[0]);
    }

    #[test]
    fn the_shared_class_is_marked_where_it_is_used() {
        let mark = |mode: &str, profiles: serde_json::Value| {
            let api = json!({"addressMode": mode, "gatewayClassProfiles": profiles});
            Layout::of(&access(&api, &json!({})))
                .unwrap()
                .protected_class("kubebyon-system")
        };
        insta::assert_yaml_snapshot!(mark("Single", json!({"shared": "merged"})));
        assert_eq!(mark("Single", json!({"edge": "edge"})), None);
        assert_eq!(mark("Dual", json!({"shared": "merged"})), None);
    }

    #[test]
    fn a_listener_set_is_not_the_gateway_of_its_name() {
        let layout = Layout::of(&access(&json!({}), &json!({}))).unwrap();
        let name = |kind| {
            layout
                .protected_parent(kind, "edge", "a", "kubebyon-system")
                .metadata
                .name
        };
        assert_ne!(name(ParentKind::Gateway), name(ParentKind::ListenerSet));
    }
}
