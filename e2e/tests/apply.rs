//! The operator's apply on a real api-server, while others write to the same object.
#![allow(
    clippy::unwrap_used,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use http::{Method, Request};
use kubebyon_e2e::operator::Host;
use kubebyon_k8s::{
    k8s_openapi::api::core::v1::ConfigMap,
    kube::{
        Api, Client,
        api::{Patch, PatchParams},
        client::Body,
    },
};
use kubebyon_operator::apply::{Applier, Outcome};
use serde_json::json;
use tower::service_fn;

const NAME: &str = "shared";

/// A client before whose first merge patches somebody else writes.
fn raced(client: &Client, api: &Api<ConfigMap>, races: u32) -> (Client, Arc<AtomicU32>) {
    let left = Arc::new(AtomicU32::new(races));
    let (inner, api, counter) = (client.clone(), api.clone(), left.clone());
    let service = service_fn(move |request: Request<Body>| {
        let (inner, api, left) = (inner.clone(), api.clone(), counter.clone());
        async move {
            let merge = request
                .headers()
                .get("content-type")
                .is_some_and(|kind| kind == "application/merge-patch+json");
            if request.method() == Method::PATCH
                && merge
                && let Ok(before) = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
            {
                let theirs = json!({"data": {"theirs": before.to_string()}});
                api.patch(NAME, &PatchParams::default(), &Patch::Merge(&theirs))
                    .await?;
            }
            inner.send(request).await
        }
    });
    (Client::new(service, "default"), left)
}

fn wanted(namespace: &str, data: &[(&str, &str)]) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(NAME.to_owned());
    object.metadata.namespace = Some(namespace.to_owned());
    let data = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    object.data = Some(data.collect());
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_somebody_else_in_between_is_no_failure() {
    let host = Host::start().await;
    let namespace = host.namespace("apply").await;
    let api: Api<ConfigMap> = Api::namespaced(host.client.clone(), &namespace);
    let (client, left) = raced(&host.client, &api, 2);
    let applier = Applier::new(client, "test");
    let first = wanted(&namespace, &[("kept", "1"), ("dropped", "2")]);
    let made = applier.namespaced(None, first).await.unwrap();
    assert_eq!(made, Outcome::Applied);

    let live = api.get(NAME).await.unwrap();
    let second = wanted(&namespace, &[("kept", "1")]);
    let changed = applier.namespaced(Some(&live), second).await.unwrap();
    assert_eq!(changed, Outcome::Applied);
    assert_eq!(
        left.load(Ordering::SeqCst),
        0,
        "somebody did write in between"
    );
    let data = api.get(NAME).await.unwrap().data.unwrap();
    let expected = [("kept", "1"), ("theirs", "1")];
    let expected: BTreeMap<_, _> = expected
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    assert_eq!(
        data, expected,
        "what is no longer wanted goes, and what is theirs stays"
    );
}
