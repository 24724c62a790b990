//! What helm is given of a chart: all that it reads, and little of what it only carries.
//!
//! Helm packs the whole chart into every release Secret, twice a run: a chart whose schema
//! is long and whose unit tests are in the archive makes helm spend a quarter of its time on
//! packing, and the api-server and etcd keep it once a revision. Left out are the folder
//! `tests` of helm-unittest, unless a template reads files of the chart, and in the schema
//! what says nothing about which values are good: blanks, descriptions, titles, examples.

use std::io::{Cursor, Read};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde_json::Value;

/// The archive without those, or none if there is nothing to leave out or it cannot be read.
/// `archive` was inspected before.
pub(super) fn slim(archive: &[u8]) -> Option<Vec<u8>> {
    let files = files(archive)?;
    let keeps_tests = files.iter().any(|file| {
        file.below.starts_with("charts/")
            || file.below.starts_with("templates/")
                && file.content.windows(6).any(|part| part == b".Files")
    });
    let mut changed = false;
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for File {
        path,
        below,
        mut content,
    } in files
    {
        if !keeps_tests && below.starts_with("tests/") {
            changed = true;
            continue;
        }
        if below == "values.schema.json"
            && let Some(schema) = slim_schema(&content)
        {
            changed = true;
            content = schema;
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, Cursor::new(content))
            .ok()?;
    }
    let packed = tar.into_inner().ok()?.finish().ok()?;
    changed.then_some(packed)
}

struct File {
    path: String,
    /// The path below the chart's own folder.
    below: String,
    content: Vec<u8>,
}

fn files(archive: &[u8]) -> Option<Vec<File>> {
    let mut tar = tar::Archive::new(MultiGzDecoder::new(archive));
    let mut files = Vec::new();
    for entry in tar.entries().ok()? {
        let mut entry = entry.ok()?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8(entry.path_bytes().into_owned()).ok()?;
        let below = path.split_once('/')?.1.to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).ok()?;
        files.push(File {
            path,
            below,
            content,
        });
    }
    Some(files)
}

/// The same schema, shorter; none if it is not.
fn slim_schema(content: &[u8]) -> Option<Vec<u8>> {
    let mut schema: Value = serde_json::from_slice(content).ok()?;
    leave_out_notes(&mut schema);
    let text = serde_json::to_vec(&schema).ok()?;
    (text.len() < content.len()).then_some(text)
}

/// A schema is an object or a boolean, so a text or a list under these names is a note,
/// wherever it stands, unless it is a value to compare with, or the properties that go with
/// another one.
fn leave_out_notes(schema: &mut Value) {
    const KEPT_WHOLE: [&str; 5] = [
        "const",
        "enum",
        "default",
        "dependencies",
        "dependentRequired",
    ];
    match schema {
        Value::Object(map) => {
            map.retain(|key, value| match key.as_str() {
                "description" | "title" | "$comment" => !value.is_string(),
                "examples" => !value.is_array(),
                _ => true,
            });
            for (key, value) in map {
                if !KEPT_WHOLE.contains(&key.as_str()) {
                    leave_out_notes(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_notes),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pack(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, content.as_bytes())
                .unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn paths(archive: &[u8]) -> Vec<String> {
        files(archive)
            .unwrap()
            .into_iter()
            .map(|file| file.path)
            .collect()
    }

    #[test]
    fn unit_tests_are_left_out_unless_a_template_may_read_them() {
        let chart = ("web/Chart.yaml", "name: web");
        let test = ("web/tests/a_test.yaml", "suite: a");
        let plain = ("web/templates/a.yaml", "kind: A");
        let slimmed = slim(&pack(&[chart, plain, test])).unwrap();
        assert_eq!(paths(&slimmed), ["web/Chart.yaml", "web/templates/a.yaml"]);
        let reads = ("web/templates/a.yaml", "{{ .Files.Get \"tests/x\" }}");
        assert_eq!(slim(&pack(&[chart, reads, test])), None);
        assert_eq!(slim(&pack(&[chart, plain])), None);
    }

    #[test]
    fn a_schema_keeps_all_that_it_demands() {
        let demands = json!({
            "type": "object",
            "properties": {"title": {"type": "string"}, "description": {"enum": ["a", {"title": "kept"}]}, "examples": true},
            "required": ["title"],
            "dependencies": {"examples": ["title"]},
            "dependentRequired": {"examples": ["description"]},
            "additionalProperties": false,
        });
        let mut noted = demands.clone();
        noted["title"] = json!("A chart");
        noted["properties"]["title"]["description"] = json!("what it is called");
        noted["properties"]["description"]["examples"] = json!(["a"]);
        let slimmed = slim_schema(serde_json::to_string_pretty(&noted).unwrap().as_bytes());
        assert_eq!(
            serde_json::from_slice::<Value>(&slimmed.unwrap()).unwrap(),
            demands
        );
    }
}
