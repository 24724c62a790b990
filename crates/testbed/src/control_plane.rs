//! etcd, kube-apiserver, kube-controller-manager and, where there are nodes, kube-scheduler.
//!
//! etcd listens on Unix sockets inside the cluster's private directory: no port, and nobody else can reach it. The
//! api-server's port is reserved by a socket of our own that is bound but never listens; with `--permit-port-sharing`
//! the api-server binds the same port beside it, so no other program can take the port between choice and use, nor
//! while the api-server is being restarted.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, sockopt};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    https::Client,
    parts::{Bins, Part},
    pki::{Authority, Pair, SigningKeys, write_kubeconfig, write_private},
    process::{Daemon, DaemonSpec, wait_until},
};

const ETCD_LIMIT: Duration = Duration::from_secs(30);
const APISERVER_LIMIT: Duration = Duration::from_secs(90);
const CONTROLLER_LIMIT: Duration = Duration::from_mins(1);

/// Requests are logged once, when they are answered; the bodies are left out, for some are Secrets.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

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
            None => reserve_port(options.address).map(|(socket, port)| (Some(socket), port))?,
        };
        let address = SocketAddr::new(options.address, port);
        let keys = Keys::create(&options, dir, address)?;
        let client = Client::new(address, &keys.authority.pair.cert_pem, &keys.admin)?;

        let mut etcd = Daemon::spawn(etcd_spec(bins, dir, &options))?;
        let apiserver_spec = apiserver_spec(bins, dir, &options, address, &keys)?;
        // The api-server refuses to start when etcd does not answer its first calls.
        wait_until("etcd's socket", ETCD_LIMIT, &mut [&mut etcd], || {
            Ok(dir.join(ETCD_SOCKET).exists())
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
            Daemon::spawn(controller_manager_spec(bins, dir, &options, &keys))?;
        let scheduler = match &keys.scheduler_kubeconfig {
            Some(kubeconfig) => Some(Daemon::spawn(scheduler_spec(
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
            audit_log: options.audit.then(|| audit_log(dir)),
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

/// etcd wants a port in every URL, so the sockets' file names carry one that means nothing.
const ETCD_SOCKET: &str = "etcd:0";
const ETCD_PEER_SOCKET: &str = "etcd-peer:0";

/// All keys and kubeconfigs of a control plane.
struct Keys {
    authority: Authority,
    service_account: SigningKeys,
    apiserver: Pair,
    kubelet_client: Pair,
    admin: Pair,
    admin_kubeconfig: PathBuf,
    controller_manager_kubeconfig: PathBuf,
    scheduler_kubeconfig: Option<PathBuf>,
}

impl Keys {
    fn create(options: &ControlPlaneOptions, dir: &Path, address: SocketAddr) -> Result<Self> {
        let pki = dir.join("pki");
        fs::create_dir_all(&pki).map_err(Error::file("create", &pki))?;
        let authority = Authority::create(&pki, "ca")?;
        let mut names: Vec<String> = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
        ]
        .map(str::to_owned)
        .to_vec();
        names.push("kubernetes.default.svc.cluster.local".to_owned());
        let mut addresses = vec![options.address, IpAddr::V4(Ipv4Addr::LOCALHOST)];
        addresses.extend(first_address(&options.service_cidr));
        for san in &options.extra_sans {
            match san.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => names.push(san.clone()),
            }
        }
        addresses.sort();
        addresses.dedup();
        let apiserver = authority.server("apiserver", &names, &addresses)?;
        let admin = authority.client("admin", "kubernetes-admin", Some("system:masters"))?;
        let server = format!("https://{address}");
        let kubeconfig = |file: &str, identity: &Pair| {
            let path = dir.join(file);
            write_kubeconfig(
                &path,
                &server,
                &options.name,
                &authority.pair.cert_pem,
                identity,
            )
            .map(|()| path)
        };
        let controller_manager =
            authority.client("controller-manager", "system:kube-controller-manager", None)?;
        let scheduler_kubeconfig = if options.scheduler {
            let scheduler = authority.client("scheduler", "system:kube-scheduler", None)?;
            Some(kubeconfig("scheduler.kubeconfig", &scheduler)?)
        } else {
            None
        };
        Ok(Self {
            service_account: SigningKeys::create(&pki)?,
            kubelet_client: authority.client(
                "kubelet-client",
                "kube-apiserver",
                Some("system:masters"),
            )?,
            admin_kubeconfig: kubeconfig("admin.kubeconfig", &admin)?,
            controller_manager_kubeconfig: kubeconfig(
                "controller-manager.kubeconfig",
                &controller_manager,
            )?,
            scheduler_kubeconfig,
            apiserver,
            admin,
            authority,
        })
    }
}

fn etcd_spec(bins: &Bins, dir: &Path, options: &ControlPlaneOptions) -> DaemonSpec {
    let (clients, peers) = (
        format!("unix://{ETCD_SOCKET}"),
        format!("unix://{ETCD_PEER_SOCKET}"),
    );
    // Paths are relative: a Unix socket's name has about a hundred characters and a directory's may have more.
    let spec = DaemonSpec::new("etcd", bins.path(Part::Etcd), dir)
        .args([
            "--name",
            "testbed",
            "--data-dir",
            "etcd",
            "--unsafe-no-fsync",
            "--enable-grpc-gateway=false",
        ])
        .args(["--log-level", "warn", "--quota-backend-bytes", "4294967296"])
        .args([
            "--listen-client-urls",
            &clients,
            "--advertise-client-urls",
            &clients,
        ])
        .args([
            "--listen-peer-urls",
            &peers,
            "--initial-advertise-peer-urls",
            &peers,
        ])
        .arg(format!("--initial-cluster=testbed={peers}"));
    in_namespace(spec, options)
}

fn apiserver_spec(
    bins: &Bins,
    dir: &Path,
    options: &ControlPlaneOptions,
    address: SocketAddr,
    keys: &Keys,
) -> Result<DaemonSpec> {
    let mut spec = DaemonSpec::new("kube-apiserver", bins.path(Part::KubeApiserver), dir)
        .arg(format!("--etcd-servers=unix://{ETCD_SOCKET}"))
        .arg(format!("--bind-address={}", address.ip()))
        .arg(format!("--advertise-address={}", address.ip()))
        .arg(format!("--secure-port={}", address.port()))
        .arg("--permit-port-sharing=true")
        .arg(format!(
            "--service-cluster-ip-range={}",
            options.service_cidr
        ))
        .args([
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
        ])
        .args(["--allow-privileged=true", "--profiling=false"])
        .arg("--kubelet-preferred-address-types=InternalIP")
        .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
        .arg(flag(
            "service-account-key-file",
            &keys.service_account.public,
        ))
        .arg(flag(
            "service-account-signing-key-file",
            &keys.service_account.private,
        ))
        .arg(flag("client-ca-file", &keys.authority.pair.cert))
        .arg(flag("tls-cert-file", &keys.apiserver.cert))
        .arg(flag("tls-private-key-file", &keys.apiserver.key))
        .arg(flag(
            "kubelet-client-certificate",
            &keys.kubelet_client.cert,
        ))
        .arg(flag("kubelet-client-key", &keys.kubelet_client.key));
    if address.ip().is_loopback() {
        // A loopback address may not stand in Endpoints, and without nodes nobody would use it.
        spec = spec.arg("--endpoint-reconciler-type=none");
    }
    if options.audit {
        let policy = dir.join("audit-policy.yaml");
        write_private(&policy, AUDIT_POLICY)?;
        spec = spec
            .arg(flag("audit-policy-file", &policy))
            .arg(flag("audit-log-path", &audit_log(dir)));
    }
    Ok(in_namespace(
        spec.args(options.apiserver_args.clone()),
        options,
    ))
}

fn controller_manager_spec(
    bins: &Bins,
    dir: &Path,
    options: &ControlPlaneOptions,
    keys: &Keys,
) -> DaemonSpec {
    let ca = &keys.authority.pair;
    let spec = DaemonSpec::new(
        "kube-controller-manager",
        bins.path(Part::KubeControllerManager),
        dir,
    )
    .arg(flag("kubeconfig", &keys.controller_manager_kubeconfig))
    .args([
        "--leader-elect=false",
        "--secure-port=0",
        "--use-service-account-credentials=true",
    ])
    .arg(flag(
        "service-account-private-key-file",
        &keys.service_account.private,
    ))
    .arg(flag("root-ca-file", &ca.cert))
    .arg(flag("cluster-signing-cert-file", &ca.cert))
    .arg(flag("cluster-signing-key-file", &ca.key))
    // Starting makes some 150 requests, which the default of 20 a second draws out to six seconds.
    .args(["--kube-api-qps=500", "--kube-api-burst=1000"])
    .arg("--allocate-node-cidrs=true")
    .arg(format!("--cluster-cidr={}", options.pod_cidr))
    .arg(format!(
        "--service-cluster-ip-range={}",
        options.service_cidr
    ))
    .args(options.controller_manager_args.clone());
    in_namespace(spec, options)
}

fn scheduler_spec(
    bins: &Bins,
    dir: &Path,
    options: &ControlPlaneOptions,
    kubeconfig: &Path,
) -> DaemonSpec {
    let spec = DaemonSpec::new("kube-scheduler", bins.path(Part::KubeScheduler), dir)
        .arg(flag("kubeconfig", kubeconfig))
        .args(["--leader-elect=false", "--secure-port=0"]);
    in_namespace(spec, options)
}

fn in_namespace(spec: DaemonSpec, options: &ControlPlaneOptions) -> DaemonSpec {
    match &options.netns {
        Some(netns) => spec.netns(netns),
        None => spec,
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn audit_log(dir: &Path) -> PathBuf {
    dir.join("audit.log")
}

/// Binds a free port without listening on it. The kernel gives a port that no other socket holds, shared or not.
fn reserve_port(address: IpAddr) -> Result<(OwnedFd, u16)> {
    let reserve = || -> rustix::io::Result<(OwnedFd, u16)> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = rustix::net::SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddr::new(address, 0))?;
        let bound: SocketAddr = rustix::net::getsockname(&socket)?.try_into()?;
        Ok((socket, bound.port()))
    };
    reserve().map_err(|errno| Error::file("reserve a port on", address.to_string())(errno.into()))
}

/// The address that the Service `kubernetes` gets.
fn first_address(cidr: &str) -> Option<IpAddr> {
    let (network, _) = cidr.split_once('/')?;
    match network.parse().ok()? {
        IpAddr::V4(network) => Some(IpAddr::V4(Ipv4Addr::from_bits(
            network.to_bits().checked_add(1)?,
        ))),
        IpAddr::V6(network) => Some(IpAddr::V6(std::net::Ipv6Addr::from_bits(
            network.to_bits().checked_add(1)?,
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_reserved_for_programs_that_share_it() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (_socket, port) = reserve_port(loopback).unwrap();
        assert!(
            std::net::TcpListener::bind((loopback, port)).is_err(),
            "a foreign program got the reserved port"
        );
        let (_other, other_port) = reserve_port(loopback).unwrap();
        assert_ne!(port, other_port);
    }

    #[test]
    fn the_kubernetes_service_has_the_first_address() {
        assert_eq!(
            first_address("10.96.0.0/16"),
            Some("10.96.0.1".parse().unwrap())
        );
        assert_eq!(
            first_address("fd00::/108"),
            Some("fd00::1".parse().unwrap())
        );
        assert_eq!(first_address("nonsense"), None);
    }
}
