//! The HTTPRoutes of the platform's site.
//!
//! They are in the namespace of the PublicAccess, where the Services are, so no ReferenceGrant is
//! needed; the platform's Gateway takes routes from that namespace alone.

use kubebyon_k8s::gateway_api::httproutes::{
    HttpRoute, HttpRouteParentRefs, HttpRouteRules, HttpRouteRulesBackendRefs,
    HttpRouteRulesFilters, HttpRouteRulesFiltersRequestRedirect,
    HttpRouteRulesFiltersRequestRedirectScheme, HttpRouteRulesFiltersType, HttpRouteRulesMatches,
    HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType, HttpRouteSpec,
};

use super::gateways::{PLATFORM_HTTP_LISTENER, PLATFORM_HTTPS_LISTENER};
use super::{GROUP, Layout, Role};
use crate::exposure::{API_PATHS, Backend, PathMatch, Site, WEB_PATHS};

/// The status of a redirect. Every Gateway API knows it: 303, 307 and 308 came with 1.5.
const REDIRECT_STATUS: i64 = 302;

impl Layout {
    /// The routes of `site`: to the API, to the web pages when there are any, and from plain HTTP to
    /// HTTPS when asked. What is not in the list any more is to be pruned.
    pub fn site_routes(&self, site: &Site) -> Vec<HttpRoute> {
        let https = |purpose, paths, backend| {
            self.site_route(
                site,
                purpose,
                PLATFORM_HTTPS_LISTENER,
                forward(paths, backend),
            )
        };
        let mut routes = vec![https("api", &API_PATHS, &site.api)];
        routes.extend(site.web.as_ref().map(|web| https("web", &WEB_PATHS, web)));
        routes.extend(site.redirected_paths().map(|paths| {
            self.site_route(site, "redirect", PLATFORM_HTTP_LISTENER, redirect(paths))
        }));
        routes
    }

    fn site_route(
        &self,
        site: &Site,
        purpose: &str,
        listener: &str,
        rule: HttpRouteRules,
    ) -> HttpRoute {
        let gateway = &self.place(Role::Platform).at;
        let name = format!("{}-platform-{purpose}", self.owner.name);
        HttpRoute {
            metadata: self.owner.meta(&self.owner.namespace, name),
            spec: HttpRouteSpec {
                hostnames: Some(vec![site.hostname.to_string()]),
                parent_refs: Some(vec![HttpRouteParentRefs {
                    group: Some(GROUP.to_owned()),
                    kind: Some("Gateway".to_owned()),
                    namespace: Some(gateway.namespace.clone()),
                    name: gateway.name.clone(),
                    section_name: Some(listener.to_owned()),
                    port: None,
                }]),
                rules: Some(vec![rule]),
            },
            status: None,
        }
    }
}

fn forward(paths: &[PathMatch], backend: &Backend) -> HttpRouteRules {
    HttpRouteRules {
        matches: Some(matches(paths)),
        backend_refs: Some(vec![HttpRouteRulesBackendRefs {
            group: Some(String::new()),
            kind: Some("Service".to_owned()),
            name: backend.service.to_string(),
            port: Some(i32::from(backend.port.get())),
            weight: Some(1),
            ..HttpRouteRulesBackendRefs::default()
        }]),
        ..HttpRouteRules::default()
    }
}

/// A rule with a redirect has no backend (Gateway API, HTTPRouteRule).
fn redirect(paths: &[PathMatch]) -> HttpRouteRules {
    HttpRouteRules {
        matches: Some(matches(paths)),
        filters: Some(vec![HttpRouteRulesFilters {
            r#type: HttpRouteRulesFiltersType::RequestRedirect,
            request_redirect: Some(HttpRouteRulesFiltersRequestRedirect {
                scheme: Some(HttpRouteRulesFiltersRequestRedirectScheme::Https),
                status_code: Some(REDIRECT_STATUS),
                ..HttpRouteRulesFiltersRequestRedirect::default()
            }),
            ..HttpRouteRulesFilters::default()
        }]),
        ..HttpRouteRules::default()
    }
}

/// One match a path: matches of a rule are alternatives.
fn matches(paths: &[PathMatch]) -> Vec<HttpRouteRulesMatches> {
    paths
        .iter()
        .map(|path| {
            let (kind, value) = match path {
                PathMatch::Prefix(value) => (HttpRouteRulesMatchesPathType::PathPrefix, value),
                PathMatch::Exact(value) => (HttpRouteRulesMatchesPathType::Exact, value),
            };
            HttpRouteRulesMatches {
                path: Some(HttpRouteRulesMatchesPath {
                    r#type: Some(kind),
                    value: Some((*value).to_owned()),
                }),
                ..HttpRouteRulesMatches::default()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::Exposure;
    use crate::gateway_api::tests::access;
    use serde_json::json;

    fn routes(redirect: bool, web: bool) -> Vec<HttpRoute> {
        let platform = json!({"hostname": "console.example.com", "tlsSecretName": "console-tls",
            "httpToHttpsRedirect": redirect, "web": {"enabled": web}});
        let access = access(
            &json!({"platform": {"namespace": "edge", "name": "console"}}),
            &json!({"platform": platform}),
        );
        let site = Exposure::of(&access).unwrap().site.unwrap();
        Layout::of(&access).unwrap().site_routes(&site)
    }

    #[test]
    fn with_web_and_redirect() {
        insta::assert_yaml_snapshot!(routes(true, true));
    }

    #[test]
    fn with_redirect_without_web() {
        insta::assert_yaml_snapshot!(routes(true, false));
    }

    #[test]
    fn what_is_off_has_no_route() {
        let names = |redirect, web| {
            routes(redirect, web)
                .into_iter()
                .map(|route| route.metadata.name.unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(false, false), ["public-platform-api"]);
        assert_eq!(
            names(false, true),
            ["public-platform-api", "public-platform-web"]
        );
    }
}
