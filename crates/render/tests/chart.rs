//! What is rendered, against the real chart and the real helm: the chart's schema takes it, what
//! comes out stays in the host namespace, and the release's ClusterRole is enough for it.

#![allow(clippy::unwrap_used)] // Helpers of tests end where a test ends.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use kubebyon_api::ManagedClusterSpec;
use kubebyon_k8s::k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kubebyon_render::{
    Cluster,
    values::{
        Policy, Public, Source, Tenant, UserValues, ValuesError,
        policy::{Refusal, Scope},
        vcluster,
    },
};
use kubebyon_testbed::{
    parts::{self, Part},
    progress::Progress,
};
use serde_json::{Map, Value, json};

const NAMESPACE: &str = "byon-demo-0a1b2c3d";

/// The helm binary and the chart's folder.
static PARTS: LazyLock<(PathBuf, PathBuf)> = LazyLock::new(|| {
    let bins =
        parts::ensure(&[Part::Helm, Part::VclusterChart], Progress::stderr()).expect("the parts");
    (bins.path(Part::Helm), bins.path(Part::VclusterChart))
});

fn release(spec: Value, user: &str) -> Value {
    let spec: ManagedClusterSpec = serde_json::from_value(spec).unwrap();
    let cluster = Cluster {
        namespace: "team-a".to_owned(),
        name: "demo".to_owned(),
        uid: "11111111-2222-3333-4444-555555555555".to_owned(),
    };
    let hostname = "demo.clusters.example.com".parse().unwrap();
    let sans = ["demo.clusters.example.com", "*.clusters.example.com"]
        .map(|name| name.parse().unwrap())
        .into();
    let tenant = Tenant {
        cluster: &cluster,
        spec: &spec,
        host_namespace: NAMESPACE,
        kubernetes_version: Some("1.36.3"),
        default_image: "ghcr.io/loft-sh/vcluster-oss",
        public: Some(Public {
            hostname: &hostname,
            sans: &sans,
        }),
        data_source: Some("postgres://u:p@db.example.com/tenant"),
    };
    let user = Source::from_yaml("spec.valuesFrom[0]", user).unwrap();
    vcluster(
        &tenant,
        UserValues::read(vec![user], Policy::Restricted).unwrap(),
    )
    .unwrap()
}

/// The objects of a release, as helm would send them.
fn template(values: &Value) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("values.json");
    std::fs::write(&file, values.to_string()).unwrap();
    let output = Command::new(&PARTS.0)
        .args(["template", "demo"])
        .arg(&PARTS.1)
        .args(["--namespace", NAMESPACE, "--kube-version", "1.36.3"])
        .arg("--values")
        .arg(&file)
        .env("HOME", dir.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{values:#}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
    objects
        .into_iter()
        .filter(|object| !object.is_null())
        .collect()
}

/// Every kind of release that a spec can ask for.
fn releases() -> Vec<(&'static str, Value)> {
    let etcd = json!({"type": "DeployedEtcd", "deployedEtcd": {"replicas": 3}});
    let private = json!({"mode": "Private", "private": {
        "podCIDR": "10.60.0.0/16", "serviceCIDR": "10.61.0.0/16", "platformSecretRef": {"name": "platform"},
    }});
    let external =
        json!({"type": "ExternalDatabase", "externalDatabase": {"secretRef": {"name": "db"}}});
    let everything = json!({
        "controlPlane": {
            "replicas": 3, "backingStore": etcd, "storage": {"size": "20Gi", "className": "fast"},
            "service": {"type": "LoadBalancer"}, "extraSANs": ["api.example.com"],
            "image": {"registry": "mirror.example.com", "repository": "loft-sh/vcluster-oss", "tag": "0.36.1"},
            "resources": {"limits": {"memory": "8Gi"}},
        },
        "placement": {"nodeSelector": {"pool": "tenants"}, "tolerations": [{"key": "tenants", "operator": "Exists"}], "runtimeClassName": "gvisor"},
    });
    vec![
        ("defaults", release(json!({}), "")),
        ("everything", release(everything, "")),
        (
            "etcd",
            release(
                json!({"controlPlane": {"replicas": 3, "backingStore": etcd}}),
                "",
            ),
        ),
        (
            "external database",
            release(json!({"controlPlane": {"backingStore": external}}), ""),
        ),
        ("private nodes", release(json!({"nodes": private}), "")),
        (
            "private nodes with etcd",
            release(
                json!({"nodes": private, "controlPlane": {"replicas": 3, "backingStore": etcd}}),
                "",
            ),
        ),
        (
            "author's values",
            release(json!({}), include_str!("values/author.yaml")),
        ),
    ]
}

#[test]
fn the_chart_takes_every_rendering_and_makes_namespaced_objects_of_known_kinds() {
    const KINDS: [&str; 7] = [
        "Deployment",
        "Role",
        "RoleBinding",
        "Secret",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    ];
    for (name, values) in releases() {
        let objects = template(&values);
        assert!(
            objects.len() >= KINDS.len() - 1,
            "{name}: {} objects",
            objects.len()
        );
        for object in objects {
            let kind = object["kind"].as_str().unwrap();
            assert!(KINDS.contains(&kind), "{name}: {kind}");
            assert_eq!(object["metadata"]["namespace"], NAMESPACE, "{name}: {kind}");
        }
    }
}

#[test]
fn the_store_decides_which_pods_have_volumes() {
    let claims = |values: &Value| -> BTreeSet<String> {
        let sets = template(values)
            .into_iter()
            .filter(|object| object["kind"] == "StatefulSet");
        sets.filter(|set| !set["spec"]["volumeClaimTemplates"].is_null())
            .map(|set| set["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let of = |name: &str| {
        claims(
            &releases()
                .into_iter()
                .find(|(found, _)| *found == name)
                .unwrap()
                .1,
        )
    };
    assert_eq!(of("defaults"), BTreeSet::from(["demo".to_owned()]));
    assert_eq!(of("etcd"), BTreeSet::from(["demo-etcd".to_owned()]));
    assert_eq!(of("external database"), BTreeSet::new());
    assert_eq!(of("private nodes"), BTreeSet::from(["demo".to_owned()]));
}

#[test]
fn the_releases_cluster_role_covers_every_role_of_the_chart() {
    let role: ClusterRole =
        serde_saphyr::from_str(include_str!("../../../config/rbac/release.yaml")).unwrap();
    let held: BTreeSet<_> = role
        .rules
        .unwrap_or_default()
        .iter()
        .flat_map(single_rights)
        .collect();
    for (name, values) in releases() {
        let rendered = template(&values)
            .into_iter()
            .filter(|object| object["kind"] == "Role");
        for role in rendered {
            let rules: Vec<PolicyRule> = serde_json::from_value(role["rules"].clone()).unwrap();
            let needed: BTreeSet<_> = rules.iter().flat_map(single_rights).collect();
            let lacking: Vec<_> = needed.difference(&held).collect();
            assert!(
                lacking.is_empty(),
                "{name}: kubebyon-release lacks {lacking:?}"
            );
            assert!(!needed.is_empty(), "{name}: a Role without rules");
        }
    }
}

/// A rule as (group, resource, verb).
fn single_rights(rule: &PolicyRule) -> Vec<(String, String, String)> {
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                rights.push((group.clone(), resource.clone(), verb.clone()));
            }
        }
    }
    rights
}

#[test]
fn every_value_of_the_chart_has_been_looked_at() {
    let text = |file: &str| std::fs::read_to_string(PARTS.1.join(file)).unwrap();
    let defaults: Map<String, Value> = serde_saphyr::from_str(&text("values.yaml")).unwrap();
    assert_eq!(unknown(&defaults), Vec::<String>::new());
    let schema: Value = serde_json::from_str(&text("values.schema.json")).unwrap();
    let mut paths = Vec::new();
    walk(&schema, &schema, &mut Vec::new(), &mut paths);
    assert!(
        paths.len() > 300,
        "the schema was not read: {}",
        paths.len()
    );
    let unlisted: BTreeSet<String> = paths
        .into_iter()
        .filter(|path| !GONE.iter().any(|gone| path.join(".").starts_with(gone)))
        .flat_map(|path| {
            let value = path
                .iter()
                .rfold(json!("x"), |inner, key| json!({ key: inner }));
            unknown(value.as_object().unwrap())
        })
        .collect();
    assert_eq!(unlisted, BTreeSet::new());
}

/// Keys that the schema still has and the chart itself refuses, and Helm's own.
const GONE: [&str; 6] = [
    "global",
    "sync.toHost.volumeSnapshot",
    "sync.fromHost.volumeSnapshotClasses",
    "deploy.volumeSnapshotController",
    "rbac.enableVolumeSnapshotRules",
    "$schema",
];

fn unknown(values: &Map<String, Value>) -> Vec<String> {
    match UserValues::read(vec![Source::new("x", values.clone())], Policy::Restricted) {
        Ok(_) => Vec::new(),
        Err(ValuesError::Refused(refusals)) => refusals
            .into_iter()
            .filter(|refusal: &Refusal| refusal.scope == Scope::Unknown)
            .map(|refusal| refusal.path)
            .collect(),
        Err(other) => panic!("{other}"),
    }
}

/// The paths of a JSON schema that have no named properties below them.
fn walk(root: &Value, schema: &Value, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    let target = schema["$ref"].as_str().map_or(schema, |reference| {
        root.pointer(reference.trim_start_matches('#'))
            .expect("a reference of the schema")
    });
    match target["properties"].as_object() {
        Some(properties) if path.len() < 10 => {
            for (key, schema) in properties {
                path.push(key.clone());
                walk(root, schema, path, out);
                path.pop();
            }
        }
        _ => out.push(path.clone()),
    }
}

#[test]
fn roles_of_the_operator_list_verbs_one_by_one_and_cannot_grow() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/rbac");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let rules = documents
            .iter()
            .flat_map(|document| document["rules"].as_array().cloned().unwrap_or_default());
        for rule in rules {
            seen += 1;
            let rule: PolicyRule = serde_json::from_value(rule).unwrap();
            for (_, resource, verb) in single_rights(&rule) {
                assert!(
                    resource != "*" && verb != "*" && verb != "escalate",
                    "{}: {rule:?}",
                    path.display()
                );
                let narrow = ["bind", "impersonate"].contains(&verb.as_str());
                assert!(
                    !narrow
                        || rule
                            .resource_names
                            .as_ref()
                            .is_some_and(|names| !names.is_empty()),
                    "{}: {verb} without names: {rule:?}",
                    path.display()
                );
            }
        }
    }
    assert!(seen > 20, "config/rbac was not read: {seen} rules");
}
