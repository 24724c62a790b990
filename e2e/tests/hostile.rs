//! A hostile author and a hostile tenant, on a real api-server: what they try is refused
//! or has no effect. The control planes are the fake of `control_planes`.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use std::{
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kubebyon_api::ManagedCluster;
use kubebyon_e2e::{
    judge::{Shared, edit, events, eventually, find, make, revisions, secret_text},
    operator::{Host, Tenant, condition, config},
};
use kubebyon_k8s::{
    k8s_openapi::api::{
        apps::v1::StatefulSet,
        core::v1::{Pod, Secret, Service},
        rbac::v1::{ClusterRole, RoleBinding},
    },
    kube::{
        Api, Client,
        api::{Patch, PatchParams, PostParams, ValidationDirective},
    },
};
use kubebyon_testbed::parts::{self, Part};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// Never to be seen outside of a Secret.
const MARKER: &str = "hunter2-7f3a91";

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_env_filter("debug,kubebyon_operator=trace,kubebyon_helm=trace")
            .with_writer(move || writer.clone())
            .init();
        log
    })
}

/// A chart repository whose every answer leads to a loopback address that it may not be at.
struct Redirecting {
    address: SocketAddr,
    ca: String,
    /// Connections that came where they must not.
    reached: Arc<AtomicUsize>,
}

impl Redirecting {
    fn get() -> &'static Self {
        static SERVER: OnceLock<Redirecting> = OnceLock::new();
        SERVER.get_or_init(|| {
            let (sender, receiver) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(Self::serve(&sender));
            });
            receiver.recv().unwrap()
        })
    }

    async fn serve(started: &std::sync::mpsc::Sender<Self>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let server = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inside = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let target = inside.local_addr().unwrap();
        let reached = Arc::<AtomicUsize>::default();
        started
            .send(Self {
                address: front.local_addr().unwrap(),
                ca: issuer.pem(),
                reached: reached.clone(),
            })
            .unwrap();
        tokio::spawn(async move {
            while inside.accept().await.is_ok() {
                reached.fetch_add(1, Ordering::SeqCst);
            }
        });
        while let Ok((stream, _)) = front.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(stream).await else {
                    return;
                };
                let mut request = [0; 4096];
                let Ok(count) = tls.read(&mut request).await else {
                    return;
                };
                let request = String::from_utf8_lossy(&request[..count]).into_owned();
                let answer = if request.starts_with("GET /locked/") {
                    "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                        .to_owned()
                } else {
                    format!(
                        "HTTP/1.1 302 Found\r\nlocation: https://{target}/index.yaml\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    )
                };
                // A client that is gone already has its answer.
                let _ = tls.write_all(answer.as_bytes()).await;
                let _ = tls.shutdown().await;
            });
        }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    log();
    Shared::get(&SHARED, "hostile", |host| {
        let redirecting = Redirecting::get().address;
        vec![
            format!(
                "--allowed-chart-repositories=https://{redirecting},https://127.0.0.3,file://{}",
                host.charts.display()
            ),
            "--allowed-chart-networks=127.0.0.1/32".to_owned(),
        ]
    })
}

async fn apply(host: &Host, name: &str, spec: Value) -> Tenant {
    let namespace = host.namespace("hostile").await;
    Tenant::apply(host, &namespace, name, spec).await
}

/// What the chart would make is not there, not even in part.
async fn nothing_made(host: &Host, tenant: &Tenant) {
    let status = tenant.get().await.status.unwrap();
    let namespace = status.host_namespace.unwrap();
    assert_eq!(revisions(&host.client, &namespace, &tenant.name).await, 0);
    let set: Option<StatefulSet> = find(&host.client, &namespace, &tenant.name).await;
    assert!(set.is_none());
}

#[test]
fn values_that_reach_outside_are_refused_by_path() {
    let pod = |volumes: Value| json!({"controlPlane": {"statefulSet": volumes}});
    let host_path = json!([{"name": "root", "hostPath": {"path": "/"}}]);
    let rule = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let attempts = [
        (
            "rbac.role.extraRules",
            json!({"rbac": {"role": {"extraRules": rule}}}),
        ),
        (
            "rbac.clusterRole",
            json!({"rbac": {"clusterRole": {"enabled": true, "extraRules": rule}}}),
        ),
        (
            "experimental.deploy.host",
            json!({"experimental": {"deploy": {"host": {"manifests": "kind: Pod"}}}}),
        ),
        (
            "experimental.deploy.vcluster.manifestsTemplate",
            json!({"experimental": {"deploy": {"vcluster": {"manifestsTemplate": "{{ lookup \"v1\" \"Secret\" \"kube-system\" \"\" }}"}}}}),
        ),
        (
            "controlPlane.statefulSet.persistence.addVolumes",
            pod(json!({"persistence": {"addVolumes": host_path}})),
        ),
        (
            "controlPlane.statefulSet.command",
            pod(json!({"command": ["sh"]})),
        ),
        (
            "controlPlane.statefulSet.args",
            pod(json!({"args": ["-c", "id"]})),
        ),
        (
            "controlPlane.statefulSet.image",
            pod(json!({"image": {"registry": "evil.example"}})),
        ),
        (
            "controlPlane.statefulSet.sidecarContainers",
            pod(json!({"sidecarContainers": [{"name": "x", "image": "evil"}]})),
        ),
        (
            "controlPlane.distro.k8s.apiServer.command",
            json!({"controlPlane": {"distro": {"k8s": {"apiServer": {"command": ["sh"]}}}}}),
        ),
        (
            "controlPlane.hostPathMapper",
            json!({"controlPlane": {"hostPathMapper": {"enabled": true}}}),
        ),
        (
            "experimental.syncSettings.setOwner",
            json!({"experimental": {"syncSettings": {"setOwner": true}}}),
        ),
        (
            "platform.apiKey",
            json!({"platform": {"apiKey": {"secretName": "key", "namespace": "kube-system"}}}),
        ),
        (
            "controlPlane.tlsRoute",
            json!({"controlPlane": {"tlsRoute": {"enabled": true}}}),
        ),
        (
            "sync.fromHost.secrets",
            json!({"sync": {"fromHost": {"secrets": {"enabled": true}}}}),
        ),
    ];
    shared().run(|shared| async move {
        let host = &shared.host;
        let namespace = host.namespace("hostile").await;
        let mut tenants = Vec::new();
        for (index, (path, values)) in attempts.into_iter().enumerate() {
            let spec = json!({"values": values});
            tenants.push((
                path,
                Tenant::apply(host, &namespace, &format!("values-{index}"), spec).await,
            ));
        }
        for (path, tenant) in &tenants {
            let cluster = tenant
                .until(&format!("refused for {path}"), |cluster| {
                    condition(cluster, "ReleaseDeployed").is_some_and(|(_, reason, _)| {
                        reason == "ValueNotAllowed" || reason == "OperatorOwnedValue"
                    })
                })
                .await;
            let (_, _, message) = condition(&cluster, "ReleaseDeployed").unwrap();
            assert!(message.contains(path), "{path}: {message}");
            nothing_made(host, tenant).await;
        }
    });
}

#[test]
fn a_template_among_the_values_is_text() {
    const TEMPLATE: &str = r#"{{ lookup "v1" "Secret" "kube-system" "" }}"#;
    shared().run(|shared| async move {
        let host = &shared.host;
        let values =
            json!({"controlPlane": {"statefulSet": {"annotations": {"example.com/x": TEMPLATE}}}});
        let tenant = apply(host, "template", json!({"values": values})).await;
        let status = tenant.ready().await.status.unwrap();
        let namespace = status.host_namespace.unwrap();
        let set: Option<StatefulSet> = find(&host.client, &namespace, "template").await;
        let annotations = set.unwrap().metadata.annotations.unwrap();
        assert_eq!(annotations["example.com/x"], TEMPLATE);
    });
}

/// Packages the vCluster chart with one more template, as a repository below the chart folder.
fn chart_with(host: &Host, folder: &Path, template: &str) {
    let chart = parts::ensure(
        &[Part::VclusterChart],
        kubebyon_testbed::progress::Progress::stderr(),
    )
    .unwrap()
    .path(Part::VclusterChart);
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("vcluster");
    run(std::process::Command::new("cp")
        .arg("-r")
        .arg(&chart)
        .arg(&copy));
    run(std::process::Command::new("chmod")
        .arg("-R")
        .arg("u+w")
        .arg(&copy));
    std::fs::write(copy.join("templates/extra.yaml"), template).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    run(std::process::Command::new(host.cluster.helm())
        .arg("package")
        .arg(&copy)
        .args([
            "--version",
            "0.36.1",
            "--app-version",
            "0.36.1",
            "--destination",
        ])
        .arg(folder)
        .env("HOME", scratch.path()));
}

fn run(command: &mut std::process::Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn repository(folder: &Path) -> Value {
    json!({"chart": {"repository": format!("file://{}", folder.display())}})
}

#[test]
fn a_chart_gets_no_right_that_its_namespace_does_not_have() {
    const CLUSTER_ROLE: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: evil}\nrules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]\n";
    const ROLE: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: evil}\nrules: [{apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [delete]}]\n";
    const ELSEWHERE: &str =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: evil, namespace: kube-system}\n";
    const BINDING: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: evil}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: ServiceAccount, name: default, namespace: default}]\n";
    shared().run(|shared| async move {
        let host = &shared.host;
        for (name, template) in [
            ("cluster-role", CLUSTER_ROLE),
            ("role", ROLE),
            ("elsewhere", ELSEWHERE),
            ("binding", BINDING),
        ] {
            let folder = host.charts.join(name);
            chart_with(host, &folder, template);
            let tenant = apply(host, name, repository(&folder)).await;
            let message = tenant.because("ReleaseDeployed", "Forbidden").await;
            assert!(message.contains("kubebyon-release"), "{name}: {message}");
            assert!(message.contains("may not"), "{name}: {message}");
            let namespace = tenant.get().await.status.unwrap().host_namespace.unwrap();
            let binding: Option<RoleBinding> = find(&host.client, &namespace, "evil").await;
            assert!(binding.is_none());
        }
        let roles: Api<ClusterRole> = Api::all(host.client.clone());
        assert!(roles.get_opt("evil").await.unwrap().is_none());
    });
}

#[test]
fn charts_come_from_where_the_host_admin_says() {
    shared().run(|shared| async move {
        let host = &shared.host;
        let outside = tempfile::tempdir().unwrap();
        chart_with(host, outside.path(), "");
        let link = host.charts.join("link");
        std::os::unix::fs::symlink(outside.path(), &link).unwrap();
        let dots = host
            .charts
            .join("..")
            .join(outside.path().file_name().unwrap());
        let mut tenants = Vec::new();
        for (name, folder) in [
            ("outside", outside.path()),
            ("link", &link),
            ("dots", &dots),
        ] {
            tenants.push(apply(host, name, repository(folder)).await);
        }
        let server = Redirecting::get();
        let ca = json!({"metadata": {"name": "ca"}, "stringData": {"ca.crt": server.ca}});
        let namespace = host.namespace("hostile").await;
        make::<Secret>(&host.client, &namespace, ca).await;
        for (name, url) in [
            ("redirected", server.url("/charts")),
            ("loopback", "https://127.0.0.3/charts".to_owned()),
            ("metadata", "https://169.254.169.254/".to_owned()),
            ("plain", format!("http://{}", server.address)),
            ("other", "https://elsewhere.example/charts".to_owned()),
        ] {
            let spec = json!({"chart": {"repository": url, "caSecretRef": {"name": "ca"}}});
            let parameters = PatchParams::apply("test").force();
            let object = json!({
                "apiVersion": "kubebyon.app/v1alpha1", "kind": "ManagedCluster",
                "metadata": {"name": name, "namespace": namespace}, "spec": spec,
            });
            let api: Api<ManagedCluster> = Api::namespaced(host.client.clone(), &namespace);
            match api.patch(name, &parameters, &Patch::Apply(&object)).await {
                Ok(_) => tenants.push(Tenant::apply(host, &namespace, name, spec).await),
                // The schema already knows that charts come over https.
                Err(error) => assert!(
                    name == "plain" && error.to_string().contains("chart.repository"),
                    "{name}: {error}"
                ),
            }
        }
        for tenant in &tenants {
            tenant
                .because("ReleaseDeployed", "ChartRepositoryNotAllowed")
                .await;
            nothing_made(host, tenant).await;
        }
        assert_eq!(
            server.reached.load(Ordering::SeqCst),
            0,
            "the redirect was not followed"
        );
    });
}

#[test]
fn references_stay_in_the_namespace() {
    shared().run(|shared| async move {
        let host = &shared.host;
        let client = &host.client;
        let theirs = host.namespace("theirs").await;
        let values = json!({"metadata": {"name": "values"}, "stringData": {"values.yaml": "controlPlane: {statefulSet: {labels: {stolen: 'yes'}}}"}});
        make::<Secret>(client, &theirs, values).await;
        let namespace = host.namespace("hostile").await;
        let spec = json!({"valuesFrom": [{"kind": "Secret", "namespace": theirs, "name": "values", "key": "values.yaml"}]});
        let object = json!({
            "apiVersion": "kubebyon.app/v1alpha1", "kind": "ManagedCluster",
            "metadata": {"name": "thief", "namespace": namespace}, "spec": spec,
        });
        let api: Api<ManagedCluster> = Api::namespaced(client.clone(), &namespace);
        let strict = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply("test").force()
        };
        let refused = api.patch("thief", &strict, &Patch::Apply(&object)).await.unwrap_err().to_string();
        assert!(refused.contains("namespace"), "{refused}");
        // Who does not ask for strictness has the field dropped.
        let own = json!({"valuesFrom": [{"kind": "Secret", "name": "values", "key": "values.yaml"}]});
        let tenant = Tenant::apply(host, &namespace, "thief", own).await;
        api.patch(
            "thief",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": spec})),
        )
        .await
        .unwrap();
        let stored = serde_json::to_string(&tenant.get().await.spec).unwrap();
        assert!(!stored.contains(&theirs), "{stored}");
        let message = tenant.because("ReleaseDeployed", "ValuesSourceNotFound").await;
        assert!(message.contains(&format!("{namespace}/values")), "{message}");

        let password = json!({"metadata": {"name": "password"}, "stringData": {"password": "theirs"}});
        make::<Secret>(client, &namespace, password).await;
        let spec = json!({"kubeconfig": {"secretName": "password"}});
        let tenant = Tenant::apply(host, &namespace, "grabber", spec).await;
        tenant.because("KubeconfigPublished", "NotOwned").await;
        tenant.delete().await;
        tenant.gone().await;
        assert_eq!(secret_text(client, &namespace, "password", "password").await, "theirs");
    });
}

fn self_signed() -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap())
        .unwrap()
        .pem()
}

#[test]
fn of_what_a_tenant_exports_only_keys_are_read() {
    shared().run(|shared| async move {
        let host = &shared.host;
        let client = &host.client;
        let tenant = apply(host, "exporter", json!({})).await;
        tenant.ready().await;
        let namespace = tenant.get().await.status.unwrap().host_namespace.unwrap();
        let good: Secret = find(client, &namespace, "vc-exporter").await.unwrap();
        let good = json!({"data": good.data});
        let published = || secret_text(client, &tenant.namespace, "exporter-kubeconfig", "kubeconfig");
        let before = published().await;

        let evil = "apiVersion: v1\nkind: Config\nclusters: [{name: x, cluster: {server: 'https://evil.example', insecure-skip-tls-verify: true}}]\nusers: [{name: x, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, id]}}}]\n";
        let ca = STANDARD.decode(good["data"]["certificate-authority"].as_str().unwrap()).unwrap();
        let ca = format!("server: https://evil.example\n{}exec: {{command: sh}}\n", String::from_utf8(ca).unwrap());
        edit::<Secret>(client, &namespace, "vc-exporter", json!({"stringData": {"config": evil, "token": "evil", "certificate-authority": ca}})).await;
        // A change of the spec makes sure that the operator has looked since.
        tenant.update(json!({"kubeconfig": {"secretName": "again"}})).await;
        tenant.ready().await;
        let after = secret_text(client, &tenant.namespace, "again", "kubeconfig").await;
        assert_eq!(before, after);
        assert!(!after.contains("evil") && !after.contains("exec"));

        let garbage = json!({"stringData": {"client-key": "-----BEGIN PRIVATE KEY-----\nnot a key"}});
        edit::<Secret>(client, &namespace, "vc-exporter", garbage).await;
        let message = tenant.because("ControlPlaneAvailable", "KubeconfigInvalid").await;
        assert!(message.contains("client-key") && !message.contains("not a key"), "{message}");

        let line = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let large = line.repeat(900_000 / line.len());
        edit::<Secret>(client, &namespace, "vc-exporter", json!({"stringData": {"client-key": null, "certificate-authority": large}})).await;
        tenant
            .until("too large", |cluster| {
                condition(cluster, "ControlPlaneAvailable").is_some_and(|(_, reason, message)| {
                    reason == "KubeconfigInvalid" && message.contains("larger than")
                })
            })
            .await;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        let larger = json!({"stringData": {"certificate-authority": line.repeat(2_000_000 / line.len())}});
        assert!(
            secrets.patch("vc-exporter", &PatchParams::default(), &Patch::Merge(&larger)).await.is_err(),
            "two megabytes are more than the api-server takes"
        );

        edit::<Secret>(client, &namespace, "vc-exporter", good.clone()).await;
        tenant.ready().await;
        let stranger = json!({"stringData": {"certificate-authority": self_signed()}});
        edit::<Secret>(client, &namespace, "vc-exporter", stranger).await;
        tenant.because("ControlPlaneAvailable", "ControlPlaneUntrusted").await;
        let kept = secret_text(client, &tenant.namespace, "again", "kubeconfig").await;
        assert_eq!(kept, after, "what is not proved is not handed out");
        edit::<Secret>(client, &namespace, "vc-exporter", good).await;
        tenant.ready().await;
    });
}

#[test]
fn the_syncer_makes_no_pod_or_service_that_reaches_the_host() {
    shared().run(|shared| async move {
        let host = &shared.host;
        let tenant = apply(host, "syncer", json!({})).await;
        tenant.ready().await;
        let namespace = tenant.get().await.status.unwrap().host_namespace.unwrap();
        let mut as_syncer = config(host.cluster.kubeconfig()).await;
        as_syncer.auth_info.impersonate = Some(format!("system:serviceaccount:{namespace}:vc-syncer"));
        let client = Client::try_from(as_syncer).unwrap();
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let container = json!({"name": "c", "image": "busybox"});
        let pod = |spec: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"generateName": "p-"}, "spec": spec})).unwrap()
        };
        let privileged = json!({"name": "c", "image": "busybox", "securityContext": {"privileged": true}});
        for (what, spec) in [
            ("hostPath", json!({"containers": [container], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]})),
            ("host namespaces", json!({"containers": [container], "hostNetwork": true})),
            ("privileged", json!({"containers": [privileged]})),
        ] {
            let refused = pods.create(&PostParams::default(), &pod(spec)).await.unwrap_err().to_string();
            assert!(refused.contains("violates PodSecurity \"baseline:latest\""), "{what}: {refused}");
            assert!(refused.contains(what), "{what}: {refused}");
        }
        pods.create(&PostParams::default(), &pod(json!({"containers": [container]})))
            .await
            .expect("a pod that does no harm is let in");

        let services: Api<Service> = Api::namespaced(client, &namespace);
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "thief"}, "spec": {"ports": [{"port": 443}], "externalIPs": ["10.0.0.1"]},
        }))
        .unwrap();
        let refused = services.create(&PostParams::default(), &service).await.unwrap_err().to_string();
        assert!(refused.contains("externalIPs"), "{refused}");
    });
}

#[test]
fn secrets_stay_where_they_are() {
    shared().run(|shared| async move {
        let host = &shared.host;
        let client = &host.client;
        let namespace = host.namespace("hostile").await;
        let server = Redirecting::get();
        let texts = json!({
            "good": format!("controlPlane: {{statefulSet: {{annotations: {{note: {MARKER}}}}}}}"),
            "schema": format!("sync: {{toHost: {{pods: {{enabled: {MARKER}}}}}}}"),
            "refused": format!("controlPlane: {{statefulSet: {{command: [{MARKER}]}}}}"),
            "broken": format!("{MARKER}: ["),
            "username": MARKER, "password": MARKER, "ca.crt": server.ca,
        });
        make::<Secret>(
            client,
            &namespace,
            json!({"metadata": {"name": "secret"}, "stringData": texts}),
        )
        .await;
        let from =
            |key: &str| json!({"valuesFrom": [{"kind": "Secret", "name": "secret", "key": key}]});
        let good = Tenant::apply(host, &namespace, "good", from("good")).await;
        good.ready().await;
        for (name, spec, reason) in [
            ("schema", from("schema"), "SchemaViolation"),
            ("refused", from("refused"), "ValueNotAllowed"),
            ("broken", from("broken"), "ValuesInvalid"),
            (
                "locked",
                json!({"chart": {
                    "repository": server.url("/locked"), "version": "0.36.1",
                    "authSecretRef": {"name": "secret"}, "caSecretRef": {"name": "secret"},
                }}),
                "ChartUnauthorized",
            ),
        ] {
            let tenant = Tenant::apply(host, &namespace, name, spec).await;
            tenant.because("ReleaseDeployed", reason).await;
            let event = eventually("an event", || async {
                let events = events(client, &namespace, name).await;
                events.into_iter().find(|(_, found, _)| found == reason)
            })
            .await;
            assert!(!event.2.contains(MARKER), "{name}: {event:?}");
            let object = serde_json::to_string(&tenant.get().await).unwrap();
            assert!(!object.contains(MARKER), "{name}: {object}");
        }
        let object = serde_json::to_string(&good.get().await).unwrap();
        assert!(!object.contains(MARKER), "{object}");
        let metrics = shared.manager.metrics.render().unwrap();
        assert!(!metrics.contains(MARKER));
        let log = log()
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let log = String::from_utf8_lossy(&log);
        assert!(log.contains("good"), "the log was caught");
        let line = log.lines().find(|line| line.contains(MARKER));
        assert!(line.is_none(), "{line:?}");
    });
}
