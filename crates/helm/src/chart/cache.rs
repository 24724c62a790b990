//! Archives on disk by digest, what was found in them, and what was resolved a moment ago.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::OwnedMutexGuard;

use super::{Bare, ChartRequest, archive::Chart, schema::ValuesSchema, slim::Smaller};
use crate::digest::Sha256Digest;

/// Archives kept on disk; those used longest ago go first.
const KEEP: usize = 256;
/// How long an answer of a repository is used again: so that many releases made at once
/// with the same chart read the repository's index once.
const FRESH: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    recent: Mutex<HashMap<ChartRequest, Arc<tokio::sync::Mutex<()>>>>,
    resolved: Mutex<HashMap<ChartRequest, (Instant, Sha256Digest)>>,
    inspected: Mutex<HashMap<Sha256Digest, Inspected>>,
}

/// An archive that was looked into before.
#[derive(Clone, Debug)]
pub(super) struct Inspected {
    /// What its Chart.yaml says.
    pub(super) chart: Chart,
    /// The file that helm is given.
    file: Kept,
    /// The one for values that were checked.
    bare: Option<(Kept, Arc<ValuesSchema>)>,
}

#[derive(Clone, Debug)]
struct Kept {
    path: PathBuf,
    digest: Sha256Digest,
}

impl Kept {
    /// Whether it is there as it was written. It counts as used.
    fn is_whole(&self) -> bool {
        let good = fs::read(&self.path).is_ok_and(|bytes| Sha256Digest::of(&bytes) == self.digest);
        let _ = File::open(&self.path).and_then(|file| file.set_modified(SystemTime::now()));
        good
    }
}

/// What helm is given of an archive.
pub(super) struct Files {
    /// For any values.
    pub(super) path: PathBuf,
    /// For values that were checked.
    pub(super) bare: Option<Bare>,
}

impl Inspected {
    fn files(&self) -> Files {
        let bare = self.bare.as_ref().map(|(file, schema)| Bare {
            path: file.path.clone(),
            schema: Arc::clone(schema),
        });
        Files {
            path: self.file.path.clone(),
            bare,
        }
    }
}

impl Cache {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            recent: Mutex::default(),
            resolved: Mutex::default(),
            inspected: Mutex::default(),
        })
    }

    fn path(&self, digest: Sha256Digest) -> PathBuf {
        self.dir.join(format!("{}.tgz", digest.hex()))
    }

    /// The archive of that digest; one that was damaged is not there.
    pub(super) async fn get(&self, digest: Sha256Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        let read = move || {
            let bytes = fs::read(&path).ok()?;
            if Sha256Digest::of(&bytes) != digest {
                return None;
            }
            // Its age is the time since its last use. If it cannot be set, it goes early.
            let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
            Some(bytes)
        };
        tokio::task::spawn_blocking(read).await.ok()?
    }

    /// Keeps an archive; whole or not at all, also after a crash.
    async fn put(&self, path: PathBuf, bytes: Vec<u8>) -> io::Result<PathBuf> {
        let dir = self.dir.clone();
        let write = move || {
            if path.exists() && fs::read(&path).is_ok_and(|kept| kept == bytes) {
                return Ok(path);
            }
            let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&dir)?;
            file.write_all(&bytes)?;
            file.persist(&path).map_err(|error| error.error)?;
            evict(&dir)?;
            Ok(path)
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(io::Error::other)?
    }

    /// What is known of the archive of that digest, and the files that helm is given of it, if
    /// they are there unharmed.
    pub(super) async fn inspected(&self, digest: Sha256Digest) -> Option<(Chart, Files)> {
        let found = self
            .inspected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&digest)
            .cloned()?;
        let check = move || {
            let kept = [Some(&found.file), found.bare.as_ref().map(|(file, _)| file)];
            let whole = kept.into_iter().flatten().all(Kept::is_whole);
            whole.then(|| (found.chart.clone(), found.files()))
        };
        tokio::task::spawn_blocking(check).await.ok()?
    }

    /// Keeps what was found in an archive, and what helm is given of it, if that is not the
    /// whole; gives the files for helm.
    pub(super) async fn keep(
        &self,
        digest: Sha256Digest,
        chart: Chart,
        archive: Vec<u8>,
        smaller: Smaller,
    ) -> io::Result<Files> {
        let path = self.put(self.path(digest), archive).await?;
        let file = match smaller.slim {
            Some(bytes) => self.put_beside(digest, "slim", bytes).await?,
            None => Kept { path, digest },
        };
        let bare = match smaller.bare {
            Some((bytes, schema)) => {
                let file = self.put_beside(digest, "bare", bytes).await?;
                Some((file, Arc::new(schema)))
            }
            None => None,
        };
        let found = Inspected { chart, file, bare };
        let files = found.files();
        let mut inspected = self
            .inspected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if inspected.len() >= KEEP {
            inspected.clear();
        }
        inspected.insert(digest, found);
        Ok(files)
    }

    async fn put_beside(
        &self,
        digest: Sha256Digest,
        kind: &str,
        bytes: Vec<u8>,
    ) -> io::Result<Kept> {
        let own = Sha256Digest::of(&bytes);
        let name = format!("{}.{kind}.tgz", digest.hex());
        Ok(Kept {
            path: self.put(self.dir.join(name), bytes).await?,
            digest: own,
        })
    }

    /// Waits until no other caller fetches the same, and tells what the last one found.
    pub(super) async fn turn(
        &self,
        request: &ChartRequest,
    ) -> (OwnedMutexGuard<()>, Option<Sha256Digest>) {
        let turn = {
            let mut turns = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(request.clone()).or_default())
        };
        let turn = turn.lock_owned().await;
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.retain(|_, (at, _)| at.elapsed() < FRESH);
        let digest = resolved.get(request).map(|(_, digest)| *digest);
        (turn, digest)
    }

    pub(super) fn remember(&self, request: &ChartRequest, digest: Sha256Digest) {
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.insert(request.clone(), (Instant::now(), digest));
    }
}

fn evict(dir: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        files.push((
            entry.metadata().and_then(|data| data.modified())?,
            entry.path(),
        ));
    }
    files.sort();
    for (_, path) in files.iter().take(files.len().saturating_sub(KEEP)) {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_damaged_archive_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let digest = Sha256Digest::of(b"chart");
        assert_eq!(cache.get(digest).await, None);
        let put = || cache.put(cache.path(digest), b"chart".to_vec());
        let path = put().await.unwrap();
        assert_eq!(cache.get(digest).await.as_deref(), Some(&b"chart"[..]));
        fs::write(&path, "charm").unwrap();
        assert_eq!(cache.get(digest).await, None);
        put().await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"chart");
    }

    #[tokio::test]
    async fn the_number_of_archives_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        for index in 0..=KEEP {
            let bytes = index.to_string().into_bytes();
            let path = cache.path(Sha256Digest::of(&bytes));
            cache.put(path, bytes).await.unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), KEEP);
        assert_eq!(cache.get(Sha256Digest::of(b"0")).await, None);
    }
}
