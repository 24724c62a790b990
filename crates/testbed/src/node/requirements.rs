//! What nodes need of the machine, told before anything is started.

use std::{path::Path, process::Command};

use crate::{
    dirs,
    error::{Error, Result},
    node::machine::HIDDEN,
    parts::{DebianPackage, Part, ensure_debian},
    process::output,
    progress::Progress,
};

/// The parts that run on nodes, beside the control plane's.
pub const NODE_PARTS: [Part; 7] = [
    Part::Kubectl,
    Part::Kubelet,
    Part::KubeProxy,
    Part::Containerd,
    Part::ContainerdShim,
    Part::Ctr,
    Part::Coredns,
];

const PACKAGES: [DebianPackage; 8] = [
    DebianPackage {
        name: "runc",
        file: "/usr/sbin/runc",
    },
    DebianPackage {
        name: "containernetworking-plugins",
        file: "/usr/lib/cni/ptp",
    },
    DebianPackage {
        name: "nftables",
        file: "/usr/sbin/nft",
    },
    DebianPackage {
        name: "iptables",
        file: "/usr/sbin/iptables",
    },
    DebianPackage {
        name: "conntrack",
        file: "/usr/sbin/conntrack",
    },
    DebianPackage {
        name: "busybox-static",
        file: "/bin/busybox",
    },
    DebianPackage {
        name: "iproute2",
        file: "/sbin/ip",
    },
    DebianPackage {
        name: "util-linux",
        file: "/usr/bin/nsenter",
    },
];

/// Room for the images of all addons, as archives and unpacked.
const NEEDED_GIB: u64 = 4;

/// Checks that this machine can run nodes, and installs the Debian packages that are missing.
///
/// # Errors
/// [`Error::NotRoot`], [`Error::Missing`] with what the kernel lacks, or a failed installation.
pub fn check(progress: Progress) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot {
            what: "a cluster with nodes",
            why: "namespaces, mounts, cgroups and devices",
        });
    }
    places()?;
    ensure_debian(&PACKAGES, progress)?;
    kernel()
}

/// Cache and clusters have to be seen from inside the nodes, and to have room for their images.
fn places() -> Result<()> {
    for (path, variable) in [
        (dirs::cache()?, dirs::CACHE_VARIABLE),
        (dirs::state()?, dirs::STATE_VARIABLE),
    ] {
        if HIDDEN.iter().any(|hidden| path.starts_with(hidden)) {
            return Err(Error::HiddenPlace { path, variable });
        }
        std::fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        let room = rustix::fs::statvfs(&path)
            .map_err(|errno| Error::file("look at the disk of", &path)(errno.into()))?;
        let free_gib = room.f_bavail.saturating_mul(room.f_frsize) >> 30;
        if free_gib < NEEDED_GIB {
            return Err(Error::NoDisk {
                path,
                free_gib,
                needed_gib: NEEDED_GIB,
                what: "the nodes' images".to_owned(),
                variable,
            });
        }
    }
    Ok(())
}

fn kernel() -> Result<()> {
    let missing = |what: &str, next: &str| Error::Missing {
        what: what.to_owned(),
        next: next.to_owned(),
    };
    let filesystems = std::fs::read_to_string("/proc/filesystems")
        .map_err(Error::file("read", "/proc/filesystems"))?;
    if !filesystems.lines().any(|line| line.ends_with("overlay")) {
        return Err(missing(
            "the overlay file system",
            "load it with `modprobe overlay`",
        ));
    }
    if !Path::new("/sys/fs/cgroup")
        .join("cgroup.controllers")
        .exists()
        && !Path::new("/sys/fs/cgroup/memory").exists()
    {
        return Err(missing(
            "cgroups below /sys/fs/cgroup",
            "mount cgroup2 there, or the v1 hierarchies",
        ));
    }
    let network = "ip link add probe0 type veth peer name probe1 && ip link add probe2 type bridge && \
                   nft add table ip probe && nft add chain ip probe nat '{ type nat hook postrouting priority 100; }' \
                   && nft add rule ip probe nat masquerade";
    output(
        "try the network",
        Command::new("unshare").args(["--net", "sh", "-euc", network]),
    )
    .map_err(|error| {
        missing(
            &format!("namespaces with veth, bridge and nftables NAT ({error})"),
            "run on a kernel with them, in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN",
        )
    })?;
    Ok(())
}
