//! The three Gateways of a PublicAccess.

use kubebyon_api::public_access::RouteNamespaces;
use kubebyon_api::types::HostPattern;
use kubebyon_k8s::gateway_api::gateways::{
    Gateway, GatewayAllowedListeners, GatewayAllowedListenersNamespaces,
    GatewayAllowedListenersNamespacesFrom, GatewayListeners, GatewaySpec,
};

use super::listeners::{ListenerConflict, Protocol, RoutesFrom, conflicts, listener};
use super::{Layout, Place, Role};
use crate::exposure::{Exposure, PlainHttp, Site, TenantSites};

/// The HTTPS listener of the platform's Gateway.
pub const PLATFORM_HTTPS_LISTENER: &str = "platform-https";
/// The HTTP listener of the platform's Gateway; only with the redirect.
pub const PLATFORM_HTTP_LISTENER: &str = "platform-http";

/// Whether the host cluster serves ListenerSets. Where it does not, Gateways must not speak of
/// them: their schema has no such field, and a server-side apply of an unknown one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerSets {
    /// It does (Gateway API 1.5 and later).
    Served,
    /// It does not.
    NotServed,
}

/// The Gateways of a PublicAccess. A Gateway has at least one listener, so there is none for what is
/// not exposed.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateways {
    /// The tenants' APIs.
    pub control_plane: Gateway,
    /// The platform's site.
    pub platform: Option<Gateway>,
    /// The tenants' sites.
    pub workload: Option<Gateway>,
}

impl Gateways {
    /// The Gateways with what they are for.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &Gateway)> {
        std::iter::once((Role::ControlPlane, &self.control_plane))
            .chain(
                self.platform
                    .as_ref()
                    .map(|gateway| (Role::Platform, gateway)),
            )
            .chain(
                self.workload
                    .as_ref()
                    .map(|gateway| (Role::Workload, gateway)),
            )
    }

    /// The listeners that could not be told apart if Gateways of one class are one data plane.
    pub fn conflicts(&self) -> Vec<ListenerConflict> {
        conflicts(self.iter().map(|(_, gateway)| gateway))
    }
}

impl Layout {
    /// The Gateways for `exposure`. The operator owns them whole: it applies every listener each
    /// time.
    pub fn gateways(&self, exposure: &Exposure, listener_sets: ListenerSets) -> Gateways {
        Gateways {
            control_plane: self.gateway(
                self.place(Role::ControlPlane),
                vec![listener(
                    &self.tls_listener,
                    Protocol::TlsPassthrough,
                    self.tenants(),
                )],
            ),
            platform: exposure
                .site
                .as_ref()
                .map(|site| self.gateway(self.place(Role::Platform), self.site_listeners(site))),
            workload: exposure.tenant_sites.as_ref().map(|sites| {
                let place = self.place(Role::Workload);
                let mut gateway = self.gateway(place, self.tenant_site_listeners(sites));
                // Listeners beyond the 64th go into ListenerSets beside the Gateway: the TLS Secrets
                // are there too.
                gateway.spec.allowed_listeners = match listener_sets {
                    ListenerSets::Served => Some(GatewayAllowedListeners {
                        namespaces: Some(GatewayAllowedListenersNamespaces {
                            from: Some(GatewayAllowedListenersNamespacesFrom::Same),
                            selector: None,
                        }),
                    }),
                    ListenerSets::NotServed => None,
                };
                gateway
            }),
        }
    }

    fn gateway(&self, place: &Place, listeners: Vec<GatewayListeners>) -> Gateway {
        Gateway {
            metadata: self.owner.meta(&place.at.namespace, &place.at.name),
            spec: GatewaySpec {
                gateway_class_name: place.class.clone(),
                listeners,
                ..GatewaySpec::default()
            },
            status: None,
        }
    }

    fn site_listeners(&self, site: &Site) -> Vec<GatewayListeners> {
        // No tenant has anything to do here: only routes of the PublicAccess's own namespace, whatever
        // spec.gatewayAPI.routeNamespaces says.
        let from = RoutesFrom::Namespace(&self.owner.namespace);
        let hostname = HostPattern::from(site.hostname.clone());
        let mut listeners = vec![listener(
            PLATFORM_HTTPS_LISTENER,
            Protocol::Https {
                hostname: hostname.clone(),
                secrets: vec![&site.certificate],
            },
            from,
        )];
        match site.plain_http {
            PlainHttp::Closed => {}
            PlainHttp::Redirect => listeners.push(listener(
                PLATFORM_HTTP_LISTENER,
                Protocol::Http {
                    hostname: Some(hostname),
                },
                from,
            )),
        }
        listeners
    }

    fn tenant_site_listeners(&self, sites: &TenantSites) -> Vec<GatewayListeners> {
        let from = self.tenants();
        let mut listeners = vec![listener(
            &self.http_listener,
            Protocol::Http { hostname: None },
            from,
        )];
        if let Some(secrets) = &sites.https {
            listeners.push(listener(
                &self.https_listener,
                Protocol::Https {
                    hostname: sites.domain.wildcard(),
                    secrets: secrets.iter().collect(),
                },
                from,
            ));
        }
        listeners
    }

    fn tenants(&self) -> RoutesFrom<'static> {
        match self.route_namespaces {
            RouteNamespaces::Labelled => RoutesFrom::Labelled,
            RouteNamespaces::All => RoutesFrom::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway_api::tests::access;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn render(api: &Value, spec: &Value) -> Gateways {
        let access = access(api, spec);
        Layout::of(&access)
            .unwrap()
            .gateways(&Exposure::of(&access).unwrap(), ListenerSets::Served)
    }

    fn platform(redirect: bool, web: bool) -> Value {
        json!({"hostname": "console.example.com", "tlsSecretName": "console-tls",
            "httpToHttpsRedirect": redirect, "web": {"enabled": web}})
    }

    fn classes(mode: &str) -> Value {
        json!({"addressMode": mode, "gatewayClassProfiles": {"shared": "merged", "edge": "edge", "workload": "sites"}})
    }

    #[test]
    fn dual_with_everything() {
        let workload = json!({"domain": "apps.example.com", "tls": {"enabled": true}});
        insta::assert_yaml_snapshot!(
            render(
                &classes("Dual"),
                &json!({"platform": platform(true, true), "workload": workload})
            )
            .iter()
            .map(|(_, gateway)| gateway)
            .collect::<Vec<_>>()
        );
    }

    #[test]
    fn single_with_everything_in_other_places() {
        let mut api = classes("Single");
        api["routeNamespaces"] = json!("All");
        api["controlPlane"] = json!({"namespace": "edge", "name": "apis", "listenerName": "apis"});
        api["platform"] =
            json!({"namespace": "edge", "name": "console", "gatewayClassName": "own"});
        api["workload"] = json!({"namespace": "sites", "name": "sites", "httpListenerName": "http", "httpsListenerName": "https"});
        let workload =
            json!({"domain": "apps.example.com", "tls": {"enabled": true, "secretName": "apps"}});
        insta::assert_yaml_snapshot!(
            render(
                &api,
                &json!({"platform": platform(true, false), "workload": workload})
            )
            .iter()
            .map(|(_, gateway)| gateway)
            .collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_apis_alone() {
        let gateways = render(&json!({}), &json!({}));
        assert_eq!((&gateways.platform, &gateways.workload), (&None, &None));
        insta::assert_yaml_snapshot!(gateways.control_plane);
    }

    #[test]
    fn a_site_without_redirect_listens_on_443_alone() {
        let gateways = render(&json!({}), &json!({"platform": platform(false, true)}));
        let ports: Vec<_> = gateways
            .platform
            .unwrap()
            .spec
            .listeners
            .iter()
            .map(|l| l.port)
            .collect();
        assert_eq!(ports, [443]);
    }

    #[test]
    fn tenant_sites_without_tls_listen_on_80_alone() {
        let gateways = render(
            &json!({}),
            &json!({"workload": {"domain": "apps.example.com"}}),
        );
        let ports: Vec<_> = gateways
            .workload
            .unwrap()
            .spec
            .listeners
            .iter()
            .map(|l| l.port)
            .collect();
        assert_eq!(ports, [80]);
    }

    #[test]
    fn an_older_gateway_api_is_not_told_of_listener_sets() {
        let access = access(
            &json!({}),
            &json!({"workload": {"domain": "apps.example.com"}}),
        );
        let gateways = Layout::of(&access)
            .unwrap()
            .gateways(&Exposure::of(&access).unwrap(), ListenerSets::NotServed);
        assert_eq!(gateways.workload.unwrap().spec.allowed_listeners, None);
    }

    #[test]
    fn two_entrances_on_one_merged_data_plane_are_found() {
        let one = render(&classes("Single"), &json!({}));
        let two = render(&classes("Single"), &json!({}));
        assert_eq!(conflicts([&one.control_plane, &two.control_plane]).len(), 1);
    }

    proptest! {
        /// Whatever is asked for: three different Gateways whose listeners can share one data plane,
        /// and are what Gateway API's own rules take.
        #[test]
        fn listeners_are_unique_on_a_merged_data_plane(
            mode in prop::sample::select(vec!["Single", "Dual"]),
            class in prop::sample::select(vec!["eg", "merged"]),
            routes in prop::sample::select(vec!["Labelled", "All"]),
            site in proptest::option::of((any::<bool>(), any::<bool>(), "[a-z]{1,8}(\\.apps|\\.clusters)?\\.example\\.com")),
            workload in proptest::option::of(any::<bool>()),
        ) {
            let mut spec = json!({});
            if let Some((redirect, web, hostname)) = site {
                spec["platform"] = platform(redirect, web);
                spec["platform"]["hostname"] = json!(hostname);
            }
            if let Some(tls) = workload {
                spec["workload"] = json!({"domain": "apps.example.com", "tls": {"enabled": tls}});
            }
            let api = json!({"addressMode": mode, "routeNamespaces": routes, "gatewayClassProfiles": {"shared": class}});
            let gateways = render(&api, &spec);
            prop_assert_eq!(gateways.conflicts(), []);
            let mut names = std::collections::BTreeSet::new();
            for (_, gateway) in gateways.iter() {
                prop_assert!(names.insert((gateway.metadata.namespace.clone(), gateway.metadata.name.clone())));
                for listener in &gateway.spec.listeners {
                    prop_assert!(names.insert((gateway.metadata.name.clone(), Some(listener.name.clone()))));
                    prop_assert_eq!(listener.tls.is_some(), listener.protocol != "HTTP");
                    prop_assert_eq!(listener.port, if listener.protocol == "HTTP" { 80 } else { 443 });
                    if listener.protocol == "HTTPS" {
                        prop_assert!(listener.hostname.is_some());
                        let tls = listener.tls.as_ref().unwrap();
                        prop_assert!(!tls.certificate_refs.as_ref().unwrap().is_empty());
                    }
                }
            }
        }
    }
}
