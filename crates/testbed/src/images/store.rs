//! containerd's data directory with images unpacked in it, made once and given to each node by hard links.
//!
//! Blobs and unpacked layers never change once they are written, so nodes share them: a node costs no time, no disk
//! and no page cache for its images. Only containerd's two small databases are copied.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    images::archive,
    node::{containerd, sandbox::Sandbox},
    parts::{Bins, Part},
    process::{Daemon, output, wait_until},
    progress::Progress,
};

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// After which time a store that is still being made was left by a crash.
const STAGING_LIMIT: Duration = Duration::from_hours(1);
/// How many stores stay in the cache; the least lately used go first. A running node holds links of its own.
const KEPT: usize = 4;

/// Makes the store that holds `archives`, or finds it. `images` is the cache's folder for images.
///
/// To be called from the main thread, as [`Daemon::spawn`].
pub(crate) fn ensure(
    archives: &[PathBuf],
    bins: &Bins,
    images: &Path,
    progress: Progress,
) -> Result<PathBuf> {
    let stores = images.join("stores");
    fs::create_dir_all(&stores).map_err(Error::file("create", &stores))?;
    let store = stores.join(key(archives, bins));
    if store.exists() {
        archive::touch(&store);
        return Ok(store);
    }
    let started = Instant::now();
    let staging =
        tempfile::tempdir_in(&stores).map_err(Error::file("create a directory in", &stores))?;
    unpack(archives, bins, staging.path())?;
    match fs::rename(staging.path().join("root"), &store) {
        Ok(()) => {}
        // Another `up` was faster.
        Err(_) if store.exists() => {}
        Err(source) => {
            return Err(Error::File {
                action: "move into place",
                path: store,
                source,
            });
        }
    }
    progress.say(&format!(
        "unpacked {} images for the nodes in {:.1} s",
        archives.len(),
        started.elapsed().as_secs_f32()
    ));
    prune(&stores, &store);
    Ok(store)
}

/// Gives a node its data directory at `to`, which must not exist yet.
pub(crate) fn copy(store: &Path, to: &Path) -> Result<()> {
    let what = "give the node its images";
    let linked = output(
        what,
        Command::new("cp")
            .arg("--archive")
            .arg("--link")
            .args([store, to]),
    );
    if linked.is_err() {
        // Links need both to be on one file system.
        fs::remove_dir_all(to)
            .or_else(ignore_missing)
            .map_err(Error::file("remove", to))?;
        output(what, Command::new("cp").arg("--archive").args([store, to]))?;
    }
    for database in DATABASES {
        let (from, to) = (store.join(database), to.join(database));
        fs::remove_file(&to).map_err(Error::file("remove", &to))?;
        fs::copy(&from, &to).map_err(Error::file("copy", &from))?;
    }
    Ok(())
}

const DATABASES: [&str; 2] = [
    "io.containerd.metadata.v1.bolt/meta.db",
    "io.containerd.snapshotter.v1.overlayfs/metadata.db",
];

/// Loads an archive into containerd inside `sandbox`.
pub(crate) fn import(sandbox: &Sandbox, ctr: &Path, archive: &Path) -> Result<()> {
    let (ctr, file) = (ctr.display().to_string(), archive.display().to_string());
    sandbox.run(
        &format!("load the image archive {file}"),
        [
            &ctr,
            "--address",
            containerd::SOCKET,
            "--namespace",
            "k8s.io",
            "images",
            "import",
            &file,
        ],
    )?;
    Ok(())
}

fn unpack(archives: &[PathBuf], bins: &Bins, dir: &Path) -> Result<()> {
    let config = dir.join("containerd.toml");
    fs::write(&config, containerd::config()).map_err(Error::file("write", &config))?;
    let root = dir.join("root");
    fs::create_dir_all(&root).map_err(Error::file("create", &root))?;
    let sandbox = Sandbox::start("images", dir)?;
    let root = root.display();
    sandbox.script(
        "prepare a place for images",
        &format!(
            "mount -t tmpfs tmpfs /run\n\
             mkdir /run/store\n\
             mount --bind {root} /run/store\n\
             mount -t tmpfs tmpfs /var/lib\n\
             mkdir /var/lib/containerd\n\
             mount --bind /run/store /var/lib/containerd"
        ),
    )?;
    let program = bins.path(Part::Containerd);
    let spec = sandbox
        .daemon("containerd", &program, dir)
        .arg("--config")
        .arg(config.display().to_string());
    let mut daemon = Daemon::spawn(spec)?;
    let ctr = bins.path(Part::Ctr);
    wait_for_containerd(&sandbox, &ctr, &mut daemon)?;
    for archive in archives {
        import(&sandbox, &ctr, archive)?;
    }
    // Its databases are whole only once it has closed them.
    sandbox.script("end containerd", "kill $(busybox pidof containerd)")?;
    let deadline = Instant::now() + STOP_LIMIT;
    while daemon.check().is_ok() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until containerd inside `sandbox` answers.
pub(crate) fn wait_for_containerd(
    sandbox: &Sandbox,
    ctr: &Path,
    daemon: &mut Daemon,
) -> Result<()> {
    let ctr = ctr.display().to_string();
    wait_until(
        "containerd answering on its socket",
        START_LIMIT,
        &mut [daemon],
        || {
            Ok(sandbox
                .run(
                    "ask containerd",
                    [&ctr, "--address", containerd::SOCKET, "version"],
                )
                .is_ok())
        },
    )
}

fn key(archives: &[PathBuf], bins: &Bins) -> String {
    let mut names: Vec<_> = archives
        .iter()
        .filter_map(|path| path.file_name())
        .collect();
    names.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(format!(
        "{names:?} {:?}",
        bins.dir(Part::Containerd).file_name()
    ));
    archive::hex(&hash.finalize()[..8])
}

/// Removes what is long unused. A store that cannot be removed is tried again by the next `up`.
fn prune(stores: &Path, keep: &Path) {
    let Ok(entries) = fs::read_dir(stores) else {
        return;
    };
    let paths: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path != keep)
        .collect();
    let (staging, stores): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| is_staging(path));
    for path in staging
        .iter()
        .filter(|path| archive::is_unused_for(path, STAGING_LIMIT))
    {
        let _ = fs::remove_dir_all(path);
    }
    let mut found: Vec<_> = stores
        .into_iter()
        .filter_map(|path| {
            Some((
                fs::metadata(&path).and_then(|meta| meta.modified()).ok()?,
                path,
            ))
        })
        .collect();
    found.sort();
    let surplus = (found.len() + 1).saturating_sub(KEPT);
    for (_, path) in found.into_iter().take(surplus) {
        let _ = fs::remove_dir_all(path);
    }
}

fn is_staging(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}
