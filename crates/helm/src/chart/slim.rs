//! What helm is given of a chart: all that it reads, and little of what it only carries.
//!
//! Helm packs the whole chart into every release Secret, twice a run: a chart whose schema
//! is long and whose unit tests are in the archive makes helm spend a quarter of its time on
//! packing, and the api-server and etcd keep it once a revision. Left out are the folder
//! `tests` of helm-unittest and the chart's README, unless a template reads files of the
//! chart, and in the schema what says nothing about which values are good: blanks,
//! descriptions, titles, examples. For values that were checked already there is an archive
//! without the schema.

use std::io::{Cursor, Read};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde_json::Value;

use super::schema::ValuesSchema;

const SCHEMA: &str = "values.schema.json";

/// What helm may be given in place of an archive.
#[derive(Debug, Default)]
pub(super) struct Smaller {
    /// The archive without what helm has no use for; none if there is no such thing in it.
    pub(super) slim: Option<Vec<u8>>,
    /// Also without the schema, for values that it accepts; none where only helm can tell.
    pub(super) bare: Option<(Vec<u8>, ValuesSchema)>,
}

/// Makes what can be made of `archive`, which was inspected before.
pub(super) fn smaller(archive: &[u8]) -> Smaller {
    files(archive).and_then(of_files).unwrap_or_default()
}

fn of_files(mut files: Vec<File>) -> Option<Smaller> {
    let has_charts = files.iter().any(|file| file.below.starts_with("charts/"));
    let reads_files = files.iter().any(|file| {
        file.below.starts_with("templates/")
            && file.content.windows(6).any(|part| part == b".Files")
    });
    let before = files.len();
    if !has_charts && !reads_files {
        files.retain(|file| !file.below.starts_with("tests/") && file.below != "README.md");
    }
    let mut changed = files.len() != before;
    for file in files.iter_mut().filter(|file| file.below == SCHEMA) {
        if let Some(schema) = slim_schema(&file.content) {
            changed = true;
            file.content = schema;
        }
    }
    let slim = if changed {
        Some(pack(files.iter())?)
    } else {
        None
    };
    let content = |below: &str| {
        let found = files.iter().find(|file| file.below == below);
        found.map(|file| file.content.as_slice())
    };
    let schema = content(SCHEMA)
        .filter(|_| !has_charts)
        .and_then(|schema| ValuesSchema::read(schema, content("values.yaml").unwrap_or(b"{}")));
    let bare = match schema {
        Some(schema) => Some((
            pack(files.iter().filter(|file| file.below != SCHEMA))?,
            schema,
        )),
        None => None,
    };
    Some(Smaller { slim, bare })
}

fn pack<'a>(files: impl Iterator<Item = &'a File>) -> Option<Vec<u8>> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for File { path, content, .. } in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, Cursor::new(content))
            .ok()?;
    }
    tar.into_inner().ok()?.finish().ok()
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

    fn packed(files: &[(&str, &str)]) -> Vec<u8> {
        let file = |(path, content): &(&str, &str)| File {
            path: (*path).to_owned(),
            below: String::new(),
            content: content.as_bytes().to_owned(),
        };
        let files: Vec<File> = files.iter().map(file).collect();
        pack(files.iter()).unwrap()
    }

    fn slim(files: &[(&str, &str)]) -> Option<Vec<u8>> {
        smaller(&packed(files)).slim
    }

    fn paths(archive: &[u8]) -> Vec<String> {
        files(archive)
            .unwrap()
            .into_iter()
            .map(|file| file.path)
            .collect()
    }

    #[test]
    fn unit_tests_and_the_readme_are_left_out_unless_a_template_may_read_them() {
        let chart = ("web/Chart.yaml", "name: web");
        let test = ("web/tests/a_test.yaml", "suite: a");
        let plain = ("web/templates/a.yaml", "kind: A");
        let readme = ("web/README.md", "# web");
        let slimmed = slim(&[chart, plain, test, readme]).unwrap();
        assert_eq!(paths(&slimmed), ["web/Chart.yaml", "web/templates/a.yaml"]);
        let reads = ("web/templates/a.yaml", "{{ .Files.Get \"tests/x\" }}");
        assert_eq!(slim(&[chart, reads, test, readme]), None);
        assert_eq!(slim(&[chart, plain]), None);
    }

    #[test]
    fn the_schema_is_left_out_where_it_can_be_checked_here() {
        let chart = ("web/Chart.yaml", "name: web");
        let schema = ("web/values.schema.json", "{\"required\":[\"a\"]}");
        let values = ("web/values.yaml", "b: 1\n");
        let (archive, schema_of) = smaller(&packed(&[chart, schema, values])).bare.unwrap();
        assert_eq!(paths(&archive), ["web/Chart.yaml", "web/values.yaml"]);
        assert!(schema_of.accepts(&json!({"a": 1})) && !schema_of.accepts(&json!({})));
        let inner = ("web/charts/inner/Chart.yaml", "name: inner");
        for files in [
            &[chart, values][..],
            &[chart, schema, values, inner],
            &[chart, schema, ("web/values.yaml", "a: null\n")],
        ] {
            assert!(smaller(&packed(files)).bare.is_none(), "{files:?}");
        }
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
