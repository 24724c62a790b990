//! One Helm release, driven through the real `helm` binary.
//!
//! - [`release`] reads what Helm recorded (release Secrets, by metadata alone),
//!   [`plan`] decides from that what to do next. Both are pure.
//! - [`chart`] fetches a chart archive (https, oci, or a file below one folder) under
//!   a [`RepositoryPolicy`], checks it and keeps it by digest.
//! - [`Helm`] runs the binary: impersonated, bounded, redacted, and never outliving
//!   this process.
//! - [`Error`] has one variant for each cause, and one reason for each variant.
//!
//! The crate knows nothing of the product's own resources.

pub mod chart;
mod classify;
pub mod digest;
mod driver;
mod error;
mod exec;
pub mod plan;
mod redact;
pub mod release;
mod unlock;
pub mod values;

pub use chart::{
    ChartArchive, ChartCredentials, ChartRequest, Charts, ChartsConfig, RepositoryPolicy,
};
pub use digest::Sha256Digest;
pub use driver::{ClusterAccess, Helm, HelmConfig, ServiceAccount, Uninstall, Upgrade, WaitFor};
pub use error::{Error, Result, Violation};
pub use plan::{Action, Desired, plan};
pub use release::{ReleaseHistory, Revision, Status};
pub use unlock::unlock;
