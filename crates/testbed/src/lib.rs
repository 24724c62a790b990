//! A real local Kubernetes for demo, tests and benches: real etcd, api-server, controllers and nodes, built from
//! pinned sources, started and ended without a trace.

pub mod control_plane;
pub mod dirs;
pub mod error;
mod https;
pub mod parts;
pub mod pki;
pub mod process;
pub mod progress;

pub use error::{Error, Result};
