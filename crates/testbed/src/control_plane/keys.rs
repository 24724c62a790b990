//! Keys and kubeconfigs.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use super::ControlPlaneOptions;
use crate::{
    error::{Error, Result},
    pki::{Authority, Pair, SigningKeys, write_kubeconfig},
};

/// All keys and kubeconfigs of a control plane.
pub(super) struct Keys {
    pub(super) authority: Authority,
    pub(super) service_account: SigningKeys,
    pub(super) apiserver: Pair,
    pub(super) kubelet_client: Pair,
    pub(super) admin: Pair,
    pub(super) admin_kubeconfig: PathBuf,
    pub(super) controller_manager_kubeconfig: PathBuf,
    pub(super) scheduler_kubeconfig: Option<PathBuf>,
}

impl Keys {
    pub(super) fn create(
        options: &ControlPlaneOptions,
        dir: &Path,
        address: SocketAddr,
    ) -> Result<Self> {
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
/// The address that the Service `kubernetes` gets.
fn first_address(cidr: &str) -> Option<IpAddr> {
    let (network, _) = cidr.split_once('/')?;
    match network.parse().ok()? {
        IpAddr::V4(network) => Some(IpAddr::V4(Ipv4Addr::from_bits(
            network.to_bits().checked_add(1)?,
        ))),
        IpAddr::V6(network) => Some(IpAddr::V6(Ipv6Addr::from_bits(
            network.to_bits().checked_add(1)?,
        ))),
    }
}
#[cfg(test)]
mod tests {
    use super::*;

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
