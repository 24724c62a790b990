//! A real api-server with our definitions, and the objects that the tests send to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::BodyExt;
use kubebyon_api::crd;
use kubebyon_k8s::k8s_openapi::api::core::v1::Namespace;
use kubebyon_k8s::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kubebyon_k8s::kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kubebyon_k8s::kube::client::Body;
use kubebyon_k8s::kube::config::{KubeConfigOptions, Kubeconfig};
use kubebyon_k8s::kube::runtime::wait::{await_condition, conditions};
use kubebyon_k8s::kube::{Client, Config};
use kubebyon_testbed::ApiCluster;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_mins(1);

/// The api-server that all tests of this process share.
fn cluster() -> &'static ApiCluster {
    static CLUSTER: OnceLock<ApiCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| ApiCluster::for_tests().expect("an api-server"))
}

/// What a test works with: a client, and a namespace of its own.
pub(crate) struct Fixture {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Fixture {
    /// Connects, installs the definitions, and makes a namespace.
    pub(crate) async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = tokio::task::spawn_blocking(|| cluster().kubeconfig().to_owned())
            .await
            .expect("the cluster's thread");
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("a configuration");
        let client = Client::try_from(config).expect("a client");
        let warnings = install(&client).await;
        assert!(warnings.is_empty(), "{warnings:?}");
        let namespace = Api::<Namespace>::all(client.clone())
            .create(
                &PostParams::default(),
                &Namespace {
                    metadata: ObjectMeta {
                        generate_name: Some("api-test-".to_owned()),
                        ..ObjectMeta::default()
                    },
                    ..Namespace::default()
                },
            )
            .await
            .expect("a namespace")
            .metadata
            .name
            .expect("its name");
        Self { client, namespace }
    }

    /// Deletes the namespace. A test that failed leaves it, to look at.
    pub(crate) async fn end(self) {
        Api::<Namespace>::all(self.client)
            .delete(&self.namespace, &DeleteParams::default())
            .await
            .expect("the namespace goes");
    }

    /// The collection that holds objects like this one.
    fn collection(&self, object: &Value) -> String {
        let kind = object["kind"].as_str().expect("a kind");
        let crd = crd::all()
            .into_iter()
            .find(|crd| crd.spec.names.kind == kind)
            .expect("one of our kinds");
        format!(
            "/apis/{}/namespaces/{}/{}",
            object["apiVersion"].as_str().expect("an apiVersion"),
            self.namespace,
            crd.spec.names.plural
        )
    }

    /// Creates an object as kubectl does, with strict validation; `Err` is the message of a refusal.
    pub(crate) async fn create(&self, object: &Value, dry_run: bool) -> Result<Value, String> {
        let dry_run = if dry_run { "&dryRun=All" } else { "" };
        let path = format!(
            "{}?fieldValidation=Strict{dry_run}",
            self.collection(object)
        );
        self.send(Method::POST, &path, "application/json", object)
            .await
    }

    /// Applies a JSON merge patch to an object or to one of its subresources.
    pub(crate) async fn patch(
        &self,
        object: &Value,
        subresource: &str,
        change: &Value,
    ) -> Result<Value, String> {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let path = format!(
            "{}/{name}{subresource}?fieldValidation=Strict",
            self.collection(object)
        );
        self.send(Method::PATCH, &path, "application/merge-patch+json", change)
            .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value, String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Body::from(serde_json::to_vec(body).expect("JSON")))
            .expect("a request");
        let answer = tokio::time::timeout(DEADLINE, self.client.send(request))
            .await
            .expect("an answer in time")
            .expect("an answer");
        let accepted = answer.status().is_success();
        let bytes = answer.into_body().collect().await.expect("a body");
        let value: Value = serde_json::from_slice(&bytes.to_bytes()).expect("a JSON answer");
        if accepted {
            Ok(value)
        } else {
            Err(value["message"].as_str().unwrap_or_default().to_owned())
        }
    }
}

/// Installs the definitions, waits until they are established, and returns the warnings.
async fn install(client: &Client) -> Vec<String> {
    let mut warnings = Vec::new();
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crd::all() {
        let name = crd.metadata.name.clone().expect("a name");
        let path = format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=api-test&force=true&fieldValidation=Strict"
        );
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(path)
            .header("content-type", "application/apply-patch+yaml")
            .body(Body::from(serde_json::to_vec(&crd).expect("JSON")))
            .expect("a request");
        let answer = client.send(request).await.expect("an answer");
        warnings.extend(
            answer
                .headers()
                .get_all("warning")
                .iter()
                .map(|value| format!("{name}: {value:?}")),
        );
        let accepted = answer.status().is_success();
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        assert!(accepted, "{name}: {}", String::from_utf8_lossy(&body));
        tokio::time::timeout(
            DEADLINE,
            await_condition(api.clone(), &name, conditions::is_crd_established()),
        )
        .await
        .expect("established in time")
        .expect("established");
    }
    warnings
}

/// kubectl against the tests' api-server; its output.
pub(crate) fn kubectl(arguments: &[&str]) -> String {
    let output = Command::new(cluster().kubectl())
        .arg("--kubeconfig")
        .arg(cluster().kubeconfig())
        .args(arguments)
        .output()
        .expect("kubectl");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(!error.contains("Warning"), "{error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The YAML files of a folder, given from this crate's own, by file name.
pub(crate) fn files(folder: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a file");
            let name = path.file_name().unwrap_or_default();
            (name.to_string_lossy().into_owned(), text)
        })
        .collect()
}
