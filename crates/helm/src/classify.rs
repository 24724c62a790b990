//! From what helm printed to a typed error.
//!
//! The sentences matched here are those of helm 4.3.1 and of Kubernetes' api-server; the
//! tests hold real output of both. What matches none becomes [`Error::Failed`].

use std::{sync::LazyLock, time::Duration};

use regex::{Captures, Regex};

use crate::{
    error::{Error, Violation},
    redact::Redactor,
};

/// Longest message kept in an error, in characters.
const LONGEST: usize = 1000;

/// What is known of the failed run.
pub(crate) struct Run<'a> {
    /// The release's name.
    pub(crate) release: &'a str,
    /// The root chart's name; empty for operations without a chart.
    pub(crate) chart: &'a str,
    /// Helm's own time limit.
    pub(crate) timeout: Duration,
    /// Takes this run's values out of messages.
    pub(crate) redactor: &'a Redactor,
}

struct Patterns {
    forbidden: Regex,
    grant: Regex,
    terminating: Regex,
    namespace_missing: Regex,
    quota: Regex,
    refused: Regex,
    webhook: Regex,
    foreign: Regex,
    invalid: Regex,
    untyped: Regex,
    immutable: Regex,
    conflict: Regex,
    no_kind: Regex,
    violation: Regex,
    extra_keys: Regex,
    quoted: Regex,
    render: Regex,
    unreachable: Regex,
}

#[expect(
    clippy::unwrap_used,
    reason = "constant patterns; the tests force every one of them"
)]
static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).unwrap();
    Patterns {
        forbidden: regex(
            r#"User "(?<user>[^"]+)" cannot (?<verb>\S+) resource "(?<resource>[^"]+)" in API group "(?<group>[^"]*)"(?: in the namespace "(?<namespace>[^"]+)")?"#,
        ),
        grant: regex(
            r#"for object (?:(?<namespace>[^/\s]+)/)?\S+ (?<group>[^/\s]*)/\S+, Kind=\S+: (?<resource>[a-z]+)\.\S+ "[^"]+" is forbidden: user "(?<user>[^"]+)".*is attempting to grant RBAC permissions"#,
        ),
        terminating: regex(r"in namespace (?<namespace>\S+) because it is being terminated"),
        namespace_missing: regex(r#"namespaces "(?<namespace>[^"]+)" not found"#),
        quota: regex(
            r#"(?<object>\S+ "[^"]*") is forbidden: (?<message>(?:exceeded|failed) quota: .*)"#,
        ),
        refused: regex(r#"(?<object>\S+ "[^"]*") is forbidden: (?<message>.*)"#),
        webhook: regex(
            r"(?:for object (?<object>\S+) .*)?(?<message>admission webhook .* denied the request.*)",
        ),
        foreign: regex(
            r#"(?<object>\S+ "[^"]+" in namespace "[^"]*") exists and cannot be imported into the current release: (?<message>.*)"#,
        ),
        invalid: regex(r#"(?<object>\S+ "[^"]*") is invalid: (?<message>.*)"#),
        untyped: regex(r"failed to create typed patch object \((?<object>[^)]*)\): (?<message>.*)"),
        immutable: regex(r"immutable|Forbidden: updates to|cannot change|may not change once set"),
        conflict: regex(
            r"conflict occurred while applying object (?<object>\S+ \S*, Kind=[^:\s]+): Apply failed with \d+ conflicts?: (?<fields>(?s).*)",
        ),
        no_kind: regex(r#"no matches for kind "(?<kind>[^"]+)" in version "(?<version>[^"]+)""#),
        violation: regex(r"^\s*- at '(?<path>.*?)': (?<message>.*)$"),
        extra_keys: regex(r"^additional propert(?:y|ies) (?<keys>'.*') not allowed$"),
        quoted: regex(r"'((?:[^'\\]|\\.)*)'"),
        render: regex(
            r#"execution error at|executing "|YAML parse error|parse error at|error calling|no template "|template: |chart requires kubeVersion|unable to build kubernetes objects|unable to decode|nil pointer evaluating|failed to compile schema|jsonschema|schema URL|failed to load"#,
        ),
        unreachable: regex(
            r"(?i)kubernetes cluster unreachable|connection refused|connection reset|unexpected EOF|i/o timeout|TLS handshake timeout|no such host|the server is currently unable|etcdserver|http2: client connection|Service ?Unavailable|too many requests",
        ),
    }
});

/// The error for a run that ended with `code`.
pub(crate) fn classify(run: &Run<'_>, code: i32, stderr: &str) -> Error {
    let raw = message_of(stderr);
    let text = run.redactor.clean(&raw);
    if raw.contains("don't meet the specifications of the schema") {
        // The keys in the paths are not redacted: a value that happens to be the same word
        // would make them useless.
        let mut violations = violations(&raw, run.chart);
        for violation in &mut violations {
            violation.message = run.redactor.clean(&violation.message);
        }
        if !violations.is_empty() {
            return Error::SchemaViolation { violations };
        }
    }
    // Who was refused what is read before redaction: these are names of the cluster's, not values.
    rbac(&raw)
        .or_else(|| lock(run, &text))
        .or_else(|| object(&text))
        .or_else(|| rest(run, &text))
        .unwrap_or_else(|| Error::Failed {
            code,
            message: cut(&text),
        })
}

/// Helm's final message: from the last `Error: ` at a line's start, without log lines,
/// which print values.
fn message_of(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .filter(|line| !line.starts_with("level="))
        .collect();
    let start = lines
        .iter()
        .rposition(|line| line.starts_with("Error: "))
        .unwrap_or(0);
    let text = lines[start..].join("\n");
    let text = text.strip_prefix("Error: ").unwrap_or(&text);
    let text = text
        .strip_prefix("UPGRADE FAILED: ")
        .or_else(|| text.strip_prefix("INSTALLATION FAILED: "))
        .unwrap_or(text);
    text.trim().to_owned()
}

fn get(captures: &Captures<'_>, name: &str) -> String {
    captures
        .name(name)
        .map_or_else(String::new, |found| cut(found.as_str()))
}

/// `text` without surrounding space, of [`LONGEST`] characters at most.
fn cut(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The first of several errors that helm joined.
fn first(text: &str) -> String {
    cut(text.split(" && ").next().unwrap_or(text))
}

fn rbac(text: &str) -> Option<Error> {
    let p = &*PATTERNS;
    let (found, verb) = match (p.forbidden.captures(text), p.grant.captures(text)) {
        (Some(found), _) => {
            let verb = get(&found, "verb");
            (found, verb)
        }
        (None, Some(found)) => (found, "grant".to_owned()),
        (None, None) => return None,
    };
    Some(Error::Forbidden {
        user: get(&found, "user"),
        verb,
        resource: get(&found, "resource"),
        group: get(&found, "group"),
        namespace: found
            .name("namespace")
            .map(|namespace| namespace.as_str().to_owned()),
    })
}

fn lock(run: &Run<'_>, text: &str) -> Option<Error> {
    let p = &*PATTERNS;
    let release = run.release.to_owned();
    if text.contains("another operation (install/upgrade/rollback) is in progress")
        || text.contains("cannot reuse a name that is still in use")
        || text.contains("release: already exists")
    {
        return Some(Error::OperationInProgress { release });
    }
    if let Some(found) = p
        .terminating
        .captures(text)
        .or_else(|| p.namespace_missing.captures(text))
    {
        return Some(Error::NamespaceUnavailable {
            namespace: get(&found, "namespace"),
        });
    }
    let absent = text.contains("release: not found")
        || text.contains("has no deployed releases")
        || (text.contains("release has no ") && text.contains(" version"));
    absent.then_some(Error::RevisionNotFound { release })
}

fn object(text: &str) -> Option<Error> {
    let p = &*PATTERNS;
    if let Some(found) = p.foreign.captures(text) {
        return Some(Error::ForeignRelease {
            object: get(&found, "object"),
            message: first(&get(&found, "message")),
        });
    }
    let invalid: Vec<_> = p
        .invalid
        .captures_iter(&text.replace(" && ", "\n"))
        .map(|found| (get(&found, "object"), get(&found, "message")))
        .collect();
    if let Some((object, message)) = invalid
        .iter()
        .find(|(_, message)| p.immutable.is_match(message))
    {
        return Some(Error::ImmutableField {
            object: object.clone(),
            message: message.clone(),
        });
    }
    if let Some(found) = p.quota.captures(text) {
        return Some(Error::QuotaExceeded {
            object: get(&found, "object"),
            message: first(&get(&found, "message")),
        });
    }
    if let Some(found) = p.conflict.captures(text) {
        let fields = first(&get(&found, "fields"));
        let manager = manager_in(&fields);
        return Some(Error::ApplyConflict {
            object: get(&found, "object"),
            manager,
            fields,
        });
    }
    if let Some((object, message)) = invalid.into_iter().next() {
        return Some(Error::ObjectInvalid { object, message });
    }
    if let Some(found) = p.untyped.captures(text) {
        return Some(Error::ObjectInvalid {
            object: get(&found, "object"),
            message: first(&get(&found, "message")),
        });
    }
    let found = p
        .webhook
        .captures(text)
        .or_else(|| p.refused.captures(text))?;
    Some(Error::AdmissionRefused {
        object: get(&found, "object"),
        message: first(&get(&found, "message")),
    })
}

/// The manager in `conflict with "NAME" using v1: .spec.x`.
fn manager_in(fields: &str) -> String {
    fields
        .split('"')
        .nth(1)
        .unwrap_or("another manager")
        .to_owned()
}

fn rest(run: &Run<'_>, text: &str) -> Option<Error> {
    let p = &*PATTERNS;
    if let Some(found) = p.no_kind.captures(text) {
        return Some(Error::KindNotServed {
            kind: get(&found, "kind"),
            api_version: get(&found, "version"),
        });
    }
    if p.unreachable.is_match(text)
        || text.contains("server has asked for the client to provide credentials")
    {
        return Some(Error::ClusterUnreachable { message: cut(text) });
    }
    if text.contains("context deadline exceeded") || text.contains("timed out waiting") {
        return Some(Error::Timeout { after: run.timeout });
    }
    p.render
        .is_match(text)
        .then(|| Error::RenderFailed { message: cut(text) })
}

/// The violations in a schema report. It is a chart's name and a colon, then a nested list
/// of `- at 'JSON pointer': message`; the violations of a subchart are below its name.
fn violations(text: &str, root: &str) -> Vec<Violation> {
    let p = &*PATTERNS;
    let mut prefix = Vec::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let Some(violation) = p.violation.captures(line) else {
            if let Some(chart) = line.strip_suffix(':').filter(|name| !name.contains(' ')) {
                prefix = if chart == root {
                    Vec::new()
                } else {
                    vec![chart.to_owned()]
                };
            }
            continue;
        };
        let message = get(&violation, "message");
        if message == "validation failed" || message.ends_with("failed, none matched") {
            continue;
        }
        let mut path = prefix.clone();
        let pointer = &violation["path"];
        path.extend(
            pointer
                .split('/')
                .skip(1)
                .map(|key| key.replace("~1", "/").replace("~0", "~")),
        );
        match p.extra_keys.captures(&message) {
            Some(keys) => found.extend(p.quoted.captures_iter(&keys["keys"]).map(|key| {
                let path = path
                    .iter()
                    .map(String::as_str)
                    .chain([&key[1]])
                    .collect::<Vec<_>>()
                    .join(".");
                Violation {
                    path,
                    message: "the chart knows no such key".to_owned(),
                }
            })),
            None => found.push(Violation {
                path: path.join("."),
                message,
            }),
        }
    }
    found.truncate(20);
    found
}

#[cfg(test)]
mod tests;
