//! What a cloud would do for the cluster: addresses for Services of type LoadBalancer, volumes, public DNS.
//!
//! Level-triggered: any event of what is watched leads to one pass over everything, from what the caches hold.

mod load_balancer;
mod volumes;
pub mod zone;

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt;
use kubebyon_k8s::{
    k8s_openapi::api::{
        core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Service},
        discovery::v1::EndpointSlice,
    },
    kube::{
        Api, Client, Config, Resource,
        config::{KubeConfigOptions, Kubeconfig},
        runtime::{WatchStreamExt, reflector, reflector::Store, watcher},
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::Notify;

use crate::error::{Error, Result};

/// How long one pass may take before it is given up and begun again.
const PASS_LIMIT: Duration = Duration::from_secs(30);
/// How long to wait after a failed pass.
const RETRY: Duration = Duration::from_secs(1);

/// What the agent of one cluster needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AgentConfig {
    /// The admin's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The addresses for Services.
    pub pool: Vec<Ipv4Addr>,
    /// Where volumes are on the machine.
    pub volumes: PathBuf,
    /// The nodes that can answer for addresses.
    pub nodes: Vec<AgentNode>,
}

/// A node, as the agent reaches it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AgentNode {
    /// The Node object's name.
    pub name: String,
    /// The process that holds its namespaces.
    pub process: u32,
}

/// Runs the agent until it is killed.
///
/// # Errors
/// When the configuration cannot be read or the client not be made; later failures are logged and tried again.
pub fn run(config: &std::path::Path) -> Result<()> {
    let text = std::fs::read_to_string(config).map_err(Error::file("read", config))?;
    let config: AgentConfig = serde_json::from_str(&text).map_err(|source| Error::BadRecord {
        path: config.to_path_buf(),
        source,
    })?;
    // A second provider could only be one that was installed before, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::file("start the runtime of", "the agent"))?;
    runtime.block_on(serve(config))
}

async fn serve(config: AgentConfig) -> Result<()> {
    let client = client(&config).await?;
    let changed = Arc::new(Notify::new());
    let services = watch::<Service>(&client, &changed);
    let slices = watch::<EndpointSlice>(&client, &changed);
    let nodes = watch::<Node>(&client, &changed);
    let claims = watch::<PersistentVolumeClaim>(&client, &changed);
    let volumes = watch::<PersistentVolume>(&client, &changed);
    for ready in [
        services.wait_until_ready().await,
        slices.wait_until_ready().await,
        nodes.wait_until_ready().await,
        claims.wait_until_ready().await,
        volumes.wait_until_ready().await,
    ] {
        ready.map_err(|error| Error::Agent {
            reason: error.to_string(),
        })?;
    }
    let mut balancer =
        load_balancer::LoadBalancer::new(client.clone(), config.pool, config.nodes).await;
    let provisioner = volumes::Provisioner::new(client, config.volumes);
    loop {
        let pass = async {
            balancer
                .reconcile(&services.state(), &slices.state(), &nodes.state())
                .await?;
            provisioner
                .reconcile(&claims.state(), &volumes.state())
                .await
        };
        let failure = match tokio::time::timeout(PASS_LIMIT, pass).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!(
                "a pass took longer than {} s",
                PASS_LIMIT.as_secs()
            )),
        };
        if let Some(reason) = failure {
            eprintln!("{reason}; trying again");
            tokio::time::sleep(RETRY).await;
        } else {
            changed.notified().await;
        }
    }
}

async fn client(config: &AgentConfig) -> Result<Client> {
    let failed = |reason: String| Error::Agent { reason };
    let kubeconfig =
        Kubeconfig::read_from(&config.kubeconfig).map_err(|error| failed(error.to_string()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| failed(error.to_string()))?;
    Client::try_from(config).map_err(|error| failed(error.to_string()))
}

/// Keeps a cache of all objects of a kind, and tells of each change.
fn watch<K>(client: &Client, changed: &Arc<Notify>) -> Store<K>
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let changed = Arc::clone(changed);
    let stream = watcher(Api::<K>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .for_each(move |event| {
            if let Err(error) = event {
                eprintln!("watching {}: {error}", K::plural(&()));
            }
            changed.notify_one();
            std::future::ready(())
        });
    tokio::spawn(stream);
    store
}

/// Whether the object of a request is not there.
fn is_gone(error: &kubebyon_k8s::kube::Error) -> bool {
    matches!(error, kubebyon_k8s::kube::Error::Api(status) if status.code == 404)
}

/// Whether the object of a request is there already.
fn is_conflict(error: &kubebyon_k8s::kube::Error) -> bool {
    matches!(error, kubebyon_k8s::kube::Error::Api(status) if status.code == 409)
}
