use std::sync::LazyLock;

use kubebyon_api::managed_cluster::{
    BackingStore, DeployedEtcd, ExternalDatabase, Image, PrivateNodes, Service, ServiceType,
};
use kubebyon_api::refs::SecretRef;
use kubebyon_k8s::k8s_openapi::api::core::v1::Toleration;
use kubebyon_k8s::k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::{Policy, Source};
use super::*;
use crate::metadata::example;

const NAMESPACE: &str = "byon-demo-0a1b2c3d";

fn tenant<'a>(cluster: &'a Cluster, spec: &'a ManagedClusterSpec) -> Tenant<'a> {
    Tenant {
        cluster,
        spec,
        host_namespace: NAMESPACE,
        kubernetes_version: Some("1.36.3"),
        default_image: "ghcr.io/loft-sh/vcluster-oss",
        public: None,
        data_source: None,
    }
}

fn render(spec: &ManagedClusterSpec) -> Value {
    vcluster(&tenant(&example(), spec), UserValues::default()).unwrap()
}

fn etcd(replicas: i32) -> BackingStore {
    BackingStore {
        type_: BackingStoreType::DeployedEtcd,
        deployed_etcd: Some(DeployedEtcd { replicas }),
        external_database: None,
    }
}

fn private() -> ManagedClusterSpec {
    let mut spec = ManagedClusterSpec::default();
    spec.nodes.mode = NodeMode::Private;
    spec.nodes.private = Some(PrivateNodes {
        pod_cidr: "10.60.0.0/16".to_owned(),
        service_cidr: "10.61.0.0/16".to_owned(),
        platform_secret_ref: Some(SecretRef {
            name: "platform".to_owned(),
        }),
    });
    spec
}

static HOSTNAME: LazyLock<Hostname> =
    LazyLock::new(|| "demo-0a1b2c3d.clusters.example.com".parse().unwrap());

fn sans(more: &[&str]) -> BTreeSet<HostPattern> {
    [
        "demo-0a1b2c3d.clusters.example.com",
        "*.clusters.example.com",
    ]
    .iter()
    .chain(more)
    .map(|name| name.parse().unwrap())
    .collect()
}

fn public(sans: &BTreeSet<HostPattern>) -> Public<'_> {
    Public {
        hostname: &HOSTNAME,
        sans,
    }
}

#[test]
fn defaults() {
    insta::assert_json_snapshot!(render(&ManagedClusterSpec::default()));
}

#[test]
fn highly_available_with_etcd() {
    let mut spec = ManagedClusterSpec::default();
    spec.control_plane.replicas = 3;
    spec.control_plane.backing_store = etcd(3);
    spec.control_plane.storage = Storage {
        size: "20Gi".to_owned(),
        class_name: Some("fast".to_owned()),
    };
    insta::assert_json_snapshot!(render(&spec));
}

#[test]
fn external_database() {
    let mut spec = ManagedClusterSpec::default();
    spec.control_plane.backing_store = BackingStore {
        type_: BackingStoreType::ExternalDatabase,
        deployed_etcd: None,
        external_database: Some(ExternalDatabase {
            secret_ref: SecretRef {
                name: "database".to_owned(),
            },
        }),
    };
    let cluster = example();
    let without = vcluster(&tenant(&cluster, &spec), UserValues::default());
    assert_eq!(without, Err(ValuesError::NoDataSource));
    let with = Tenant {
        data_source: Some("postgres://u:p@db.example.com/tenant"),
        ..tenant(&cluster, &spec)
    };
    insta::assert_json_snapshot!(vcluster(&with, UserValues::default()).unwrap());
}

#[test]
fn public_name() {
    let mut spec = ManagedClusterSpec::default();
    spec.control_plane.extra_sans = vec!["zz.example.com".to_owned(), "10.0.0.7".to_owned()];
    spec.control_plane.service = Service {
        type_: ServiceType::LoadBalancer,
    };
    let cluster = example();
    let sans = sans(&["old.example.com"]);
    let public = Tenant {
        public: Some(public(&sans)),
        ..tenant(&cluster, &spec)
    };
    insta::assert_json_snapshot!(vcluster(&public, UserValues::default()).unwrap());
}

#[test]
fn private_nodes() {
    let spec = private();
    let cluster = example();
    let sans = sans(&[]);
    let private = Tenant {
        public: Some(public(&sans)),
        ..tenant(&cluster, &spec)
    };
    insta::assert_json_snapshot!(vcluster(&private, UserValues::default()).unwrap());
}

#[test]
fn placement_and_resources() {
    let mut spec = ManagedClusterSpec::default();
    spec.control_plane.backing_store = etcd(1);
    spec.control_plane.resources = ResourceRequirements {
        limits: Some([("memory".to_owned(), Quantity("8Gi".to_owned()))].into()),
        ..ResourceRequirements::default()
    };
    spec.placement = Placement {
        node_selector: [("pool".to_owned(), "tenants".to_owned())].into(),
        tolerations: vec![Toleration {
            key: Some("tenants".to_owned()),
            operator: Some("Exists".to_owned()),
            ..Toleration::default()
        }],
        runtime_class_name: Some("gvisor".to_owned()),
    };
    insta::assert_json_snapshot!(render(&spec));
}

#[test]
fn own_image_and_no_version() {
    let mut spec = ManagedClusterSpec::default();
    spec.control_plane.image = Image {
        registry: Some("mirror.example.com".to_owned()),
        repository: None,
        tag: Some("0.36.1".to_owned()),
    };
    let cluster = example();
    let unversioned = Tenant {
        kubernetes_version: None,
        ..tenant(&cluster, &spec)
    };
    insta::assert_json_snapshot!(vcluster(&unversioned, UserValues::default()).unwrap());
}

#[test]
fn authors_values_stay_beside_the_operators() {
    let yaml = "
controlPlane:
  statefulSet:
    pods: {labels: {team: a}}
    highAvailability: {leaseDuration: 30}
  distro: {k8s: {apiServer: {extraArgs: [--v=2]}}}
telemetry: {enabled: false}
logging: null
";
    let source = Source::from_yaml("spec.valuesFrom[0]", yaml).unwrap();
    let user = UserValues::read(vec![source], Policy::Restricted).unwrap();
    insta::assert_json_snapshot!(
        vcluster(&tenant(&example(), &ManagedClusterSpec::default()), user).unwrap()
    );
}

#[test]
fn the_operators_keys_are_those_that_authors_may_not_set() {
    let mut spec = private();
    spec.control_plane.backing_store = etcd(3);
    spec.control_plane.resources.limits =
        Some([("cpu".to_owned(), Quantity("1".to_owned()))].into());
    spec.placement = Placement {
        node_selector: [("a".to_owned(), "b".to_owned())].into(),
        tolerations: vec![Toleration::default()],
        runtime_class_name: Some("x".to_owned()),
    };
    let cluster = example();
    let sans = sans(&[]);
    let all = vcluster(
        &Tenant {
            public: Some(public(&sans)),
            ..tenant(&cluster, &spec)
        },
        UserValues::default(),
    )
    .unwrap();
    let mut open = vec![(Vec::new(), &all)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(map) if !map.is_empty() => {
                open.extend(
                    map.iter()
                        .map(|(key, value)| ([path.clone(), vec![key.clone()]].concat(), value)),
                );
            }
            Value::Object(_) => {}
            leaf => {
                let alone = path
                    .iter()
                    .rfold(leaf.clone(), |inner, key| json!({ key: inner }));
                let Value::Object(map) = alone else {
                    unreachable!()
                };
                let error =
                    UserValues::read(vec![Source::new("spec.values", map)], Policy::Unrestricted);
                assert!(
                    error.is_err(),
                    "{} is set by the operator and would be overridden in silence",
                    path.join(".")
                );
            }
        }
    }
}

#[test]
fn order_in_the_spec_does_not_matter_where_it_has_no_meaning() {
    let spec = |sans: [&str; 2]| {
        let mut spec = ManagedClusterSpec::default();
        spec.control_plane.extra_sans = sans.map(str::to_owned).to_vec();
        spec
    };
    assert_eq!(
        render(&spec(["a.example.com", "b.example.com"])).to_string(),
        render(&spec(["b.example.com", "a.example.com"])).to_string()
    );
}

#[test]
fn a_line_break_in_a_field_is_an_error_that_names_it() {
    let mut spec = ManagedClusterSpec::default();
    spec.control_plane.storage.size = "5Gi\n---\nkind: Pod".to_owned();
    let error = vcluster(&tenant(&example(), &spec), UserValues::default()).unwrap_err();
    assert_eq!(
        error,
        ValuesError::ControlCharacter(
            "controlPlane.statefulSet.persistence.volumeClaim.size".to_owned()
        )
    );
}

#[test]
fn images_split_where_container_engines_split_them() {
    for (image, parts) in [
        (
            "ghcr.io/loft-sh/vcluster-oss",
            (Some("ghcr.io"), "loft-sh/vcluster-oss"),
        ),
        ("localhost/x", (Some("localhost"), "x")),
        ("registry:5000/a/b", (Some("registry:5000"), "a/b")),
        ("loft-sh/vcluster-oss", (None, "loft-sh/vcluster-oss")),
        ("vcluster", (None, "vcluster")),
    ] {
        assert_eq!(split_image(image), parts);
    }
}
