//! Looks into a chart archive before helm does.
//!
//! Besides sizes and paths, it checks what helm itself would act on outside of the
//! release: helm loads the schemas that a `values.schema.json` refers to, over http and
//! from files, with no limit on where (helm.sh/helm/v4 pkg/chart/common/util/jsonschema.go).

use std::{collections::HashSet, io::Read};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// Bound on the files of an archive.
const MAX_FILES: usize = 10_000;
/// Bound on the one file read whole; helm's own is 5 MiB.
const MAX_FILE: u64 = 5 << 20;
/// Bound on archives inside archives.
const MAX_DEPTH: usize = 4;

/// Bounds, and the chart's name for messages.
pub(super) struct Limits {
    /// Bytes, unpacked, archives inside included.
    pub(super) unpacked: u64,
    /// The name that was asked for.
    pub(super) name: String,
}

/// What the Chart.yaml says.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Chart {
    pub(super) name: String,
    pub(super) version: String,
}

/// Checks the archive and reads its Chart.yaml.
pub(super) fn inspect(bytes: &[u8], limits: &Limits) -> Result<Chart> {
    let mut left = limits.unpacked;
    inspect_one(bytes, limits, &mut left, 1)
}

fn inspect_one(bytes: &[u8], limits: &Limits, left: &mut u64, depth: usize) -> Result<Chart> {
    let bad = |why: String| Error::ChartInvalid {
        name: limits.name.clone(),
        why,
    };
    let unreadable = || bad("it is no gzipped tar archive, or it is cut off".to_owned());
    let too_large = || Error::ChartTooLarge {
        what: "the unpacked chart".to_owned(),
        limit: limits.unpacked,
    };
    if depth > MAX_DEPTH {
        return Err(bad("charts are packed into charts too deeply".to_owned()));
    }
    let budget = *left;
    // One byte more than allowed, so that the bound shows as an archive that is cut off.
    let mut tar = tar::Archive::new(MultiGzDecoder::new(bytes).take(budget + 1));
    let mut chart = None;
    let mut seen = HashSet::new();
    let entries = tar.entries().map_err(|_| unreadable())?;
    for entry in entries {
        let Ok(mut entry) = entry else {
            return Err(if *left == 0 {
                too_large()
            } else {
                unreadable()
            });
        };
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let path = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| bad("it has a file name that is not UTF-8".to_owned()))?;
        check_path(&path).map_err(|why| {
            bad(format!(
                "{why}: {}",
                path.escape_default().take(100).collect::<String>()
            ))
        })?;
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(bad(format!("{path} is a link or a device")));
        }
        *left = left.checked_sub(entry.size()).ok_or_else(too_large)?;
        if !seen.insert(path.clone()) || seen.len() > MAX_FILES {
            return Err(bad(format!(
                "{path} is there twice, or it has more than {MAX_FILES} files"
            )));
        }
        let (_, below) = path.split_once('/').unwrap_or_default();
        let wanted = below == "Chart.yaml"
            || below.ends_with("values.schema.json")
            || is_packed_chart(below);
        if !wanted {
            continue;
        }
        if entry.size() > MAX_FILE {
            return Err(Error::ChartTooLarge {
                what: format!("{path} in the chart"),
                limit: MAX_FILE,
            });
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|_| unreadable())?;
        if below == "Chart.yaml" {
            chart = Some(
                serde_saphyr::from_slice(&content)
                    .map_err(|_| bad("its Chart.yaml has no name and version".to_owned()))?,
            );
        } else if is_packed_chart(below) {
            inspect_one(&content, limits, left, depth + 1)?;
        } else {
            check_schema(&content).map_err(|why| bad(format!("{path} {why}")))?;
        }
    }
    chart.ok_or_else(|| bad("it has no Chart.yaml".to_owned()))
}

/// Only plain relative names: helm splits at backslashes too, and cleans dots away.
fn check_path(path: &str) -> std::result::Result<(), &'static str> {
    if path.contains(['\\', '\0']) {
        return Err("a file name has a backslash or a NUL");
    }
    if path
        .strip_suffix('/')
        .unwrap_or(path)
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
    {
        return Err("a file name leads outside of the chart");
    }
    Ok(())
}

fn is_packed_chart(below: &str) -> bool {
    let extension = below.rsplit('.').next().unwrap_or_default();
    (below.starts_with("charts/") || below.contains("/charts/"))
        && (extension.eq_ignore_ascii_case("tgz") || extension.eq_ignore_ascii_case("gz"))
}

/// Whether a schema refers to itself only.
fn check_schema(content: &[u8]) -> std::result::Result<(), String> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let schema: Value = serde_json::from_slice(content).map_err(|_| "is not JSON".to_owned())?;
    let mut open = vec![&schema];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(map) => {
                for (key, value) in map {
                    let text = value.as_str();
                    let leaves = match key.as_str() {
                        "$ref" | "$dynamicRef" | "$recursiveRef" => {
                            text.is_some_and(|text| !text.starts_with('#'))
                        }
                        "$schema" => text.is_some_and(|text| {
                            !["http://json-schema.org/", "https://json-schema.org/"]
                                .iter()
                                .any(|known| text.starts_with(known))
                        }),
                        _ => false,
                    };
                    if leaves {
                        return Err(format!(
                            "refers to a schema outside of the chart ({key}), which helm would fetch; put it into the chart"
                        ));
                    }
                    open.push(value);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
