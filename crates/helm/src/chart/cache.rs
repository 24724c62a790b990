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

use super::{ChartRequest, archive::Chart};
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
    /// The file that helm is given, and its own digest.
    file: (PathBuf, Sha256Digest),
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

    /// What is known of the archive of that digest, and the file that helm is given of it, if
    /// that is there unharmed.
    pub(super) async fn inspected(&self, digest: Sha256Digest) -> Option<(Chart, PathBuf)> {
        let Inspected { chart, file } = self
            .inspected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&digest)
            .cloned()?;
        let (path, expected) = file;
        let check = move || {
            let good = fs::read(&path).is_ok_and(|bytes| Sha256Digest::of(&bytes) == expected);
            let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
            good.then_some(path)
        };
        let path = tokio::task::spawn_blocking(check).await.ok()??;
        Some((chart, path))
    }

    /// Keeps what was found in an archive, and what helm is given of it, if that is not the
    /// whole; gives the file for helm.
    pub(super) async fn keep(
        &self,
        digest: Sha256Digest,
        chart: Chart,
        archive: Vec<u8>,
        slim: Option<Vec<u8>>,
    ) -> io::Result<PathBuf> {
        let whole = self.put(self.path(digest), archive).await?;
        let file = match slim {
            Some(bytes) => {
                let own = Sha256Digest::of(&bytes);
                let name = format!("{}.slim.tgz", digest.hex());
                (self.put(self.dir.join(name), bytes).await?, own)
            }
            None => (whole, digest),
        };
        let path = file.0.clone();
        let mut inspected = self
            .inspected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if inspected.len() >= KEEP {
            inspected.clear();
        }
        inspected.insert(digest, Inspected { chart, file });
        Ok(path)
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
