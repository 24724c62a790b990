//! `config/` and the host namespace on a real api-server: who may do what, tried one by one.

#![allow(clippy::unwrap_used)] // Helpers of tests end where a test ends.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use kubebyon_api::managed_cluster::Quota;
use kubebyon_k8s::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kubebyon_render::{
    Cluster,
    host_namespace::{
        HostNamespace, Origin, RELEASE_SERVICE_ACCOUNT,
        network::{Edge, Reach},
    },
};
use kubebyon_testbed::{ApiCluster, ApiOptions};
use serde_json::{Value, json};

const NAMESPACE: &str = "byon-demo-0a1b2c3d";
const OPERATOR: &str = "system:serviceaccount:kubebyon-system:kubebyon-operator";

/// A cluster of its own: the policies would be in the way of other tests.
static CLUSTER: LazyLock<ApiCluster> = LazyLock::new(|| {
    let cluster = ApiCluster::start(ApiOptions::default()).expect("an api-server for the tests");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/default");
    cluster
        .run_kubectl([
            "apply",
            "--server-side",
            "--force-conflicts",
            "-k",
            &config.to_string_lossy(),
        ])
        .expect("config/default is applied");
    let objects = host_namespace();
    cluster
        .run_kubectl(["create", "namespace", "plain"])
        .unwrap();
    run(&cluster, OPERATOR, &APPLY, &objects).expect("the operator makes the host namespace");
    // The api-server takes up policies a moment after they are written.
    for probe in [
        &[
            "label",
            "namespace",
            "plain",
            "kubebyon.app/routes=allowed",
            "--dry-run=server",
        ][..],
        &[
            "-n",
            NAMESPACE,
            "create",
            "service",
            "clusterip",
            "probe",
            "--tcp=80",
            "--dry-run=server",
        ],
    ] {
        let expected = probe[0] == "-n";
        let deadline = Instant::now() + Duration::from_secs(30);
        while run(&cluster, "", probe, "").is_ok() != expected {
            assert!(Instant::now() < deadline, "{probe:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    let service = service_with_external_ip("probe");
    let deadline = Instant::now() + Duration::from_secs(30);
    while run(
        &cluster,
        "",
        &["create", "--dry-run=server", "-f", "-"],
        &service,
    )
    .is_ok()
    {
        assert!(
            Instant::now() < deadline,
            "no policy against external addresses"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster
});

const APPLY: [&str; 6] = [
    "apply",
    "--server-side",
    "--field-manager=kubebyon-managed-cluster",
    "-f",
    "-",
    "-oname",
];

fn host_namespace() -> String {
    let cluster = Cluster {
        namespace: "team-a".to_owned(),
        name: "demo".to_owned(),
        uid: "11111111-2222-3333-4444-555555555555".to_owned(),
    };
    let quota = Quota {
        hard: [
            ("limits.memory", "8Gi"),
            ("requests.cpu", "4"),
            ("services.nodeports", "0"),
        ]
        .map(|(key, amount)| (key.to_owned(), Quantity(amount.to_owned())))
        .into(),
    };
    let reach = Reach {
        host_api: &[
            "10.0.0.3:6443".parse().unwrap(),
            "[fd00::3]:6443".parse().unwrap(),
        ],
        external_database: true,
        edge: Edge {
            namespaces: &["envoy-gateway-system".to_owned()],
            cidrs: &["10.0.0.0/24".to_owned()],
        },
    };
    let objects = HostNamespace {
        cluster: &cluster,
        name: NAMESPACE,
        origin: Origin::Created,
        quota: &quota,
        reach,
    }
    .objects();
    let mut items = vec![json!(objects.namespace)];
    items.extend(objects.network_policies.iter().map(|policy| json!(policy)));
    items.extend([
        json!(objects.resource_quota),
        json!(objects.limit_range),
        json!(objects.service_account),
        json!(objects.role_binding),
    ]);
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// kubectl as `user` (empty: the admin), with `input` on its standard input.
fn run(cluster: &ApiCluster, user: &str, args: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::new(cluster.kubectl());
    command
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .args(args);
    if !user.is_empty() {
        command.args([
            "--as",
            user,
            "--as-group=system:serviceaccounts",
            "--as-group=system:authenticated",
        ]);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

fn admin(args: &[&str], input: &str) -> Result<String, String> {
    run(&CLUSTER, "", args, input)
}

fn service_with_external_ip(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"ports": [{"port": 80}], "externalIPs": ["192.0.2.1"]}})
    .to_string()
}

#[test]
fn a_second_apply_changes_nothing() {
    let kinds = "namespace,networkpolicy,resourcequota,limitrange,serviceaccount,rolebinding";
    let versions = || {
        let list = admin(
            &[
                "-n",
                NAMESPACE,
                "get",
                kinds,
                "-l",
                "app.kubernetes.io/managed-by=kubebyon",
                "-ojson",
            ],
            "",
        )
        .unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        let items = list["items"].as_array().unwrap();
        // The quota's own controller counts.
        let items = items.iter().filter(|item| item["kind"] != "ResourceQuota");
        items
            .map(|item| {
                (
                    item["kind"].clone(),
                    item["metadata"]["name"].clone(),
                    item["metadata"]["resourceVersion"].clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    let before = versions();
    assert!(before.len() >= 7, "{before:?}");
    run(&CLUSTER, OPERATOR, &APPLY, &host_namespace()).unwrap();
    assert_eq!(versions(), before);
}

#[test]
fn rights_end_where_they_should() {
    let release = format!("system:serviceaccount:{NAMESPACE}:{RELEASE_SERVICE_ACCOUNT}");
    let own = ["-n", NAMESPACE];
    for (user, question, scope, expected) in [
        (
            OPERATOR,
            "impersonate serviceaccounts/kubebyon-release",
            &own[..],
            true,
        ),
        (OPERATOR, "impersonate serviceaccounts/default", &own, false),
        (OPERATOR, "impersonate users", &[], false),
        (OPERATOR, "impersonate groups/system:masters", &[], false),
        (OPERATOR, "bind clusterroles/kubebyon-release", &[], true),
        (OPERATOR, "bind clusterroles/cluster-admin", &[], false),
        (OPERATOR, "escalate clusterroles", &[], false),
        (OPERATOR, "create clusterroles", &[], false),
        (OPERATOR, "delete pods", &own, false),
        (OPERATOR, "delete persistentvolumeclaims", &own, false),
        (OPERATOR, "delete statefulsets.apps", &own, false),
        (OPERATOR, "update managedclusters.kubebyon.app", &own, false),
        (
            OPERATOR,
            "update leases.coordination.k8s.io",
            &["-n", "kubebyon-system"],
            true,
        ),
        (
            OPERATOR,
            "update leases.coordination.k8s.io",
            &["-n", "default"],
            false,
        ),
        (OPERATOR, "create configmaps", &["-n", "default"], false),
        (&release, "get secrets", &own, true),
        (&release, "get secrets", &["-n", "kube-system"], false),
        (&release, "get namespaces/byon-demo-0a1b2c3d", &own, true),
        (&release, "patch namespaces", &own, false),
        (
            &release,
            "create rolebindings.rbac.authorization.k8s.io",
            &own,
            true,
        ),
        (
            &release,
            "bind roles.rbac.authorization.k8s.io",
            &own,
            false,
        ),
        (
            &release,
            "escalate roles.rbac.authorization.k8s.io",
            &own,
            false,
        ),
        (
            &release,
            "delete networkpolicies.networking.k8s.io",
            &own,
            false,
        ),
        (&release, "delete resourcequotas", &own, false),
        (&release, "create ingresses.networking.k8s.io", &own, false),
        (
            &release,
            "create clusterrolebindings.rbac.authorization.k8s.io",
            &[],
            false,
        ),
    ] {
        let mut args = vec!["auth", "can-i", "--quiet"];
        args.extend(question.split(' '));
        args.extend(scope);
        assert_eq!(
            run(&CLUSTER, user, &args, "").is_ok(),
            expected,
            "{user}: {question} {scope:?}"
        );
    }
}

#[test]
fn the_operator_binds_no_other_role() {
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "evil", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "x", "namespace": NAMESPACE}]})
    .to_string();
    let error = run(&CLUSTER, OPERATOR, &["create", "-f", "-"], &binding).unwrap_err();
    assert!(
        error.contains("attempting to grant RBAC permissions not currently held"),
        "{error}"
    );
}

#[test]
fn pods_that_reach_the_node_are_refused() {
    let pod = |spec: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "evil", "namespace": NAMESPACE}, "spec": spec}).to_string()
    };
    let container =
        |security: Value| json!([{"name": "c", "image": "x", "securityContext": security}]);
    for spec in [
        json!({"containers": container(json!({})), "volumes": [{"name": "root", "hostPath": {"path": "/"}}]}),
        json!({"containers": container(json!({})), "hostNetwork": true}),
        json!({"containers": container(json!({})), "hostPID": true}),
        json!({"containers": container(json!({"privileged": true}))}),
        json!({"containers": container(json!({"capabilities": {"add": ["NET_ADMIN"]}}))}),
    ] {
        let error = admin(&["create", "-f", "-"], &pod(spec.clone())).unwrap_err();
        assert!(
            error.contains("violates PodSecurity \"baseline"),
            "{spec}: {error}"
        );
    }
    let plain = pod(json!({"containers": container(json!({}))}));
    admin(&["create", "--dry-run=server", "-f", "-"], &plain)
        .expect("an ordinary pod, which asks for nothing, fits the quota by its defaults");
}

#[test]
fn services_with_external_addresses_are_refused_in_host_namespaces_alone() {
    let service = service_with_external_ip("evil");
    let error = admin(&["create", "-f", "-"], &service).unwrap_err();
    assert!(
        error.contains("Service evil has spec.externalIPs") && error.contains("remove it"),
        "{error}"
    );
    let elsewhere = service.replace(NAMESPACE, "plain");
    admin(&["create", "--dry-run=server", "-f", "-"], &elsewhere).unwrap();
}

#[test]
fn a_protected_cluster_is_not_deleted() {
    let cluster = json!({"apiVersion": "kubebyon.app/v1alpha1", "kind": "ManagedCluster",
        "metadata": {"name": "kept", "namespace": "plain"}, "spec": {"deletionProtection": true}})
    .to_string();
    admin(&["create", "-f", "-"], &cluster).unwrap();
    let delete = [
        "-n",
        "plain",
        "delete",
        "managedcluster",
        "kept",
        "--wait=false",
    ];
    // The policy takes effect a moment after it is written.
    let deadline = Instant::now() + Duration::from_secs(30);
    let error = loop {
        match admin(&[&delete[..], &["--dry-run=server"]].concat(), "") {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < deadline, "not refused"),
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(error.contains("ManagedCluster plain/kept is protected from deletion: set spec.deletionProtection to false first"), "{error}");
    assert!(admin(&delete, "").is_err());
    admin(
        &[
            "-n",
            "plain",
            "patch",
            "managedcluster",
            "kept",
            "--type=merge",
            "-p",
            r#"{"spec":{"deletionProtection":false}}"#,
        ],
        "",
    )
    .unwrap();
    admin(&delete, "").unwrap();
}

#[test]
fn the_operators_marks_on_namespaces_are_its_own() {
    for (change, refused) in [
        ("label plain kubebyon.app/routes=allowed", true),
        ("label plain kubebyon.app/host-namespace=tenant", true),
        ("annotate plain kubebyon.app/claimed-by=x/y", true),
        ("annotate plain kubebyon.app/created=true", true),
        ("annotate plain kubebyon.app/allow=team-a/demo", false),
        (
            "label plain pod-security.kubernetes.io/enforce=privileged",
            false,
        ),
        ("label HOST kubebyon.app/host-namespace-", true),
        ("label HOST kubebyon.app/cluster-uid=other", true),
        ("annotate HOST kubebyon.app/claimed-by-", true),
        ("annotate HOST kubebyon.app/created-", true),
        (
            "label HOST pod-security.kubernetes.io/enforce=privileged",
            true,
        ),
        ("label HOST pod-security.kubernetes.io/enforce-", true),
        ("label HOST mine.example.com/x=y", false),
    ] {
        let change = change.replace("HOST", NAMESPACE);
        let (verb, rest) = change.split_once(' ').unwrap();
        let mut args = vec![verb, "namespace", "--overwrite", "--dry-run=server"];
        args.extend(rest.split(' '));
        let result = admin(&args, "");
        assert_eq!(result.is_err(), refused, "{change}: {result:?}");
        if let Err(error) = result {
            let told = ["only the operator sets", "the operator sets its"];
            assert!(
                told.iter().any(|text| error.contains(text)),
                "{change}: {error}"
            );
        }
    }
    let created = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "evil", "labels": {"kubebyon.app/routes": "allowed"}}})
    .to_string();
    assert!(admin(&["create", "--dry-run=server", "-f", "-"], &created).is_err());
}
