//! What the tests and benches of the whole product share.

pub mod bench;
pub mod children;
pub mod control_planes;
pub mod crash;
pub mod edge;
pub mod gateway;
pub mod helm_log;
pub mod in_cluster;
pub mod inventory;
pub mod judge;
pub mod name_server;
pub mod operator;
