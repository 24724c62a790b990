//! A FAKE for clusters without nodes: tenants' control planes that nobody runs.
//!
//! With no kubelet, the pods of a control plane stay pending for ever. This fake marks
//! them as running and ready, writes the Secrets that a vCluster writes at its start,
//! and answers `GET /readyz` over TLS with a certificate that carries the names of the
//! tenant's own configuration, as it was when its youngest pod began: NAME.NAMESPACE and
//! `controlPlane.proxy.extraSANs`.
//!
//! Its limits: no tenant has an API behind it; a pod is ready at once, and a restart is
//! no gap; the PKI never changes, and one CA signs for all tenants; nothing is synced
//! between tenant and host. All tenants share one address, where a client is taken to the
//! tenant whose certificate covers the name that it asks for: of two with the same
//! wildcard, to the younger. Everything else is real: the api-server, the controller
//! manager that counts the pods, helm, and the chart.

mod tenants;

use std::{net::SocketAddr, sync::Arc};

use futures::StreamExt;
use kubebyon_k8s::{
    k8s_openapi::api::core::v1::{Pod, Secret},
    kube::{
        Api, Client, ResourceExt,
        api::{Patch, PatchParams, PostParams},
        runtime::{WatchStreamExt, watcher},
    },
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

pub use self::tenants::{Tenant, Tenants};

/// Images of this tag cannot be pulled: their pods wait in `ImagePullBackOff`.
pub const UNPULLABLE: &str = "unpullable";

/// The fake; its tasks end when it is dropped.
pub struct ControlPlanes {
    address: SocketAddr,
    tenants: Arc<Tenants>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for ControlPlanes {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl ControlPlanes {
    /// Plays all control planes of the cluster that `client` talks to.
    pub async fn start(client: Client) -> std::io::Result<Self> {
        let tenants = Arc::new(Tenants::new());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let tasks = vec![
            tokio::spawn(serve(listener, tenants.clone())),
            tokio::spawn(run_pods(client, tenants.clone())),
        ];
        Ok(Self {
            address,
            tenants,
            tasks,
        })
    }

    /// The tenants, for a way to them that knows which one it leads to.
    pub fn tenants(&self) -> Arc<Tenants> {
        self.tenants.clone()
    }

    /// Where every tenant answers: for the manager's `--tenant-dial-address`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many different tenants were dialled since [`ControlPlanes::forget_dials`].
    pub fn dialled(&self) -> usize {
        self.tenants.dialled().len()
    }

    /// Begins to count anew.
    pub fn forget_dials(&self) {
        self.tenants.dialled().clear();
    }
}

async fn serve(listener: TcpListener, tenants: Arc<Tenants>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let tenants = tenants.clone();
        tokio::spawn(async move { tenants.serve(stream, None).await });
    }
}

async fn run_pods(client: Client, tenants: Arc<Tenants>) {
    let selector = watcher::Config::default().labels("app=vcluster");
    let mut pods = watcher(Api::<Pod>::all(client.clone()), selector)
        .default_backoff()
        .applied_objects()
        .boxed();
    while let Some(event) = pods.next().await {
        let Ok(pod) = event else { continue };
        let running = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            == Some("Running");
        let known = tenant(&pod).is_some_and(|tenant| tenants.knows(&tenant));
        if (running && known) || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let (client, tenants) = (client.clone(), tenants.clone());
        tokio::spawn(async move {
            let name = pod.name_any();
            if let Err(error) = run_pod(&client, &tenants, &pod).await {
                // The pod or its namespace may be gone in the meantime.
                println!("fake control plane {name}: {error}");
            }
        });
    }
}

/// Whose pod it is.
fn tenant(pod: &Pod) -> Option<Tenant> {
    let release = pod.labels().get("release")?;
    Some((pod.namespace()?, release.clone()))
}

/// The names of a tenant's certificate, as its configuration has them now.
async fn certificate_names(
    client: &Client,
    (namespace, release): &Tenant,
) -> Result<Vec<String>, kubebyon_k8s::kube::Error> {
    let mut names = vec![format!("{release}.{namespace}")];
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt(&format!("vc-config-{release}")).await?;
    let data = secret.and_then(|secret| secret.data);
    if let Some(text) = data.and_then(|mut data| data.remove("config.yaml")) {
        let config: Value =
            serde_saphyr::from_slice(&text.0).expect("the chart's configuration is YAML");
        let extra = config["controlPlane"]["proxy"]["extraSANs"].as_array();
        let extra = extra.into_iter().flatten().filter_map(Value::as_str);
        names.extend(extra.map(str::to_owned));
    }
    names.dedup();
    Ok(names)
}

async fn run_pod(
    client: &Client,
    tenants: &Tenants,
    pod: &Pod,
) -> Result<(), kubebyon_k8s::kube::Error> {
    let Some(tenant) = tenant(pod) else {
        return Ok(());
    };
    let (namespace, release) = &tenant;
    if let Some(status) = pull_failure(pod) {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let parameters = PatchParams::default();
        pods.patch_status(&pod.name_any(), &parameters, &Patch::Merge(&status))
            .await?;
        return Ok(());
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for secret in [
        tenants.kubeconfig_secret(release),
        tenants.pki_secret(release),
    ] {
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => {}
            Err(kubebyon_k8s::kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    let names = certificate_names(client, &tenant).await?;
    tenants.certify(tenant.clone(), names);
    let containers = pod
        .spec
        .as_ref()
        .map(|spec| spec.containers.clone())
        .unwrap_or_default();
    let statuses: Vec<_> = containers
        .iter()
        .map(|container| {
            json!({
                "name": container.name, "image": container.image, "imageID": "", "ready": true, "started": true,
                "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            })
        })
        .collect();
    let conditions: Vec<_> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .iter()
        .map(|type_| json!({"type": type_, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}))
        .collect();
    // No address: the endpoints controller takes one to be on a node, which these pods are not, and
    // then tries for minutes to write what the api-server refuses.
    let status = json!({"status": {"phase": "Running", "conditions": conditions, "containerStatuses": statuses}});
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.patch_status(
        &pod.name_any(),
        &PatchParams::default(),
        &Patch::Merge(&status),
    )
    .await?;
    Ok(())
}

/// What a kubelet says of a pod with an image of tag [`UNPULLABLE`].
fn pull_failure(pod: &Pod) -> Option<serde_json::Value> {
    let spec = pod.spec.as_ref()?;
    let container = spec.containers.iter().find(|container| {
        let image = container.image.as_deref().unwrap_or_default();
        image.ends_with(&format!(":{UNPULLABLE}"))
    })?;
    let message = format!(
        "Back-off pulling image \"{}\": not found",
        container.image.as_deref().unwrap_or_default()
    );
    Some(
        json!({"status": {"phase": "Pending", "containerStatuses": [{
            "name": container.name, "image": container.image, "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": message}},
        }]}}),
    )
}
