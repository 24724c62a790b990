//! The manager: one process that leads or waits, and the controllers it runs while it leads.

use std::{path::PathBuf, time::Duration};

use kubebyon_helm::{
    ClusterAccess, Helm, HelmConfig,
    chart::{Charts, ChartsConfig, RepositoryPolicy},
};
use kubebyon_k8s::kube::{
    self, Client, Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{error, info, warn};

use crate::{
    admin::{self, Readiness},
    client,
    config::Options,
    controllers::{managed_cluster, public_access},
    leader::{self, LeaseError, LeaseOptions},
    telemetry::metrics::Metrics,
};

/// Why the manager ended.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The kubeconfig cannot be used.
    #[error("--kubeconfig: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    /// The process does not run in a pod.
    #[error("this process is in no pod ({0}); give --kubeconfig")]
    NotInCluster(#[from] InClusterError),
    /// No client can be made.
    #[error("cannot talk to the host's api-server: {0}")]
    Client(kube::Error),
    /// The address is taken.
    #[error("cannot listen on --listen {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file of the host admin cannot be read.
    #[error("cannot read {flag} {path}: {source}")]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Helm cannot be run.
    #[error(transparent)]
    Helm(#[from] kubebyon_helm::Error),
    /// A flag's value cannot be used.
    #[error("{0}")]
    Options(String),
    /// The Lease is lost: somebody else may lead, so this process must not write any more.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A task died.
    #[error("a task of the manager died: {0}; report this as a bug")]
    Task(#[from] tokio::task::JoinError),
    /// The controllers ended without being asked to.
    #[error("the controllers ended by themselves; report this as a bug")]
    ControllersEnded,
}

/// The host cluster, as the options name it.
pub async fn host(options: &Options) -> Result<(Config, ClusterAccess), ManagerError> {
    match &options.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)?;
            let config =
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            Ok((config, ClusterAccess::Kubeconfig(path.clone())))
        }
        None => Ok((Config::incluster()?, ClusterAccess::InCluster)),
    }
}

/// Runs until `stop` is cancelled and everything has come to its end, or until the Lease is lost.
///
/// # Errors
/// When it cannot start, or must not go on.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), ManagerError> {
    let metrics = Metrics::default();
    let (config, access) = host(&options).await?;
    let client = client::build(config, metrics.clone()).map_err(ManagerError::Client)?;
    run_with(options, client, access, metrics, stop).await
}

/// As [`run`], with a client that is there already.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    options: Options,
    client: Client,
    access: ClusterAccess,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), ManagerError> {
    let listener = admin::bind(options.listen)
        .await
        .map_err(|source| ManagerError::Listen {
            address: options.listen,
            source,
        })?;
    let readiness = Readiness::default();
    let end_admin = CancellationToken::new();
    let admin = tokio::spawn(admin::serve(
        listener,
        metrics.clone(),
        readiness.clone(),
        end_admin.clone(),
    ));
    let result = lead(options, client, access, metrics, readiness, stop).await;
    end_admin.cancel();
    match timeout(Duration::from_secs(2), admin).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => warn!(%error, "the admin server failed"),
        Ok(Err(error)) => warn!(%error, "the admin server died"),
        Err(_) => warn!("the admin server did not end in time"),
    }
    result
}

async fn lead(
    options: Options,
    client: Client,
    access: ClusterAccess,
    metrics: Metrics,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<(), ManagerError> {
    let runner = helm(&options, access).await?;
    let charts = charts(&options)?;
    let chart_ca = match &options.chart_ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|source| ManagerError::File {
            flag: "--chart-ca-file",
            path: path.clone(),
            source,
        })?),
        None => None,
    };
    let version = client
        .apiserver_version()
        .await
        .map_err(ManagerError::Client)?;
    info!(kubernetes = %version.git_version, namespace = %options.namespace, identity = %options.identity, "the host's api-server answers");
    // A candidate is ready too: it could lead at any moment.
    readiness.set(true);
    let lease = lease(&options);
    let Some(held) = leader::acquire(client.clone(), lease, &stop).await else {
        return Ok(());
    };
    metrics.leader.set(1);
    let client = client::fenced(&client, held.fence(), &options.namespace);
    let drain = options.drain_timeout;
    let end_work = CancellationToken::new();
    let end_lease = CancellationToken::new();
    let entrances = {
        let (client, options, end_work) = (client.clone(), options.clone(), end_work.clone());
        let metrics = metrics.clone();
        async move {
            public_access::run(client, &options, metrics, end_work).await;
            Ok(())
        }
    };
    let parts = managed_cluster::Parts {
        client,
        options,
        helm: runner.clone(),
        charts,
        chart_ca,
        metrics: metrics.clone(),
    };
    let clusters = managed_cluster::run(parts, end_work.clone());
    // Should this future be dropped, its tasks must not act on without their fence.
    let mut controllers = AbortOnDropHandle::new(tokio::spawn(async move {
        tokio::try_join!(clusters, entrances).map(drop)
    }));
    let keep = {
        let end_lease = end_lease.clone();
        async move { held.keep(&end_lease).await }
    };
    let mut keeper = AbortOnDropHandle::new(tokio::spawn(keep));
    let ended = tokio::select! {
        lost = &mut keeper => Err(lost?),
        ended = &mut controllers => Ok(ended?),
        () = stop.cancelled() => {
            info!(limit = ?drain, "stopping: waiting for what runs");
            end_work.cancel();
            tokio::select! {
                lost = &mut keeper => Err(lost?),
                drained = timeout(drain, &mut controllers) => {
                    if drained.is_err() {
                        warn!("what runs did not end in time; stopping it");
                        runner.kill_all().await;
                        controllers.abort();
                    }
                    Ok(Ok(()))
                }
            }
        }
    };
    metrics.leader.set(0);
    match ended {
        Err(lost) => {
            // First the fence: neither a request nor a helm of ours may outlive the Lease.
            controllers.abort();
            runner.kill_all().await;
            match lost {
                Err(lost) => {
                    error!(error = %lost, "the lease is lost; exiting at once");
                    Err(lost.into())
                }
                Ok(_) => Err(ManagerError::ControllersEnded),
            }
        }
        Ok(ended) => {
            runner.kill_all().await;
            end_lease.cancel();
            if let Ok(Ok(Ok(held))) = timeout(drain, keeper).await {
                held.release().await;
            }
            match ended {
                Ok(()) if stop.is_cancelled() => Ok(()),
                Ok(()) => Err(ManagerError::ControllersEnded),
                Err(message) => Err(ManagerError::Options(message)),
            }
        }
    }
}

fn lease(options: &Options) -> LeaseOptions {
    LeaseOptions {
        name: options.lease_name.clone(),
        namespace: options.namespace.clone(),
        identity: format!("{}_{:08x}", options.identity, rand::random::<u32>()),
        duration: options.lease_duration,
        renew_deadline: options.lease_duration * 2 / 3,
        retry: options.lease_duration / 7,
    }
}

async fn helm(options: &Options, access: ClusterAccess) -> Result<Helm, ManagerError> {
    let mut config = HelmConfig::new(options.helm.clone(), options.work_dir.join("helm"), access);
    config.timeout = options.helm_timeout;
    if let Some(concurrency) = options.helm_concurrency {
        config.concurrency = concurrency.get();
    }
    Ok(Helm::new(config).await?)
}

fn charts(options: &Options) -> Result<Charts, ManagerError> {
    let mut config = ChartsConfig::new(options.work_dir.join("charts"));
    config.chart_dir.clone_from(&options.chart_dir);
    config.policy = RepositoryPolicy {
        allowed_prefixes: Some(options.allowed_chart_repositories.clone()),
        allowed_addresses: options.allowed_chart_networks.clone(),
    };
    Ok(Charts::new(config)?)
}
