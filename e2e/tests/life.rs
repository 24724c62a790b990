//! The life of a ManagedCluster on a real api-server, with the real chart through real
//! helm. Its control planes are the fake of `control_planes`: see there for its limits.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "a failed helper is a failed test, and a story is told in one piece"
)]

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use kubebyon_api::ManagedCluster;
use kubebyon_e2e::{
    judge::{
        Journal, Shared, edit, eventually, find, make, remove, revisions, secret_text, uid, within,
    },
    operator::{Tenant, condition, is_ready},
};
use kubebyon_k8s::{
    k8s_openapi::api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{
            ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service,
        },
        networking::v1::NetworkPolicy,
        rbac::v1::{Role, RoleBinding},
        storage::v1::StorageClass,
    },
    kube::{
        Api, ResourceExt,
        api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    },
};
use serde_json::{Value, json};

const ARGO_CD: &str = "argo-cd";
/// How soon what somebody breaks by hand is to be whole again.
const SECONDS: Duration = Duration::from_secs(20);

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    // A second test of this process finds it installed.
    let _ = tracing_subscriber::fmt()
        .with_env_filter("warn,kube_client=off")
        .with_test_writer()
        .try_init();
    Shared::get(&SHARED, "life", |_| {
        [
            &format!("--argocd-namespace={ARGO_CD}"),
            "--argocd-project=tenants",
            "--deletion-stage-timeout=4s",
        ]
        .map(str::to_owned)
        .into()
    })
}

/// A ready cluster in a namespace of its own, and its host namespace.
async fn ready(shared: &Shared, name: &str, spec: Value) -> (Tenant, String) {
    let namespace = shared.host.namespace("life").await;
    let tenant = Tenant::apply(&shared.host, &namespace, name, spec).await;
    let host_namespace = host_namespace(&tenant.ready().await);
    (tenant, host_namespace)
}

fn host_namespace(cluster: &ManagedCluster) -> String {
    let status = cluster.status.as_ref().expect("a status");
    status.host_namespace.clone().expect("a host namespace")
}

fn revision(cluster: &ManagedCluster) -> i64 {
    let status = cluster.status.as_ref();
    let release = status.and_then(|status| status.release.as_ref());
    release.and_then(|release| release.revision).unwrap_or(0)
}

fn version(cluster: &ManagedCluster) -> &str {
    let status = cluster.status.as_ref().expect("a status");
    status.kubernetes_version.as_deref().unwrap_or_default()
}

fn status_of(cluster: &ManagedCluster, type_: &str) -> String {
    condition(cluster, type_).map_or_else(String::new, |(status, _, _)| status)
}

async fn namespace_exists(shared: &Shared, name: &str) -> bool {
    let api: Api<Namespace> = Api::all(shared.host.client.clone());
    api.get_opt(name).await.unwrap().is_some()
}

/// What a tenant must not lose: its pods, its volume, its PKI.
async fn belongings(shared: &Shared, namespace: &str, name: &str) -> Vec<String> {
    let client = &shared.host.client;
    vec![
        uid::<Pod>(client, namespace, &format!("{name}-0")).await,
        uid::<PersistentVolumeClaim>(client, namespace, &format!("data-{name}-0")).await,
        uid::<Secret>(client, namespace, &format!("{name}-certs")).await,
        uid::<Secret>(client, namespace, &format!("vc-{name}")).await,
    ]
}

#[test]
fn a_cluster_comes_and_goes() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        let (tenant, host_namespace) =
            ready(shared, "demo", json!({"kubernetesVersion": "1.36"})).await;
        assert_eq!(version(&tenant.get().await), "1.36.3");
        let kubeconfig =
            secret_text(client, &tenant.namespace, "demo-kubeconfig", "kubeconfig").await;
        assert!(
            kubeconfig.contains(&format!("https://demo.{host_namespace}.svc")),
            "the kubeconfig names the Service"
        );

        tenant.delete().await;
        tenant.gone().await;
        assert!(!namespace_exists(shared, &host_namespace).await);
        let left: Option<Secret> = find(client, &tenant.namespace, "demo-kubeconfig").await;
        assert!(left.is_none(), "the kubeconfig is gone");
    });
}

#[test]
fn kubernetes_moves_up_a_minor_and_says_so_before() {
    shared().run(|shared| async move {
        let (tenant, host_namespace) =
            ready(shared, "up", json!({"kubernetesVersion": "1.35"})).await;
        assert_eq!(version(&tenant.get().await), "1.35.6");
        let before = belongings(shared, &host_namespace, "up").await;
        let journal = Journal::begin(&shared.host.client, &tenant.namespace, "up").await;
        tenant.update(json!({"kubernetesVersion": "1.36"})).await;
        let cluster = tenant.ready().await;
        assert_eq!(version(&cluster), "1.36.3");
        assert_eq!(revision(&cluster), 2);
        let after = belongings(shared, &host_namespace, "up").await;
        assert_ne!(before[0], after[0], "the pod restarted");
        assert_eq!(before[1..], after[1..], "volume and PKI stay");

        let announced = eventually("the watch saw the new version", || {
            let pages = journal.pages();
            async move {
                let moved = pages.iter().position(|page| version(page) == "1.36.3")?;
                let announced = pages.iter().position(|page| {
                    condition(page, "Reconciling")
                        .is_some_and(|(_, reason, _)| reason == "RestartPending")
                });
                Some(announced.is_some_and(|announced| announced < moved))
            }
        })
        .await;
        assert!(announced, "the restart is announced before it happens");
        let page = journal
            .pages()
            .into_iter()
            .find(|page| {
                condition(page, "Reconciling")
                    .is_some_and(|(_, reason, _)| reason == "RestartPending")
            })
            .unwrap();
        assert_eq!(revision(&page), 1);
        assert_eq!(version(&page), "1.35.6");
    });
}

#[test]
fn a_change_of_values_reaches_the_control_plane() {
    shared().run(|shared| async move {
        let (tenant, host_namespace) = ready(shared, "values", json!({})).await;
        let annotated = json!({"controlPlane": {"statefulSet": {"annotations": {"team": "blue"}}}});
        tenant.update(json!({"values": annotated})).await;
        tenant.ready().await;
        let set: StatefulSet = find(&shared.host.client, &host_namespace, "values")
            .await
            .unwrap();
        assert_eq!(set.annotations().get("team").unwrap(), "blue");
    });
}

#[test]
fn a_failed_upgrade_keeps_the_old_revision() {
    shared().run(|shared| async move {
        let (tenant, host_namespace) = ready(shared, "failing", json!({})).await;
        let before = belongings(shared, &host_namespace, "failing").await;
        tenant
            .update(json!({"values": {"sync": {"toHost": {"pods": {"enabled": "yes"}}}}}))
            .await;
        let message = tenant.because("ReleaseDeployed", "SchemaViolation").await;
        assert!(message.contains("sync.toHost.pods.enabled"), "{message}");
        let cluster = tenant.get().await;
        assert_eq!(status_of(&cluster, "ReleaseDeployed"), "False");
        assert_eq!(status_of(&cluster, "ControlPlaneAvailable"), "True");
        assert_eq!(status_of(&cluster, "Ready"), "False");
        assert_eq!(status_of(&cluster, "Stalled"), "True");
        assert_eq!(status_of(&cluster, "Reconciling"), "False");
        assert_eq!(revision(&cluster), 1);
        assert_eq!(
            belongings(shared, &host_namespace, "failing").await,
            before,
            "the old revision serves, undisturbed"
        );
        tenant.update(json!({})).await;
        let cluster = tenant.ready().await;
        assert_eq!(status_of(&cluster, "Stalled"), "False");
    });
}

#[test]
fn growth_with_bad_values_beside_it_keeps_the_statefulset() {
    shared().run(|shared| async move {
        let (tenant, host_namespace) = ready(shared, "both", json!({})).await;
        let before = uid::<StatefulSet>(&shared.host.client, &host_namespace, "both").await;
        tenant
            .update(json!({
                "controlPlane": {"storage": {"size": "6Gi"}},
                "values": {"sync": {"toHost": {"pods": {"enabled": "yes"}}}},
            }))
            .await;
        tenant
            .until("halted", |cluster| status_of(cluster, "Ready") == "False")
            .await;
        let after = uid::<StatefulSet>(&shared.host.client, &host_namespace, "both").await;
        assert_eq!(before, after);
    });
}

#[test]
fn what_somebody_breaks_by_hand_is_put_back() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        let (tenant, namespace) = ready(shared, "drift", json!({})).await;
        let namespace = namespace.as_str();
        let before = belongings(shared, namespace, "drift").await;

        remove::<Service>(client, namespace, "drift").await;
        within(SECONDS, "the Service is back", || {
            find::<Service>(client, namespace, "drift")
        })
        .await;
        tenant.ready().await;

        let selector = json!({"spec": {"selector": {"app": "somebody-else"}}});
        edit::<Service>(client, namespace, "drift", selector).await;
        within(SECONDS, "the Service's selector is back", || async {
            let service: Service = find(client, namespace, "drift").await?;
            (service.spec?.selector?.get("app")? == "vcluster").then_some(())
        })
        .await;
        tenant.ready().await;

        // Ports are merged by their number, so the old one beside the new one is refused.
        let ports: Service = find(client, namespace, "drift").await.unwrap();
        let mut ports = json!(ports.spec.unwrap().ports);
        ports[0]["port"] = json!(8888);
        edit::<Service>(
            client,
            namespace,
            "drift",
            json!({"spec": {"ports": ports}}),
        )
        .await;
        within(SECONDS, "the Service's ports are back", || async {
            let service: Service = find(client, namespace, "drift").await?;
            let ports = service.spec?.ports?;
            let numbers: Vec<i32> = ports.iter().map(|port| port.port).collect();
            (numbers.contains(&443) && !numbers.contains(&8888)).then_some(())
        })
        .await;
        tenant.ready().await;

        remove::<Secret>(client, namespace, "vc-config-drift").await;
        within(SECONDS, "the configuration is back", || {
            find::<Secret>(client, namespace, "vc-config-drift")
        })
        .await;
        tenant.ready().await;

        remove::<Role>(client, namespace, "vc-drift").await;
        within(SECONDS, "the Role is back", || {
            find::<Role>(client, namespace, "vc-drift")
        })
        .await;
        tenant.ready().await;

        // Rights that somebody gives the tenant's syncer, and takes from it.
        let everything =
            json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
        let nobody = json!({"subjects": []});
        edit::<Role>(client, namespace, "vc-drift", everything).await;
        within(SECONDS, "the Role has its own rules", || async {
            let role: Role = find(client, namespace, "vc-drift").await?;
            let rules = role.rules.unwrap_or_default();
            let all = rules
                .iter()
                .any(|rule| rule.verbs.contains(&"*".to_owned()) && rules.len() == 1);
            (!all).then_some(())
        })
        .await;
        tenant.ready().await;
        edit::<RoleBinding>(client, namespace, "vc-drift", nobody).await;
        within(SECONDS, "the Role is bound", || async {
            let binding: RoleBinding = find(client, namespace, "vc-drift").await?;
            (!binding.subjects?.is_empty()).then_some(())
        })
        .await;
        tenant.ready().await;

        assert_eq!(
            belongings(shared, namespace, "drift").await,
            before,
            "the tenant lost nothing"
        );

        let grace = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 3}}}});
        edit::<StatefulSet>(client, namespace, "drift", grace).await;
        within(SECONDS, "the StatefulSet is as it was", || async {
            let set: StatefulSet = find(client, namespace, "drift").await?;
            let grace = set.spec?.template.spec?.termination_grace_period_seconds;
            (grace != Some(3)).then_some(())
        })
        .await;
        tenant.ready().await;

        let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
        let fence = policies.list(&ListParams::default()).await.unwrap();
        let name = fence.items[0].name_any();
        remove::<NetworkPolicy>(client, namespace, &name).await;
        within(SECONDS, "the fence is up again", || {
            find::<NetworkPolicy>(client, namespace, &name)
        })
        .await;
    });
}

#[test]
fn the_kubeconfig_is_put_back_and_moves_with_its_name() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        let (tenant, _) = ready(shared, "keys", json!({})).await;
        let namespace = tenant.namespace.as_str();
        let published = secret_text(client, namespace, "keys-kubeconfig", "kubeconfig").await;

        remove::<Secret>(client, namespace, "keys-kubeconfig").await;
        within(SECONDS, "the kubeconfig is back", || {
            find::<Secret>(client, namespace, "keys-kubeconfig")
        })
        .await;
        assert_eq!(
            secret_text(client, namespace, "keys-kubeconfig", "kubeconfig").await,
            published
        );

        edit::<Secret>(
            client,
            namespace,
            "keys-kubeconfig",
            json!({"stringData": {"kubeconfig": "edited"}}),
        )
        .await;
        within(SECONDS, "the kubeconfig is as it was", || async {
            let text = secret_text(client, namespace, "keys-kubeconfig", "kubeconfig").await;
            (text == published).then_some(())
        })
        .await;

        tenant
            .update(json!({"kubeconfig": {"secretName": "renamed"}}))
            .await;
        tenant.ready().await;
        assert_eq!(
            secret_text(client, namespace, "renamed", "kubeconfig").await,
            published
        );
        within(SECONDS, "the old name is gone", || async {
            let old: Option<Secret> = find(client, namespace, "keys-kubeconfig").await;
            old.is_none().then_some(())
        })
        .await;
    });
}

#[test]
fn suspend_holds_everything_but_the_deletion() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        let (tenant, namespace) = ready(shared, "paused", json!({})).await;
        tenant.update(json!({"suspend": true})).await;
        tenant
            .until("suspended", |cluster| {
                condition(cluster, "Reconciling")
                    .is_some_and(|(_, reason, _)| reason == "Suspended")
            })
            .await;
        remove::<Service>(client, &namespace, "paused-headless").await;
        remove::<Secret>(client, &tenant.namespace, "paused-kubeconfig").await;
        let annotated = json!({"controlPlane": {"statefulSet": {"annotations": {"team": "blue"}}}});
        tenant
            .update(json!({"suspend": true, "values": annotated}))
            .await;
        let message = tenant.because("ReleaseDeployed", "Suspended").await;
        assert!(message.contains("spec.suspend"), "{message}");
        assert_eq!(status_of(&tenant.get().await, "Stalled"), "False");
        assert_eq!(revisions(client, &namespace, "paused").await, 1, "no helm");
        let service: Option<Service> = find(client, &namespace, "paused-headless").await;
        assert!(service.is_none(), "nothing is repaired");
        let kubeconfig: Option<Secret> = find(client, &tenant.namespace, "paused-kubeconfig").await;
        assert!(kubeconfig.is_none(), "nothing is published");

        tenant.update(json!({"values": annotated})).await;
        tenant.ready().await;
        assert!(
            find::<Service>(client, &namespace, "paused-headless")
                .await
                .is_some()
        );

        tenant.update(json!({"suspend": true})).await;
        tenant.delete().await;
        tenant.gone().await;
        assert!(!namespace_exists(shared, &namespace).await);
    });
}

#[test]
fn a_cluster_that_begins_suspended_is_not_begun() {
    shared().run(|shared| async move {
        let namespace = shared.host.namespace("life").await;
        let tenant =
            Tenant::apply(&shared.host, &namespace, "later", json!({"suspend": true})).await;
        let cluster = tenant
            .until("suspended", |cluster| {
                condition(cluster, "Reconciling")
                    .is_some_and(|(_, reason, _)| reason == "Suspended")
            })
            .await;
        assert!(!namespace_exists(shared, &host_namespace(&cluster)).await);
        tenant.update(json!({})).await;
        tenant.ready().await;
    });
}

#[test]
fn a_protected_cluster_is_not_deleted() {
    shared().run(|shared| async move {
        let (tenant, _) = ready(shared, "kept", json!({"deletionProtection": true})).await;
        let api: Api<ManagedCluster> =
            Api::namespaced(shared.host.client.clone(), &tenant.namespace);
        let refused = api
            .delete("kept", &DeleteParams::default())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("set spec.deletionProtection to false first"),
            "{refused}"
        );
        tenant.update(json!({"deletionProtection": false})).await;
        tenant.delete().await;
        tenant.gone().await;
    });
}

#[test]
fn what_was_retained_is_claimed_by_the_same_name_alone() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        let spec = json!({"deletionPolicy": "Retain"});
        let (tenant, namespace) = ready(shared, "retained", spec.clone()).await;
        let before = belongings(shared, &namespace, "retained").await;
        tenant.delete().await;
        tenant.gone().await;
        assert!(namespace_exists(shared, &namespace).await);
        assert_eq!(revisions(client, &namespace, "retained").await, 0);
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        assert!(
            pods.list(&ListParams::default())
                .await
                .unwrap()
                .items
                .is_empty()
        );

        let other = Tenant::apply(
            &shared.host,
            &tenant.namespace,
            "other",
            json!({"hostNamespace": namespace}),
        )
        .await;
        let message = other.because("NamespaceReady", "NamespaceClaimed").await;
        assert!(
            message.contains(&format!("{}/retained", tenant.namespace)),
            "{message}"
        );
        other.delete().await;
        other.gone().await;

        let again = Tenant::apply(&shared.host, &tenant.namespace, "retained", spec).await;
        assert_eq!(host_namespace(&again.ready().await), namespace);
        let after = belongings(shared, &namespace, "retained").await;
        assert_eq!(before[1..], after[1..], "the same volume and PKI");
    });
}

/// A StorageClass without a provisioner of its own; volumes of it are made by hand.
async fn storage_class(shared: &Shared, name: &str, grows: bool) {
    let api: Api<StorageClass> = Api::all(shared.host.client.clone());
    let class = json!({
        "metadata": {"name": name}, "provisioner": "by-hand.example", "allowVolumeExpansion": grows,
    });
    api.create(
        &PostParams::default(),
        &serde_json::from_value(class).unwrap(),
    )
    .await
    .unwrap();
}

/// Binds a claim to a volume made by hand, for nobody provisions any.
async fn bind(shared: &Shared, class: &str, namespace: &str, claim: &str) {
    let client = &shared.host.client;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = json!({
        "metadata": {"name": format!("{namespace}-volume")},
        "spec": {
            "capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "csi": {"driver": "by-hand.example", "volumeHandle": namespace},
            "claimRef": {"namespace": namespace, "name": claim},
        },
    });
    volumes
        .create(
            &PostParams::default(),
            &serde_json::from_value(volume).unwrap(),
        )
        .await
        .unwrap();
    eventually("the claim is bound", || async {
        let claim: PersistentVolumeClaim = find(client, namespace, claim).await?;
        (claim.status?.phase? == "Bound").then_some(())
    })
    .await;
}

fn with_storage(class: &str, size: &str) -> Value {
    json!({"controlPlane": {"storage": {"className": class, "size": size}}})
}

#[test]
fn volumes_grow_around_running_pods() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        storage_class(shared, "grows", true).await;
        let (tenant, namespace) = ready(shared, "grown", with_storage("grows", "5Gi")).await;
        let before = uid::<StatefulSet>(client, &namespace, "grown").await;

        // The api-server grows bound claims alone.
        tenant.update(with_storage("grows", "6Gi")).await;
        let message = tenant.because("ReleaseDeployed", "VolumePending").await;
        assert!(message.contains("data-grown-0"), "{message}");
        assert_eq!(status_of(&tenant.get().await, "Stalled"), "False");
        bind(shared, "grows", &namespace, "data-grown-0").await;
        tenant.ready().await;

        let claim: PersistentVolumeClaim = find(client, &namespace, "data-grown-0").await.unwrap();
        let requests = claim.spec.unwrap().resources.unwrap().requests.unwrap();
        assert_eq!(requests["storage"].0, "6Gi");
        let after = uid::<StatefulSet>(client, &namespace, "grown").await;
        assert_ne!(before, after, "the StatefulSet is another one");
        let set: StatefulSet = find(client, &namespace, "grown").await.unwrap();
        let template = set.spec.unwrap().volume_claim_templates.unwrap().remove(0);
        let requests = template.spec.unwrap().resources.unwrap().requests.unwrap();
        assert_eq!(requests["storage"].0, "6Gi");
    });
}

#[test]
fn a_class_that_does_not_grow_refuses_and_the_tenant_serves_on() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        storage_class(shared, "fixed", false).await;
        let (tenant, namespace) = ready(shared, "small", with_storage("fixed", "5Gi")).await;
        bind(shared, "fixed", &namespace, "data-small-0").await;
        let before = uid::<StatefulSet>(client, &namespace, "small").await;
        tenant.update(with_storage("fixed", "6Gi")).await;
        let message = tenant
            .because("ReleaseDeployed", "StorageExpansionRefused")
            .await;
        assert!(message.contains("allowVolumeExpansion"), "{message}");
        let cluster = tenant.get().await;
        assert_eq!(status_of(&cluster, "Stalled"), "True");
        assert_eq!(status_of(&cluster, "ControlPlaneAvailable"), "True");
        let after = uid::<StatefulSet>(client, &namespace, "small").await;
        assert_eq!(before, after, "nothing was taken away");
    });
}

#[test]
fn an_adopted_namespace_is_used_and_left() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        let namespace = shared.host.namespace("life").await;
        let adopted = shared.host.namespace("adopted").await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        make::<ConfigMap>(client, &adopted, json!({"metadata": {"name": "older"}})).await;
        let spec = json!({"hostNamespace": adopted});
        let tenant = Tenant::apply(&shared.host, &namespace, "guest", spec).await;
        let message = tenant.because("NamespaceReady", "NamespaceNotAllowed").await;
        assert!(
            message.contains(&format!(
                "kubectl annotate namespace {adopted} kubebyon.app/allow={namespace}/guest"
            )),
            "{message}"
        );
        let allow = json!({"metadata": {"annotations": {"kubebyon.app/allow": format!("{namespace}/guest")}}});
        namespaces
            .patch(&adopted, &PatchParams::default(), &Patch::Merge(&allow))
            .await
            .unwrap();
        tenant.ready().await;
        tenant.delete().await;
        tenant.gone().await;

        let left = namespaces.get(&adopted).await.unwrap();
        assert!(left.metadata.deletion_timestamp.is_none());
        assert!(
            !left.annotations().contains_key("kubebyon.app/claimed-by"),
            "the claim is given back: {:?}",
            left.annotations()
        );
        assert!(
            !left.labels().contains_key("pod-security.kubernetes.io/enforce"),
            "the fence is taken down: {:?}",
            left.labels()
        );
        assert!(find::<ConfigMap>(client, &adopted, "older").await.is_some());
        let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), &adopted);
        assert!(policies.list(&ListParams::default()).await.unwrap().items.is_empty());
    });
}

#[test]
fn several_replicas_on_an_etcd_of_their_own() {
    shared().run(|shared| async move {
        let spec = json!({"controlPlane": {"replicas": 2, "backingStore": {
            "type": "DeployedEtcd", "deployedEtcd": {"replicas": 3},
        }}});
        let (tenant, namespace) = ready(shared, "ha", spec).await;
        let deployment: Option<Deployment> = find(&shared.host.client, &namespace, "ha").await;
        let set: Option<StatefulSet> = find(&shared.host.client, &namespace, "ha").await;
        assert!(
            deployment.is_some() != set.is_some(),
            "one workload holds the control plane"
        );
        tenant.delete().await;
        tenant.gone().await;
        assert!(!namespace_exists(shared, &namespace).await);
    });
}

#[test]
fn endpoints_of_a_node_port_and_a_load_balancer_are_shown() {
    shared().run(|shared| async move {
        for (name, type_) in [("ports", "NodePort"), ("balanced", "LoadBalancer")] {
            let spec = json!({"controlPlane": {"service": {"type": type_}}});
            let (tenant, namespace) = ready(shared, name, spec).await;
            let service: Service = find(&shared.host.client, &namespace, name).await.unwrap();
            let spec = service.spec.unwrap();
            assert_eq!(spec.type_.as_deref(), Some(type_));
            let port = spec
                .ports
                .unwrap()
                .iter()
                .find(|port| port.port == 443)
                .unwrap()
                .node_port;
            let endpoints = tenant.get().await.status.unwrap().endpoints.unwrap();
            assert_eq!(endpoints.node_port, port.map(|port| port.to_string()));
            assert_eq!(
                endpoints.internal.as_deref(),
                Some(format!("https://{name}.{namespace}.svc").as_str())
            );
        }
    });
}

#[test]
fn argo_cd_knows_the_cluster_while_it_is_asked_to() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let object = json!({"metadata": {"name": ARGO_CD}});
        namespaces
            .create(
                &PostParams::default(),
                &serde_json::from_value(object).unwrap(),
            )
            .await
            .unwrap();
        let spec = json!({"kubeconfig": {"argoCD": {"enabled": true}}});
        let (tenant, host_namespace) = ready(shared, "synced", spec.clone()).await;
        let name = format!("kubebyon.{}.synced", tenant.namespace);
        let server = secret_text(client, ARGO_CD, &name, "server").await;
        assert_eq!(server, format!("https://synced.{host_namespace}.svc"));
        assert_eq!(
            secret_text(client, ARGO_CD, &name, "project").await,
            "tenants"
        );

        tenant.update(json!({})).await;
        within(SECONDS, "the registration is gone", || async {
            let left: Option<Secret> = find(client, ARGO_CD, &name).await;
            left.is_none().then_some(())
        })
        .await;

        tenant.update(spec).await;
        tenant.ready().await;
        within(SECONDS, "the registration is back", || {
            find::<Secret>(client, ARGO_CD, &name)
        })
        .await;
        tenant.delete().await;
        tenant.gone().await;
        assert!(find::<Secret>(client, ARGO_CD, &name).await.is_none());
    });
}

#[test]
fn a_deletion_needs_no_chart_repository() {
    shared().run(|shared| async move {
        let folder = shared.host.charts.join("short-lived");
        std::fs::create_dir(&folder).unwrap();
        for chart in std::fs::read_dir(&shared.host.charts).unwrap() {
            let chart = chart.unwrap().path();
            if chart
                .extension()
                .is_some_and(|extension| extension == "tgz")
            {
                std::fs::copy(&chart, folder.join(chart.file_name().unwrap())).unwrap();
            }
        }
        let spec = json!({"chart": {"repository": format!("file://{}", folder.display())}});
        let (tenant, namespace) = ready(shared, "orphan", spec).await;
        std::fs::remove_dir_all(&folder).unwrap();
        tenant.delete().await;
        tenant.gone().await;
        assert!(!namespace_exists(shared, &namespace).await);
    });
}

#[test]
fn a_deletion_needs_no_readable_release() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        let (tenant, namespace) = ready(shared, "broken", json!({})).await;
        let garbage = json!({"stringData": {"release": "no release"}});
        edit::<Secret>(client, &namespace, "sh.helm.release.v1.broken.v1", garbage).await;
        tenant.delete().await;
        tenant.gone().await;
        assert!(!namespace_exists(shared, &namespace).await);
    });
}

#[test]
fn a_foreign_finalizer_is_named_until_it_lets_go() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        let (tenant, namespace) = ready(shared, "held", json!({})).await;
        let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
        make::<ConfigMap>(client, &namespace, held).await;
        let started = Instant::now();
        tenant.delete().await;
        let cluster = tenant
            .until("blocked by a finalizer that is named", |cluster| {
                condition(cluster, "Ready").is_some_and(|(_, reason, message)| {
                    reason == "DeletionBlocked" && message.contains("example.com/hold")
                })
            })
            .await;
        let (_, _, message) = condition(&cluster, "Ready").unwrap();
        assert!(message.contains(&namespace), "{message}");
        assert!(
            started.elapsed() >= Duration::from_secs(4),
            "not before its time"
        );
        shared.counts("DeletionBlocked").await;
        let none = json!({"metadata": {"finalizers": null}});
        edit::<ConfigMap>(client, &namespace, "held", none).await;
        tenant.gone().await;
        assert!(!namespace_exists(shared, &namespace).await);
    });
}

#[test]
fn a_deletion_needs_no_host_namespace() {
    shared().run(|shared| async move {
        let client = &shared.host.client;
        let (tenant, namespace) = ready(shared, "homeless", json!({})).await;
        // Else the namespace would be made again.
        tenant.update(json!({"suspend": true})).await;
        tenant
            .until("suspended", |cluster| {
                condition(cluster, "Reconciling")
                    .is_some_and(|(_, reason, _)| reason == "Suspended")
            })
            .await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces
            .delete(&namespace, &DeleteParams::default())
            .await
            .unwrap();
        eventually("the namespace is gone", || async {
            (!namespace_exists(shared, &namespace).await).then_some(())
        })
        .await;
        tenant.delete().await;
        tenant.gone().await;
    });
}

#[test]
fn a_host_namespace_that_somebody_deletes_comes_back() {
    shared().run(|shared| async move {
        let namespaces: Api<Namespace> = Api::all(shared.host.client.clone());
        let (tenant, namespace) = ready(shared, "phoenix", json!({})).await;
        let before = namespaces.get(&namespace).await.unwrap().uid();
        namespaces
            .delete(&namespace, &DeleteParams::default())
            .await
            .unwrap();
        eventually("another namespace of that name is there", || async {
            let now = namespaces.get_opt(&namespace).await.unwrap()?;
            (now.uid() != before).then_some(())
        })
        .await;
        tenant
            .until("ready again", |cluster| {
                is_ready(cluster) && revision(cluster) == 1
            })
            .await;
    });
}
