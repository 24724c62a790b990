//! Pieces of OpenAPI schema that the resources share.
//!
//! Each function is the schema of one kind of value: its bound, which keeps the cost of CEL rules
//! known to the api-server, and a rule whose message tells a user what would be accepted. A field
//! takes one with `#[schemars(schema_with = "...")]`; its doc comment stays its description.

use kubebyon_k8s::schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// The longest DNS name, in characters.
pub(crate) const MAX_DNS_NAME: usize = 253;

const LABEL: &str = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?";
const LABEL_HELP: &str = "must be a DNS label: at most 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";

/// The value of `x-kubernetes-validations`: pairs of a CEL rule and its message.
pub(crate) fn cel(rules: &[(&str, &str)]) -> Value {
    rules
        .iter()
        .map(|(rule, message)| json!({"rule": rule, "message": message}))
        .collect()
}

fn text(max: usize, rules: &[(&str, &str)]) -> Schema {
    let mut schema = json_schema!({"type": "string", "maxLength": max});
    if !rules.is_empty() {
        schema.insert("x-kubernetes-validations".to_owned(), cel(rules));
    }
    schema
}

fn matching(max: usize, pattern: &str, help: &str) -> Schema {
    text(max, &[(&format!("self.matches(r'^({pattern})$')"), help)])
}

/// The same, where the empty string stands for "not set".
fn matching_or_empty(max: usize, pattern: &str, help: &str) -> Schema {
    text(
        max,
        &[(
            &format!("self == '' || self.matches(r'^({pattern})$')"),
            help,
        )],
    )
}

fn list(max: usize, list_type: &str, items: &Schema) -> Schema {
    json_schema!({"type": "array", "maxItems": max, "items": items, "x-kubernetes-list-type": list_type})
}

/// A DNS label (RFC 1123), such as the name of a namespace.
pub(crate) fn dns_label(_: &mut SchemaGenerator) -> Schema {
    matching(63, LABEL, LABEL_HELP)
}

/// A DNS label, or empty for "not set".
pub(crate) fn optional_dns_label(_: &mut SchemaGenerator) -> Schema {
    matching_or_empty(63, LABEL, LABEL_HELP)
}

const OBJECT_NAME_HELP: &str = "must be the name of an object: at most 253 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit";

fn object_name_pattern() -> String {
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*".to_owned()
}

/// The name of an object (RFC 1123 subdomain), such as a Secret.
pub(crate) fn object_name(_: &mut SchemaGenerator) -> Schema {
    matching(MAX_DNS_NAME, &object_name_pattern(), OBJECT_NAME_HELP)
}

/// The name of an object, or empty for "not set".
pub(crate) fn optional_object_name(_: &mut SchemaGenerator) -> Schema {
    matching_or_empty(MAX_DNS_NAME, &object_name_pattern(), OBJECT_NAME_HELP)
}

/// The key of a ConfigMap or Secret.
pub(crate) fn data_key(_: &mut SchemaGenerator) -> Schema {
    matching(
        MAX_DNS_NAME,
        "[-._a-zA-Z0-9]+",
        "must be a key of a ConfigMap or Secret: letters, digits, '-', '_' and '.'",
    )
}

fn dns_name_pattern() -> String {
    format!("({LABEL}[.])+{LABEL}")
}

const HOSTNAME_HELP: &str = "must be a full host name such as shop.example.com: lower case, at least two labels, no trailing dot, no wildcard, no port";

/// A full host name in lower case, without wildcard.
pub(crate) fn hostname(_: &mut SchemaGenerator) -> Schema {
    matching(MAX_DNS_NAME, &dns_name_pattern(), HOSTNAME_HELP)
}

/// A full host name in lower case, or empty for "not set".
pub(crate) fn optional_hostname(_: &mut SchemaGenerator) -> Schema {
    matching_or_empty(MAX_DNS_NAME, &dns_name_pattern(), HOSTNAME_HELP)
}

/// The longest domain below which a default host name (`<name>-<hash8>.<domain>`) still fits.
pub(crate) const MAX_DOMAIN: usize = MAX_DNS_NAME - 30 - 1 - 8 - 1;

const DOMAIN_HELP: &str = "must be a domain such as clusters.example.com: lower case, at least two labels, no trailing dot, no leading '*.', at most 213 characters";

/// A domain below which host names are given out.
pub(crate) fn domain(_: &mut SchemaGenerator) -> Schema {
    matching(MAX_DOMAIN, &dns_name_pattern(), DOMAIN_HELP)
}

/// Domains, each once.
pub(crate) fn domains(generator: &mut SchemaGenerator) -> Schema {
    list(16, "set", &domain(generator))
}

/// Names and addresses for a server certificate.
pub(crate) fn subject_alt_names(_: &mut SchemaGenerator) -> Schema {
    let item = text(
        MAX_DNS_NAME,
        &[(
            &format!("self.matches(r'^([*][.])?{LABEL}([.]{LABEL})*$') || isIP(self)"),
            "must be a DNS name in lower case, with '*.' in front for a wildcard, or an IP address",
        )],
    );
    list(32, "set", &item)
}

const CIDR_HELP: &str = "must be an address range in CIDR form with its host bits zero, such as 10.60.0.0/16 or fd00:60::/64";
const CIDR_RULE: &str = "isCIDR(self) && cidr(self).masked() == cidr(self)";

/// An address range without host bits.
pub(crate) fn cidr(_: &mut SchemaGenerator) -> Schema {
    text(43, &[(CIDR_RULE, CIDR_HELP)])
}

/// Address ranges, each once.
pub(crate) fn cidrs(generator: &mut SchemaGenerator) -> Schema {
    list(64, "set", &cidr(generator))
}

/// An IP address.
pub(crate) fn ip(_: &mut SchemaGenerator) -> Schema {
    text(
        45,
        &[(
            "isIP(self)",
            "must be an IP address such as 10.0.0.7 or fd00::7",
        )],
    )
}

/// DNS servers to ask, with an optional port.
pub(crate) fn dns_servers(_: &mut SchemaGenerator) -> Schema {
    let item = text(
        64,
        &[(
            r"isIP(self) || (self.matches(r'^[0-9.]+:[0-9]{1,5}$') && isIP(self.split(':')[0])) || (self.matches(r'^\[.+\]:[0-9]{1,5}$') && isIP(self.split(']')[0].substring(1)))",
            "must be the IP address of a DNS server, optionally with a port: 10.0.0.10, 10.0.0.10:5353 or [fd00::a]:53",
        )],
    );
    list(8, "set", &item)
}

/// A size that is above zero, as a string.
pub(crate) fn size(_: &mut SchemaGenerator) -> Schema {
    text(
        32,
        &[(
            "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
            "must be a size above zero such as 5Gi",
        )],
    )
}

/// A Kubernetes version: a minor such as `1.36`, or a full version such as `1.36.3`.
pub(crate) fn kubernetes_version(_: &mut SchemaGenerator) -> Schema {
    matching_or_empty(
        16,
        "1[.](0|[1-9][0-9]{0,2})([.](0|[1-9][0-9]{0,2}))?",
        "must be a Kubernetes version in quotes: a minor such as \"1.36\" or a full one such as \"1.36.3\", without 'v'; \"latest\" is not a version",
    )
}

/// SemVer 2.0 in the form that its own page gives, with an optional leading `v`.
const SEMVER: &str = "v?(0|[1-9][0-9]*)[.](0|[1-9][0-9]*)[.](0|[1-9][0-9]*)(-(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)([.](0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*)?([+][0-9a-zA-Z-]+([.][0-9a-zA-Z-]+)*)?";

/// The version of a chart (SemVer), or empty for "not set".
pub(crate) fn chart_version(_: &mut SchemaGenerator) -> Schema {
    matching_or_empty(
        64,
        SEMVER,
        "must be one exact chart version such as 0.36.1; ranges and \"latest\" are refused",
    )
}

/// A SHA-256 digest, or empty for "not set".
pub(crate) fn digest(_: &mut SchemaGenerator) -> Schema {
    matching_or_empty(
        71,
        "sha256:[0-9a-f]{64}",
        "must be sha256: followed by the 64 hex digits of the chart archive's digest",
    )
}

/// Where charts come from, or empty for "not set".
pub(crate) fn chart_repository(_: &mut SchemaGenerator) -> Schema {
    matching_or_empty(
        512,
        "(https|oci|file)://[^[:space:]@]+",
        "must be an https://, oci:// or file:// address without user and password; credentials belong into authSecretRef",
    )
}

/// The name of a chart, or empty for "not set".
pub(crate) fn chart_name(_: &mut SchemaGenerator) -> Schema {
    matching_or_empty(
        128,
        "[a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?",
        "must be the name of a chart such as vcluster",
    )
}

/// The registry or repository part of an image, or empty for "not set".
pub(crate) fn image_part(_: &mut SchemaGenerator) -> Schema {
    matching_or_empty(
        255,
        "[a-zA-Z0-9]([-_./:a-zA-Z0-9]*[a-zA-Z0-9])?",
        "must be a part of an image reference such as ghcr.io or loft-sh/vcluster-oss, without scheme",
    )
}

/// The tag of an image, or empty for "not set".
pub(crate) fn image_tag(_: &mut SchemaGenerator) -> Schema {
    matching_or_empty(
        128,
        "[a-zA-Z0-9_][-._a-zA-Z0-9]*",
        "must be an image tag such as 0.36.1",
    )
}

/// Labels that a node must carry.
pub(crate) fn node_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

/// An amount as Kubernetes types have it: a number, or a text such as `500m`.
fn amount() -> Value {
    json!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 32,
        "x-kubernetes-validations": cel(&[(
            "type(self) == int ? self >= 0 : (isQuantity(self) && quantity(self).compareTo(quantity('0')) >= 0)",
            "must be an amount such as 500m, 2 or 4Gi, zero or above",
        )]),
    })
}

/// Amounts by resource name.
pub(crate) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 64, "additionalProperties": amount()})
}

/// Any object: Helm values, whose keys the chart knows and this schema does not.
pub(crate) fn free_form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// The schema of a Kubernetes type, with a bound wherever it has none, and a rule on its amounts.
pub(crate) fn bounded<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut value = T::json_schema(generator).to_value();
    bound(&mut value);
    Schema::try_from(value).unwrap_or_default()
}

/// A list of Kubernetes values, with a bound wherever they have none.
pub(crate) fn bounded_list<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    list(32, "atomic", &bounded::<T>(generator))
}

/// The conditions of a status: a map by type.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut condition = bounded::<
        kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition,
    >(generator);
    if let Some(message) = condition.pointer_mut("/properties/message") {
        message["maxLength"] = json!(32768);
    }
    let mut schema = list(32, "map", &condition);
    schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(["type"]));
    schema
}

fn bound(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if object.contains_key("x-kubernetes-int-or-string")
        && let Value::Object(amount) = amount()
    {
        object.extend(amount);
    }
    match object.get("type").and_then(Value::as_str) {
        Some("string") if !object.contains_key("format") => {
            object.entry("maxLength").or_insert(json!(1024));
        }
        Some("array") => {
            object.entry("maxItems").or_insert(json!(32));
        }
        Some("object") if object.contains_key("additionalProperties") => {
            object.entry("maxProperties").or_insert(json!(64));
        }
        _ => {}
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            bound(child);
        }
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(bound);
    }
}
