//! The client of the host's api-server: every request is bounded and counted.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::body::Bytes;
use kubebyon_k8s::kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, Layer, Service, service_fn};

use crate::{leader::Fence, telemetry::metrics::Metrics};

/// The whole of a request that is no watch, retries included; of a watch, the time to its first byte.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Largest answer that is read: far above a page of objects, far below what hurts.
const BODY_LIMIT: usize = 64 << 20;

/// A client over `config` whose requests end within [`REQUEST_LIMIT`] and are counted in `metrics`.
pub fn build(config: Config, metrics: Metrics) -> Result<Client, kubebyon_k8s::kube::Error> {
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&BoundedLayer {
            metrics: Arc::new(metrics),
        })
        .build())
}

/// The same api-server while the Lease is held: afterwards no request is sent.
pub fn fenced(client: &Client, fence: Fence, namespace: &str) -> Client {
    let inner = client.clone();
    let service = service_fn(move |request: Request<Body>| {
        let (inner, fence) = (inner.clone(), fence.clone());
        async move {
            if fence.holds() {
                inner.send(request).await.map_err(BoxError::from)
            } else {
                Err("the lease is lost; this process must not act any more".into())
            }
        }
    });
    Client::new(service, namespace)
}

/// The same api-server as somebody else: what runs in a tenant's name has no more
/// rights than the tenant's ServiceAccount.
pub fn impersonate(
    client: &Client,
    namespace: &str,
    service_account: &str,
) -> Result<Client, http::header::InvalidHeaderValue> {
    let user = HeaderValue::from_str(&format!(
        "system:serviceaccount:{namespace}:{service_account}"
    ))?;
    let inner = client.clone();
    let service = service_fn(move |mut request: Request<Body>| {
        let headers = request.headers_mut();
        headers.insert("Impersonate-User", user.clone());
        for group in IMPERSONATED_GROUPS {
            headers.append("Impersonate-Group", HeaderValue::from_static(group));
        }
        let inner = inner.clone();
        async move { inner.send(request).await }
    });
    Ok(Client::new(service, namespace))
}

/// The groups every ServiceAccount is in. The group of its namespace is left out: the
/// operator would need the right to impersonate any group for it.
pub const IMPERSONATED_GROUPS: [&str; 2] = ["system:serviceaccounts", "system:authenticated"];

type Answer = UnsyncBoxBody<Bytes, BoxError>;

#[derive(Clone)]
struct BoundedLayer {
    metrics: Arc<Metrics>,
}

impl<S> Layer<S> for BoundedLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded {
            inner,
            metrics: self.metrics.clone(),
        }
    }
}

struct Bounded<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.metrics.api_requests.inc();
        let watch = request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
        let answer = self.inner.call(request);
        let whole = async move {
            let response = answer.await.map_err(Into::into)?;
            let (parts, body) = response.into_parts();
            if watch {
                return Ok(Response::from_parts(
                    parts,
                    body.map_err(Into::into).boxed_unsync(),
                ));
            }
            let bytes = Limited::new(body, BODY_LIMIT).collect().await?.to_bytes();
            Ok(Response::from_parts(
                parts,
                Full::new(bytes)
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            ))
        };
        Box::pin(async move {
            tokio::time::timeout(REQUEST_LIMIT, whole)
                .await
                .unwrap_or_else(|_| {
                    Err(format!("the api-server gave no answer within {REQUEST_LIMIT:?}").into())
                })
        })
    }
}
