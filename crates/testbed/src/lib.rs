//! A real local Kubernetes for demo, tests and benches: real etcd, api-server, controllers and nodes, built from
//! pinned sources, started and ended without a trace.

pub mod addons;
pub mod agent;
pub mod cli;
mod cluster;
pub mod control_plane;
mod crds;
pub mod dirs;
pub mod error;
pub mod https;
pub mod images;
pub mod kubectl;
pub mod name;
pub mod node;
pub mod parts;
pub mod pki;
pub mod process;
pub mod profile;
pub mod progress;
pub mod smoke;
pub mod state;
pub mod supervisor;

pub use cluster::ApiCluster;
pub use crds::CrdSet;
pub use error::{Error, Result};
pub use node::{NodeCluster, NodeOptions};
pub use profile::api::ApiOptions;
