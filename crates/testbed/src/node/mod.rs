//! Whole clusters with nodes, each node a sandbox of its own on the cluster's LAN.

pub(crate) mod cgroup;
mod cluster;
mod cni;
pub(crate) mod containerd;
mod handle;
mod kube_proxy;
mod kubelet;
pub mod lan;
mod machine;
mod requirements;
pub(crate) mod sandbox;
pub(crate) mod traces;

pub use cluster::NodeOptions;
pub(crate) use cluster::remove_leftovers;
pub use handle::NodeCluster;
pub(crate) use machine::VOLUMES;
