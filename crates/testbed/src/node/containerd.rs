//! containerd, with its data on the node's directory and its state in the sandbox's own /run.

/// containerd's socket inside the node.
pub const SOCKET: &str = "/run/containerd/containerd.sock";
/// Where CNI's plugin list is, inside the node.
pub const CNI_DIR: &str = "/run/testbed/cni";
/// The image of the process that holds a pod's namespaces.
pub const SANDBOX_IMAGE: &str = "docker.io/local/pause:1";

/// containerd's configuration file.
pub fn config() -> String {
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs"]

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE runc may not lower a score, and dies of the attempt.
  restrict_oom_score_adj = true
  # Below /run/netns they would be lost to the first `ip netns add`, which mounts over it.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{CNI_DIR}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{SANDBOX_IMAGE}"
"#
    )
}
