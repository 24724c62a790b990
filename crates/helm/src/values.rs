//! Helm values: a hash that does not depend on the order of keys.

use std::fmt::Write as _;

use serde_json::Value;

use crate::digest::Sha256Digest;

/// The digest of the canonical JSON of `values`: object keys sorted by their bytes,
/// no spaces. Equal values give equal hashes whatever order their keys were written in.
pub fn values_hash(values: &Value) -> Sha256Digest {
    let mut text = String::new();
    canonical(values, &mut text);
    Sha256Digest::of(text.as_bytes())
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// `values` as a file for helm: JSON, with the characters escaped that JSON allows in a
/// string and helm's YAML reader refuses or folds.
pub(crate) fn helm_text(values: &Value) -> String {
    let json = values.to_string();
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                // Writing to a String does not fail.
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text
}

/// The text of every scalar in `values`, for redaction.
pub(crate) fn leaves(values: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![values];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => open.extend(map.values()),
            Value::Array(items) => open.extend(items),
            Value::String(text) => found.push(text.clone()),
            Value::Number(number) => found.push(number.to_string()),
            Value::Bool(_) | Value::Null => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_json_reads_back_as_the_same_value(value in any_json()) {
            let mut text = String::new();
            canonical(&value, &mut text);
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }

        #[test]
        fn the_text_for_helm_is_the_same_json(value in any_json()) {
            let text = helm_text(&value);
            let refused = ['\u{7f}', '\u{85}', '\u{2028}', '\u{feff}', '\u{ffff}'];
            prop_assert!(!text.contains(refused));
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }

        #[test]
        fn different_values_hash_differently(a in any_json(), b in any_json()) {
            prop_assert_eq!(values_hash(&a) == values_hash(&b), a == b);
        }
    }

    #[test]
    fn key_order_does_not_matter_and_item_order_does() {
        let a: Value = serde_json::from_str(r#"{"b":1,"a":{"y":[1,2],"x":null}}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"a":{"x":null,"y":[1,2]},"b":1}"#).unwrap();
        assert_eq!(values_hash(&a), values_hash(&b));
        assert_ne!(values_hash(&json!([1, 2])), values_hash(&json!([2, 1])));
    }
}
