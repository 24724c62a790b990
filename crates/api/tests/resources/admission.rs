//! What a real api-server takes and refuses, under the definitions that this crate generates.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::support::{Fixture, files, kubectl};
use kubebyon_api::names::hash;
use kubebyon_api::types::{
    ChartVersion, Cidr, Digest, DnsLabel, Hostname, KubernetesVersion, Quantity, SubjectAltName,
};
use kubebyon_api::{MINIMUM_HOST_KUBERNETES, ManagedCluster, PublicAccess, WorkloadRoutePlan, crd};
use kubebyon_k8s::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kubebyon_k8s::kube::api::Api;
use serde::Deserialize;
use serde_json::{Value, json};

fn yaml(name: &str, text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The object as its Rust type: what the api-server takes, the controllers can read.
fn read(object: Value) -> Result<(), serde_json::Error> {
    match object["kind"].as_str() {
        Some("ManagedCluster") => serde_json::from_value::<ManagedCluster>(object).map(drop),
        Some("PublicAccess") => serde_json::from_value::<PublicAccess>(object).map(drop),
        _ => serde_json::from_value::<WorkloadRoutePlan>(object).map(drop),
    }
}

#[tokio::test]
async fn definitions_are_established_without_a_warning() {
    let fixture = Fixture::new().await;
    let api: Api<CustomResourceDefinition> = Api::all(fixture.client.clone());
    for crd in crd::all() {
        let name = crd.metadata.name.expect("a name");
        let stored = api.get(&name).await.expect("the definition");
        let conditions = stored.status.and_then(|status| status.conditions);
        let status = |type_: &str| {
            conditions
                .iter()
                .flatten()
                .find(|condition| condition.type_ == type_)
                .map(|condition| condition.status.clone())
        };
        assert_eq!(status("Established").as_deref(), Some("True"), "{name}");
        assert_eq!(status("NamesAccepted").as_deref(), Some("True"), "{name}");
        assert_eq!(status("NonStructuralSchema"), None, "{name}");
    }
    fixture.end().await;
}

#[tokio::test]
async fn the_host_is_at_least_the_minimum() {
    let fixture = Fixture::new().await;
    let version = fixture
        .client
        .apiserver_version()
        .await
        .expect("the version");
    let minor: u32 = version.minor.trim_end_matches('+').parse().expect("minor");
    let minimum: u32 = MINIMUM_HOST_KUBERNETES
        .strip_prefix("1.")
        .and_then(|minor| minor.parse().ok())
        .expect("a minor");
    assert!(
        minor >= minimum,
        "{} < {MINIMUM_HOST_KUBERNETES}",
        version.git_version
    );
    fixture.end().await;
}

#[tokio::test]
async fn bad_manifests_are_refused_with_their_field_and_remedy() {
    let fixture = Fixture::new().await;
    let cases = files("tests/manifests/bad");
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for (name, text) in &cases {
        let expected: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
            .collect();
        assert!(!expected.is_empty(), "{name} expects nothing");
        match fixture.create(&yaml(name, text), true).await {
            Ok(_) => wrong.push(format!("{name}: accepted")),
            Err(message) => {
                let missing = expected.iter().filter(|part| !message.contains(**part));
                wrong.extend(missing.map(|part| format!("{name}: {part:?} is not in: {message}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    fixture.end().await;
}

#[tokio::test]
async fn good_manifests_and_samples_are_accepted_and_readable() {
    let fixture = Fixture::new().await;
    let good = files("tests/manifests/good");
    assert!(good.len() >= 20, "{} cases", good.len());
    let samples = files("../../config/samples");
    let mut kinds = BTreeSet::new();
    for (name, text) in good.iter().chain(&samples) {
        let mut object = yaml(name, text);
        object["metadata"]["namespace"] = json!(fixture.namespace);
        match fixture.create(&object, true).await {
            Ok(stored) => {
                kinds.insert(stored["kind"].to_string());
                read(stored).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            Err(message) => panic!("{name}: {message}"),
        }
    }
    assert_eq!(kinds.len(), 3, "{kinds:?}");
    fixture.end().await;
}

/// One change of one stored object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// `accepted`, or what the refusal says.
    expect: String,
    object: Value,
    #[serde(default)]
    status: Option<Value>,
    /// JSON merge patch of the spec.
    patch: Value,
}

#[tokio::test]
async fn changes_follow_the_rules() {
    let fixture = Fixture::new().await;
    let mut wrong = Vec::new();
    for (name, text) in files("tests/manifests/update") {
        let mut case: Change = serde_saphyr::from_str(&text).expect(&name);
        // Names are at most 30 characters long, and file names are longer.
        case.object["metadata"]["name"] = json!(format!("case-{}", hash(&name, 8)));
        let object = fixture
            .create(&case.object, false)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(status) = case.status {
            fixture
                .patch(&object, "/status", &json!({"status": status}))
                .await
                .unwrap_or_else(|error| panic!("{name}: status: {error}"));
        }
        let outcome = fixture
            .patch(&object, "", &json!({"spec": case.patch}))
            .await;
        match (case.expect.as_str(), outcome) {
            ("accepted", Ok(_)) => {}
            ("accepted", Err(message)) => wrong.push(format!("{name}: {message}")),
            (expected, Ok(_)) => wrong.push(format!("{name}: accepted, not {expected:?}")),
            (expected, Err(message)) if !message.contains(expected) => {
                wrong.push(format!("{name}: {expected:?} is not in: {message}"));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    fixture.end().await;
}

#[tokio::test]
async fn a_status_that_moves_on_is_never_refused_because_of_the_spec() {
    let fixture = Fixture::new().await;
    let object = json!({
        "apiVersion": "kubebyon.app/v1alpha1",
        "kind": "ManagedCluster",
        "metadata": {"name": "moves-on"},
        "spec": {"kubernetesVersion": "1.36"},
    });
    fixture.create(&object, false).await.expect("created");
    for version in ["1.33.0", "1.36.3", "1.40.1"] {
        fixture
            .patch(
                &object,
                "/status",
                &json!({"status": {"kubernetesVersion": version}}),
            )
            .await
            .expect(version);
    }
    fixture.end().await;
}

#[tokio::test]
async fn defaults_are_those_of_the_contract() {
    let fixture = Fixture::new().await;
    let cluster = json!({
        "apiVersion": "kubebyon.app/v1alpha1",
        "kind": "ManagedCluster",
        "metadata": {"name": "defaults"},
        "spec": {"publicAccess": {"ref": {"name": "public"}}},
    });
    let stored = fixture.create(&cluster, true).await.expect("created");
    assert_eq!(
        stored["spec"],
        json!({
            "controlPlane": {
                "replicas": 1,
                "service": {"type": "ClusterIP"},
                "backingStore": {"type": "EmbeddedDatabase"},
                "storage": {"size": "5Gi"},
            },
            "nodes": {"mode": "Shared"},
            "publicAccess": {
                "ref": {"name": "public"},
                "workload": {"managedIngress": {"enabled": true}},
            },
            "deletionPolicy": "Delete",
        })
    );
    let access = json!({
        "apiVersion": "kubebyon.app/v1alpha1",
        "kind": "PublicAccess",
        "metadata": {"name": "defaults"},
        "spec": {
            "provider": "GatewayAPI",
            "controlPlane": {"domain": "clusters.example.com"},
            "platform": {"hostname": "www.example.com", "tlsSecretName": "tls"},
            "workload": {"domain": "apps.example.com"},
            "gatewayAPI": {"gatewayClassName": "eg"},
        },
    });
    let stored = fixture.create(&access, true).await.expect("created");
    assert_eq!(
        stored["spec"],
        json!({
            "provider": "GatewayAPI",
            "allowedNamespaces": {"from": "Same"},
            "controlPlane": {
                "domain": "clusters.example.com",
                "dnsCheck": "Enabled",
                "probeIntervalSeconds": 30,
            },
            "platform": {
                "hostname": "www.example.com",
                "tlsSecretName": "tls",
                "api": {"serviceName": "kubebyon-api", "port": 8080},
                "web": {"enabled": false, "serviceName": "kubebyon-web", "port": 3000},
            },
            "workload": {
                "domain": "apps.example.com",
                "backendStrategy": "Auto",
                "nodeAddressType": "InternalIP",
                "dns": {"gate": true},
                "podCIDRRoute": {
                    "enabled": false,
                    "mode": "RouteAgent",
                    "staleAfterSeconds": 120,
                    "syncIntervalSeconds": 30,
                    "applyTimeoutSeconds": 10,
                },
                "tls": {"enabled": false},
                "certManager": {"enabled": false, "selfManaged": {"enabled": false}},
            },
            "gatewayAPI": {
                "gatewayClassName": "eg",
                "addressMode": "Dual",
                "routeNamespaces": "Labelled",
                "controlPlane": {"listenerName": "control-plane"},
                "workload": {
                    "httpListenerName": "workload-http",
                    "httpsListenerName": "workload-https",
                },
            },
        })
    );
    fixture.end().await;
}

/// A field, texts for it, and whether the controllers can read one.
type Texts = (&'static str, &'static [&'static str], fn(&str) -> bool);

/// Texts that are read, refused, or on the edge.
fn texts() -> [Texts; 8] {
    fn reads<T: FromStr>(text: &str) -> bool {
        text.parse::<T>().is_ok()
    }
    [
        (
            "kubernetesVersion",
            &[
                "1.0", "1.36.0", "1.036", "1.36.", "1", "01.36", "1.36.3 ", "1.999", "1.1000",
                "١.36",
            ],
            reads::<KubernetesVersion>,
        ),
        (
            "hostNamespace",
            &["a", "a-b", "-a", "a-", "a_b", "0", "a.b", "ä"],
            reads::<DnsLabel>,
        ),
        (
            "chart/version",
            &[
                "0.36.1",
                "v1.2.3",
                "1.2",
                "1.2.3-rc.1+b",
                "1.2.3-",
                "01.2.3",
                "1.2.3-01",
                "1.2.3+",
            ],
            reads::<ChartVersion>,
        ),
        (
            "chart/digest",
            &[
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "sha256:E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "sha256:e3b0",
            ],
            reads::<Digest>,
        ),
        (
            "controlPlane/storage/size",
            &[
                "1", "5Gi", "1.5Gi", ".5G", "5.", "1e3", "1E3", "1E", "5gi", "5GB", "+5Gi", "1e-3",
                "100n", "1,5", "5 Gi", "1u",
            ],
            reads::<Quantity>,
        ),
        (
            "controlPlane/extraSANs/0",
            &[
                "a",
                "*.a",
                "a.b",
                "*a.b",
                "10.0.0.1",
                "10.0.0.01",
                "fd00::1",
                "::ffff:1.2.3.4",
                "A.b",
                "a..b",
            ],
            reads::<SubjectAltName>,
        ),
        (
            "publicAccess/hostname",
            &[
                "a.b", "a", "a.b.", "*.a.b", "a.b:1", "xn--a.b", "1.2.3.4", "a_b.c",
            ],
            reads::<Hostname>,
        ),
        (
            "nodes/private/podCIDR",
            &[
                "10.0.0.0/8",
                "10.0.0.1/8",
                "010.0.0.0/8",
                "10.0.0.0/08",
                "10.0.0.0",
                "10.0.0.0/33",
                "10.0.0.0/+8",
            ],
            reads::<Cidr>,
        ),
    ]
}

#[tokio::test]
async fn what_the_api_server_takes_the_controllers_can_read_and_the_other_way() {
    let fixture = Fixture::new().await;
    let mut differences = Vec::new();
    for (field, texts, readable) in texts() {
        for text in texts {
            let mut object = json!({
                "apiVersion": "kubebyon.app/v1alpha1",
                "kind": "ManagedCluster",
                "metadata": {"name": "demo"},
                "spec": {
                    "kubernetesVersion": "", "hostNamespace": "",
                    "chart": {"version": "", "digest": ""},
                    "controlPlane": {"storage": {"size": "1Gi"}, "extraSANs": ["a"]},
                    "publicAccess": {"ref": {"name": "public"}, "hostname": ""},
                },
            });
            if field.starts_with("nodes") {
                let private = json!({"podCIDR": "", "serviceCIDR": "203.0.113.0/24"});
                object["spec"]["nodes"] = json!({"mode": "Private", "private": private});
            }
            *object
                .pointer_mut(&format!("/spec/{field}"))
                .expect("a field") = json!(text);
            let taken = fixture.create(&object, true).await.map(|_| "accepted");
            if taken.is_ok() != readable(text) {
                differences.push(format!("{field} {text:?}: {taken:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    fixture.end().await;
}

#[tokio::test]
async fn kubectl_knows_the_resources() {
    let fixture = Fixture::new().await;
    let explained = kubectl(&["explain", "managedcluster.spec", "--recursive"]);
    for field in [
        "kubernetesVersion",
        "backingStore",
        "podCIDR",
        "deletionPolicy",
        "extraSANs",
    ] {
        assert!(explained.contains(field), "{field} is not in: {explained}");
    }
    let field = kubectl(&["explain", "managedcluster.spec.controlPlane.storage.size"]);
    assert!(field.contains("It only grows."), "{field}");
    let listed = kubectl(&["api-resources", "--categories=kubebyon", "--no-headers"]);
    for short_name in [" mcl ", " pacc ", " wrp "] {
        assert!(
            listed.contains(short_name),
            "{short_name} is not in: {listed}"
        );
    }
    let cluster = json!({
        "apiVersion": "kubebyon.app/v1alpha1",
        "kind": "ManagedCluster",
        "metadata": {"name": "columns"},
        "spec": {},
    });
    fixture.create(&cluster, false).await.expect("created");
    let status = json!({"status": {
        "kubernetesVersion": "1.36.3",
        "phase": "Ready",
        "endpoints": {"public": "https://columns.example.com"},
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Succeeded", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }});
    fixture
        .patch(&cluster, "/status", &status)
        .await
        .expect("a status");
    let row = kubectl(&["get", "mcl", "columns", "-n", &fixture.namespace]);
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        cells[..11],
        [
            "NAME",
            "VERSION",
            "PHASE",
            "READY",
            "ENDPOINT",
            "AGE",
            "columns",
            "1.36.3",
            "Ready",
            "True",
            "https://columns.example.com"
        ]
    );
    fixture.end().await;
}
