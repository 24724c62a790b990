//! Bounded, checked downloads over https.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Certificate, Client, Method, Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, AUTHORIZATION, HeaderValue, LOCATION},
    redirect,
};
use url::Url;

use super::{
    ChartCredentials, RepositoryPolicy,
    policy::{origin, refused, refused_address},
};
use crate::error::{Error, Result};

const REDIRECTS: usize = 5;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A client for one repository: its CA, its policy, its time limit.
pub(super) struct Fetcher {
    client: Client,
    policy: Arc<RepositoryPolicy>,
}

/// One GET.
pub(super) struct Get<'a> {
    /// Where.
    pub(super) url: &'a Url,
    /// The `Authorization` header, sent to `home` alone.
    pub(super) authorization: Option<HeaderValue>,
    /// The origin that the credentials belong to.
    pub(super) home: &'a Url,
    /// The `Accept` header.
    pub(super) accept: Option<&'static str>,
}

impl Fetcher {
    /// Needs a process-wide rustls provider (`rustls::crypto::ring`).
    pub(super) fn new(
        policy: Arc<RepositoryPolicy>,
        ca_pem: Option<&[u8]>,
        limit: Duration,
    ) -> Result<Self> {
        let mut builder = Client::builder()
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_LIMIT)
            .timeout(limit)
            .user_agent(concat!("kubebyon/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Checked(Arc::clone(&policy))));
        if let Some(pem) = ca_pem {
            let bad = || {
                refused("the CA given for it is no PEM certificate; correct the Secret that caSecretRef names".to_owned())
            };
            let certificates = Certificate::from_pem_bundle(pem).map_err(|_| bad())?;
            if certificates.is_empty() {
                return Err(bad());
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder
            .build()
            .map_err(|error| Error::RepositoryUnreachable {
                host: "the repository".to_owned(),
                why: format!("no TLS client: {}", causes(&error)),
            })?;
        Ok(Self { client, policy })
    }

    /// Sends one GET and follows redirects: over https only, each target checked, and the
    /// credentials left behind when the origin changes. Any status comes back.
    pub(super) async fn get(&self, get: &Get<'_>) -> Result<Response> {
        let mut url = get.url.clone();
        for _ in 0..=REDIRECTS {
            self.policy.download(&url)?;
            let mut request = self.client.request(Method::GET, url.clone());
            if let Some(accept) = get.accept {
                request = request.header(ACCEPT, accept);
            }
            if let Some(authorization) = &get.authorization
                && origin(&url) == origin(get.home)
            {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            let response = request
                .send()
                .await
                .map_err(|error| unreachable_or_refused(&url, &error))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let target = response
                .headers()
                .get(LOCATION)
                .and_then(|target| target.to_str().ok());
            url = target
                .and_then(|target| url.join(target).ok())
                .ok_or_else(|| Error::RepositoryUnreachable {
                    host: origin(&url),
                    why: format!(
                        "HTTP {} without a usable Location",
                        response.status().as_u16()
                    ),
                })?;
        }
        Err(Error::RepositoryUnreachable {
            host: origin(get.url),
            why: format!("more than {REDIRECTS} redirects"),
        })
    }

    /// Like [`Fetcher::get`], and reads the body, `limit` bytes at most. None for HTTP 404.
    pub(super) async fn bytes(
        &self,
        get: &Get<'_>,
        what: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>> {
        let response = self.get(get).await?;
        match response.status() {
            StatusCode::OK => read(response, what, limit).await.map(Some),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(Error::RepositoryUnauthorized {
                    host: origin(response.url()),
                    status: status.as_u16(),
                })
            }
            status => Err(Error::RepositoryUnreachable {
                host: origin(response.url()),
                why: format!("HTTP {}", status.as_u16()),
            }),
        }
    }
}

/// Reads a body, `limit` bytes at most.
pub(super) async fn read(mut response: Response, what: &str, limit: u64) -> Result<Vec<u8>> {
    let too_large = || Error::ChartTooLarge {
        what: what.to_owned(),
        limit,
    };
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_large());
    }
    let url = response.url().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| unreachable_or_refused(&url, &error))?
    {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The header for HTTP basic authentication.
pub(super) fn basic(credentials: &ChartCredentials) -> Result<HeaderValue> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    secret_header(&format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", credentials.username, credentials.password))
    ))
}

/// A header that is not shown in logs.
pub(super) fn secret_header(text: &str) -> Result<HeaderValue> {
    let mut header = HeaderValue::from_str(text).map_err(|_| {
        refused("its credentials hold characters that HTTP cannot carry".to_owned())
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Resolves names with the system's resolver, and refuses those that have an address that
/// the policy forbids. The connection goes to the addresses that were checked.
struct Checked(Arc<RepositoryPolicy>);

#[derive(Debug, thiserror::Error)]
#[error("it resolves to {0}, which is not allowed")]
struct ForbiddenAddress(IpAddr);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            match found.iter().find(|address| !policy.allows(address.ip())) {
                Some(address) => Err(ForbiddenAddress(address.ip()).into()),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

fn unreachable_or_refused(url: &Url, error: &reqwest::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if inner.is::<ForbiddenAddress>() {
            return refused_address(&origin(url));
        }
        cause = inner.source();
    }
    Error::RepositoryUnreachable {
        host: origin(url),
        why: causes(error),
    }
}

/// The innermost cause: the outer ones repeat the URL, whose query may be a signature.
fn causes(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if cause.to_string().contains("://") {
        "the request failed".to_owned()
    } else {
        cause.to_string()
    }
}
