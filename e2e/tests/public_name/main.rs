//! Tenants' APIs on public names: real api-server, real Gateway API definitions, real helm
//! and chart, a real DNS server. The gateway's controller and its data plane are the fake
//! of `gateway`, the control planes that of `control_planes`: see there for their limits.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

mod api_versions;
mod attachment;
mod caller;
mod claims;
mod dns;
mod edge;
mod faults;
mod moves;
mod names;
