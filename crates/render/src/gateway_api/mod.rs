//! What is public, as objects of Gateway API.
//!
//! One provider of [`exposure`](crate::exposure). [`Layout`] is where the Gateways are and how they
//! are called; the rest turns an exposure into objects: the three Gateways ([`gateways`]), the
//! platform's HTTPRoutes ([`site`]), a tenant's TLSRoute ([`tls_route`]) on its Gateways
//! ([`parents`]), and the marks by which the
//! api-server lets nobody else attach to them ([`protection`]).

pub mod class;
pub mod gateways;
pub mod listeners;
pub mod parents;
pub mod protection;
pub mod reading;
pub mod site;
pub mod tls_route;

use kubebyon_api::names::GatewayName;
use kubebyon_api::public_access::{AddressMode, GatewayRole, RouteNamespaces};
use kubebyon_api::{PublicAccess, Reason, labels};

use crate::Entrance;

/// The API group.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// The label, and its value, by which a namespace's routes may attach to our Gateways. Only the
/// operator sets it: on the host namespaces of clusters with a public name.
pub const ROUTES_LABEL: (&str, &str) = (labels::ROUTES, labels::ROUTES_ALLOWED);

/// What one of the three Gateways is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The tenants' APIs.
    ControlPlane,
    /// The platform's site.
    Platform,
    /// The tenants' sites.
    Workload,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ControlPlane, Self::Platform, Self::Workload];
}

impl From<Role> for GatewayRole {
    fn from(role: Role) -> Self {
        match role {
            Role::ControlPlane => Self::ControlPlane,
            Role::Platform => Self::Platform,
            Role::Workload => Self::Workload,
        }
    }
}

/// Why a spec does not say where the Gateways are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The provider is another one.
    #[error("spec.gatewayAPI is not set: the provider of this PublicAccess is another one")]
    OtherProvider,
    /// The object was never stored.
    #[error("the PublicAccess has no namespace, name or uid")]
    NotStored,
    /// Two Gateways would be one object.
    #[error(
        "Gateway {namespace}/{name} is asked for twice: give spec.gatewayAPI.controlPlane.name, platform.name and workload.name different values"
    )]
    SameGateway {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Two listeners of one Gateway would have one name.
    #[error(
        "listener {0} is asked for twice: give spec.gatewayAPI.workload.httpListenerName and httpsListenerName different values"
    )]
    SameListener(String),
}

impl LayoutError {
    /// The word for it on the wire.
    pub fn reason(&self) -> Reason {
        match self {
            Self::OtherProvider => Reason::ProviderUnavailable,
            Self::NotStored => Reason::InternalError,
            Self::SameGateway { .. } | Self::SameListener(_) => Reason::InvalidSpec,
        }
    }
}

/// One of the three Gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it is.
    pub at: GatewayName,
    /// Its GatewayClass.
    pub class: String,
}

/// Where the three Gateways of a PublicAccess are, and how their listeners are called: three
/// different objects, always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    owner: Entrance,
    mode: AddressMode,
    shared_class: Option<String>,
    route_namespaces: RouteNamespaces,
    control_plane: Place,
    platform: Place,
    workload: Place,
    tls_listener: String,
    http_listener: String,
    https_listener: String,
}

impl Layout {
    /// The layout that `access` asks for.
    pub fn of(access: &PublicAccess) -> Result<Self, LayoutError> {
        let api = access
            .spec
            .gateway_api
            .as_ref()
            .ok_or(LayoutError::OtherProvider)?;
        let place = |role, at| Place {
            at,
            class: class::of(api, role).to_owned(),
        };
        let layout = Self {
            owner: Entrance::of(access).ok_or(LayoutError::NotStored)?,
            mode: api.address_mode,
            shared_class: api
                .gateway_class_profiles
                .shared
                .clone()
                .filter(|_| api.address_mode == AddressMode::Single),
            route_namespaces: api.route_namespaces,
            control_plane: place(Role::ControlPlane, access.control_plane_gateway()),
            platform: place(Role::Platform, access.platform_gateway()),
            workload: place(Role::Workload, access.workload_gateway()),
            tls_listener: api.control_plane.listener_name.clone(),
            http_listener: api.workload.http_listener_name.clone(),
            https_listener: api.workload.https_listener_name.clone(),
        };
        let (a, b, c) = (
            &layout.control_plane.at,
            &layout.platform.at,
            &layout.workload.at,
        );
        if let Some(twice) = [(a, b), (a, c), (b, c)]
            .into_iter()
            .find_map(|(one, other)| (one == other).then_some(one))
        {
            return Err(LayoutError::SameGateway {
                namespace: twice.namespace.clone(),
                name: twice.name.clone(),
            });
        }
        if layout.http_listener == layout.https_listener {
            return Err(LayoutError::SameListener(layout.http_listener));
        }
        Ok(layout)
    }

    /// The PublicAccess.
    pub fn owner(&self) -> &Entrance {
        &self.owner
    }

    /// Whether the tenants' sites have an address of their own.
    pub fn mode(&self) -> AddressMode {
        self.mode
    }

    /// The Gateway of a role.
    pub fn place(&self, role: Role) -> &Place {
        match role {
            Role::ControlPlane => &self.control_plane,
            Role::Platform => &self.platform,
            Role::Workload => &self.workload,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A stored PublicAccess with `gatewayAPI` and the further fields of `spec`.
    pub(crate) fn access(gateway_api: &Value, spec: &Value) -> PublicAccess {
        let mut api = json!({"gatewayClassName": "eg"});
        let mut all =
            json!({"provider": "GatewayAPI", "controlPlane": {"domain": "clusters.example.com"}});
        for (target, fields) in [(&mut api, gateway_api), (&mut all, spec)] {
            for (key, value) in fields.as_object().unwrap() {
                target[key] = value.clone();
            }
        }
        all["gatewayAPI"] = api;
        serde_json::from_value(json!({
            "metadata": {"name": "public", "namespace": "kubebyon-system", "uid": "99999999-2222-3333-4444-555555555555"},
            "spec": all,
        }))
        .unwrap()
    }

    #[test]
    fn three_gateways_always() {
        let layout = Layout::of(&access(&json!({}), &json!({}))).unwrap();
        let names: Vec<_> = Role::ALL
            .map(|role| layout.place(role).at.name.as_str())
            .into();
        assert_eq!(
            names,
            [
                "public-gateway",
                "public-platform-gateway",
                "public-workload-gateway"
            ]
        );
        // One name in two namespaces is two Gateways.
        let apart = json!({"controlPlane": {"name": "edge"}, "platform": {"name": "edge", "namespace": "site"}});
        assert!(Layout::of(&access(&apart, &json!({}))).is_ok());
    }

    #[test]
    fn what_would_fall_together_is_refused() {
        for (api, expected) in [
            (
                json!({"controlPlane": {"name": "edge"}, "workload": {"name": "edge"}}),
                "Gateway kubebyon-system/edge is asked for twice",
            ),
            (
                json!({"platform": {"name": "public-gateway"}}),
                "Gateway kubebyon-system/public-gateway is asked for twice",
            ),
            (
                json!({"workload": {"httpListenerName": "web", "httpsListenerName": "web"}}),
                "listener web is asked for twice",
            ),
        ] {
            let error = Layout::of(&access(&api, &json!({}))).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
            assert_eq!(error.reason(), Reason::InvalidSpec);
        }
    }

    #[test]
    fn another_provider_has_no_gateways() {
        let mut other = access(&json!({}), &json!({}));
        other.spec.gateway_api = None;
        let error = Layout::of(&other).unwrap_err();
        assert_eq!(error.reason(), Reason::ProviderUnavailable);
    }
}
