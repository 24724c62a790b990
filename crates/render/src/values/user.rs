//! What a cluster author says about the release.

use serde_json::{Map, Value};

use super::{
    merge,
    policy::{self, Policy, Refusal},
};

/// The largest text of one source, and of all sources merged, in bytes: a release, its values
/// included, has to fit into one Secret.
const MAX_BYTES: usize = 1 << 20;
/// How deep values may be nested. The chart's own go to 12.
pub(super) const MAX_DEPTH: usize = 64;

/// One source of values, in the order in which they are laid over one another.
#[derive(Clone, PartialEq)]
pub struct Source {
    /// Where the values are from, for messages: `spec.values`, or
    /// `spec.valuesFrom[0] (Secret team-a/extra, key values.yaml)`.
    origin: String,
    values: Map<String, Value>,
}

/// The values may hold secrets: only where they are from is shown.
impl std::fmt::Debug for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Source")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Values that are given as an object.
    pub fn new(origin: impl Into<String>, values: Map<String, Value>) -> Self {
        Self {
            origin: origin.into(),
            values,
        }
    }

    /// Values that are given as the text of one YAML document. An empty text has none.
    pub fn from_yaml(origin: impl Into<String>, text: &str) -> Result<Self, ValuesError> {
        let origin = origin.into();
        if text.len() > MAX_BYTES {
            return Err(ValuesError::TooLarge { origin });
        }
        match serde_saphyr::from_str::<Option<Map<String, Value>>>(text) {
            Ok(values) => Ok(Self {
                origin,
                values: values.unwrap_or_default(),
            }),
            // The reader's message quotes the text, which may be a Secret's.
            Err(error) => {
                let place = error.location().map_or_else(String::new, |location| {
                    format!(
                        ", near line {}, column {}",
                        location.line(),
                        location.column()
                    )
                });
                Err(ValuesError::NotYaml { origin, place })
            }
        }
    }
}

/// Values that passed the policy, merged. Only these can be rendered.
#[derive(Clone, Default, PartialEq)]
pub struct UserValues(pub(super) Map<String, Value>);

/// The values may hold secrets: only how many branches there are is shown.
impl std::fmt::Debug for UserValues {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("UserValues")
            .field("branches", &self.0.len())
            .finish()
    }
}

impl UserValues {
    /// Checks `sources` against `policy` and merges them, later ones over earlier ones.
    ///
    /// # Errors
    /// The refusals of all sources at once, so that an author has to mend only once.
    pub fn read(sources: Vec<Source>, policy: Policy) -> Result<Self, ValuesError> {
        let mut refusals = Vec::new();
        for source in &sources {
            if depth(&source.values) > MAX_DEPTH {
                return Err(ValuesError::TooDeep {
                    origin: source.origin.clone(),
                });
            }
            refusals.extend(policy::check(&source.origin, &source.values, policy));
        }
        if !refusals.is_empty() {
            return Err(ValuesError::Refused(refusals));
        }
        let mut merged = Value::Object(Map::new());
        for source in sources {
            merged = merge(merged, Value::Object(source.values));
        }
        if merged.to_string().len() > MAX_BYTES {
            return Err(ValuesError::TooLarge {
                origin: "spec.valuesFrom and spec.values, merged".to_owned(),
            });
        }
        let Value::Object(values) = merged else {
            unreachable!("mappings merge to a mapping")
        };
        Ok(Self(values))
    }
}

/// Nesting of `values`, counted without recursion.
fn depth(values: &Map<String, Value>) -> usize {
    let mut deepest = 0;
    let mut open: Vec<(&Value, usize)> = values.values().map(|value| (value, 1)).collect();
    while let Some((value, depth)) = open.pop() {
        deepest = deepest.max(depth);
        match value {
            Value::Object(map) => open.extend(map.values().map(|value| (value, depth + 1))),
            Value::Array(items) => open.extend(items.iter().map(|value| (value, depth + 1))),
            _ => {}
        }
    }
    deepest
}

/// Why a tenant's values cannot be made. No message quotes a value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ValuesError {
    /// Keys that a cluster author may not set.
    #[error("{}", refusals(.0))]
    Refused(Vec<Refusal>),
    /// The text is no YAML mapping.
    #[error("{origin} is not one YAML mapping of Helm values{place}: mend the text there")]
    NotYaml {
        /// Where the values are from.
        origin: String,
        /// Where in the text.
        place: String,
    },
    /// Too much text.
    #[error(
        "{origin} is larger than {MAX_BYTES} bytes, more than a Helm release can hold: shorten it"
    )]
    TooLarge {
        /// Where the values are from.
        origin: String,
    },
    /// Nested too deep.
    #[error(
        "{origin} is nested deeper than {MAX_DEPTH} levels, deeper than any value of a chart: flatten it"
    )]
    TooDeep {
        /// Where the values are from.
        origin: String,
    },
    /// The external database's connection string is missing.
    #[error(
        "spec.controlPlane.backingStore.externalDatabase needs a connection string: put it under the key dataSource of the Secret that secretRef names"
    )]
    NoDataSource,
    /// A field of the spec would be more than one value in the chart's manifests.
    #[error("the spec's value for {0} holds a line break or another control character: remove it")]
    ControlCharacter(String),
}

/// How many refusals a message spells out; a condition's message has an end.
const SPELLED_OUT: usize = 5;

fn refusals(refusals: &[Refusal]) -> String {
    let text = refusals
        .iter()
        .take(SPELLED_OUT)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    match refusals.len().saturating_sub(SPELLED_OUT) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn source(value: Value) -> Source {
        let Value::Object(map) = value else {
            panic!("no mapping")
        };
        Source::new("spec.values", map)
    }

    #[test]
    fn later_sources_win() {
        let below = Source::from_yaml(
            "spec.valuesFrom[0]",
            "telemetry: {enabled: true}\nlogging: {encoding: json}",
        )
        .unwrap();
        let read = UserValues::read(
            vec![below, source(json!({"telemetry": {"enabled": false}}))],
            Policy::Restricted,
        )
        .unwrap();
        assert_eq!(
            Value::Object(read.0),
            json!({"telemetry": {"enabled": false}, "logging": {"encoding": "json"}})
        );
    }

    #[test]
    fn empty_text_has_no_values() {
        for text in ["", "\n", "# nothing\n", "{}", "null"] {
            let source = Source::from_yaml("x", text).unwrap();
            assert_eq!(
                UserValues::read(vec![source], Policy::Restricted),
                Ok(UserValues::default()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_broken_text_is_placed_but_not_quoted() {
        for text in [
            "a: [hunter2",
            "- hunter2",
            "hunter2",
            "a: 1\na: hunter2",
            "hunter2: {b: 1}\n--- \nc: 2",
        ] {
            let error = Source::from_yaml(
                "spec.valuesFrom[0] (Secret team-a/extra, key values.yaml)",
                text,
            )
            .unwrap_err();
            assert!(
                matches!(error, ValuesError::NotYaml { .. }),
                "{text:?}: {error:?}"
            );
            assert!(
                error
                    .to_string()
                    .starts_with("spec.valuesFrom[0] (Secret team-a/extra"),
                "{error}"
            );
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn anchors_do_not_multiply_without_end() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            text = format!("{text}a{level}: &a{level} [{below}]\n");
        }
        assert!(matches!(
            Source::from_yaml("x", &text),
            Err(ValuesError::NotYaml { .. })
        ));
    }

    #[test]
    fn nesting_and_size_have_an_end() {
        let mut deep = json!(1);
        for _ in 0..=MAX_DEPTH {
            deep = json!({"deploy": deep});
        }
        let error = UserValues::read(vec![source(deep)], Policy::Unrestricted).unwrap_err();
        assert!(matches!(error, ValuesError::TooDeep { .. }), "{error}");
        let large = source(json!({"deploy": {"metallb": "x".repeat(MAX_BYTES)}}));
        let error = UserValues::read(vec![large], Policy::Unrestricted).unwrap_err();
        assert!(matches!(error, ValuesError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn nothing_shows_a_value() {
        let source = source(json!({"telemetry": {"machineID": "hunter2"}}));
        assert!(!format!("{source:?}").contains("hunter2"));
        let read = UserValues::read(vec![source], Policy::Restricted).unwrap();
        assert!(!format!("{read:?}").contains("hunter2"));
    }

    #[test]
    fn all_refusals_come_at_once() {
        let error = UserValues::read(
            vec![
                source(json!({"rbac": {"role": {"extraRules": [{"verbs": ["*"]}]}}})),
                source(json!({"experimental": {"syncSettings": {"setOwner": true}}})),
            ],
            Policy::Restricted,
        )
        .unwrap_err();
        let ValuesError::Refused(refusals) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(refusals.len(), 2);
        assert!(
            error.to_string().contains("rbac.role.extraRules")
                && error.to_string().contains("setOwner"),
            "{error}"
        );
    }
}
