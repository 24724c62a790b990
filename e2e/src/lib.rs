//! What the tests and benches of the whole product share.

pub mod bench;
pub mod control_planes;
pub mod in_cluster;
pub mod judge;
pub mod operator;
