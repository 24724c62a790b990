//! Laying values over values, as Helm does with several `--values` files.

use serde_json::Value;

/// Lays `overlay` over `base`: mappings are merged key by key, everything else is replaced.
///
/// A `null` replaces as any other value does and stays in the result: only Helm, which knows the
/// chart's defaults, can make it delete one of them.
#[must_use]
pub fn merge(base: Value, overlay: Value) -> Value {
    match (base, overlay) {
        (Value::Object(mut base), Value::Object(overlay)) => {
            for (key, above) in overlay {
                let merged = match base.remove(&key) {
                    Some(below) => merge(below, above),
                    None => above,
                };
                base.insert(key, merged);
            }
            Value::Object(base)
        }
        (_, overlay) => overlay,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    fn any_values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
            prop::collection::vec(any::<i8>(), 0..3).prop_map(Value::from),
        ];
        let nested = leaf.prop_recursive(4, 32, 4, |inner| {
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(object)
        });
        prop::collection::btree_map("[a-d]", nested, 0..4).prop_map(object)
    }

    /// Values whose keys are mappings or leaves by their name, as a schema would have it.
    fn typed_values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from)];
        let leaves = prop::collection::btree_map("[a-d]", leaf, 0..4).prop_map(object);
        leaves.prop_recursive(4, 32, 4, |inner| {
            (
                prop::collection::btree_map("[a-d]", any::<i32>().prop_map(Value::from), 0..3),
                prop::collection::btree_map("[m-p]", inner, 0..3),
            )
                .prop_map(|(mut leaves, maps)| {
                    leaves.extend(maps);
                    object(leaves)
                })
        })
    }

    fn object(map: std::collections::BTreeMap<String, Value>) -> Value {
        Value::Object(map.into_iter().collect())
    }

    /// What a path leads to, where the path goes through mappings alone.
    fn leaves(value: &Value, path: &str, out: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    leaves(value, &format!("{path}/{key}"), out);
                }
            }
            other => out.push((path.to_owned(), other.clone())),
        }
    }

    proptest! {
        #[test]
        fn empty_values_change_nothing(values in any_values()) {
            let empty = || Value::Object(Map::new());
            prop_assert_eq!(merge(values.clone(), empty()), values.clone());
            prop_assert_eq!(merge(empty(), values.clone()), values);
        }

        #[test]
        fn the_same_values_twice_are_the_same(values in any_values()) {
            prop_assert_eq!(merge(values.clone(), values.clone()), values);
        }

        #[test]
        fn every_leaf_of_the_overlay_is_in_the_result(base in any_values(), overlay in any_values()) {
            let merged = merge(base, overlay.clone());
            let mut wanted = Vec::new();
            leaves(&overlay, "", &mut wanted);
            for (path, value) in wanted {
                if value != json!({}) {
                    prop_assert_eq!(merged.pointer(&path), Some(&value), "at {}", path);
                }
            }
        }

        #[test]
        fn no_leaf_comes_from_nowhere(base in any_values(), overlay in any_values()) {
            let mut result = Vec::new();
            leaves(&merge(base.clone(), overlay.clone()), "", &mut result);
            for (path, value) in result {
                let known = [&base, &overlay].iter().any(|source| source.pointer(&path) == Some(&value));
                prop_assert!(known, "{} = {}", path, value);
            }
        }

        // With a mapping between two scalars it does not hold: (1 + {}) + {a} is {a}, and so is
        // 1 + ({} + {a}), but ({b} + 1) + {a} is {a} while {b} + (1 + {a}) is {a, b}.
        #[test]
        fn grouping_does_not_matter_where_kinds_agree(a in typed_values(), b in typed_values(), c in typed_values()) {
            prop_assert_eq!(
                merge(merge(a.clone(), b.clone()), c.clone()),
                merge(a, merge(b, c))
            );
        }
    }

    #[test]
    fn null_stays_for_helm_to_delete_the_default() {
        let merged = merge(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null}}));
        assert_eq!(merged, json!({"a": {"b": null, "c": 2}}));
    }

    #[test]
    fn lists_are_replaced_whole() {
        assert_eq!(
            merge(json!({"a": [1, 2]}), json!({"a": [3]})),
            json!({"a": [3]})
        );
    }

    #[test]
    fn a_mapping_and_a_scalar_replace_each_other() {
        assert_eq!(
            merge(json!({"a": {"b": 1}}), json!({"a": 2})),
            json!({"a": 2})
        );
        assert_eq!(
            merge(json!({"a": 2}), json!({"a": {"b": 1}})),
            json!({"a": {"b": 1}})
        );
    }
}
