//! Archives on disk by digest, and what was resolved a moment ago.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::OwnedMutexGuard;

use super::ChartRequest;
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
}

impl Cache {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            recent: Mutex::default(),
            resolved: Mutex::default(),
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
    pub(super) async fn put(&self, digest: Sha256Digest, bytes: Vec<u8>) -> io::Result<PathBuf> {
        let (dir, path) = (self.dir.clone(), self.path(digest));
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
        let path = cache.put(digest, b"chart".to_vec()).await.unwrap();
        assert_eq!(cache.get(digest).await.as_deref(), Some(&b"chart"[..]));
        fs::write(&path, "charm").unwrap();
        assert_eq!(cache.get(digest).await, None);
        cache.put(digest, b"chart".to_vec()).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"chart");
    }

    #[tokio::test]
    async fn the_number_of_archives_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        for index in 0..=KEEP {
            let bytes = index.to_string().into_bytes();
            cache.put(Sha256Digest::of(&bytes), bytes).await.unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), KEEP);
        assert_eq!(cache.get(Sha256Digest::of(b"0")).await, None);
    }
}
