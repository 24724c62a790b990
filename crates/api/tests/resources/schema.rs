//! What every field of the generated schemas has.

use kubebyon_api::crd;
use serde_json::{Map, Value};

/// Calls `visit` with the path and the schema of every field of our resources.
fn each_field(visit: &mut impl FnMut(&str, &Map<String, Value>)) {
    for crd in crd::all() {
        let kind = crd.spec.names.kind.clone();
        let value = serde_json::to_value(&crd).expect("JSON");
        for version in value["spec"]["versions"].as_array().expect("versions") {
            walk(&kind, &version["schema"]["openAPIV3Schema"], visit);
        }
    }
}

fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
    let Some(schema) = schema.as_object() else {
        return;
    };
    visit(path, schema);
    if let Some(Value::Object(properties)) = schema.get("properties") {
        for (name, property) in properties {
            walk(&format!("{path}.{name}"), property, visit);
        }
    }
    if let Some(items) = schema.get("items") {
        walk(&format!("{path}[]"), items, visit);
    }
    if let Some(values) = schema.get("additionalProperties") {
        walk(&format!("{path}{{}}"), values, visit);
    }
}

#[test]
fn every_field_is_described() {
    let mut fields = 0;
    let mut bare = Vec::new();
    each_field(&mut |path, schema| {
        let inner = path.ends_with(']') || path.ends_with('}');
        let description = schema.get("description").and_then(Value::as_str);
        fields += 1;
        if !inner && description.is_none_or(|text| text.len() < 4) {
            bare.push(path.to_owned());
        }
    });
    assert!(fields > 200, "{fields} fields");
    assert!(bare.is_empty(), "without a description: {bare:#?}");
}

#[test]
fn every_list_map_and_text_is_bounded() {
    let mut boundless = Vec::new();
    each_field(&mut |path, schema| {
        let has = |key: &str| schema.contains_key(key);
        let bounded = match schema.get("type").and_then(Value::as_str) {
            Some("string") => has("maxLength") || has("enum") || has("format"),
            Some("array") => has("maxItems"),
            Some("object") => {
                has("properties")
                    || has("maxProperties")
                    || has("x-kubernetes-preserve-unknown-fields")
            }
            Some("integer" | "boolean") => true,
            None => has("x-kubernetes-int-or-string") && has("maxLength"),
            Some(_) => false,
        };
        if !bounded {
            boundless.push(path.to_owned());
        }
    });
    assert!(boundless.is_empty(), "without a bound: {boundless:#?}");
}

#[test]
fn every_rule_says_what_to_do() {
    let mut rules = 0;
    each_field(&mut |path, schema| {
        let validations = schema.get("x-kubernetes-validations");
        for rule in validations.and_then(Value::as_array).into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(message.len() > 20, "{path}: {rule}");
            rules += 1;
        }
    });
    assert!(rules > 50, "{rules} rules");
}

#[test]
fn nothing_is_nullable() {
    each_field(&mut |path, schema| assert!(!schema.contains_key("nullable"), "{path}"));
}
