//! Where the testbed keeps things: never inside the clone.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The variable that moves the cache of built parts.
pub const CACHE_VARIABLE: &str = "KUBEBYON_CACHE";
/// The variable that moves the records of clusters.
pub const STATE_VARIABLE: &str = "KUBEBYON_STATE";

/// Built parts and images: `$KUBEBYON_CACHE`, else `~/.cache/kubebyon`.
pub fn cache() -> Result<PathBuf> {
    place("cache", CACHE_VARIABLE, ".cache/kubebyon")
}

/// Clusters and what must be undone for them: `$KUBEBYON_STATE`, else `~/.local/state/kubebyon`.
pub fn state() -> Result<PathBuf> {
    place("clusters", STATE_VARIABLE, ".local/state/kubebyon")
}

/// The clone that this program was built from: home of the pins and of crds/.
pub fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_path_buf()
}

/// The folder of the pins.
pub fn pins() -> PathBuf {
    repository().join("e2e/parts")
}

fn place(what: &'static str, variable: &'static str, below_home: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return std::path::absolute(&path).map_err(Error::file("resolve", path));
    }
    match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(Path::new(&home).join(below_home)),
        None => Err(Error::NoHome { what, variable }),
    }
}
