//! One node: containerd, kubelet and kube-proxy in a sandbox.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    control_plane::ControlPlane,
    error::{Error, Result},
    images::store,
    name::ClusterName,
    node::{
        cgroup::NodeCgroup,
        cni, containerd, kube_proxy, kubelet,
        lan::{Lan, pod_range},
        sandbox::Sandbox,
    },
    parts::{Bins, Part},
    process::Daemon,
};

/// A node; dropping it ends it, with all its pods.
#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    number: u8,
    address: Ipv4Addr,
    dir: PathBuf,
    cgroup: NodeCgroup,
    daemons: Vec<Daemon>,
    pub(crate) sandbox: Sandbox,
}

impl Node {
    /// Makes the sandbox with its network, disks and cgroup, and starts containerd in it, with the images of `store`.
    pub(crate) fn start(
        cluster: &ClusterName,
        number: u8,
        lan: Lan,
        control_plane: &Sandbox,
        bins: &Bins,
        store: &Path,
        cluster_dir: &Path,
    ) -> Result<Self> {
        let name = format!("node{number}");
        let dir = cluster_dir.join("nodes").join(&name);
        let cgroup = NodeCgroup::new(cluster, &name);
        cgroup.create()?;
        for path in [dir.join("kubelet"), dir.join("cni"), volumes(cluster_dir)] {
            fs::create_dir_all(&path).map_err(Error::file("create", path))?;
        }
        store::copy(store, &dir.join("containerd"))?;
        write_json(
            &dir.join("cni/10-testbed.conflist"),
            &cni::config(&pod_range(number)),
        )?;
        write(&dir.join("containerd.toml"), &containerd::config())?;
        write(
            &dir.join("resolv.conf"),
            &format!("nameserver {}\n", lan.control_plane()),
        )?;

        let sandbox = Sandbox::start(&name, &dir)?;
        lan.join(control_plane, &sandbox, number)?;
        sandbox.script(
            "set up the node's disks",
            &disks(&dir, &volumes(cluster_dir)),
        )?;
        let path = format!(
            "{}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            bins.dir(Part::ContainerdShim).display()
        );
        let runtime = sandbox
            .daemon("containerd", &bins.path(Part::Containerd), &dir)
            .arg("--config")
            .arg(dir.join("containerd.toml").display().to_string())
            .env("PATH", path);
        let daemons = vec![Daemon::spawn(runtime)?];
        Ok(Self {
            name,
            number,
            address: lan.node(number),
            dir,
            cgroup,
            daemons,
            sandbox,
        })
    }

    /// The Node object as the testbed makes it before the kubelet does: then its pod range is known from the start,
    /// and the same in each run.
    pub(crate) fn object(&self) -> Value {
        let range = pod_range(self.number);
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
            "spec": {"podCIDR": range, "podCIDRs": [range]},
        })
    }

    /// Starts kubelet and kube-proxy, which make the node Ready some seconds later.
    pub(crate) fn join(
        &mut self,
        control_plane: &ControlPlane,
        bins: &Bins,
        proxy: &Path,
    ) -> Result<()> {
        if let Some(runtime) = self.daemons.first_mut() {
            store::wait_for_containerd(&self.sandbox, &bins.path(Part::Ctr), runtime)?;
        }
        let authority = control_plane.authority();
        let identity = authority.kubelet(&self.name)?;
        let kubeconfig =
            control_plane.kubeconfig_for(&format!("{}.kubeconfig", self.name), &identity)?;
        let serving = authority.server(
            &format!("kubelet-{}-serving", self.name),
            std::slice::from_ref(&self.name),
            &[IpAddr::V4(self.address)],
        )?;
        let config = self.dir.join("kubelet.json");
        write_json(
            &config,
            &kubelet::config(
                &authority.pair.cert,
                &serving.cert,
                &serving.key,
                &self.cgroup.path(),
            ),
        )?;
        let kubelet = self
            .sandbox
            .daemon("kubelet", &bins.path(Part::Kubelet), &self.dir)
            .args([
                "--config",
                &config.display().to_string(),
                "--kubeconfig",
                &kubeconfig.display().to_string(),
            ])
            .args([
                "--hostname-override",
                &self.name,
                "--node-ip",
                &self.address.to_string(),
            ]);
        self.daemons.push(Daemon::spawn(kubelet)?);

        let config = self.dir.join("kube-proxy.json");
        write_json(
            &config,
            &kube_proxy::config(proxy, &self.name, self.address),
        )?;
        let proxy = self
            .sandbox
            .daemon("kube-proxy", &bins.path(Part::KubeProxy), &self.dir)
            .args(["--config", &config.display().to_string()]);
        self.daemons.push(Daemon::spawn(proxy)?);
        Ok(())
    }

    /// Fails when a daemon of the node has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.sandbox.check()?;
        self.daemons.iter_mut().try_for_each(Daemon::check)
    }

    /// The node's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // At once, and before its daemons: what is inside ends with the sandbox anyway.
        self.sandbox.kill();
    }
}

/// Where the volumes of a cluster are on the machine.
pub(crate) fn volumes(cluster_dir: &Path) -> PathBuf {
    cluster_dir.join("volumes")
}

/// Gives the node the usual places of its own: what runs in it then finds and leaves everything where it does on any
/// other node, and nothing of that shows on the machine. The kernel's settings that a kubelet insists on are files of
/// the node's own, too: the machine keeps its own.
fn disks(dir: &Path, volumes: &Path) -> String {
    let (dir, volumes) = (dir.display(), volumes.display());
    format!(
        "mount -t tmpfs tmpfs /run\n\
         mkdir -p /run/lock /run/testbed /run/volumes /run/sysctl\n\
         mount --bind '{dir}' /run/testbed\n\
         mount --bind '{volumes}' /run/volumes\n\
         mount -t tmpfs tmpfs /var/log\n\
         mount -t tmpfs tmpfs /var/lib\n\
         mkdir -p /var/lib/kubelet /var/lib/containerd {VOLUMES}\n\
         mount --bind /run/testbed/kubelet /var/lib/kubelet\n\
         mount --bind /run/testbed/containerd /var/lib/containerd\n\
         mount --bind /run/volumes {VOLUMES}\n\
         for setting in {KUBELET_SETTINGS}; do\n\
           own=/run/sysctl/${{setting##*/}}\n\
           cat /proc/sys/$setting > $own\n\
           mount --bind $own /proc/sys/$setting\n\
         done"
    )
}

/// Places that a node has of its own, so nothing that it needs from the machine may lie below them.
pub(crate) const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// What a kubelet changes below /proc/sys.
const KUBELET_SETTINGS: &str = "vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
                                kernel/keys/root_maxkeys kernel/keys/root_maxbytes";

/// Where the volumes of a cluster are on each node.
pub(crate) const VOLUMES: &str = "/var/lib/kubebyon/volumes";

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::file("write", path))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write(path, &format!("{value:#}"))
}
