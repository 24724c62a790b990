//! What a cluster author's Helm values may say.
//!
//! A cluster author is not a host admin, and the chart is large: some of its keys make
//! ClusterRoles, read other namespaces, mount volumes or run commands next to the tenant's keys.
//! So the list ([`rules`]) is one of what is *allowed*, branch by branch, with the refused branches
//! named beside them for a good message. A key on neither list is refused too: a newer chart may
//! bring keys that nobody here has looked at.
//!
//! What the templates print without quoting is allowed as a single line only; a line break there
//! would add keys, or whole objects, to what Helm applies.

mod rules;

use std::fmt;

use serde_json::{Map, Value};

pub use rules::{Rule, Verdict, rules};

/// How far values may reach; the host admin's flag `--values-policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Only what the list allows.
    Restricted,
    /// Everything but what the operator owns.
    Unrestricted,
}

/// Why a key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The operator sets this key itself; no policy lifts that.
    OperatorOwned,
    /// The key reaches outside of the tenant.
    ReachesOutside,
    /// Nobody has looked at this key.
    Unknown,
    /// The value has a form that the chart would print into its manifests as more than a value.
    Form,
}

/// One refused key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where the values are from, such as `spec.values`.
    pub origin: String,
    /// The key, as Helm people write it: `controlPlane.statefulSet.command`.
    pub path: String,
    /// What kind of refusal it is.
    pub scope: Scope,
    /// Why it is refused.
    pub why: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

impl Refusal {
    /// Whether the key is one that the operator sets itself, so that no policy helps.
    pub fn operator_owned(&self) -> bool {
        self.scope == Scope::OperatorOwned
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            origin,
            path,
            why,
            instead,
            ..
        } = self;
        write!(formatter, "{path} in {origin} is refused: {why}; {instead}")
    }
}

const ASK: &str =
    "remove it, or ask the host admin, who may allow it with --values-policy=Unrestricted";

/// So many refusals are enough: values may hold a hundred thousand keys.
const MOST_REFUSALS: usize = 64;

/// What `policy` refuses in `values`, in the order of the keys; the first 64 of it.
pub(super) fn check(origin: &str, values: &Map<String, Value>, policy: Policy) -> Vec<Refusal> {
    let mut walk = Walk {
        origin,
        policy,
        refusals: Vec::new(),
    };
    let mut path = Vec::new();
    for (key, value) in values {
        path.push(key.as_str());
        walk.visit(&mut path, value, None);
        path.pop();
    }
    walk.refusals
}

struct Walk<'a> {
    origin: &'a str,
    policy: Policy,
    refusals: Vec<Refusal>,
}

impl Walk<'_> {
    fn visit<'v>(
        &mut self,
        path: &mut Vec<&'v str>,
        value: &'v Value,
        above: Option<&'static Verdict>,
    ) {
        if self.refusals.len() >= MOST_REFUSALS {
            return;
        }
        let (exact, has_deeper) = lookup(path);
        let verdict = exact.or(above);
        if !has_deeper {
            return self.judge(path, value, verdict);
        }
        if let Value::Object(map) = value {
            for (key, value) in map {
                path.push(key);
                self.visit(path, value, verdict);
                path.pop();
            }
        } else {
            self.refuse(
                path,
                Scope::Form,
                "this key holds a mapping, and anything else would take away defaults that keep the tenant apart",
                "write a mapping with the keys to change",
            );
        }
    }

    /// Applies `verdict` to a branch below which there is no other rule.
    fn judge<'v>(
        &mut self,
        path: &mut Vec<&'v str>,
        value: &'v Value,
        verdict: Option<&'static Verdict>,
    ) {
        match (verdict, self.policy) {
            (Some(Verdict::OperatorOwned { why, instead }), _) => {
                if !sets_nothing(value) {
                    self.refuse(path, Scope::OperatorOwned, why, instead);
                }
            }
            (_, Policy::Unrestricted) | (Some(Verdict::Text), _) => {
                if self.key(path) {
                    self.keys(path, value);
                }
            }
            (Some(Verdict::Line), Policy::Restricted) => {
                if self.key(path) {
                    self.lines(path, value);
                }
            }
            (Some(Verdict::ReachesOutside { why, instead }), Policy::Restricted) => {
                if !sets_nothing(value) && !switched_off(path, value) {
                    self.refuse(path, Scope::ReachesOutside, why, instead.unwrap_or(ASK));
                }
            }
            (None, Policy::Restricted) => self.refuse(
                path,
                Scope::Unknown,
                "it is not among the values that a cluster author may set",
                "look for a typing error, or ask the host admin, who may allow it with --values-policy=Unrestricted",
            ),
        }
    }

    /// Keys inside an allowed branch, which no rule names.
    fn keys<'v>(&mut self, path: &mut Vec<&'v str>, value: &'v Value) {
        if self.refusals.len() >= MOST_REFUSALS {
            return;
        }
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    path.push(key);
                    if self.key(path) {
                        self.keys(path, value);
                    }
                    path.pop();
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.keys(path, item);
                }
            }
            _ => {}
        }
    }

    /// Whether the last key of the path is fine: the operator's own labels and annotations are not
    /// given away, and no key is more than a key.
    fn key(&mut self, path: &[&str]) -> bool {
        let key = path.last().copied().unwrap_or_default();
        if key.contains("kubebyon.app/") {
            self.refuse(
                path,
                Scope::OperatorOwned,
                "labels and annotations of kubebyon.app tell the operator what is its own",
                "use a name of your own",
            );
            return false;
        }
        if key.chars().any(char::is_control) {
            self.refuse(
                path,
                Scope::Form,
                "a key with a control character would break the chart's manifests",
                "remove the character",
            );
            return false;
        }
        true
    }

    /// As [`Self::keys`], and each text is one line without template.
    fn lines<'v>(&mut self, path: &mut Vec<&'v str>, value: &'v Value) {
        let before = self.refusals.len();
        self.keys(path, value);
        if self.refusals.len() > before {
            return;
        }
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            match value {
                Value::String(text) if text.chars().any(char::is_control) => {
                    return self.refuse(
                        path,
                        Scope::Form,
                        "a line break here would add keys to the chart's manifests",
                        "write it on one line",
                    );
                }
                Value::String(text) if text.contains("{{") => {
                    return self.refuse(
                        path,
                        Scope::Form,
                        "templates in values could look up objects that are not the tenant's",
                        "write the value itself",
                    );
                }
                Value::Array(items) => open.extend(items),
                Value::Object(map) => open.extend(map.values()),
                _ => {}
            }
        }
    }

    fn refuse(&mut self, path: &[&str], scope: Scope, why: &'static str, instead: &'static str) {
        self.refusals.push(Refusal {
            origin: self.origin.to_owned(),
            path: printable(path),
            scope,
            why,
            instead,
        });
    }
}

/// The path on one line and of bounded length: it is the author's text and goes into a message.
fn printable(path: &[&str]) -> String {
    const LONGEST: usize = 200;
    let text = path.join(".");
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

/// The rule for exactly this path, and whether there are rules below it.
fn lookup(path: &[&str]) -> (Option<&'static Verdict>, bool) {
    let mut exact = None;
    let mut deeper = false;
    for rule in rules() {
        let mut segments = rule.path.split('.');
        if path.iter().all(|key| segments.next() == Some(key)) {
            match segments.next() {
                None => exact = Some(&rule.verdict),
                Some(_) => deeper = true,
            }
        }
    }
    (exact, deeper)
}

/// An empty mapping or list: what the chart has there by default, or nothing at all.
fn sets_nothing(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// `enabled: false` (or the chart's own `auto`), alone: values files often spell defaults out.
fn switched_off(path: &[&str], value: &Value) -> bool {
    let off =
        |value: &Value| *value == Value::Bool(false) || *value == Value::String("auto".to_owned());
    match value {
        Value::Object(map) => map.len() == 1 && map.get("enabled").is_some_and(off),
        other => path.last() == Some(&"enabled") && off(other),
    }
}

#[cfg(test)]
mod tests;
