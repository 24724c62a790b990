//! One folder a controller, with the same rooms in each: `mod` (the reconcile),
//! `observe` (all reads), `validate` (spec and facts to what may be built), `apply`
//! (writes), `report` (status).

pub mod managed_cluster;
pub mod public_access;
