//! etcd, kube-apiserver, kube-controller-manager and, where there are nodes, kube-scheduler.
//!
//! etcd listens on Unix sockets inside the cluster's private directory: no port, and nobody else can reach it. The
//! api-server's port is reserved by a socket of our own that is bound but never listens; with `--permit-port-sharing`
//! the api-server binds the same port beside it, so no other program can take the port between choice and use, nor
//! while the api-server is being restarted.
mod daemons;
mod keys;
mod port;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    https::Client,
    parts::{Bins, Part},
    pki::{Authority, Pair, write_kubeconfig},
    process::{Daemon, DaemonSpec, wait_until},
};
use keys::Keys;

const ETCD_LIMIT: Duration = Duration::from_secs(30);
const APISERVER_LIMIT: Duration = Duration::from_secs(90);
const CONTROLLER_LIMIT: Duration = Duration::from_mins(1);
/// What kind of control plane to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ControlPlaneOptions {
    /// The cluster's name in its kubeconfigs.
    pub name: String,
    /// The address that the api-server binds and that kubeconfigs name.
    pub address: IpAddr,
    /// The api-server's port; a free one is reserved when there is none.
    pub port: Option<u16>,
    /// The network namespace of all its daemons.
    pub netns: Option<PathBuf>,
    /// Further names and addresses in the api-server's certificate.
    pub extra_sans: Vec<String>,
    /// The range of Services; the api-server itself is its first address.
    pub service_cidr: String,
    /// The range that nodes get their pod ranges from.
    pub pod_cidr: String,
    /// Whether every request is logged to `audit.log`.
    pub audit: bool,
    /// Whether a scheduler runs.
    pub scheduler: bool,
    /// Further flags of the api-server.
    pub apiserver_args: Vec<String>,
    /// Further flags of the controller manager.
    pub controller_manager_args: Vec<String>,
}

impl ControlPlaneOptions {
    /// A control plane on the loopback address, with a free port, without a scheduler or an audit log.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: None,
            netns: None,
            extra_sans: Vec::new(),
            service_cidr: "10.96.0.0/16".to_owned(),
            pod_cidr: "10.244.0.0/16".to_owned(),
            audit: false,
            scheduler: false,
            apiserver_args: Vec::new(),
            controller_manager_args: Vec::new(),
        }
    }
}

/// A running control plane; dropping it ends it.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped in this order: what writes goes before what it writes to.
    scheduler: Option<Daemon>,
    controller_manager: Option<Daemon>,
    apiserver: Option<Daemon>,
    etcd: Daemon,
    apiserver_spec: DaemonSpec,
    address: SocketAddr,
    authority: Authority,
    admin: Pair,
    admin_kubeconfig: PathBuf,
    audit_log: Option<PathBuf>,
    client: Client,
    dir: PathBuf,
    name: String,
    _reservation: Option<OwnedFd>,
}

/// The parts that [`ControlPlane::start`] runs.
pub const CONTROL_PLANE_PARTS: [Part; 4] = [
    Part::Etcd,
    Part::KubeApiserver,
    Part::KubeControllerManager,
    Part::KubeScheduler,
];

impl ControlPlane {
    /// Starts everything below `dir`, a directory of this cluster alone, and returns when the api-server is ready and
    /// the controller manager works (it made the first ServiceAccount). `meanwhile` is called with the admin's
    /// kubeconfig and client as soon as the api-server is ready, beside the controller manager's own start.
    ///
    /// # Errors
    /// [`Error::DaemonEnded`] and [`Error::Timeout`], both with the end of the daemon's log.
    pub fn start(
        options: ControlPlaneOptions,
        bins: &Bins,
        dir: &Path,
        meanwhile: impl FnOnce(&Path, &Client) -> Result<()>,
    ) -> Result<Self> {
        let (reservation, port) = match options.port {
            Some(port) => (None, port),
            None => port::reserve(options.address).map(|(socket, port)| (Some(socket), port))?,
        };
        let address = SocketAddr::new(options.address, port);
        let keys = Keys::create(&options, dir, address)?;
        let client = Client::new(address, &keys.authority.pair.cert_pem, &keys.admin)?;

        let mut etcd = Daemon::spawn(daemons::etcd(bins, dir, &options))?;
        let apiserver_spec = daemons::apiserver(bins, dir, &options, address, &keys)?;
        // The api-server refuses to start when etcd does not answer its first calls.
        wait_until("etcd's socket", ETCD_LIMIT, &mut [&mut etcd], || {
            Ok(dir.join(daemons::ETCD_SOCKET).exists())
        })?;
        let mut apiserver = Daemon::spawn(apiserver_spec.clone())?;
        // The controller manager waits for a healthy api-server, but for ten seconds only; from the first answer on,
        // whatever it is, less than that is left, and the two can start at the same time.
        wait_until(
            "the api-server answering",
            APISERVER_LIMIT,
            &mut [&mut apiserver, &mut etcd],
            || Ok(client.answers("/readyz")),
        )?;
        let mut controller_manager =
            Daemon::spawn(daemons::controller_manager(bins, dir, &options, &keys))?;
        let scheduler = match &keys.scheduler_kubeconfig {
            Some(kubeconfig) => Some(Daemon::spawn(daemons::scheduler(
                bins, dir, &options, kubeconfig,
            ))?),
            None => None,
        };
        wait_until(
            "the api-server's /readyz answering 200",
            APISERVER_LIMIT,
            &mut [&mut apiserver, &mut etcd],
            || Ok(client.is_ok("/readyz")),
        )?;
        meanwhile(&keys.admin_kubeconfig, &client)?;
        wait_until(
            "the controller manager making the ServiceAccount default/default",
            CONTROLLER_LIMIT,
            &mut [&mut controller_manager, &mut apiserver],
            || Ok(client.is_ok("/api/v1/namespaces/default/serviceaccounts/default")),
        )?;
        Ok(Self {
            scheduler,
            controller_manager: Some(controller_manager),
            apiserver: Some(apiserver),
            etcd,
            apiserver_spec,
            address,
            authority: keys.authority,
            admin: keys.admin,
            admin_kubeconfig: keys.admin_kubeconfig,
            audit_log: options.audit.then(|| daemons::audit_log(dir)),
            client,
            dir: dir.to_path_buf(),
            name: options.name,
            _reservation: reservation,
        })
    }

    /// The kubeconfig of a cluster admin.
    pub fn kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// Where the api-server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority that signs everything in the cluster, for kubelets' and others' certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The admin's own certificate.
    pub fn admin(&self) -> &Pair {
        &self.admin
    }

    /// The audit log, when there is one.
    pub fn audit_log(&self) -> Option<&Path> {
        self.audit_log.as_deref()
    }

    /// Writes a kubeconfig for another identity of this cluster into the cluster's directory.
    pub fn kubeconfig_for(&self, file: &str, identity: &Pair) -> Result<PathBuf> {
        let path = self.dir.join(file);
        let server = format!("https://{}", self.address);
        write_kubeconfig(
            &path,
            &server,
            &self.name,
            &self.authority.pair.cert_pem,
            identity,
        )?;
        Ok(path)
    }

    /// Fails when a daemon has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.etcd.check()?;
        let others = [
            &mut self.apiserver,
            &mut self.controller_manager,
            &mut self.scheduler,
        ];
        others.into_iter().flatten().try_for_each(Daemon::check)
    }

    /// Kills the api-server without a farewell, as a crash would; its port stays reserved.
    pub fn stop_apiserver(&mut self) {
        if let Some(mut apiserver) = self.apiserver.take() {
            apiserver.kill();
        }
    }

    /// Starts the api-server again on the same port, unless it runs, and waits until it is ready.
    pub fn start_apiserver(&mut self) -> Result<()> {
        let mut apiserver = match self.apiserver.take() {
            Some(apiserver) => apiserver,
            None => Daemon::spawn(self.apiserver_spec.clone())?,
        };
        wait_until(
            "the api-server's /readyz answering 200",
            APISERVER_LIMIT,
            &mut [&mut apiserver],
            || Ok(self.client.is_ok("/readyz")),
        )?;
        self.apiserver = Some(apiserver);
        Ok(())
    }

    /// Ends all daemons, by killing them: nothing is kept of a cluster's data.
    pub fn stop(&mut self) {
        let clients = [
            &mut self.scheduler,
            &mut self.controller_manager,
            &mut self.apiserver,
        ];
        for daemon in clients.into_iter().filter_map(Option::as_mut) {
            daemon.kill();
        }
        self.etcd.kill();
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop();
    }
}
