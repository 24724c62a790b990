//! Helm values of a tenant's release.
//!
//! A cluster author's values are data that may cost other tenants something, so they are read
//! once, at the edge ([`UserValues::read`]), against one list of rules ([`policy`]). What passed
//! is merged, and the operator's own values ([`vcluster`]) are laid on top. The two never meet on
//! one key: a key of the operator's in the author's values is refused, not overridden.

mod merge;
pub mod policy;
mod user;
mod vcluster;

pub use merge::merge;
pub use policy::Policy;
pub use user::{Source, UserValues, ValuesError};
pub use vcluster::{PLATFORM_SECRET, Public, Tenant, needs_licence, split_image, vcluster};
