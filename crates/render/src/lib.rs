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
//! - [`exposure`]: what is public, under which names, whoever carries the traffic.
//! - [`gateway_api`]: the same as objects of Gateway API.
//! - [`kubeconfig`] and [`argo_cd`]: how a tenant's access is handed out.

pub mod argo_cd;
pub mod exposure;
pub mod gateway_api;
pub mod host_namespace;
pub mod kubeconfig;
pub mod metadata;
pub mod values;

pub use metadata::{Cluster, Entrance};
