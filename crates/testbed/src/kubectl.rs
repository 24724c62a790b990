//! Short calls of kubectl as the cluster's admin.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::{Error, Result},
    parts::{Bins, Part},
    process::output,
};

/// kubectl, bound to one cluster.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    // In the user's home what kubectl caches would outlive the cluster.
    cache: PathBuf,
}

impl Kubectl {
    /// kubectl with a kubeconfig.
    pub fn new(bins: &Bins, kubeconfig: &Path) -> Self {
        Self {
            program: bins.path(Part::Kubectl),
            kubeconfig: kubeconfig.to_path_buf(),
            cache: kubeconfig.with_extension("cache"),
        }
    }

    /// A call of kubectl that is yet to be made.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("KUBECACHEDIR", &self.cache)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(args);
        command
    }

    /// Runs kubectl to its end and returns its output.
    ///
    /// # Errors
    /// When it fails, with the end of what it printed; so for the calls below.
    pub fn run(&self, what: &str, args: &[&str]) -> Result<String> {
        output(what, &mut self.command(args))
    }

    /// Applies manifests.
    pub fn apply(&self, what: &str, manifests: &str) -> Result<()> {
        let file =
            tempfile::NamedTempFile::new().map_err(Error::file("create", std::env::temp_dir()))?;
        std::fs::write(file.path(), manifests).map_err(Error::file("write", file.path()))?;
        self.apply_files(what, &[file.path().to_path_buf()])
    }

    /// Applies the manifests in files, or in all files of directories.
    ///
    /// On the server's side, for large CRDs do not fit into the annotation that kubectl's own way needs.
    pub fn apply_files(&self, what: &str, paths: &[PathBuf]) -> Result<()> {
        let paths: Vec<String> = paths
            .iter()
            .map(|path| format!("--filename={}", path.display()))
            .collect();
        let mut args = vec![
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=testbed",
        ];
        args.extend(paths.iter().map(String::as_str));
        self.run(what, &args).map(drop)
    }

    /// Waits until a condition holds; `limit` in seconds.
    pub fn wait(&self, what: &str, condition: &str, objects: &[&str], limit: u32) -> Result<()> {
        let (condition, limit) = (format!("--for={condition}"), format!("--timeout={limit}s"));
        let mut args = vec!["wait", &condition, &limit];
        args.extend(objects);
        self.run(what, &args)?;
        Ok(())
    }
}
