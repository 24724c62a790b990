//! The KubeBYON manager: the controllers and what they share.

pub mod admin;
pub mod apply;
pub mod backoff;
pub mod client;
pub mod config;
pub mod controllers;
pub mod dial;
pub mod dns;
pub mod leader;
pub mod manager;
pub mod probe;
pub mod served;
pub mod telemetry;
pub mod watches;
