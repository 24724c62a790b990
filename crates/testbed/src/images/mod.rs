//! Images without a registry: assembled from local files, unpacked once, shared by the nodes.

pub mod archive;
pub mod catalog;
pub(crate) mod store;

pub use archive::{Entry, ImageSpec, build};
pub use catalog::ImageSet;
