//! No definition takes back what an earlier one promised.
//!
//! `tests/baseline/` holds the definitions of the last promise. A field that is gone, of another
//! type or narrower than there fails here. Where that is meant (a field that no release had),
//! advance the baseline with `cargo run -p kubebyon-api --bin crdgen -- --baseline` and say why in
//! the commit.

use std::collections::BTreeSet;

use kubebyon_api::crd;
use serde_json::{Value, json};

use crate::support::files;

/// What `new` takes back of `old`, at `path`.
fn narrowed(path: &str, old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if old["type"] != new["type"] {
        found.push(format!(
            "{path}: type {} is {} now",
            old["type"], new["type"]
        ));
    }
    for bound in ["maxLength", "maxItems", "maxProperties", "maximum"] {
        match (old[bound].as_f64(), new[bound].as_f64()) {
            (Some(before), Some(now)) if now < before => {
                found.push(format!("{path}: {bound} fell from {before} to {now}"));
            }
            (None, Some(now)) => found.push(format!("{path}: {bound} {now} is new")),
            _ => {}
        }
    }
    for bound in ["minLength", "minItems", "minProperties", "minimum"] {
        match (old[bound].as_f64(), new[bound].as_f64()) {
            (Some(before), Some(now)) if now > before => {
                found.push(format!("{path}: {bound} rose from {before} to {now}"));
            }
            (None, Some(now)) => found.push(format!("{path}: {bound} {now} is new")),
            _ => {}
        }
    }
    for text in [
        "pattern",
        "format",
        "default",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-preserve-unknown-fields",
    ] {
        if old[text] != new[text] {
            found.push(format!("{path}: {text} {} is {} now", old[text], new[text]));
        }
    }
    let words = |schema: &Value, key: &str| -> BTreeSet<String> {
        schema[key]
            .as_array()
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect()
    };
    if new["enum"].is_array() && old["enum"].is_null() {
        found.push(format!("{path}: enum is new"));
    }
    for word in words(old, "enum").difference(&words(new, "enum")) {
        if new["enum"].is_array() {
            found.push(format!("{path}: enum lost {word}"));
        }
    }
    for field in words(new, "required").difference(&words(old, "required")) {
        found.push(format!("{path}: {field} is newly required"));
    }
    if let Value::Object(properties) = &old["properties"] {
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            match &new["properties"][name] {
                Value::Null => found.push(format!("{path}: removed")),
                kept => found.extend(narrowed(&path, property, kept)),
            }
        }
    }
    for child in ["items", "additionalProperties"] {
        if old[child].is_object() {
            found.extend(narrowed(
                &format!("{path}.{child}"),
                &old[child],
                &new[child],
            ));
        }
    }
    found
}

#[test]
fn nothing_promised_is_taken_back() {
    let baseline = files("tests/baseline");
    let mut found = Vec::new();
    let definitions = crd::all();
    assert_eq!(baseline.len(), definitions.len());
    for (file, text) in &baseline {
        let old: Value =
            serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let Some(new) = definitions
            .iter()
            .find(|crd| crd.metadata.name.as_deref() == old["metadata"]["name"].as_str())
        else {
            found.push(format!("{file}: removed"));
            continue;
        };
        let new = serde_json::to_value(new).expect("JSON");
        assert_eq!(old["spec"]["scope"], new["spec"]["scope"], "{file}");
        for version in old["spec"]["versions"].as_array().into_iter().flatten() {
            let Some(kept) = new["spec"]["versions"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|kept| kept["name"] == version["name"])
            else {
                found.push(format!("{file}: version {} removed", version["name"]));
                continue;
            };
            let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
            found.extend(narrowed(
                version["name"].as_str().unwrap_or_default(),
                &schema(version),
                &schema(kept),
            ));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn narrowing_is_seen() {
    let old = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "maxLength": 10, "enum": ["x", "y"]},
        "b": {"type": "array", "maxItems": 5, "items": {"type": "integer", "minimum": 1}},
        "c": {"type": "object", "additionalProperties": {"type": "string"}},
        "d": {"type": "integer", "default": 1},
    }});
    let change = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).expect("a place") = value;
        narrowed("v", &old, &new)
    };
    assert_eq!(narrowed("v", &old, &old), Vec::<String>::new());
    for (pointer, value, says) in [
        ("/properties/a/maxLength", json!(9), "maxLength fell"),
        ("/properties/a/enum", json!(["x"]), "enum lost"),
        ("/properties/a/type", json!("integer"), "type"),
        ("/properties/a", json!(null), "removed"),
        ("/properties/b/maxItems", json!(4), "maxItems fell"),
        ("/properties/b/items/minimum", json!(2), "minimum rose"),
        (
            "/properties/c/additionalProperties",
            json!({"type": "string", "maxLength": 3}),
            "maxLength 3 is new",
        ),
        ("/properties/d/default", json!(2), "default"),
        ("/required", json!(["a", "b"]), "newly required"),
    ] {
        let found = change(pointer, value);
        assert!(
            found.iter().any(|line| line.contains(says)),
            "{pointer}: {found:?}"
        );
    }
    for (pointer, value) in [
        ("/properties/a/maxLength", json!(11)),
        ("/properties/a/enum", json!(["x", "y", "z"])),
        ("/properties/b/items/minimum", json!(0)),
        ("/required", json!([])),
    ] {
        assert_eq!(change(pointer, value), Vec::<String>::new(), "{pointer}");
    }
}
