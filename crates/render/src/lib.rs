//! Desired objects out of a spec and observed facts.
//!
//! Everything here is a pure function: no client, no clock, no randomness. The same input gives the
//! same bytes, so a controller can compare what is wanted with what is there and write only the
//! difference.
//!
//! - [`values`]: what a tenant's Helm release is installed with, and what a cluster author may say
//!   about it.
//! - [`host_namespace`]: the namespace of a tenant on the host cluster, and what keeps it apart
//!   from the others.
//! - [`kubeconfig`] and [`argo_cd`]: how a tenant's access is handed out.

pub mod argo_cd;
pub mod host_namespace;
pub mod kubeconfig;
pub mod metadata;
pub mod values;

pub use metadata::Cluster;
