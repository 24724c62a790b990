//! The resources of `kubebyon.app/v1alpha1` as Rust types.
//!
//! This crate is the contract between users, the controllers and the node agents:
//! what may be asked for ([`ManagedCluster`], [`PublicAccess`], [`WorkloadRoutePlan`]),
//! what is said back ([`conditions`], [`reasons`]), and how everything that is made on
//! the way is called ([`names`], [`labels`]). It does no I/O and knows no clock.
//!
//! Fields stay strings on the wire: the api-server refuses a bad value by the rules that the
//! generated schemas carry, and the value types in [`types`] parse it again for the controllers,
//! so that a value which slipped past an older schema becomes a reason on its object and not an
//! object that nobody can read.

#![expect(
    clippy::duplicated_attributes,
    reason = "the printer columns of kube's derive repeat their keys"
)]

pub mod conditions;
pub mod crd;
pub mod labels;
pub mod managed_cluster;
pub mod names;
pub mod public_access;
pub mod reasons;
pub mod refs;
mod schema;
pub mod types;
pub mod workload_route_plan;

pub use managed_cluster::{ManagedCluster, ManagedClusterSpec, ManagedClusterStatus};
pub use public_access::{PublicAccess, PublicAccessSpec, PublicAccessStatus};
pub use reasons::Reason;
pub use workload_route_plan::{WorkloadRoutePlan, WorkloadRoutePlanSpec, WorkloadRoutePlanStatus};

/// The API group of all resources.
pub const GROUP: &str = "kubebyon.app";
/// The served and stored version of all resources.
pub const VERSION: &str = "v1alpha1";
/// The oldest Kubernetes that a host cluster may run: its api-server knows the CEL libraries
/// (`cidr`, `ip`, `quantity`, optional fields, list comparison) that the schemas use.
pub const MINIMUM_HOST_KUBERNETES: &str = "1.31";
