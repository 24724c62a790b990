//! Bad input and faults on a real api-server: each says what is wrong in a condition of
//! its own reason, in an event and in a metric, tells the next step, and holds up nobody
//! else. The control planes are the fake of `control_planes`.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use std::{sync::OnceLock, time::Duration};

use kubebyon_e2e::{
    control_planes::UNPULLABLE,
    judge::{Shared, events, eventually, find, make, remove, revisions, secret_text},
    operator::{Host, Tenant, condition},
};
use kubebyon_k8s::{
    k8s_openapi::api::{
        core::v1::{ConfigMap, Namespace, Secret},
        rbac::v1::ClusterRole,
    },
    kube::{
        Api,
        api::{ListParams, Patch, PatchParams, PostParams},
    },
};
use serde_json::{Value, json};

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    // A second test of this process finds it installed.
    let _ = tracing_subscriber::fmt()
        .with_env_filter("error,kube_client=off")
        .with_test_writer()
        .try_init();
    Shared::get(&SHARED, "faults", |_| Vec::new())
}

/// Something wrong, and what is to be said of it.
struct Fault {
    name: &'static str,
    spec: Value,
    condition: &'static str,
    reason: &'static str,
    /// Words of the message: the culprit, and the next step.
    says: &'static [&'static str],
    stalled: bool,
}

fn fault(
    name: &'static str,
    spec: Value,
    condition: &'static str,
    reason: &'static str,
    says: &'static [&'static str],
) -> Fault {
    Fault {
        name,
        spec,
        condition,
        reason,
        says,
        stalled: true,
    }
}

const RELEASE: &str = "ReleaseDeployed";

fn values(values: Value) -> Value {
    json!({"values": values})
}

fn values_from(kind: &str, name: &str, key: &str) -> Value {
    json!({"valuesFrom": [{"kind": kind, "name": name, "key": key}]})
}

fn faults(taken: &str, foreign: &str) -> Vec<Fault> {
    let digest = format!("sha256:{}", "0".repeat(64));
    vec![
        fault(
            "no-version",
            json!({"chart": {"version": "9.9.9"}}),
            RELEASE,
            "ChartVersionNotFound",
            &["9.9.9", "choose a version"],
        ),
        fault(
            "no-chart",
            json!({"chart": {"name": "nothing"}}),
            RELEASE,
            "ChartNotFound",
            &["nothing", "check the chart's name"],
        ),
        fault(
            "wrong-digest",
            json!({"chart": {"version": "0.36.1", "digest": digest}}),
            RELEASE,
            "DigestMismatch",
            &["0000", "change the digest"],
        ),
        fault(
            "bad-schema",
            values(json!({"sync": {"toHost": {"pods": {"enabled": "yes"}}}})),
            RELEASE,
            "SchemaViolation",
            &["sync.toHost.pods.enabled", "correct these keys"],
        ),
        fault(
            "owned-key",
            values(json!({"controlPlane": {"distro": {"k8s": {"version": "v1.30.0"}}}})),
            RELEASE,
            "OperatorOwnedValue",
            &[
                "controlPlane.distro.k8s.version",
                "use spec.kubernetesVersion",
            ],
        ),
        fault(
            "unknown-key",
            values(json!({"sleepMode": {"enabled": true}})),
            RELEASE,
            "ValueNotAllowed",
            &["sleepMode"],
        ),
        fault(
            "no-config-map",
            values_from("ConfigMap", "nobody", "values.yaml"),
            RELEASE,
            "ValuesSourceNotFound",
            &[
                "ConfigMap",
                "nobody",
                "create it, or mark the entry optional",
            ],
        ),
        fault(
            "no-secret",
            values_from("Secret", "nobody", "values.yaml"),
            RELEASE,
            "ValuesSourceNotFound",
            &["Secret", "nobody", "create it, or mark the entry optional"],
        ),
        fault(
            "no-key",
            values_from("ConfigMap", "texts", "other.yaml"),
            RELEASE,
            "ValuesSourceNotFound",
            &["has no key other.yaml"],
        ),
        fault(
            "not-yaml",
            values_from("ConfigMap", "texts", "broken"),
            RELEASE,
            "ValuesInvalid",
            &["spec.valuesFrom[0]", "texts", "broken"],
        ),
        fault(
            "a-list",
            values_from("ConfigMap", "texts", "list"),
            RELEASE,
            "ValuesInvalid",
            &["spec.valuesFrom[0]"],
        ),
        fault(
            "second",
            json!({"hostNamespace": taken}),
            "NamespaceReady",
            "NamespaceClaimed",
            &["take another spec.hostNamespace"],
        ),
        fault(
            "intruder",
            json!({"hostNamespace": "default"}),
            "NamespaceReady",
            "NamespaceNotAllowed",
            &["kubectl annotate namespace default kubebyon.app/allow="],
        ),
        fault(
            "foreign",
            json!({"hostNamespace": foreign}),
            RELEASE,
            "ForeignRelease",
            &["helm uninstall foreign -n"],
        ),
        Fault {
            stalled: false,
            ..fault(
                "no-image",
                json!({"controlPlane": {"image": {"tag": UNPULLABLE}}}),
                "ControlPlaneAvailable",
                "ImagePullFailed",
                &[UNPULLABLE, "kubectl describe pod -n"],
            )
        },
        fault(
            "bad-image",
            json!({"controlPlane": {"image": {"registry": "evil.example"}}}),
            RELEASE,
            "ImageNotAllowed",
            &[
                "evil.example",
                "the host admin allows images below ghcr.io/loft-sh/",
            ],
        ),
        fault(
            "unoffered",
            json!({"kubernetesVersion": "1.29"}),
            RELEASE,
            "VersionNotSupported",
            &["1.29", "take one of 1.35.6, 1.36.3"],
        ),
        fault(
            "no-argo",
            json!({"kubeconfig": {"argoCD": {"enabled": true}}}),
            "KubeconfigPublished",
            "ArgoCDNotConfigured",
            &["ask the host admin, or set it to false"],
        ),
        fault(
            "not-mine",
            json!({"kubeconfig": {"secretName": "somebodys"}}),
            "KubeconfigPublished",
            "NotOwned",
            &["somebodys", "rename spec.kubeconfig.secretName"],
        ),
        fault(
            "no-credentials",
            json!({"chart": {"authSecretRef": {"name": "nobody"}}}),
            RELEASE,
            "SecretNotFound",
            &["spec.chart.authSecretRef", "nobody", "create it"],
        ),
        fault(
            "no-licence",
            json!({"nodes": {"mode": "Private", "private": {"podCIDR": "10.60.0.0/16", "serviceCIDR": "10.61.0.0/16"}}}),
            RELEASE,
            "LicenseMissing",
            &["spec.nodes.private.platformSecretRef"],
        ),
    ]
}

/// A release of the name `foreign`, made by somebody with helm in a namespace that the
/// host admin released.
async fn foreign_release(host: &Host, namespace: &str) -> String {
    let adopted = host.namespace("foreign").await;
    let namespaces: Api<Namespace> = Api::all(host.client.clone());
    let key = format!("{namespace}/foreign");
    let allow = json!({"metadata": {"annotations": {"kubebyon.app/allow": key}}});
    namespaces
        .patch(&adopted, &PatchParams::default(), &Patch::Merge(&allow))
        .await
        .unwrap();
    let chart = std::fs::read_dir(&host.charts)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .unwrap();
    let output = std::process::Command::new(host.cluster.helm())
        .args(["install", "foreign"])
        .arg(chart)
        .args(["--namespace", &adopted, "--kubeconfig"])
        .arg(host.cluster.kubeconfig())
        .env("HOME", &host.charts)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    adopted
}

async fn check(shared: &Shared, tenant: &Tenant, fault: &Fault) {
    let name = fault.name;
    let message = tenant.because(fault.condition, fault.reason).await;
    for words in fault.says {
        assert!(
            message.contains(words),
            "{name}: no {words:?} in {message:?}"
        );
    }
    // The message of an attempt may come before the summary of another; both settle.
    let cluster = tenant
        .until("settled", |cluster| {
            let of = |type_| condition(cluster, type_).map(|(status, reason, _)| (status, reason));
            let stalled = if fault.stalled { "True" } else { "False" };
            of("Ready") == Some(("False".to_owned(), fault.reason.to_owned()))
                && of("Stalled").is_some_and(|(status, _)| status == stalled)
                && of("Reconciling").is_some_and(|(status, _)| (status == "True") != fault.stalled)
        })
        .await;
    assert!(
        condition(&cluster, fault.condition).is_some_and(|(status, _, _)| status == "False"),
        "{name}"
    );
    let note = eventually(&format!("{name}: an event"), || async {
        let events = events(&shared.host.client, &tenant.namespace, name).await;
        events
            .into_iter()
            .find(|(type_, reason, _)| type_ == "Warning" && reason == fault.reason)
    })
    .await
    .2;
    assert!(note.contains(fault.says[0]), "{name}: {note}");
    shared.counts(fault.reason).await;
}

#[test]
fn each_fault_says_what_and_what_next_and_holds_up_nobody() {
    shared().run(|shared| async move {
        let host = &shared.host;
        let client = &host.client;
        let namespace = host.namespace("faults").await;
        let texts = json!({"broken": "a: [", "list": "- a\n- b\n"});
        make::<ConfigMap>(client, &namespace, json!({"metadata": {"name": "texts"}, "data": texts})).await;
        let somebodys = json!({"metadata": {"name": "somebodys"}, "stringData": {"password": "theirs"}});
        make::<Secret>(client, &namespace, somebodys).await;
        let first = Tenant::apply(host, &namespace, "first", json!({"hostNamespace": "byon-taken"})).await;
        first.ready().await;
        let foreign = foreign_release(host, &namespace).await;

        let faults = faults("byon-taken", &foreign);
        let mut broken = Vec::new();
        for fault in &faults {
            broken.push(Tenant::apply(host, &namespace, fault.name, fault.spec.clone()).await);
        }
        let good = Tenant::apply(host, &namespace, "good", json!({})).await;
        let optional = json!({"valuesFrom": [{"kind": "Secret", "name": "nobody", "key": "k", "optional": true}]});
        let optional = Tenant::apply(host, &namespace, "optional", optional).await;
        tokio::time::timeout(Duration::from_secs(45), good.ready())
            .await
            .expect("a good cluster is not held up by the broken ones");
        optional.ready().await;
        for (tenant, fault) in broken.iter().zip(&faults) {
            check(shared, tenant, fault).await;
        }

        let theirs = secret_text(client, &namespace, "somebodys", "password").await;
        assert_eq!(theirs, "theirs", "somebody else's Secret is untouched");
        assert_eq!(revisions(client, &foreign, "foreign").await, 1, "so is their release");
        let kubeconfig: Option<Secret> = find(client, &namespace, "foreign-kubeconfig").await;
        assert!(kubeconfig.is_none(), "and nobody hands out their cluster");

        // What was missing comes, and nobody has to touch the cluster for it.
        let values = json!({"metadata": {"name": "nobody"}, "data": {"values.yaml": "controlPlane: {statefulSet: {labels: {a: b}}}"}});
        make::<ConfigMap>(client, &namespace, values).await;
        at(&broken, &faults, "no-config-map").ready().await;
        remove::<Secret>(client, &namespace, "somebodys").await;
        at(&broken, &faults, "not-mine").ready().await;
        at(&broken, &faults, "no-image").update(json!({})).await;
        at(&broken, &faults, "no-image").ready().await;

        // Nothing half-made stays behind.
        for tenant in &broken {
            tenant.delete().await;
        }
        for tenant in &broken {
            tenant.gone().await;
        }
        assert_eq!(revisions(client, &foreign, "foreign").await, 1, "their release stays");
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let ours = ListParams::default().labels("kubebyon.app/host-namespace=tenant");
        let mut left: Vec<String> = namespaces
            .list(&ours)
            .await
            .unwrap()
            .items
            .into_iter()
            .filter_map(|namespace| namespace.metadata.annotations?.remove("kubebyon.app/claimed-by"))
            .filter(|holder| holder.starts_with(&namespace))
            .collect();
        left.sort();
        let kept: Vec<String> = ["first", "good", "optional"].map(|name| format!("{namespace}/{name}")).into();
        assert_eq!(left, kept);

        passed_on(host, &namespace).await;
        missing_rights(shared, &namespace).await;
    });
}

fn at<'a>(tenants: &'a [Tenant], faults: &[Fault], name: &str) -> &'a Tenant {
    let index = faults.iter().position(|fault| fault.name == name).unwrap();
    &tenants[index]
}

/// Takes a verb on a resource out of a ClusterRole, and gives the role as it was.
async fn without(shared: &Shared, role: &str, resource: &str, verb: &str) -> ClusterRole {
    let api: Api<ClusterRole> = Api::all(shared.host.client.clone());
    let before = api.get(role).await.unwrap();
    let mut less = before.clone();
    let mut dropped = false;
    for rule in less.rules.iter_mut().flatten() {
        if rule
            .resources
            .iter()
            .flatten()
            .any(|found| found == resource)
        {
            dropped |= rule.verbs.iter().any(|found| found == verb);
            rule.verbs.retain(|found| found != verb);
        }
    }
    assert!(dropped, "{role} has no {verb} on {resource}");
    less.metadata.managed_fields = None;
    api.replace(role, &PostParams::default(), &less)
        .await
        .unwrap();
    before
}

async fn restore(shared: &Shared, mut role: ClusterRole) {
    let api: Api<ClusterRole> = Api::all(shared.host.client.clone());
    let name = role.metadata.name.clone().unwrap();
    role.metadata.resource_version = None;
    role.metadata.managed_fields = None;
    api.replace(&name, &PostParams::default(), &role)
        .await
        .unwrap();
}

/// One verb gone is named, and its return is enough. Alone at the end: it concerns all clusters.
async fn missing_rights(shared: &Shared, namespace: &str) {
    let host = &shared.host;
    let cases = [
        (
            "kubebyon-operator",
            "networkpolicies",
            "create",
            fault(
                "no-fence",
                json!({}),
                "NamespaceReady",
                "Forbidden",
                &["networkpolicies", "cannot create", "grant"],
            ),
        ),
        (
            "kubebyon-release",
            "statefulsets",
            "create",
            fault(
                "no-sets",
                json!({}),
                RELEASE,
                "Forbidden",
                &["statefulsets", "may not create", "grant it"],
            ),
        ),
    ];
    for (role, resource, verb, fault) in cases {
        let before = without(shared, role, resource, verb).await;
        let tenant = Tenant::apply(host, namespace, fault.name, fault.spec.clone()).await;
        check(shared, &tenant, &fault).await;
        restore(shared, before).await;
        tenant.ready().await;
    }
}

/// The second of a namespace says so until the first is gone, and then has it.
async fn passed_on(host: &Host, namespace: &str) {
    let spec = json!({"hostNamespace": "byon-passed-on"});
    let first = Tenant::apply(host, namespace, "one", spec.clone()).await;
    first.ready().await;
    let second = Tenant::apply(host, namespace, "two", spec).await;
    second.because("NamespaceReady", "NamespaceClaimed").await;
    first.delete().await;
    first.gone().await;
    let cluster = second.ready().await;
    let status = cluster.status.unwrap();
    assert_eq!(status.host_namespace.as_deref(), Some("byon-passed-on"));
}
