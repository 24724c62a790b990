//! The checks that a chart makes of its values, made here: helm reads the chart's schema anew in
//! each run, which is a fifth of its time, and packs it into each release.

use std::collections::HashMap;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// Most parts of a schema, each counted as often as references lead to it. That of vCluster 0.36
/// has 23,000.
const MOST_PARTS: u64 = 200_000;
/// Most parts inside one another, references followed.
const DEEPEST: usize = 200;
/// Bytes of a compiled pattern.
const PATTERN_LIMIT: usize = 1 << 20;

/// A chart's `values.schema.json`, ready for use, with the defaults that values are laid over.
#[derive(Debug)]
pub struct ValuesSchema {
    validator: Validator,
    defaults: Value,
}

impl ValuesSchema {
    /// Of a chart without charts inside. None if only helm can say what the schema means, or what the defaults are.
    pub(super) fn read(schema: &[u8], defaults: &[u8]) -> Option<Self> {
        let schema: Value = serde_json::from_slice(schema).ok()?;
        let defaults: Value = serde_saphyr::from_slice(defaults).ok()?;
        if !defaults.is_object() || has_null(&defaults) {
            return None;
        }
        // Helm has a time limit, and this process has other things to do: a chart is no reason
        // for it to hang.
        Parts::new(&schema).count(&schema, 0)?;
        let patterns = PatternOptions::regex()
            .size_limit(PATTERN_LIMIT)
            .dfa_size_limit(PATTERN_LIMIT);
        let validator = jsonschema::options()
            .with_pattern_options(patterns)
            .build(&schema)
            .ok()?;
        Some(Self {
            validator,
            defaults,
        })
    }

    /// Whether helm would find `values` good. Where that cannot be said here it is no, and helm
    /// is to be asked: its answer is also the one that people get to read.
    pub fn accepts(&self, values: &Value) -> bool {
        overlay(&self.defaults, values).is_some_and(|whole| self.validator.is_valid(&whole))
    }
}

/// Counts the parts of a schema with each reference in place of what it refers to: an upper
/// bound on what a check does for one value.
struct Parts<'a> {
    root: &'a Value,
    /// By address; none while it is being counted.
    known: HashMap<*const Value, Option<u64>>,
}

impl<'a> Parts<'a> {
    fn new(root: &'a Value) -> Self {
        let known = HashMap::new();
        Self { root, known }
    }

    /// None if there are too many, or references lead in a circle or by other ways than a path.
    fn count(&mut self, part: &'a Value, depth: usize) -> Option<u64> {
        if depth > DEEPEST {
            return None;
        }
        if let Some(known) = self.known.get(&std::ptr::from_ref(part)) {
            return *known;
        }
        self.known.insert(std::ptr::from_ref(part), None);
        let mut sum = 1_u64;
        match part {
            Value::Object(fields) => {
                for (key, field) in fields {
                    let inner = self.target(part, key, field)?;
                    sum = sum.saturating_add(self.count(inner, depth + 1)?);
                }
            }
            Value::Array(items) => {
                for item in items {
                    sum = sum.saturating_add(self.count(item, depth + 1)?);
                }
            }
            _ => {}
        }
        if sum > MOST_PARTS {
            return None;
        }
        self.known.insert(std::ptr::from_ref(part), Some(sum));
        Some(sum)
    }

    /// What a field stands for.
    fn target(&self, part: &Value, key: &str, field: &'a Value) -> Option<&'a Value> {
        match (key, field) {
            ("$ref", Value::String(path)) => {
                let pointer = path.strip_prefix('#')?;
                self.root.pointer(pointer)
            }
            ("$id", Value::String(_)) if !std::ptr::eq(part, self.root) => None,
            // Other ways than a path.
            (
                "$anchor" | "$dynamicAnchor" | "$dynamicRef" | "$recursiveAnchor" | "$recursiveRef",
                _,
            ) => None,
            _ => Some(field),
        }
    }
}

/// Values over defaults, as helm coalesces them. None where helm would have more to decide: a
/// null takes a default away, and a mapping meets something else.
fn overlay(defaults: &Value, values: &Value) -> Option<Value> {
    match (defaults, values) {
        (Value::Object(defaults), Value::Object(values)) => {
            let mut whole = defaults.clone();
            for (key, value) in values {
                let value = match defaults.get(key) {
                    Some(default) => overlay(default, value)?,
                    None if has_null(value) => return None,
                    None => value.clone(),
                };
                whole.insert(key.clone(), value);
            }
            Some(Value::Object(whole))
        }
        (_, Value::Null | Value::Object(_)) | (Value::Object(_), _) => None,
        (_, value) => (!has_null(value)).then(|| value.clone()),
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(schema: &Value, defaults: &str) -> Option<ValuesSchema> {
        ValuesSchema::read(schema.to_string().as_bytes(), defaults.as_bytes())
    }

    #[test]
    fn what_the_schema_refuses_in_the_whole_of_the_values_is_refused() {
        let demands = json!({
            "type": "object", "additionalProperties": false, "required": ["image"],
            "$defs": {"Image": {"type": "object", "properties": {"tag": {"type": "string"}}}},
            "properties": {"image": {"$ref": "#/$defs/Image"}, "replicas": {"type": "integer", "maximum": 3}},
        });
        let schema = schema(&demands, "image: {tag: \"1\"}\nreplicas: 1\n").unwrap();
        assert!(schema.accepts(&json!({})), "the defaults are part of it");
        assert!(schema.accepts(&json!({"replicas": 3, "image": {"tag": "2"}})));
        assert!(!schema.accepts(&json!({"replicas": 4})));
        assert!(!schema.accepts(&json!({"replica": 1})));
        assert!(!schema.accepts(&json!({"image": {"tag": 2}})));
    }

    #[test]
    fn what_helm_has_to_decide_is_left_to_it() {
        let any = schema(&json!({}), "map: {a: 1}\ntext: a\nlist: [1]\n").unwrap();
        for values in [
            json!({"text": null}),
            json!({"map": {"a": null}}),
            json!({"new": {"a": null}}),
            json!({"list": [null]}),
            json!({"map": "text"}),
            json!({"text": {"a": 1}}),
        ] {
            assert!(!any.accepts(&values), "{values}");
        }
        assert!(any.accepts(&json!({"map": {"b": [1]}, "list": [], "new": {"a": 1}})));
        assert!(schema(&json!({}), "gone: null\n").is_none());
        assert!(schema(&json!({}), "- a\n").is_none());
        let elsewhere = json!({"$ref": "https://example.com/schema.json"});
        assert!(schema(&elsewhere, "{}").is_none(), "nothing is fetched");
    }

    #[test]
    fn a_schema_that_would_take_for_ever_is_left_to_helm() {
        let mut doubling = serde_json::Map::new();
        for number in 0..60 {
            let next = json!({"$ref": format!("#/$defs/a{}", number + 1)});
            doubling.insert(format!("a{number}"), json!({"allOf": [next, next]}));
        }
        doubling.insert("a60".to_owned(), json!({"type": "object"}));
        let mut long = serde_json::Map::new();
        for number in 0..50_000 {
            let next = json!({"$ref": format!("#/$defs/a{}", number + 1)});
            long.insert(format!("a{number}"), next);
        }
        long.insert("a50000".to_owned(), json!({}));
        for hostile in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#/allOf/0"}]}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
            json!({"properties": {"a": {"$ref": "#"}}}),
            json!({"$defs": doubling, "$ref": "#/$defs/a0"}),
            json!({"$defs": long, "$ref": "#/$defs/a0"}),
            json!({"$dynamicRef": "#a", "$dynamicAnchor": "a"}),
            json!({"properties": {"a": {"$id": "b", "$ref": "#/c"}}}),
            json!({"pattern": "^(a+)+(?=b)$"}),
            json!({"pattern": "((a{1000}){1000}){1000}"}),
        ] {
            let text = hostile.to_string();
            assert!(schema(&hostile, "{}").is_none(), "{text:.200}");
        }
        let patient = schema(&json!({"properties": {"a": {"pattern": "^(a+)+$"}}}), "{}").unwrap();
        assert!(!patient.accepts(&json!({"a": format!("{}b", "a".repeat(5000))})));
    }
}
