//! The network of a cluster: one LAN, addresses by role, all in namespaces of the testbed's own.
//!
//! The LAN is a bridge inside the control plane's sandbox. Nodes hang on it by a veth pair each, and one more pair
//! leads to the machine, whose end is the only thing that the machine sees; it goes away with the sandbox.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    dirs,
    error::{Error, Result},
    name::ClusterName,
    node::sandbox::Sandbox,
    process::output,
};

/// The services' range, the same in each cluster: it never leaves a cluster's namespaces.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The api-server's address inside the cluster.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The cluster DNS's address.
pub const CLUSTER_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The pods' range; node N takes the Nth /24 of it.
pub const POD_RANGE: &str = "10.244.0.0/16";
/// How many nodes a cluster may have: the addresses between the nodes' first and the pool.
pub const MAX_NODES: u8 = 20;

const FIRST_NODE: u8 = 10;
const POOL: std::ops::RangeInclusive<u8> = 128..=191;
const MTU: u16 = 1500;

/// The addresses of one cluster's LAN, 10.89.INDEX.0/24.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lan {
    index: u8,
}

impl Lan {
    /// The LAN of a cluster; two clusters that run at once have different indexes.
    pub const fn new(index: u8) -> Self {
        Self { index }
    }

    const fn host(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 89, self.index, last)
    }

    /// The machine's address.
    pub const fn machine(self) -> Ipv4Addr {
        self.host(1)
    }

    /// The control plane's address: the api-server, and the zone's name server.
    pub const fn control_plane(self) -> Ipv4Addr {
        self.host(2)
    }

    /// A node's address.
    pub const fn node(self, number: u8) -> Ipv4Addr {
        self.host(FIRST_NODE + number)
    }

    /// The addresses that Services of type LoadBalancer get.
    pub fn pool(self) -> impl Iterator<Item = Ipv4Addr> + Clone {
        POOL.map(move |last| self.host(last))
    }

    /// The name of the machine's end of the veth pair; at most 15 bytes, as the kernel asks.
    pub fn machine_device(self) -> String {
        format!("kubebyon{}", self.index)
    }

    /// Makes the bridge inside the control plane's sandbox, and the link to the machine.
    pub fn create(self, control_plane: &Sandbox) -> Result<()> {
        let address = self.control_plane();
        control_plane.network(
            "make the cluster's LAN",
            &format!("ip link add lan type bridge\nip address add {address}/24 dev lan\nip link set lan up"),
        )?;
        let (device, machine, init) = (self.machine_device(), self.machine(), control_plane.init());
        let script = format!(
            "ip link add {device} mtu {MTU} type veth peer name machine netns {init}\n\
             ip address add {machine}/24 dev {device}\n\
             ip link set {device} up"
        );
        output(
            "link the machine to the cluster's LAN",
            Command::new("sh").args(["-euc", &script]),
        )?;
        control_plane.network(
            "link the machine to the cluster's LAN",
            "ip link set machine master lan up",
        )?;
        Ok(())
    }

    /// Links a node to the LAN, with its default route to the machine and a way out for its pods.
    ///
    /// Pods that talk to anything but pods do so in their node's name, as behind a cloud's router.
    pub fn join(self, control_plane: &Sandbox, node: &Sandbox, number: u8) -> Result<()> {
        let init = node.init();
        control_plane.network(
            "link a node to the cluster's LAN",
            &format!(
                "ip link add node{number} mtu {MTU} type veth peer name eth0 netns {init}\n\
                 ip link set node{number} master lan up"
            ),
        )?;
        let (address, machine) = (self.node(number), self.machine());
        node.script(
            "set up a node's network",
            &format!(
                "ip address add {address}/24 dev eth0\n\
                 ip link set eth0 up\n\
                 ip route add default via {machine}\n\
                 echo 1 > /proc/sys/net/ipv4/ip_forward\n\
                 nft -f - <<'END'\n\
                 table ip testbed {{\n\
                   chain postrouting {{\n\
                     type nat hook postrouting priority srcnat; policy accept;\n\
                     ip saddr {POD_RANGE} ip daddr != {POD_RANGE} masquerade\n\
                   }}\n\
                 }}\n\
                 END"
            ),
        )?;
        Ok(())
    }
}

/// Adds routes inside a sandbox.
pub(crate) fn add_routes<'a>(
    sandbox: &Sandbox,
    routes: impl Iterator<Item = &'a (String, Ipv4Addr)>,
) -> Result<()> {
    let script: Vec<_> = routes
        .map(|(range, via)| format!("ip route replace {range} via {via}"))
        .collect();
    if !script.is_empty() {
        sandbox.network("route between the nodes", &script.join("\n"))?;
    }
    Ok(())
}

/// Takes a LAN that no other cluster has, and records whose it is until [`release`].
pub(crate) fn reserve(cluster: &ClusterName) -> Result<Lan> {
    let (dir, _lock) = reservations()?;
    let in_use = output(
        "list this machine's addresses",
        Command::new("ip").args(["-oneline", "-4", "address"]),
    )?;
    for index in 1..=u8::MAX {
        let file = dir.join(index.to_string());
        let lan = Lan::new(index);
        let prefix = format!(" 10.89.{index}.");
        if !file.exists() && !in_use.contains(&prefix) {
            fs::write(&file, cluster.as_str()).map_err(Error::file("write", &file))?;
            return Ok(lan);
        }
    }
    Err(Error::Missing {
        what: "a free address range between 10.89.1.0/24 and 10.89.255.0/24".to_owned(),
        next: "end a cluster with `testbed down`".to_owned(),
    })
}

/// Gives back what [`reserve`] took, if anything.
pub(crate) fn release(cluster: &ClusterName) -> Result<()> {
    let (dir, _lock) = reservations()?;
    held(&dir, cluster)?
        .iter()
        .try_for_each(|file| fs::remove_file(file).map_err(Error::file("remove", file)))
}

/// The files that record what a cluster holds.
pub(crate) fn reserved_by(cluster: &ClusterName) -> Result<Vec<PathBuf>> {
    let (dir, _lock) = reservations()?;
    held(&dir, cluster)
}

fn held(dir: &Path, cluster: &ClusterName) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(Error::file("read", dir))?;
    let owned =
        |file: &PathBuf| fs::read_to_string(file).is_ok_and(|owner| owner == cluster.as_str());
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(owned)
        .collect())
}

/// The folder of reservations, and the lock on it, held until it is dropped.
fn reservations() -> Result<(PathBuf, File)> {
    let dir = dirs::state()?.join("lans");
    fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
    let path = dir.join(".lock");
    let lock = File::create(&path).map_err(Error::file("create", &path))?;
    lock.lock().map_err(Error::file("lock", &path))?;
    Ok((dir, lock))
}

/// The pods' range of a node.
pub fn pod_range(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_never_share_an_address() {
        let lan = Lan::new(7);
        let mut all = vec![lan.machine(), lan.control_plane()];
        all.extend((0..MAX_NODES).map(|number| lan.node(number)));
        all.extend(lan.pool());
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn two_lans_share_no_address_and_no_device() {
        let (one, two) = (Lan::new(1), Lan::new(2));
        assert!(
            one.pool()
                .all(|address| two.pool().all(|other| other != address))
        );
        assert_ne!(one.machine_device(), two.machine_device());
        assert!(Lan::new(255).machine_device().len() <= 15);
    }
}
