//! A watch of the host's api-server that is behind, as it is for seconds after the api-server
//! was away: the others already tell what came after. Nothing is run or claimed for that.
#![allow(
    clippy::unwrap_used,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use futures::StreamExt;
use http::Request;
use http_body_util::{BodyStream, StreamBody, combinators::UnsyncBoxBody};
use kubebyon_e2e::{
    helm_log::HelmLog,
    judge::eventually,
    operator::{Host, Manager, Tenant, condition, is_ready},
};
use kubebyon_k8s::{
    k8s_openapi::api::apps::v1::StatefulSet,
    kube::{Api, Client, ResourceExt, client::Body},
};
use kubebyon_operator::{client, telemetry::metrics::Metrics};
use serde_json::json;
use tokio::sync::watch::{self, Receiver, Sender};
use tower::service_fn;

/// The resource whose watches tell nothing, until it is let go of.
type Held = Option<&'static str>;

/// A client whose watches of the held resource stand still.
fn late(inner: Client, held: Receiver<Held>) -> Client {
    let service = service_fn(move |request: Request<Body>| {
        let (inner, held) = (inner.clone(), held.clone());
        let uri = request.uri();
        let watched = uri
            .query()
            .filter(|query| query.contains("watch=true"))
            .and_then(|_| uri.path().rsplit('/').next())
            .unwrap_or_default()
            .to_owned();
        async move {
            let response = inner.send(request).await?;
            Ok::<_, tower::BoxError>(response.map(|body| {
                let frames = BodyStream::new(body).then(move |frame| {
                    let (mut held, watched) = (held.clone(), watched.clone());
                    async move {
                        // An error is the end of the test.
                        let _ = held.wait_for(|held| *held != Some(&*watched)).await;
                        frame
                    }
                });
                UnsyncBoxBody::new(StreamBody::new(frames))
            }))
        }
    });
    Client::new(service, "default")
}

struct Story {
    host: Host,
    holder: Sender<Held>,
    manager: Manager,
    runs: HelmLog,
    _folder: tempfile::TempDir,
}

impl Story {
    async fn begin() -> Self {
        let host = Host::start().await;
        let folder = tempfile::tempdir().unwrap();
        let runs = HelmLog::new(folder.path(), &host.cluster.helm());
        let options = host.options(&[&format!("--helm={}", runs.program().display())]);
        let (holder, held) = watch::channel(None);
        let metrics = Metrics::default();
        let inner = client::build(host.operator_config().await, metrics.clone()).unwrap();
        let manager = host.manager_with(options, late(inner, held), metrics);
        Self {
            host,
            holder,
            manager,
            runs,
            _folder: folder,
        }
    }

    /// Changes a ready tenant while the watch of `resource` stands still.
    async fn change_while_late(&self, resource: &'static str) {
        let namespace = self.host.namespace("late").await;
        let tenant = Tenant::apply(&self.host, &namespace, resource, json!({})).await;
        let made = tenant.ready().await;
        let home = made.status.unwrap().host_namespace.unwrap();
        let sets: Api<StatefulSet> = Api::namespaced(self.host.client.clone(), &home);

        self.holder.send(Some(resource)).unwrap();
        let annotated = json!({"controlPlane": {"statefulSet": {"annotations": {"team": "blue"}}}});
        tenant.update(json!({"values": annotated})).await;
        eventually("the change arrives", || async {
            let set = sets.get(resource).await.unwrap();
            set.annotations().contains_key("team").then_some(())
        })
        .await;
        let message = tenant.because("ReleaseDeployed", "Progressing").await;
        assert!(message.contains("waiting for news"), "{message}");
        assert!(!is_ready(&tenant.get().await), "what is late is no proof");
        let available = condition(&tenant.get().await, "ControlPlaneAvailable").unwrap();
        assert_eq!(available.0, "True", "the tenant serves all the while");

        self.holder.send(None).unwrap();
        tenant.ready().await;
        let runs = self.runs.runs();
        let of_it = runs.iter().filter(|run| run.ends_with(resource)).count();
        assert_eq!(of_it, 2, "one to install, one to change: {runs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_late_watch_does_not_show_is_waited_for() {
    let story = Story::begin().await;
    for resource in ["secrets", "statefulsets"] {
        story.change_while_late(resource).await;
    }
    story.manager.stop().await;
}
