//! Image archives, assembled from local files: a layer, a config and a manifest in one tar file.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    process::output,
};

/// One thing inside an image. Paths in the image are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A copy of a file, executable by all.
    Program {
        /// Where it is in the image.
        to: String,
        /// The file on this machine.
        from: PathBuf,
    },
    /// A file with this text, readable by all.
    Text {
        /// Where it is in the image.
        to: String,
        /// Its content.
        text: String,
    },
    /// A symbolic link.
    Link {
        /// Where it is in the image.
        to: String,
        /// What it points to.
        target: String,
    },
    /// An empty directory that all may write to, as /tmp.
    Scratch {
        /// Where it is in the image.
        to: String,
    },
}

/// An image to be assembled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSpec {
    /// The full references, such as `docker.io/library/busybox:1.36`; at least one.
    pub references: Vec<String>,
    /// What is in it.
    pub entries: Vec<Entry>,
    /// The command that it runs when a pod names none.
    pub entrypoint: Vec<String>,
    /// The user id that it runs as when a pod names none; 0 is root.
    pub user: u32,
}

const KEPT_FOR: Duration = Duration::from_hours(24);
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl ImageSpec {
    /// An image that is empty but for a place for temporary files, and runs `entrypoint` as root.
    pub fn new(reference: impl Into<String>, entrypoint: &[&str]) -> Self {
        Self {
            references: vec![reference.into()],
            entries: vec![Entry::Scratch {
                to: "/tmp".to_owned(),
            }],
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            user: 0,
        }
    }

    /// Gives the image one more name.
    #[must_use]
    pub fn also(mut self, reference: impl Into<String>) -> Self {
        self.references.push(reference.into());
        self
    }

    /// Adds a statically linked program.
    #[must_use]
    pub fn program(mut self, to: &str, from: &Path) -> Self {
        self.entries.push(Entry::Program {
            to: to.to_owned(),
            from: from.to_path_buf(),
        });
        self
    }

    /// Adds a program and the shared libraries that it loads, if any.
    ///
    /// # Errors
    /// When `ldd` cannot read the program, or a library of it is not on this machine.
    pub fn linked_program(mut self, to: &str, from: &Path) -> Result<Self> {
        for library in libraries(from)? {
            self.entries.push(Entry::Program {
                to: library.display().to_string(),
                from: library,
            });
        }
        Ok(self.program(to, from))
    }

    /// Adds a text file.
    #[must_use]
    pub fn text(mut self, to: &str, text: &str) -> Self {
        self.entries.push(Entry::Text {
            to: to.to_owned(),
            text: text.to_owned(),
        });
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, to: &str, target: &str) -> Self {
        self.entries.push(Entry::Link {
            to: to.to_owned(),
            target: target.to_owned(),
        });
        self
    }

    /// Sets the user id that the image runs as.
    #[must_use]
    pub fn user(mut self, user: u32) -> Self {
        self.user = user;
        self
    }

    /// The image's name as the beginning of a file's name.
    fn slug(&self) -> String {
        let name = self.references.first().map_or("", String::as_str);
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        format!("{}--", name.chars().map(plain).collect::<String>())
    }

    /// What makes this image differ from another: its description and the identity of each file in it.
    ///
    /// A file is known by path, size and time of change: to read gigabytes at each start would cost seconds, and the
    /// files come from a cache whose paths already name their content.
    fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!("{self:?}"));
        for entry in &self.entries {
            if let Entry::Program { from, .. } = entry {
                let meta = fs::metadata(from).map_err(Error::file("read", from))?;
                hash.update(format!(
                    "{} {} {}",
                    meta.size(),
                    meta.mtime(),
                    meta.mtime_nsec()
                ));
            }
        }
        Ok(hex(&hash.finalize()[..8]))
    }
}

/// Assembles an image and returns its archive in `dir`, made only when it is not there yet.
///
/// Archives of the same image that were not used for a day are removed: an image that is built again and again does
/// not fill the disk.
///
/// # Errors
/// When a file of the image cannot be read, or the archive not written.
pub fn build(spec: &ImageSpec, dir: &Path) -> Result<PathBuf> {
    let slug = spec.slug();
    let archive = dir.join(format!("{slug}{}.tar", spec.fingerprint()?));
    if archive.exists() {
        touch(&archive);
        return Ok(archive);
    }
    fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    let write = || -> io::Result<()> {
        let mut layer = tempfile::tempfile_in(dir)?;
        let digest = write_layer(&spec.entries, &layer)?;
        let layer_size = layer.metadata()?.len();
        io::Seek::rewind(&mut layer)?;

        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Env": [PATH], "Entrypoint": spec.entrypoint, "User": spec.user.to_string(), "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": spec.references, "Layers": ["layer.tar"]}]);
        let temporary = tempfile::NamedTempFile::new_in(dir)?;
        let mut tar = tar::Builder::new(io::BufWriter::new(temporary.as_file()));
        append(&mut tar, "manifest.json", manifest.to_string().as_bytes())?;
        append(&mut tar, "config.json", config.to_string().as_bytes())?;
        let mut header = header(0o644, layer_size);
        tar.append_data(&mut header, "layer.tar", &mut layer)?;
        tar.into_inner()?.flush()?;
        temporary.persist(&archive)?;
        Ok(())
    };
    write().map_err(Error::file("assemble the image archive", &archive))?;
    prune(dir, &slug);
    Ok(archive)
}

/// Marks a file or directory as used now.
pub(crate) fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        // Only the order of removal depends on it.
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Whether nobody has used it for `age`.
pub(crate) fn is_unused_for(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|meta| meta.modified()).ok();
    modified
        .and_then(|time| time.elapsed().ok())
        .is_some_and(|elapsed| elapsed > age)
}

/// Removes old archives of an image. One that cannot be removed is tried again by the next build.
fn prune(dir: &Path, slug: &str) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let same = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(slug));
        if same && is_unused_for(&path, KEPT_FOR) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes the layer and returns its digest.
fn write_layer(entries: &[Entry], file: &File) -> io::Result<String> {
    let mut tar = tar::Builder::new(Hashing {
        inner: io::BufWriter::new(file),
        hash: Sha256::new(),
    });
    for entry in entries {
        match entry {
            Entry::Program { to, from } => {
                let mut source = File::open(from)?;
                let mut header = header(0o755, source.metadata()?.len());
                tar.append_data(&mut header, relative(to), &mut source)?;
            }
            Entry::Text { to, text } => append(&mut tar, relative(to), text.as_bytes())?,
            Entry::Link { to, target } => {
                let mut header = header(0o777, 0);
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, relative(to), target)?;
            }
            Entry::Scratch { to } => {
                let mut header = header(0o1777, 0);
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, relative(to), io::empty())?;
            }
        }
    }
    let mut writer = tar.into_inner()?;
    writer.flush()?;
    Ok(hex(&writer.hash.finalize()))
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = header(0o644, bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

/// A header without owner or time, so that equal content gives equal digests.
fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// The name that images use for this machine's processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The shared libraries that a program loads, and its loader.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    match output(
        "list the libraries of a program",
        Command::new("ldd").arg(program),
    ) {
        Ok(text) => Ok(parse_ldd(&text)),
        Err(Error::Command { tail, .. }) if tail.contains("not a dynamic executable") => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn parse_ldd(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| {
            // `libm.so.6 => /lib/libm.so.6 (0x...)`, or `/lib64/ld-linux-x86-64.so.2 (0x...)` for the loader.
            let found = line.split_once("=>").map_or(line, |(_, found)| found);
            found
                .split_whitespace()
                .next()
                .filter(|path| path.starts_with('/'))
                .map(PathBuf::from)
        })
        .collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The first reference that an archive's manifest names.
///
/// # Errors
/// When the file is no image archive.
pub fn reference(archive: &Path) -> Result<String> {
    let failed = || Error::file("read the image archive", archive);
    let mut tar = tar::Archive::new(File::open(archive).map_err(failed())?);
    for entry in tar.entries().map_err(failed())? {
        let mut entry = entry.map_err(failed())?;
        if entry
            .path()
            .is_ok_and(|path| path.as_os_str() == "manifest.json")
        {
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(failed())?;
            let manifest: serde_json::Value =
                serde_json::from_str(&text).map_err(|source| Error::BadRecord {
                    path: archive.to_path_buf(),
                    source,
                })?;
            if let Some(reference) = manifest
                .pointer("/0/RepoTags/0")
                .and_then(serde_json::Value::as_str)
            {
                return Ok(reference.to_owned());
            }
        }
    }
    Err(failed()(io::Error::other(
        "it has no manifest.json that names a reference",
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dir: &Path) -> ImageSpec {
        let program = dir.join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        ImageSpec::new("docker.io/local/test:1", &["/program"])
            .program("/program", &program)
            .link("/bin/sh", "/program")
    }

    #[test]
    fn an_unchanged_image_is_assembled_once_and_a_changed_file_makes_another() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(dir.path());
        let first = build(&spec, dir.path()).unwrap();
        assert_eq!(build(&spec, dir.path()).unwrap(), first);
        fs::write(dir.path().join("program"), "#!/bin/sh\nexit 1\n").unwrap();
        assert_ne!(build(&spec, dir.path()).unwrap(), first);
    }

    #[test]
    fn the_archive_names_its_image_and_its_layer_has_the_digest_that_the_config_states() {
        let dir = tempfile::tempdir().unwrap();
        let archive = build(&spec(dir.path()), dir.path()).unwrap();
        assert_eq!(reference(&archive).unwrap(), "docker.io/local/test:1");
        let mut config = serde_json::Value::Null;
        let mut layer = Vec::new();
        for entry in tar::Archive::new(File::open(&archive).unwrap())
            .entries()
            .unwrap()
        {
            let mut entry = entry.unwrap();
            match entry.path().unwrap().to_str().unwrap() {
                "config.json" => config = serde_json::from_reader(entry).unwrap(),
                "layer.tar" => {
                    entry.read_to_end(&mut layer).unwrap();
                }
                _ => {}
            }
        }
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", hex(&Sha256::digest(&layer)))
        );
        let names: Vec<_> = tar::Archive::new(&layer[..])
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["tmp", "program", "bin/sh"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let spec = ImageSpec::new("docker.io/local/test:1", &["/x"])
            .program("/x", Path::new("/nowhere/x"));
        assert!(
            build(&spec, dir.path())
                .unwrap_err()
                .to_string()
                .contains("/nowhere/x")
        );
    }

    #[test]
    fn libraries_and_loader_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        assert_eq!(
            parse_ldd(text),
            ["/lib/x/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
    }
}
