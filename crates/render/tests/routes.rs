//! Gateways, routes and who may attach to them, on a real api-server.

#![allow(clippy::unwrap_used)] // Helpers of tests end where a test ends.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use kubebyon_api::PublicAccess;
use kubebyon_api::public_access::AddressMode;
use kubebyon_api::types::Hostname;
use kubebyon_render::{
    Cluster,
    exposure::{Exposure, Hostnames, TenantApi, claim::Claim},
    gateway_api::{
        Layout, Role,
        gateways::ListenerSets,
        parents::Parents,
        protection::ParentKind,
        tls_route::{PLURAL, Version, tls_route},
    },
};
use kubebyon_testbed::{ApiCluster, ApiOptions, CrdSet};
use serde_json::{Value, json};

const OPERATOR: &str = "system:serviceaccount:kubebyon-system:kubebyon-operator";
const OPERATOR_NAMESPACE: &str = "kubebyon-system";
const NAME: &str = "demo.clusters.example.com";
const HOST_NAMESPACE: &str = "byon-demo-0a1b2c3d";

/// kubectl as `user` (empty: the admin), with `objects` on its standard input.
fn kubectl(
    cluster: &ApiCluster,
    user: &str,
    args: &[&str],
    objects: &[Value],
) -> Result<String, String> {
    let mut command = Command::new(cluster.kubectl());
    command
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .args(args);
    if !user.is_empty() {
        command.args(["--as", user, "--as-group=system:serviceaccounts"]);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut input = child.stdin.take().unwrap();
    input.write_all(list.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

const CREATE: [&str; 3] = ["create", "-f", "-"];
const APPLY: [&str; 6] = [
    "apply",
    "--server-side",
    "--field-manager=kubebyon-public-access",
    "-f",
    "-",
    "-oname",
];

fn start(with: Vec<CrdSet>) -> ApiCluster {
    let cluster = ApiCluster::start(ApiOptions {
        with,
        ..ApiOptions::default()
    })
    .expect("an api-server for the tests");
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
    for namespace in [HOST_NAMESPACE, "elsewhere"] {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        kubectl(&cluster, "", &CREATE, &[object]).unwrap();
    }
    cluster
}

fn access() -> PublicAccess {
    serde_json::from_value(json!({
        "metadata": {"name": "public", "namespace": OPERATOR_NAMESPACE, "uid": "99999999-2222-3333-4444-555555555555"},
        "spec": {
            "provider": "GatewayAPI",
            "controlPlane": {"domain": "clusters.example.com"},
            "platform": {"hostname": "console.example.com", "tlsSecretName": "console-tls",
                "httpToHttpsRedirect": true, "web": {"enabled": true}},
            "workload": {"domain": "apps.example.com", "tls": {"enabled": true}},
            "gatewayAPI": {"gatewayClassName": "eg"},
        },
    }))
    .unwrap()
}

fn tenant() -> (Cluster, TenantApi) {
    let cluster = Cluster {
        namespace: "team-a".to_owned(),
        name: "demo".to_owned(),
        uid: "11111111-2222-3333-4444-555555555555".to_owned(),
    };
    let hostnames = Hostnames::from(NAME.parse::<Hostname>().unwrap());
    let api = TenantApi::of(&cluster, HOST_NAMESPACE.parse().unwrap(), hostnames).unwrap();
    (cluster, api)
}

/// A route or ListenerSet of somebody else.
fn foreign(kind: &str, name: &str, parent: &Value) -> Value {
    let spec = match kind {
        "TLSRoute" => {
            json!({"parentRefs": [{"name": "other"}, parent], "hostnames": [NAME],
            "rules": [{"backendRefs": [{"name": "evil", "port": 443}]}]})
        }
        "HTTPRoute" => json!({"parentRefs": [parent], "hostnames": ["console.example.com"],
            "rules": [{"backendRefs": [{"name": "evil", "port": 80}]}]}),
        _ => {
            json!({"parentRef": parent, "listeners": [{"name": "evil", "port": 443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}]})
        }
    };
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": "elsewhere"}, "spec": spec})
}

#[test]
fn only_the_operator_attaches_to_its_gateways() {
    let cluster = start(vec![CrdSet::GatewayApiExperimental]);
    let access = access();
    let layout = Layout::of(&access).unwrap();
    let exposure = Exposure::of(&access).unwrap();
    let gateways = layout.gateways(&exposure, ListenerSets::Served);
    let ours = json!({"name": "public-gateway", "namespace": OPERATOR_NAMESPACE});

    // With no mark nothing is refused.
    let before = foreign("TLSRoute", "before", &ours);
    kubectl(&cluster, "", &CREATE, &[before]).unwrap();

    // The operator's own: marks first, then the Gateways and their routes, by its own rights.
    let mut marks = layout.protected_gateways(&gateways, OPERATOR_NAMESPACE);
    marks.push(layout.protected_parent(
        ParentKind::ListenerSet,
        OPERATOR_NAMESPACE,
        "more",
        OPERATOR_NAMESPACE,
    ));
    let (owner, api) = tenant();
    let claim = Claim {
        hostname: api.hostnames.as_slice()[0].clone(),
        owner: owner.clone(),
    };
    let mut created: Vec<_> = marks.iter().map(|mark| json!(mark)).collect();
    created.push(json!(claim.object(OPERATOR_NAMESPACE)));
    kubectl(&cluster, OPERATOR, &CREATE, &created).unwrap();
    let error = kubectl(&cluster, OPERATOR, &CREATE, &created[created.len() - 1..]).unwrap_err();
    assert!(
        error.contains("AlreadyExists"),
        "a claim is made once: {error}"
    );

    let mut objects: Vec<_> = gateways.iter().map(|(_, gateway)| json!(gateway)).collect();
    let site = exposure.site.as_ref().unwrap();
    objects.extend(layout.site_routes(site).iter().map(|route| json!(route)));
    let parents = Parents::new(layout.parent());
    objects.extend(Version::ALL.map(|version| json!(tls_route(&owner, &api, &parents, version))));
    for round in 1..=2 {
        kubectl(&cluster, OPERATOR, &APPLY, &objects)
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    let generation = [
        "-n",
        HOST_NAMESPACE,
        "get",
        PLURAL,
        "-ojsonpath={.items[*].metadata.generation}",
    ];
    assert_eq!(kubectl(&cluster, "", &generation, &[]).unwrap(), "1");

    // The api-server takes up policies and their parameters a moment after they are written.
    let attempt = |kind, parent: &Value| {
        let args = ["create", "--dry-run=server", "-f", "-"];
        kubectl(&cluster, "", &args, &[foreign(kind, "late", parent)])
    };
    for parent in [
        ours.clone(),
        json!({"kind": "ListenerSet", "namespace": OPERATOR_NAMESPACE, "name": "more"}),
    ] {
        let deadline = Instant::now() + Duration::from_secs(30);
        while attempt("HTTPRoute", &parent).is_ok() {
            assert!(Instant::now() < deadline, "no policy for {parent}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    for kind in ["TLSRoute", "HTTPRoute", "ListenerSet"] {
        for role in Role::ALL {
            let at = &layout.place(role).at;
            let parent = json!({"name": at.name, "namespace": at.namespace});
            let error = attempt(kind, &parent).unwrap_err();
            let expected = format!(
                "{kind} elsewhere/late names Gateway {}/{}, which the operator keeps for public names",
                at.namespace, at.name
            );
            assert!(error.contains(&expected), "{error}");
        }
        // The same name elsewhere, which is where a parent without namespace is, is another Gateway.
        attempt(kind, &json!({"name": "public-gateway"})).unwrap();
    }
    changes_are_no_way_around(&cluster, &ours);
    a_shared_class_is_the_operators(&cluster);
}

/// Gateways of one data plane are the operator's alone.
fn a_shared_class_is_the_operators(cluster: &ApiCluster) {
    let gateway = |name: &str, class: &str| {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": name, "namespace": "elsewhere"},
            "spec": {"gatewayClassName": class, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}})
    };
    kubectl(cluster, "", &CREATE, &[gateway("before", "merged")]).unwrap();
    let mut access = access();
    let api = access.spec.gateway_api.as_mut().unwrap();
    api.address_mode = AddressMode::Single;
    api.gateway_class_profiles.shared = Some("merged".to_owned());
    let mark = Layout::of(&access)
        .unwrap()
        .protected_class(OPERATOR_NAMESPACE);
    kubectl(cluster, OPERATOR, &CREATE, &[json!(mark.unwrap())]).unwrap();
    let attempt = |user: &str, class: &str| {
        let args = ["create", "--dry-run=server", "-f", "-"];
        kubectl(cluster, user, &args, &[gateway("late", class)])
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while attempt("", "merged").is_ok() {
        assert!(Instant::now() < deadline, "no policy for the class");
        std::thread::sleep(Duration::from_millis(200));
    }
    let error = attempt("", "merged").unwrap_err();
    let expected = "Gateway elsewhere/late is of GatewayClass merged, whose Gateways share one data plane with the public names of \
                    PublicAccess kubebyon-system/public: take another class";
    assert!(error.contains(expected), "{error}");
    attempt("", "other").unwrap();
    attempt(OPERATOR, "merged").unwrap();
    let before = ["-n", "elsewhere", "label", "gateway", "before", "a=b"];
    kubectl(cluster, "", &before, &[]).unwrap();
}

/// A route named `before` was there before the policy had anything to protect.
fn changes_are_no_way_around(cluster: &ApiCluster, ours: &Value) {
    kubectl(
        cluster,
        "",
        &CREATE,
        &[foreign("TLSRoute", "tame", &json!({"name": "mine"}))],
    )
    .unwrap();
    let patch = json!({"spec": {"parentRefs": [ours]}}).to_string();
    let patch_spec = [
        "-n",
        "elsewhere",
        "patch",
        PLURAL,
        "tame",
        "--type=merge",
        "-p",
        &patch,
    ];
    let error = kubectl(cluster, "", &patch_spec, &[]).unwrap_err();
    assert!(error.contains("remove that parent"), "{error}");
    let patch_ours = [
        "-n",
        HOST_NAMESPACE,
        "patch",
        PLURAL,
        "kubebyon-control-plane",
        "--type=merge",
        "-p",
        "{\"spec\": {\"hostnames\": [\"evil.example.com\"]}}",
    ];
    assert!(kubectl(cluster, "", &patch_ours, &[]).is_err());

    // A route from before keeps its metadata free, may detach, and may go.
    kubectl(
        cluster,
        "",
        &["-n", "elsewhere", "label", PLURAL, "before", "a=b"],
        &[],
    )
    .unwrap();
    let detach = [
        "-n",
        "elsewhere",
        "patch",
        PLURAL,
        "before",
        "--type=merge",
        "-p",
        "{\"spec\": {\"parentRefs\": [{\"name\": \"mine\"}]}}",
    ];
    kubectl(cluster, "", &detach, &[]).unwrap();
    kubectl(
        cluster,
        "",
        &["-n", "elsewhere", "delete", PLURAL, "before"],
        &[],
    )
    .unwrap();
}

#[test]
fn the_policies_stand_without_gateway_api() {
    let cluster = start(Vec::new());
    let access = access();
    let layout = Layout::of(&access).unwrap();
    let gateways = layout.gateways(&Exposure::of(&access).unwrap(), ListenerSets::NotServed);
    let marks: Vec<_> = layout
        .protected_gateways(&gateways, OPERATOR_NAMESPACE)
        .iter()
        .map(|mark| json!(mark))
        .collect();
    kubectl(&cluster, OPERATOR, &CREATE, &marks).unwrap();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "elsewhere"}});
    kubectl(&cluster, "", &CREATE, &[object]).unwrap();
    for name in ["kubebyon-routes", "kubebyon-gateways"] {
        let policy = [
            "get",
            "validatingadmissionpolicy",
            name,
            "-ojsonpath={.status.typeChecking.expressionWarnings}",
        ];
        assert_eq!(kubectl(&cluster, "", &policy, &[]).unwrap(), "");
    }
}
