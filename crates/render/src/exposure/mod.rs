//! What is public, whoever carries the traffic.
//!
//! Nothing here knows of gateways: these are the values that a provider renders. One provider is
//! [`crate::gateway_api`].
//!
//! - [`TenantApi`]: one tenant's API. Its TLS is the tenant's own and is passed through by SNI, so
//!   no entrance ever holds a tenant's key.
//! - [`Site`]: the platform's own site. Its TLS ends at the entrance.
//! - [`TenantSites`]: the room for the tenants' sites.
//!
//! Which names may be asked for is in [`names`], who holds one in [`claim`], which names a tenant's
//! certificate has in [`certificate`], and how a tenant gets from one name to another in [`change`].

pub mod certificate;
pub mod change;
pub mod claim;
pub mod names;

use std::num::NonZeroU16;

use kubebyon_api::public_access::Platform;
use kubebyon_api::types::{DnsLabel, FieldError, Hostname, ObjectName, ParseError};
use kubebyon_api::{PublicAccess, Reason};

use crate::Cluster;

/// The most host names of one tenant's API. TLSRoute v1alpha2 takes no more on one route.
pub const MAX_HOSTNAMES: usize = 16;

// A number that is none would not compile.
/// Port of a tenant's API at its Service, as the vCluster chart has it, and of every public name.
pub const HTTPS_PORT: NonZeroU16 = NonZeroU16::new(443).unwrap();
/// Port of plain HTTP.
pub const HTTP_PORT: NonZeroU16 = NonZeroU16::new(80).unwrap();

/// Why a spec does not say what is to be exposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExposureError {
    /// A field cannot be read.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A port is none.
    #[error("{field}: {value} must be a port: 1 to 65535")]
    Port {
        /// Path of the field.
        field: &'static str,
        /// The value found.
        value: i32,
    },
}

impl ExposureError {
    /// The word for it on the wire.
    pub fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

/// Where traffic goes: a Service of the host cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Namespace of the Service.
    pub namespace: DnsLabel,
    /// Name of the Service.
    pub service: DnsLabel,
    /// Port of the Service.
    pub port: NonZeroU16,
}

/// Host names in the order of their weight: at least one, at most [`MAX_HOSTNAMES`], none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostnames(Vec<Hostname>);

impl Hostnames {
    /// The first [`MAX_HOSTNAMES`] different ones of `names`; none when there is none.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a Hostname>) -> Option<Self> {
        let mut distinct: Vec<Hostname> = Vec::new();
        for name in names {
            if distinct.len() < MAX_HOSTNAMES && !distinct.contains(name) {
                distinct.push(name.clone());
            }
        }
        (!distinct.is_empty()).then_some(Self(distinct))
    }

    /// The names.
    pub fn as_slice(&self) -> &[Hostname] {
        &self.0
    }
}

impl From<Hostname> for Hostnames {
    fn from(name: Hostname) -> Self {
        Self(vec![name])
    }
}

/// A tenant's API on its public names. TLS is passed through to the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantApi {
    /// The names, the wanted one first.
    pub hostnames: Hostnames,
    /// The tenant's Service.
    pub backend: Backend,
}

impl TenantApi {
    /// The API of `cluster`, whose release lives in `host_namespace`.
    pub fn of(
        cluster: &Cluster,
        host_namespace: DnsLabel,
        hostnames: Hostnames,
    ) -> Result<Self, FieldError> {
        let service = kubebyon_api::names::vcluster::control_plane(cluster.release());
        Ok(Self {
            hostnames,
            backend: Backend {
                namespace: host_namespace,
                service: parse("metadata.name", &service)?,
                port: HTTPS_PORT,
            },
        })
    }
}

/// Everything that the clusters of one entrance share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The platform's own site.
    pub site: Option<Site>,
    /// The room for the tenants' sites.
    pub tenant_sites: Option<TenantSites>,
}

impl Exposure {
    /// What `access` asks for.
    pub fn of(access: &PublicAccess) -> Result<Self, ExposureError> {
        let spec = &access.spec;
        Ok(Self {
            site: spec
                .platform
                .as_ref()
                .map(|platform| Site::of(access, platform))
                .transpose()?,
            tenant_sites: spec
                .workload
                .as_ref()
                .map(|workload| {
                    let secret = access.workload_tls_secret();
                    Ok::<_, FieldError>(TenantSites {
                        domain: workload.domain()?,
                        https: if workload.tls.enabled {
                            let first = parse("spec.workload.tls.secretName", &secret)?;
                            let more = Vec::new();
                            Some(TlsSecrets { first, more })
                        } else {
                            None
                        },
                    })
                })
                .transpose()?,
        })
    }
}

/// The platform's own site. TLS ends at the entrance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its host name.
    pub hostname: Hostname,
    /// Its TLS Secret, in the namespace of what ends the TLS.
    pub certificate: ObjectName,
    /// What plain HTTP answers.
    pub plain_http: PlainHttp,
    /// The API, under `/api` and at `/healthz`.
    pub api: Backend,
    /// The web pages, under every other path.
    pub web: Option<Backend>,
}

/// What a site answers to plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// Nothing: it does not listen.
    Closed,
    /// 302 to the same address over HTTPS, for the paths that the site has.
    Redirect,
}

/// Which paths are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The path and everything below it, by whole elements: `/api` is not the beginning of `/apis`.
    Prefix(&'static str),
    /// The path alone.
    Exact(&'static str),
}

/// The paths that lead to a site's API.
pub const API_PATHS: [PathMatch; 2] = [PathMatch::Prefix("/api"), PathMatch::Exact("/healthz")];
/// The paths that lead to a site's web pages, where no longer match does.
pub const WEB_PATHS: [PathMatch; 1] = [PathMatch::Prefix("/")];

impl Site {
    fn of(access: &PublicAccess, platform: &Platform) -> Result<Self, ExposureError> {
        let backend = |field, service: &str, port_field, port| {
            Ok::<_, ExposureError>(Backend {
                namespace: parse("metadata.namespace", access.namespace_str())?,
                service: parse(field, service)?,
                port: u16::try_from(port).ok().and_then(NonZeroU16::new).ok_or(
                    ExposureError::Port {
                        field: port_field,
                        value: port,
                    },
                )?,
            })
        };
        let (api, web) = (&platform.api, &platform.web);
        Ok(Self {
            hostname: platform.hostname()?,
            certificate: parse(
                "spec.platform.tlsSecretName",
                platform.tls_secret_name.as_deref().unwrap_or_default(),
            )?,
            plain_http: if platform.http_to_https_redirect {
                PlainHttp::Redirect
            } else {
                PlainHttp::Closed
            },
            api: backend(
                "spec.platform.api.serviceName",
                &api.service_name,
                "spec.platform.api.port",
                api.port,
            )?,
            web: if web.enabled {
                Some(backend(
                    "spec.platform.web.serviceName",
                    &web.service_name,
                    "spec.platform.web.port",
                    web.port,
                )?)
            } else {
                None
            },
        })
    }

    /// The paths that plain HTTP redirects: those of the site. None when it does not listen.
    pub fn redirected_paths(&self) -> Option<&'static [PathMatch]> {
        match (self.plain_http, &self.web) {
            (PlainHttp::Closed, _) => None,
            // The prefix / holds the API's paths too.
            (PlainHttp::Redirect, Some(_)) => Some(&WEB_PATHS),
            (PlainHttp::Redirect, None) => Some(&API_PATHS),
        }
    }
}

/// The room for the tenants' sites: plain HTTP for every name, HTTPS for those below the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSites {
    /// The domain of the names that the operator gives out.
    pub domain: Hostname,
    /// The shared certificates. None: no HTTPS yet.
    pub https: Option<TlsSecrets>,
}

/// TLS Secrets of one host name or domain: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSecrets {
    /// The one that always is.
    pub first: ObjectName,
    /// Further ones, when the names are too many for one certificate.
    pub more: Vec<ObjectName>,
}

impl TlsSecrets {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ObjectName> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

fn parse<T>(field: &str, text: &str) -> Result<T, FieldError>
where
    T: std::str::FromStr<Err = ParseError>,
{
    text.parse()
        .map_err(|source| FieldError::new(field, text, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn access(spec: &serde_json::Value) -> PublicAccess {
        let mut all =
            json!({"provider": "HAProxy", "controlPlane": {"domain": "clusters.example.com"}});
        for (key, value) in spec.as_object().unwrap() {
            all[key] = value.clone();
        }
        serde_json::from_value(
            json!({"metadata": {"name": "public", "namespace": "system"}, "spec": all}),
        )
        .unwrap()
    }

    #[test]
    fn nothing_is_exposed_that_nobody_asked_for() {
        let exposure = Exposure::of(&access(&json!({}))).unwrap();
        assert_eq!((exposure.site, exposure.tenant_sites), (None, None));
        let http_alone = Exposure::of(&access(
            &json!({"workload": {"domain": "apps.example.com"}}),
        ))
        .unwrap();
        assert_eq!(http_alone.tenant_sites.unwrap().https, None);
    }

    #[test]
    fn a_site_redirects_the_paths_that_it_has() {
        for (redirect, web, expected) in [
            (false, false, None),
            (false, true, None),
            (true, false, Some(&API_PATHS[..])),
            (true, true, Some(&WEB_PATHS[..])),
        ] {
            let exposure = Exposure::of(&access(&json!({"platform": {
                "hostname": "console.example.com", "tlsSecretName": "tls",
                "httpToHttpsRedirect": redirect, "web": {"enabled": web}}})))
            .unwrap();
            let site = exposure.site.unwrap();
            assert_eq!(site.redirected_paths(), expected, "{redirect} {web}");
            assert_eq!(site.web.is_some(), web);
            assert_eq!(site.api.namespace.as_str(), "system");
        }
    }

    #[test]
    fn what_slipped_past_a_schema_names_its_field() {
        for (spec, message) in [
            (
                json!({"platform": {"tlsSecretName": "tls"}}),
                "spec.platform.hostname",
            ),
            (
                json!({"platform": {"hostname": "a.example.com"}}),
                "spec.platform.tlsSecretName",
            ),
            (
                json!({"platform": {"hostname": "a.example.com", "tlsSecretName": "t", "api": {"port": 0}}}),
                "spec.platform.api.port: 0 must be a port",
            ),
            (
                json!({"workload": {"domain": "apps"}}),
                "spec.workload.domain",
            ),
        ] {
            let error = Exposure::of(&access(&spec)).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
            assert_eq!(error.reason(), Reason::InvalidSpec);
        }
    }

    #[test]
    fn host_names_are_bounded_and_distinct() {
        assert_eq!(Hostnames::new(&[]), None);
        let many: Vec<Hostname> = (0..40)
            .map(|n| format!("n{}.example.com", n / 2).parse().unwrap())
            .collect();
        let names = Hostnames::new(&many).unwrap();
        assert_eq!(names.as_slice().len(), MAX_HOSTNAMES);
        assert_eq!(names.as_slice()[1].as_str(), "n1.example.com");
    }
}
