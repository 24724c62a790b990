//! Child processes that never outlive this one, and the files they need.

mod locate;
mod output;
mod process;
mod workdir;

pub(crate) use locate::locate;
pub(crate) use process::{Ended, Finished, GRACE, Runner};
pub(crate) use workdir::WorkDir;
