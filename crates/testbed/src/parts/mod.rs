//! The real programs and folders that clusters are made of, built once into a cache outside the clone.
//!
//! A cache entry is `parts/NAME-HASH/`, where the hash covers the pins and the flags: changed pins make a new entry,
//! and a fresh clone with the same pins finds the old one. Entries are built beside their place and renamed into it,
//! under a lock, so a crash or a second builder never leaves half an entry.

mod build;
mod debian;
mod registry;
mod toolchain;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use debian::{DebianPackage, ensure_debian};
pub use registry::{Entry, KubernetesVersion, Link, Part, Source};

use crate::{
    dirs,
    error::{Error, Result},
    progress::Progress,
};

const RECORD: &str = "part.json";

/// What is known of a cache entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// The part's name.
    pub part: String,
    /// The version that the pins name.
    pub version: String,
    /// How long its build took, in milliseconds, with whatever was in the compiler's own cache.
    pub build_millis: u64,
}

/// One line of `testbed parts`.
#[derive(Debug, Clone)]
pub struct PartStatus {
    /// The part.
    pub part: Part,
    /// The version that the pins name.
    pub version: String,
    /// The record and the size in bytes of its cache entry, if there is one.
    pub cached: Option<(BuildRecord, u64)>,
}

/// Where the parts are. Only those that [`ensure`] was asked for are sure to exist.
#[derive(Debug, Clone)]
pub struct Bins {
    entries: BTreeMap<Part, PathBuf>,
    empty: PathBuf,
}

impl Bins {
    /// Works out the cache entries of all parts from the pins, without building anything.
    pub fn locate() -> Result<Self> {
        let parts = dirs::cache()?.join("parts");
        let entries = Part::ALL
            .into_iter()
            .map(|part| Ok((part, parts.join(format!("{part}-{}", key(part)?)))))
            .collect::<Result<_>>()?;
        Ok(Self {
            entries,
            empty: parts,
        })
    }

    /// The program or folder itself.
    pub fn path(&self, part: Part) -> PathBuf {
        self.dir(part).join(part.entry().file)
    }

    /// The directory that holds the program, for `PATH`.
    pub fn dir(&self, part: Part) -> &Path {
        // `locate` fills in every part.
        self.entries.get(&part).unwrap_or(&self.empty)
    }

    fn is_complete(&self, part: Part) -> bool {
        self.dir(part).join(RECORD).is_file()
    }
}

/// Builds or fetches what is missing of `parts`, one after the other, and tells where all are.
///
/// # Errors
/// [`Error::Build`] with the end of the log, [`Error::NoGo`], [`Error::NoDisk`].
pub fn ensure(parts: &[Part], progress: Progress) -> Result<Bins> {
    let bins = Bins::locate()?;
    let missing: Vec<Part> = Part::ALL
        .into_iter()
        .filter(|part| parts.contains(part) && !bins.is_complete(*part))
        .collect();
    if missing.is_empty() {
        return Ok(bins);
    }
    let cache = dirs::cache()?;
    for dir in [cache.join("parts"), cache.join("logs")] {
        fs::create_dir_all(&dir).map_err(Error::file("create", dir))?;
    }
    build::check_disk(&cache, &missing)?;
    let expected: Duration = missing.iter().map(|part| part.expected()).sum();
    progress.say(&format!(
        "building {} of {} parts into {}; cold, on 2 cores, this takes about {} min",
        missing.len(),
        parts.len(),
        cache.join("parts").display(),
        expected.as_secs().div_ceil(60),
    ));
    for (index, part) in missing.iter().enumerate() {
        ensure_one(*part, &bins, &cache, progress, index + 1, missing.len())?;
    }
    Ok(bins)
}

fn ensure_one(
    part: Part,
    bins: &Bins,
    cache: &Path,
    progress: Progress,
    index: usize,
    count: usize,
) -> Result<()> {
    let step = progress.step(index, count, part.name(), Some(part.expected()));
    let lock_path = cache.join("parts").join(format!(".lock-{part}"));
    let lock = File::create(&lock_path).map_err(Error::file("create", &lock_path))?;
    lock.lock().map_err(Error::file("lock", &lock_path))?;
    if bins.is_complete(part) {
        step.done();
        return Ok(());
    }
    // The lock is ours, so a staging directory that is there is what a killed build left.
    let staging = cache.join("parts").join(format!(".build-{part}"));
    remove(&staging)?;
    fs::create_dir(&staging).map_err(Error::file("create", &staging))?;
    let started = Instant::now();
    build::build(part, &staging, cache, progress)?;
    let record = BuildRecord {
        part: part.name().to_owned(),
        version: version(part),
        build_millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let record_path = staging.join(RECORD);
    let text = serde_json::to_string_pretty(&record).map_err(|source| Error::BadRecord {
        path: record_path.clone(),
        source,
    })?;
    fs::write(&record_path, text).map_err(Error::file("write", &record_path))?;
    let entry = bins.dir(part);
    // Without a record, what is there is what a broken disk or a curious hand left.
    remove(entry)?;
    fs::rename(&staging, entry).map_err(Error::file("move into place", entry))?;
    step.done();
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", dir)(error))
        }
        _ => Ok(()),
    }
}

/// The state of every part, for `testbed parts`.
pub fn status() -> Result<Vec<PartStatus>> {
    let bins = Bins::locate()?;
    Part::ALL
        .into_iter()
        .map(|part| {
            let record_path = bins.dir(part).join(RECORD);
            let cached = match fs::read_to_string(&record_path) {
                Ok(text) => {
                    let record =
                        serde_json::from_str(&text).map_err(|source| Error::BadRecord {
                            path: record_path,
                            source,
                        })?;
                    Some((record, size(bins.dir(part))?))
                }
                Err(_) => None,
            };
            Ok(PartStatus {
                part,
                version: version(part),
                cached,
            })
        })
        .collect()
}

fn size(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(dir).map_err(Error::file("read", dir))? {
        let entry = entry.map_err(Error::file("read", dir))?;
        let metadata = entry
            .metadata()
            .map_err(Error::file("read", entry.path()))?;
        total += if metadata.is_dir() {
            size(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(total)
}

/// A short hash of everything that decides what the part becomes.
fn key(part: Part) -> Result<String> {
    let entry = part.entry();
    let mut hash = Sha256::new();
    hash.update(format!("{:?}{:?}", entry.file, entry.source));
    for path in pin_files(entry.source)? {
        let bytes = fs::read(&path).map_err(Error::file("read the pins in", &path))?;
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    Ok(format!("{:x}", hash.finalize()).chars().take(12).collect())
}

fn pin_files(source: Source) -> Result<Vec<PathBuf>> {
    match source {
        Source::Wheel { distribution, .. } => Ok(vec![toolchain::requirements(distribution)]),
        Source::Go { pins, .. } | Source::GoFolder { pins, .. } => {
            let dir = dirs::pins().join(pins);
            let mut files = fs::read_dir(&dir)
                .and_then(|entries| {
                    entries
                        .map(|entry| entry.map(|entry| entry.path()))
                        .collect::<Result<Vec<_>, _>>()
                })
                .map_err(Error::file("read the pins in", &dir))?;
            files.sort();
            Ok(files)
        }
    }
}

/// The version that the pins name; empty when they cannot be read, which `key` reports.
fn version(part: Part) -> String {
    match part.entry().source {
        Source::Go {
            link: Link::Kubernetes(version),
            ..
        } => version.git_version().to_owned(),
        Source::Go { pins, package, .. } => module_version(pins, package),
        Source::GoFolder { pins, module, .. } => module_version(pins, module),
        Source::Wheel { distribution, .. } => {
            let text =
                fs::read_to_string(toolchain::requirements(distribution)).unwrap_or_default();
            let version = text
                .split("==")
                .nth(1)
                .and_then(|rest| rest.split_whitespace().next());
            version.unwrap_or_default().to_owned()
        }
    }
}

/// The version of the module that holds `package`, or, for a main package of our own, of the module it wraps.
fn module_version(pins: &str, package: &str) -> String {
    let text = fs::read_to_string(dirs::pins().join(pins).join("go.mod")).unwrap_or_default();
    let suffix = format!("/{pins}");
    text.lines()
        .filter_map(|line| {
            let mut words = line
                .trim()
                .trim_start_matches("require ")
                .split_whitespace();
            let (module, version) = (words.next()?, words.next()?);
            let holds = package
                .strip_prefix(module)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            (version.starts_with('v') && (holds || module.ends_with(&suffix)))
                .then_some((module.len(), version))
        })
        .max()
        .map(|(_, version)| version.to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_part_has_a_version_and_a_cache_key_of_its_own() {
        let mut keys = std::collections::HashSet::new();
        for part in Part::ALL {
            assert!(
                keys.insert(key(part).unwrap()),
                "{part} shares its cache key"
            );
            assert!(!version(part).is_empty(), "{part} has no version");
        }
    }

    #[test]
    fn the_previous_kubernetes_is_another_entry_of_the_same_pins() {
        assert_ne!(
            key(Part::KubeApiserver).unwrap(),
            key(Part::KubeApiserverPrevious).unwrap()
        );
        assert_eq!(version(Part::KubeApiserverPrevious), "v1.35.6");
    }

    #[test]
    fn the_stamp_is_the_version_of_the_pinned_source() {
        assert_eq!(
            module_version("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
            KubernetesVersion::Current.git_version()
        );
    }
}
