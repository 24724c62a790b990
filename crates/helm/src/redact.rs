//! Takes secrets out of text that helm or a server wrote, before anyone sees it.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::values::leaves;

const MARK: &str = "[redacted]";

/// Shorter values are left in: "true", "8443" and the like occur in every message.
const SHORTEST: usize = 6;

/// Texts that are secrets whatever the values say.
static ALWAYS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (
            r"(?s)-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)",
            MARK,
        ),
        (
            r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?",
            MARK,
        ),
        (
            r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}",
            "$1 [redacted]",
        ),
        (
            r"(?i)\b(password|passwd|token|secret|api[_-]?key)(\s*[=:]\s*)[^\s,;&]+",
            "$1$2[redacted]",
        ),
        (r"://[^/\s@]+@", "://[redacted]@"),
    ]
    .into_iter()
    .filter_map(|(pattern, with)| Some((Regex::new(pattern).ok()?, with)))
    .collect()
});

/// Removes the values of one request, and whatever looks like a credential.
#[derive(Default)]
pub(crate) struct Redactor {
    /// Longest first, so that a value which contains another goes as a whole.
    secrets: Vec<String>,
}

impl Redactor {
    /// Redacts every scalar of `values` of six characters or more, line by line where it
    /// has several, except the texts in `keep` (the release's own names).
    pub(crate) fn for_values(values: &Value, keep: &[&str]) -> Self {
        let mut secrets: Vec<String> = leaves(values)
            .iter()
            .flat_map(|leaf| std::iter::once(leaf.as_str()).chain(leaf.lines()))
            .map(str::trim)
            .filter(|text| text.len() >= SHORTEST && !keep.contains(text))
            .map(str::to_owned)
            .collect();
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        secrets.dedup();
        Self { secrets }
    }

    /// `text` without secrets and without control characters but line ends.
    pub(crate) fn clean(&self, text: &str) -> String {
        let mut text: String = text
            .chars()
            .filter(|c| *c == '\n' || !c.is_control())
            .collect();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MARK);
            }
        }
        for (pattern, with) in ALWAYS.iter() {
            text = pattern.replace_all(&text, *with).into_owned();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(ALWAYS.len(), 5);
    }

    #[test]
    fn values_and_credentials_go() {
        let values = json!({"a": {"dataSource": "mysql://u:hunter2@db", "b": ["first-line\nsecond-line"]}, "name": "demo-release"});
        let redactor = Redactor::for_values(&values, &["demo-release"]);
        for (text, expected) in [
            ("got 'mysql://u:hunter2@db'", "got '[redacted]'"),
            ("bad second-line here", "bad [redacted] here"),
            ("release demo-release failed", "release demo-release failed"),
            (
                "Authorization: Bearer abc.def-ghi",
                "Authorization: Bearer [redacted]",
            ),
            ("token=abc, x", "token=[redacted], x"),
            ("https://user:pw@host/x", "https://[redacted]@host/x"),
            (
                "key -----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY----- end",
                "key [redacted] end",
            ),
            (
                "at '/controlPlane': got string",
                "at '/controlPlane': got string",
            ),
            ("\u{1b}[31mred", "[31mred"),
        ] {
            assert_eq!(redactor.clean(text), expected);
        }
    }
}
