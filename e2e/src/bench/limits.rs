//! Bounds of every measurement.

use std::time::Duration;

/// How long anything may take before it counts as broken.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// Objects that are made at once.
pub const AT_ONCE: usize = 16;
