//! Programs that Debian packages: looked for first, installed only when missing.

use std::{path::Path, process::Command};

use crate::{
    error::{Error, Result},
    process::output,
    progress::Progress,
};

/// A Debian package and a file that tells that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebianPackage {
    /// The package.
    pub name: &'static str,
    /// A file of it, as an absolute path.
    pub file: &'static str,
}

/// Installs what is missing of `packages`, saying what. Needs root only when something is missing.
pub fn ensure_debian(packages: &[DebianPackage], progress: Progress) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !Path::new(package.file).exists())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot {
            what: "installing missing Debian packages",
            why: "changes to the system",
        });
    }
    progress.say(&format!(
        "installing missing Debian packages: {}",
        missing.join(" ")
    ));
    let mut update = apt();
    output(
        "apt-get update",
        update.args(["--quiet", "--quiet", "update"]),
    )?;
    let mut install = apt();
    install
        .args([
            "install",
            "--yes",
            "--no-install-recommends",
            "--quiet",
            "--quiet",
        ])
        .args(&missing);
    output(
        &format!("apt-get install {}", missing.join(" ")),
        &mut install,
    )?;
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
