//! The life of a ManagedCluster on a real api-server, with the real chart through real
//! helm. Its control planes are the fake of `control_planes`: see there for its limits.

use kubebyon_e2e::operator::{Host, Tenant};
use kubebyon_k8s::{
    k8s_openapi::api::core::v1::{Namespace, Secret},
    kube::Api,
};
use serde_json::json;

fn log() {
    // A second test of this process finds it installed.
    let _ = tracing_subscriber::fmt()
        .with_env_filter("info,kube_client=off")
        .with_test_writer()
        .try_init();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_and_goes() {
    log();
    let host = Host::start().await;
    let manager = host
        .manager(host.options(&["--namespace=kubebyon-system", "--lease-name=life"]))
        .await;
    let namespace = host.namespace("life").await;
    let tenant = Tenant::apply(
        &host,
        &namespace,
        "demo",
        json!({"kubernetesVersion": "1.36"}),
    )
    .await;
    let cluster = tenant.ready().await;
    let status = cluster.status.unwrap();
    assert_eq!(status.kubernetes_version.as_deref(), Some("1.36.3"));
    let host_namespace = status.host_namespace.unwrap();

    let secrets: Api<Secret> = Api::namespaced(host.client.clone(), &namespace);
    let kubeconfig = secrets
        .get("demo-kubeconfig")
        .await
        .unwrap()
        .data
        .unwrap()
        .remove("kubeconfig")
        .unwrap();
    let kubeconfig = String::from_utf8(kubeconfig.0).unwrap();
    assert!(
        kubeconfig.contains(&format!("https://demo.{host_namespace}.svc")),
        "the kubeconfig names the Service"
    );

    tenant.delete().await;
    tenant.gone().await;
    let namespaces: Api<Namespace> = Api::all(host.client.clone());
    assert!(
        namespaces.get_opt(&host_namespace).await.unwrap().is_none(),
        "the host namespace is gone"
    );
    assert!(
        secrets.get_opt("demo-kubeconfig").await.unwrap().is_none(),
        "the kubeconfig is gone"
    );
    manager.stop().await;
}
