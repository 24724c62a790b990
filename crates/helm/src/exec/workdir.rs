//! The driver's private folder: helm's home, and one run's files.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// A folder that only this user may enter:
/// `home/` is helm's (its discovery cache stays from run to run), `run/` holds the values
/// files of current runs and is emptied at start, because a killed process leaves its own.
#[derive(Debug)]
pub(crate) struct WorkDir {
    root: PathBuf,
}

impl WorkDir {
    /// Makes the folder ready, and removes what a killed predecessor left. One driver a folder.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let work_dir = Self {
            root: root.to_owned(),
        };
        private_dir(root)?;
        let run = work_dir.run();
        if run.exists() {
            fs::remove_dir_all(&run)?;
        }
        private_dir(&run)?;
        private_dir(&work_dir.home())?;
        Ok(work_dir)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Writes `content` to `name`, of mode 0600, which stays.
    pub(crate) fn stable_file(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.root.join(name);
        self.private_file(name, "", content)?
            .persist(&path)
            .map_err(|error| error.error)?;
        Ok(path)
    }

    /// Writes `content` to a new file of mode 0600, which goes when it is dropped.
    pub(crate) fn private_file(
        &self,
        prefix: &str,
        suffix: &str,
        content: &[u8],
    ) -> io::Result<NamedTempFile> {
        let mut file = tempfile::Builder::new()
            .prefix(prefix)
            .suffix(suffix)
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(self.run())?;
        file.write_all(content)?;
        Ok(file)
    }
}

/// Makes `path` a folder of mode 0700, also if it is there with another mode.
fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_private_and_leftovers_are_swept() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("work");
        let work_dir = WorkDir::open(&root).unwrap();
        let file = work_dir.private_file("values-", ".yaml", b"a: 1").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(file.path()), mode(&root), mode(&work_dir.run())),
            (0o600, 0o700, 0o700)
        );
        // A killed process drops nothing.
        let (_, left) = file.keep().unwrap();
        assert!(left.exists());
        WorkDir::open(&root).unwrap();
        assert!(!left.exists());
    }
}
