//! Listeners, and whether they can live on one data plane.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use kubebyon_api::Reason;
use kubebyon_api::names::GatewayName;
use kubebyon_api::types::{HostPattern, ObjectName};
use kubebyon_k8s::gateway_api::gateways::{
    Gateway, GatewayListeners, GatewayListenersAllowedRoutes, GatewayListenersAllowedRoutesKinds,
    GatewayListenersAllowedRoutesNamespaces, GatewayListenersAllowedRoutesNamespacesFrom,
    GatewayListenersAllowedRoutesNamespacesSelector, GatewayListenersTls,
    GatewayListenersTlsCertificateRefs, GatewayListenersTlsMode,
};

use super::{GROUP, ROUTES_LABEL};
use crate::exposure::{HTTP_PORT, HTTPS_PORT};

/// The most listeners of one Gateway (Gateway API, Gateway.spec.listeners).
pub const MAX_LISTENERS: usize = 64;

/// What a listener understands. The wrong combinations of protocol, TLS and host name that Gateway
/// API refuses cannot be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol<'a> {
    /// TLS that is passed through by SNI, on port 443, for every name that a route carries.
    TlsPassthrough,
    /// HTTPS that ends here, on port 443. It always has a host name: on a data plane that is shared
    /// with a hostname-less TLS listener, one without would break both.
    Https {
        /// Its name or wildcard.
        hostname: HostPattern,
        /// Its TLS Secrets in the Gateway's namespace: never empty.
        secrets: Vec<&'a ObjectName>,
    },
    /// Plain HTTP, on port 80.
    Http {
        /// Its name; none for every name that a route carries.
        hostname: Option<HostPattern>,
    },
}

/// RoutesFrom which namespaces routes may attach to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutesFrom<'a> {
    /// All.
    All,
    /// Those that the operator has labelled.
    Labelled,
    /// This one.
    Namespace(&'a str),
}

/// A listener of Gateway API.
pub fn listener(name: &str, protocol: Protocol<'_>, from: RoutesFrom<'_>) -> GatewayListeners {
    let (word, port, kind, hostname, tls) = match protocol {
        Protocol::TlsPassthrough => (
            "TLS",
            HTTPS_PORT,
            "TLSRoute",
            None,
            Some(GatewayListenersTls {
                mode: Some(GatewayListenersTlsMode::Passthrough),
                ..GatewayListenersTls::default()
            }),
        ),
        Protocol::Https { hostname, secrets } => (
            "HTTPS",
            HTTPS_PORT,
            "HTTPRoute",
            Some(hostname),
            Some(GatewayListenersTls {
                mode: Some(GatewayListenersTlsMode::Terminate),
                certificate_refs: Some(secrets.into_iter().map(certificate_ref).collect()),
                options: None,
            }),
        ),
        Protocol::Http { hostname } => ("HTTP", HTTP_PORT, "HTTPRoute", hostname, None),
    };
    GatewayListeners {
        name: name.to_owned(),
        protocol: word.to_owned(),
        port: i32::from(NonZeroU16::get(port)),
        hostname: hostname.map(|pattern| pattern.to_string()),
        tls,
        allowed_routes: Some(GatewayListenersAllowedRoutes {
            kinds: Some(vec![GatewayListenersAllowedRoutesKinds {
                group: Some(GROUP.to_owned()),
                kind: kind.to_owned(),
            }]),
            namespaces: Some(from.namespaces()),
        }),
    }
}

/// A Secret of the Gateway's own namespace, so that no ReferenceGrant is needed.
fn certificate_ref(secret: &ObjectName) -> GatewayListenersTlsCertificateRefs {
    GatewayListenersTlsCertificateRefs {
        group: Some(String::new()),
        kind: Some("Secret".to_owned()),
        name: secret.to_string(),
        namespace: None,
    }
}

impl RoutesFrom<'_> {
    fn namespaces(self) -> GatewayListenersAllowedRoutesNamespaces {
        use GatewayListenersAllowedRoutesNamespacesFrom as Which;
        let (from, label) = match self {
            Self::All => (Which::All, None),
            Self::Labelled => (Which::Selector, Some(ROUTES_LABEL)),
            // The api-server itself keeps this label on every namespace.
            Self::Namespace(name) => (Which::Selector, Some(("kubernetes.io/metadata.name", name))),
        };
        GatewayListenersAllowedRoutesNamespaces {
            from: Some(from),
            selector: label.map(
                |(key, value)| GatewayListenersAllowedRoutesNamespacesSelector {
                    match_labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
                    match_expressions: None,
                },
            ),
        }
    }
}

/// Two listeners that cannot both live on one data plane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "listener {} of Gateway {}/{} and listener {} of Gateway {}/{} are both port {port} for {}, and their GatewayClass {class} may put them on one data plane: change the host name of one, or its class",
    one.listener, one.gateway.namespace, one.gateway.name,
    other.listener, other.gateway.namespace, other.gateway.name,
    hostname.as_deref().unwrap_or("every host name")
)]
pub struct ListenerConflict {
    /// The first.
    pub one: ListenerName,
    /// The second.
    pub other: ListenerName,
    /// The port of both.
    pub port: i32,
    /// The host name of both.
    pub hostname: Option<String>,
    /// The GatewayClass of both.
    pub class: String,
}

impl ListenerConflict {
    /// The word for it on the wire.
    pub fn reason(&self) -> Reason {
        Reason::ListenerConflict
    }
}

/// Which listener is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerName {
    /// Its Gateway.
    pub gateway: GatewayName,
    /// Its name there.
    pub listener: String,
}

/// The listeners of `gateways` that could not be told apart on one data plane.
///
/// Gateway API ("Distinct Listeners") asks for a unique combination of port, protocol and host name
/// over all Gateways that an implementation merges, which is per GatewayClass: in mode Single all
/// three, in mode Dual perhaps those of the edge. TLS and HTTPS count as one protocol here, since
/// both are chosen by SNI on one port; plain HTTP beside them on one port is a conflict whatever the
/// host names are.
pub fn conflicts<'a>(gateways: impl IntoIterator<Item = &'a Gateway>) -> Vec<ListenerConflict> {
    let mut all: Vec<(&Gateway, &GatewayListeners)> = Vec::new();
    let mut found = Vec::new();
    for gateway in gateways {
        for listener in &gateway.spec.listeners {
            let clash = all.iter().find(|(other_gateway, other)| {
                other_gateway.spec.gateway_class_name == gateway.spec.gateway_class_name
                    && other.port == listener.port
                    && (other.hostname == listener.hostname
                        || is_plain(other) != is_plain(listener))
            });
            if let Some((other_gateway, other)) = clash {
                found.push(ListenerConflict {
                    one: name(other_gateway, other),
                    other: name(gateway, listener),
                    port: listener.port,
                    hostname: listener.hostname.clone(),
                    class: gateway.spec.gateway_class_name.clone(),
                });
            }
            all.push((gateway, listener));
        }
    }
    found
}

fn is_plain(listener: &GatewayListeners) -> bool {
    !matches!(listener.protocol.as_str(), "TLS" | "HTTPS")
}

fn name(gateway: &Gateway, listener: &GatewayListeners) -> ListenerName {
    let meta = &gateway.metadata;
    ListenerName {
        gateway: GatewayName {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        },
        listener: listener.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubebyon_k8s::gateway_api::gateways::GatewaySpec;
    use kubebyon_k8s::kube::core::ObjectMeta;

    fn gateway(name: &str, class: &str, listeners: &[(&str, i32, Option<&str>)]) -> Gateway {
        Gateway {
            metadata: ObjectMeta {
                namespace: Some("edge".to_owned()),
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec: GatewaySpec {
                gateway_class_name: class.to_owned(),
                listeners: listeners
                    .iter()
                    .enumerate()
                    .map(|(index, (protocol, port, hostname))| GatewayListeners {
                        name: format!("l{index}"),
                        protocol: (*protocol).to_owned(),
                        port: *port,
                        hostname: hostname.map(str::to_owned),
                        ..GatewayListeners::default()
                    })
                    .collect(),
                ..GatewaySpec::default()
            },
            status: None,
        }
    }

    #[test]
    fn what_can_be_told_apart() {
        for (one, other, apart) in [
            // As designed.
            (("TLS", 443, None), ("HTTPS", 443, Some("a.b")), true),
            (("HTTP", 80, None), ("HTTP", 80, Some("a.b")), true),
            (
                ("HTTPS", 443, Some("a.b")),
                ("HTTPS", 443, Some("*.b")),
                true,
            ),
            (("TLS", 443, None), ("HTTP", 80, None), true),
            // Breaks both.
            (("TLS", 443, None), ("HTTPS", 443, None), false),
            (("TLS", 443, None), ("TLS", 443, None), false),
            (
                ("HTTPS", 443, Some("a.b")),
                ("HTTPS", 443, Some("a.b")),
                false,
            ),
            (
                ("TLS", 443, Some("a.b")),
                ("HTTPS", 443, Some("a.b")),
                false,
            ),
            (("HTTP", 80, None), ("HTTP", 80, None), false),
            (
                ("HTTP", 443, Some("c.d")),
                ("HTTPS", 443, Some("a.b")),
                false,
            ),
        ] {
            let pair = [
                gateway("one", "eg", &[one]),
                gateway("other", "eg", &[other]),
            ];
            assert_eq!(conflicts(&pair).is_empty(), apart, "{one:?} {other:?}");
            let within = gateway("one", "eg", &[one, other]);
            assert_eq!(conflicts([&within]).is_empty(), apart, "{one:?} {other:?}");
            // Another class is another data plane.
            let pair = [
                gateway("one", "eg", &[one]),
                gateway("other", "eg2", &[other]),
            ];
            assert_eq!(conflicts(&pair), [], "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_conflict_names_both_and_the_way_out() {
        let listeners = [("TLS", 443, None)];
        let pair = [
            gateway("one", "eg", &listeners),
            gateway("other", "eg", &listeners),
        ];
        assert_eq!(
            conflicts(&pair)[0].to_string(),
            "listener l0 of Gateway edge/one and listener l0 of Gateway edge/other are both port 443 for every host \
             name, and their GatewayClass eg may put them on one data plane: change the host name of one, or its class"
        );
    }
}
