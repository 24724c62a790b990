//! A helm that writes down its runs, and tells when two of one release overlap.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The log of all helm programs that were started through [`HelmLog::program`].
pub struct HelmLog {
    folder: PathBuf,
}

impl HelmLog {
    /// Writes the program. Each run holds a lock of its release until the process is gone,
    /// however it ends, since the kernel lets go of it.
    pub fn new(folder: &Path, helm: &Path) -> Self {
        let folder = folder.join("helm-log");
        fs::create_dir(&folder).expect("a folder");
        let (place, helm) = (folder.display(), helm.display());
        let script = format!(
            "#!/bin/sh\n\
             case $1 in upgrade|uninstall|rollback)\n\
               exec 9>>{place}/lock-\"$2\"\n\
               if ! /usr/bin/flock --nonblock 9; then\n\
                 echo \"overlap $1 $2\" >>{place}/runs\n\
                 exit 97\n\
               fi\n\
               echo \"$1 $2\" >>{place}/runs;;\n\
             esac\n\
             exec {helm} \"$@\"\n"
        );
        let log = Self { folder };
        let program = log.program();
        fs::write(&program, script).expect("a program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program");
        log
    }

    /// For the manager's `--helm`.
    pub fn program(&self) -> PathBuf {
        self.folder.join("helm")
    }

    /// Runs that change a release, in order: `upgrade NAME`, `uninstall NAME`.
    ///
    /// # Panics
    /// When two runs of one release overlapped.
    pub fn runs(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("runs")).unwrap_or_default();
        let runs: Vec<String> = text.lines().map(str::to_owned).collect();
        let overlap = runs.iter().find(|run| run.starts_with("overlap "));
        assert!(overlap.is_none(), "{overlap:?}: {runs:?}");
        runs
    }
}
