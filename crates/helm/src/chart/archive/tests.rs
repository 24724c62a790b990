use flate2::{Compression, write::GzEncoder};
use tar::{Builder, EntryType, Header};

use super::*;

const CHART: (&str, &[u8]) = (
    "web/Chart.yaml",
    b"apiVersion: v2\nname: web\nversion: 1.2.3\n",
);

fn limits(unpacked: u64) -> Limits {
    Limits {
        unpacked,
        name: "web".to_owned(),
    }
}

fn pack(files: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, kind, content) in files {
        let mut header = Header::new_gnu();
        // The library refuses bad paths; an attacker's does not.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        if *kind == EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn with(path: &str, kind: EntryType, content: &[u8]) -> Vec<u8> {
    pack(&[
        (CHART.0, EntryType::Regular, CHART.1),
        (path, kind, content),
    ])
}

#[test]
fn a_good_chart_tells_its_name_and_version() {
    let schema = br##"{"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/a", "$defs": {"a": {}}}"##;
    for archive in [
        with("web/values.schema.json", EntryType::Regular, schema),
        with(
            "web/charts/sub-1.0.0.tgz",
            EntryType::Regular,
            &with("web/x", EntryType::Regular, b""),
        ),
        with("web/templates/", EntryType::Directory, b""),
    ] {
        let chart = inspect(&archive, &limits(1 << 20)).unwrap();
        assert_eq!(
            (chart.name.as_str(), chart.version.as_str()),
            ("web", "1.2.3")
        );
    }
}

#[test]
fn bad_archives_are_refused_with_their_reason() {
    let regular = EntryType::Regular;
    let remote = br#"{"properties": {"a": {"$ref": "http://169.254.169.254/latest"}}}"#;
    let packed = with(
        "web/charts/sub.tgz",
        regular,
        &with("web/values.schema.json", regular, remote),
    );
    for (archive, part) in [
        (
            with("web/../../etc/cron.d/x", regular, b""),
            "leads outside",
        ),
        (with("/etc/cron.d/x", regular, b""), "leads outside"),
        (
            with("web/./values.schema.json", regular, b"{}"),
            "leads outside",
        ),
        (
            with("web\\values.schema.json", regular, remote),
            "backslash",
        ),
        (
            with("web/templates/x.yaml", EntryType::Symlink, b""),
            "a link or a device",
        ),
        (
            with("web/templates/x.yaml", EntryType::Link, b""),
            "a link or a device",
        ),
        (with("web/x", EntryType::Fifo, b""), "a link or a device"),
        (with("web/Chart.yaml", regular, CHART.1), "there twice"),
        (
            with("web/values.schema.json", regular, remote),
            "outside of the chart ($ref)",
        ),
        (
            with(
                "web/values.schema.json",
                regular,
                br#"{"$id": "http://a/b", "$ref": "c.json"}"#,
            ),
            "($ref)",
        ),
        (
            with(
                "web/values.schema.json",
                regular,
                br#"{"$schema": "file:///etc/passwd"}"#,
            ),
            "($schema)",
        ),
        (
            with("web/charts/sub/values.schema.json", regular, remote),
            "($ref)",
        ),
        (
            with("web/values.schema.json", regular, b"no"),
            "is not JSON",
        ),
        (packed, "($ref)"),
        (pack(&[("web/values.yaml", regular, b"")]), "no Chart.yaml"),
        (
            pack(&[("web/Chart.yaml", regular, b"name: web")]),
            "no name and version",
        ),
        (b"not an archive".to_vec(), "no gzipped tar"),
        (
            with("web/x", regular, &[7; 4096])[..80].to_vec(),
            "no gzipped tar",
        ),
    ] {
        let error = inspect(&archive, &limits(1 << 20)).unwrap_err();
        assert_eq!(error.reason(), "ChartInvalid", "{error}");
        assert!(
            error.to_string().contains(part),
            "{error}\n does not contain {part}"
        );
    }
}

#[test]
fn bombs_are_stopped_by_their_size() {
    let bomb = with("web/zeroes", EntryType::Regular, &vec![0; 8 << 20]);
    assert!(bomb.len() < 64 << 10);
    assert_eq!(
        inspect(&bomb, &limits(1 << 20)).unwrap_err().reason(),
        "ChartTooLarge"
    );
    // Eight of them packed into a chart count together.
    let names: Vec<_> = (0..8).map(|n| format!("web/charts/{n}.tgz")).collect();
    let mut files = vec![(CHART.0, EntryType::Regular, CHART.1)];
    files.extend(
        names
            .iter()
            .map(|name| (name.as_str(), EntryType::Regular, bomb.as_slice())),
    );
    assert_eq!(
        inspect(&pack(&files), &limits(20 << 20))
            .unwrap_err()
            .reason(),
        "ChartTooLarge"
    );
    let mut nested = with("web/x", EntryType::Regular, b"");
    for _ in 0..MAX_DEPTH {
        nested = with("web/charts/a.tgz", EntryType::Regular, &nested);
    }
    assert!(
        inspect(&nested, &limits(1 << 20))
            .unwrap_err()
            .to_string()
            .contains("too deeply")
    );
}
