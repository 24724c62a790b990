//! Helm values: a hash that does not depend on the order of keys.

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

/// `values` as a file for helm: JSON, with the line ends of Unicode escaped, which YAML folds.
pub(crate) fn helm_text(values: &Value) -> String {
    values
        .to_string()
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// The path, with dots, of a text with characters that no chart can pass on: helm's `toYaml`
/// gives an empty text, or another one, for a value that holds them, and says nothing.
pub(crate) fn unprintable(values: &Value) -> Option<String> {
    let bad = |text: &str| {
        text.contains(|c| {
            matches!(
                c,
                '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
            )
        })
    };
    let below = |key: &str, rest: String| {
        if rest.is_empty() {
            key.to_owned()
        } else {
            format!("{key}.{rest}")
        }
    };
    match values {
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            if bad(key) {
                return Some(key.escape_default().to_string());
            }
            unprintable(value).map(|rest| below(key, rest))
        }),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            unprintable(item).map(|rest| below(&index.to_string(), rest))
        }),
        Value::String(text) => bad(text).then(String::new),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
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
            let folded = ['\u{2028}', '\u{2029}'];
            prop_assert!(!text.contains(folded));
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }

        #[test]
        fn different_values_hash_differently(a in any_json(), b in any_json()) {
            prop_assert_eq!(values_hash(&a) == values_hash(&b), a == b);
        }
    }

    #[test]
    fn texts_that_helm_would_lose_are_found() {
        assert_eq!(
            unprintable(&json!({"a": ["é 😀 \u{2028} \t\n", 1, null], "b": true})),
            None
        );
        for bad in ["\u{7f}", "x\u{85}", "\u{9f}", "\u{feff}x", "\u{ffff}"] {
            assert_eq!(
                unprintable(&json!({"a": {"b": ["ok", bad]}})).as_deref(),
                Some("a.b.1")
            );
            assert!(unprintable(&json!({"a": {bad: 1}})).is_some());
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
