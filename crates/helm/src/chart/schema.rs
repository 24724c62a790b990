//! The checks that a chart makes of its values, made here: helm reads the chart's schema anew in
//! each run, which is a fifth of its time, and packs it into each release.

use jsonschema::Validator;
use serde_json::Value;

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
        Some(Self {
            // What it refers to outside of itself was refused before, and is not looked up.
            validator: jsonschema::validator_for(&schema).ok()?,
            defaults,
        })
    }

    /// Whether helm would find `values` good. Where that cannot be said here it is no, and helm
    /// is to be asked: its answer is also the one that people get to read.
    pub fn accepts(&self, values: &Value) -> bool {
        overlay(&self.defaults, values).is_some_and(|whole| self.validator.is_valid(&whole))
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
}
