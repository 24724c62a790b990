//! `file://` charts, below one folder only.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use url::Url;

use super::{
    ChartRequest,
    index::{newest, same_version},
    policy::refused,
};
use crate::error::{Error, Result};

/// Reads the archive that `repository` names: a `.tgz` file, or a folder of `NAME-VERSION.tgz`.
/// What is outside of `chart_dir` is refused, be it there or not, also by way of a link.
pub(super) fn read(
    chart_dir: &Path,
    repository: &Url,
    request: &ChartRequest,
    limit: u64,
) -> Result<Vec<u8>> {
    let outside = || {
        refused(
            "file:// charts must be below the folder that the host admin gave as --chart-dir"
                .to_owned(),
        )
    };
    let named = repository.to_file_path().map_err(|()| outside())?;
    let chart_dir = fs::canonicalize(chart_dir).map_err(Error::io("find --chart-dir"))?;
    if !named.starts_with(&chart_dir) {
        return Err(outside());
    }
    let inside = |path: &Path| -> Result<PathBuf> {
        let real = fs::canonicalize(path).map_err(|error| missing(error, request, repository))?;
        if real.starts_with(&chart_dir) {
            Ok(real)
        } else {
            Err(outside())
        }
    };
    let mut path = inside(&named)?;
    if path.is_dir() {
        path = inside(&in_folder(&path, request, repository)?)?;
    }
    let file = File::open(&path).map_err(|error| missing(error, request, repository))?;
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        return Err(outside());
    }
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read the chart archive"))?;
    if bytes.len() as u64 > limit {
        return Err(Error::ChartTooLarge {
            what: "the chart archive".to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

fn in_folder(folder: &Path, request: &ChartRequest, repository: &Url) -> Result<PathBuf> {
    let mut archives = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| missing(error, request, repository))? {
        let entry = entry.map_err(Error::io("list --chart-dir"))?;
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| {
            name.strip_prefix(&request.name)?
                .strip_prefix('-')?
                .strip_suffix(".tgz")
        });
        // "web-app-1.0.0" is no version of "web".
        if let Some(version) = version
            .filter(|version| semver::Version::parse(version.trim_start_matches('v')).is_ok())
        {
            archives.push((version.to_owned(), entry.path()));
        }
    }
    if archives.is_empty() {
        return Err(Error::ChartNotFound {
            name: request.name.clone(),
            repository: repository.to_string(),
        });
    }
    let found = match &request.version {
        Some(wanted) => archives
            .iter()
            .find(|(version, _)| same_version(version, wanted))
            .map(|(_, path)| path),
        None => newest(
            archives
                .iter()
                .map(|(version, path)| (version.as_str(), path)),
        ),
    };
    found.cloned().ok_or_else(|| Error::ChartVersionNotFound {
        name: request.name.clone(),
        version: request
            .version
            .clone()
            .unwrap_or_else(|| "that is a release".to_owned()),
        repository: repository.to_string(),
    })
}

fn missing(error: std::io::Error, request: &ChartRequest, repository: &Url) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::ChartNotFound {
            name: request.name.clone(),
            repository: repository.to_string(),
        },
        _ => Error::Io {
            what: "read the chart archive",
            source: error,
        },
    }
}
