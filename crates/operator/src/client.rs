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
            if watch && parts.status.is_success() {
                return Ok(Response::from_parts(
                    parts,
                    body.map_err(Into::into).boxed_unsync(),
                ));
            }
            let mut bytes = Limited::new(body, BODY_LIMIT).collect().await?.to_bytes();
            if watch {
                bytes = on_one_line(&bytes);
            }
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

/// The api-server refuses some watches in JSON of many lines, and kube before 5 takes each line
/// for an event that it cannot read (kube-rs/kube#2061): with the pauses between such failures, a
/// watch would be deaf for minutes. On one line, it is read as the refusal that it is.
fn on_one_line(refusal: &[u8]) -> Bytes {
    // Within a JSON string a line break is escaped.
    refusal
        .iter()
        .map(|byte| if *byte == b'\n' { b' ' } else { *byte })
        .collect()
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use kubebyon_k8s::{
        k8s_openapi::api::core::v1::Secret,
        kube::{self, Api, api::WatchParams},
    };

    use super::*;

    const REFUSAL: &str = "{\n  \"kind\": \"Status\",\n  \"apiVersion\": \"v1\",\n  \"metadata\": {},\n  \
        \"status\": \"Failure\",\n  \"message\": \"secrets is forbidden\",\n  \
        \"reason\": \"Forbidden\",\n  \"details\": {\n    \"kind\": \"secrets\"\n  },\n  \"code\": 403\n}\n";

    #[tokio::test]
    async fn a_refused_watch_is_one_failure_with_its_status() {
        let refuse = service_fn(|_: Request<Body>| async {
            let answer = Response::builder().status(403);
            answer.body(Full::new(Bytes::from_static(REFUSAL.as_bytes())))
        });
        let client = ClientBuilder::new(refuse, "default")
            .with_layer(&BoundedLayer {
                metrics: Arc::default(),
            })
            .build();
        let api: Api<Secret> = Api::all(client);
        let parameters = WatchParams::default();
        let events = api.watch_metadata(&parameters, "1").await.unwrap();
        let mut events = std::pin::pin!(events);
        match events.try_next().await {
            Err(kube::Error::Api(status)) => assert_eq!(status.code, 403),
            other => panic!("{other:?}"),
        }
        assert!(events.try_next().await.unwrap().is_none(), "nothing else");
    }
}
