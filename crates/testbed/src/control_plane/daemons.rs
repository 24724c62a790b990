//! The programs and their flags.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{ControlPlaneOptions, keys::Keys};
use crate::{
    error::Result,
    parts::{Bins, Part},
    pki::write_private,
    process::DaemonSpec,
};

/// Requests are logged once, when they are answered; the bodies are left out, for some are Secrets.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";
/// etcd wants a port in every URL, so the sockets' file names carry one that means nothing.
pub(super) const ETCD_SOCKET: &str = "etcd:0";
const ETCD_PEER_SOCKET: &str = "etcd-peer:0";
pub(super) fn etcd(bins: &Bins, dir: &Path, options: &ControlPlaneOptions) -> DaemonSpec {
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

pub(super) fn apiserver(
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

pub(super) fn controller_manager(
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

pub(super) fn scheduler(
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

pub(super) fn audit_log(dir: &Path) -> PathBuf {
    dir.join("audit.log")
}
