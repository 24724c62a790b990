//! The host that the tests share, its entrances, and what the tests read.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
    time::Duration,
};

use kubebyon_api::{ManagedCluster, PublicAccess, names};
use kubebyon_e2e::{
    gateway::Gateway,
    helm_log::HelmLog,
    judge::{Shared, edit, eventually, find, secret_text},
    operator::{Host, PATIENCE, Tenant},
};
use kubebyon_k8s::{
    gateway_api::{
        gatewayclasses::GatewayClass,
        gateways::{self, GatewayStatusAddresses},
    },
    k8s_openapi::api::core::v1::{ConfigMap, Secret},
    kube::{
        Api, ResourceExt,
        api::{DeleteParams, DynamicObject, Patch, PatchParams},
    },
};
use kubebyon_operator::dial::{DialError, Dialer};
use kubebyon_render::gateway_api::tls_route::{NAME as ROUTE, Version};
use kubebyon_testbed::{ApiOptions, CrdSet};
use serde_json::{Value, json};
use tokio::time::Instant;

/// The operator's own namespace: the claims are there.
pub const OPERATOR: &str = "kubebyon-system";
/// Class of the fake gateway.
pub const CLASS: &str = "fake";
/// Where every entrance has its Gateway for the tenants' APIs.
pub const GATEWAY: &str = "public-gateway";
/// What is broken by hand is to be whole again in this time.
pub const SECONDS: Duration = Duration::from_secs(20);
/// Time limit of one dial.
const DIAL: Duration = Duration::from_secs(5);

static SHARED: OnceLock<Shared> = OnceLock::new();
static GATEWAYS: OnceLock<Gateway> = OnceLock::new();
static HELM: OnceLock<HelmLog> = OnceLock::new();

/// The host with its manager, the fake gateways, and what helm was run for.
pub struct Edge {
    pub shared: &'static Shared,
    pub gateways: &'static Gateway,
    pub helm: &'static HelmLog,
}

pub fn edge() -> Edge {
    // A second test of this process finds it installed.
    let _ = tracing_subscriber::fmt()
        .with_env_filter("warn,kube_client=off")
        .with_test_writer()
        .try_init();
    let options = ApiOptions {
        with: vec![CrdSet::GatewayApi],
        ..ApiOptions::default()
    };
    let shared = Shared::get_with(&SHARED, "public", options, |host| {
        let gateways = GATEWAYS.get_or_init(|| Gateway::start(host));
        let helm = HELM.get_or_init(|| HelmLog::new(&host.charts, &host.cluster.helm()));
        vec![
            format!("--public-dial-address={}", gateways.address()),
            format!("--helm={}", helm.program().display()),
            "--deletion-stage-timeout=30s".to_owned(),
        ]
    });
    Edge {
        shared,
        gateways: GATEWAYS.get().unwrap(),
        helm: HELM.get().unwrap(),
    }
}

impl Edge {
    pub fn host(&self) -> &'static Host {
        &self.shared.host
    }

    /// How often helm was run to install or upgrade `release`.
    pub fn helm_runs(&self, release: &str) -> usize {
        let run = format!("upgrade {release}");
        self.helm
            .runs()
            .iter()
            .filter(|found| **found == run)
            .count()
    }

    pub async fn entrance(&self) -> Entrance<'static> {
        Entrance::open(self.host(), self.gateways, json!({})).await
    }
}

/// Makes the fake's GatewayClass.
pub async fn make_class(host: &Host) {
    let api: Api<GatewayClass> = Api::all(host.client.clone());
    let parameters = PatchParams::apply("test").force();
    api.patch(CLASS, &parameters, &Patch::Apply(&Gateway::class(CLASS)))
        .await
        .unwrap();
}

/// A PublicAccess in a namespace of its own, with domains of its own.
pub struct Entrance<'a> {
    pub host: &'a Host,
    pub gateways: &'a Gateway,
    pub namespace: String,
    /// Domain of the names that are given.
    pub domain: String,
    /// A domain whose names may be asked for.
    pub other_domain: String,
}

impl<'a> Entrance<'a> {
    /// Opens one with the fields of `change` on top.
    pub async fn open(host: &'a Host, gateways: &'a Gateway, change: Value) -> Self {
        let entrance = Self::planned(host, gateways).await;
        entrance.update(change).await;
        entrance
    }

    /// One whose PublicAccess is not made yet.
    pub async fn planned(host: &'a Host, gateways: &'a Gateway) -> Self {
        make_class(host).await;
        Self::without_class(host, gateways).await
    }

    /// As [`Entrance::planned`], while Gateway API is not installed.
    pub async fn without_class(host: &'a Host, gateways: &'a Gateway) -> Self {
        let namespace = host.namespace("edge").await;
        Self {
            domain: format!("{namespace}.clusters.test"),
            other_domain: format!("{namespace}.customers.test"),
            host,
            gateways,
            namespace,
        }
    }

    fn api(&self) -> Api<PublicAccess> {
        Api::namespaced(self.host.client.clone(), &self.namespace)
    }

    /// Applies the PublicAccess with the fields of `change` on top.
    pub async fn update(&self, change: Value) {
        let mut spec = json!({
            "provider": "GatewayAPI",
            "controlPlane": {
                "domain": self.domain, "allowedDomains": [self.other_domain],
                "dnsCheck": "Disabled", "probeIntervalSeconds": 5,
            },
            "gatewayAPI": {"gatewayClassName": CLASS},
        });
        for (key, value) in change.as_object().unwrap() {
            match (&mut spec[key], value) {
                (Value::Object(fields), Value::Object(change)) => {
                    fields.extend(change.clone());
                }
                (field, value) => *field = value.clone(),
            }
        }
        let object = json!({
            "apiVersion": "kubebyon.app/v1alpha1", "kind": "PublicAccess",
            "metadata": {"name": "public", "namespace": self.namespace}, "spec": spec,
        });
        let parameters = PatchParams::apply("test").force();
        self.api()
            .patch("public", &parameters, &Patch::Apply(&object))
            .await
            .expect("the api-server accepts it");
    }

    pub async fn delete(&self) {
        self.api()
            .delete("public", &DeleteParams::default())
            .await
            .unwrap();
    }

    pub async fn find(&self) -> Option<PublicAccess> {
        self.api().get_opt("public").await.unwrap()
    }

    /// Waits for the reason of a condition; gives its message.
    pub async fn because(&self, type_: &str, reason: &str) -> String {
        eventually(
            &format!("{type_} of the entrance with {reason}"),
            || async {
                let access = self.find().await?;
                let conditions = access.status?.conditions;
                conditions
                    .into_iter()
                    .find(|condition| condition.type_ == type_ && condition.reason == reason)
            },
        )
        .await
        .message
    }

    /// The spec of a cluster here; without `hostname` it takes the name that is given.
    pub fn spec(&self, hostname: Option<&str>) -> Value {
        let mut binding = json!({"ref": {"name": "public", "namespace": self.namespace}});
        if let Some(hostname) = hostname {
            binding["hostname"] = json!(hostname);
        }
        json!({"publicAccess": binding})
    }

    /// A cluster beside the entrance.
    pub async fn cluster(&self, name: &str, hostname: Option<&str>) -> Tenant {
        Tenant::apply(self.host, &self.namespace, name, self.spec(hostname)).await
    }

    /// The name that a cluster beside the entrance is given.
    pub fn given_name(&self, cluster: &str) -> String {
        names::control_plane_hostname(&self.namespace, cluster, &self.domain)
    }

    /// What its Gateway for the tenants' APIs does from now on.
    pub fn behave(&self, behaviour: kubebyon_e2e::gateway::Behaviour) {
        self.gateways.behave(&self.namespace, GATEWAY, behaviour);
    }

    /// The addresses of its Gateway.
    pub async fn addresses(&self) -> Vec<IpAddr> {
        eventually("the Gateway has an address", || async {
            let gateway: gateways::Gateway =
                find(&self.host.client, &self.namespace, GATEWAY).await?;
            let addresses = gateway.status?.addresses?;
            let parse = |address: &GatewayStatusAddresses| address.value.parse().ok();
            addresses.iter().map(parse).collect()
        })
        .await
    }
}

/// A kubeconfig's server and the certificate authority that it trusts.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    pub server: String,
    authority: Vec<u8>,
}

impl Published {
    /// The host in the server's address.
    pub fn name(&self) -> &str {
        self.server.strip_prefix("https://").unwrap()
    }

    /// Calls the server at `address`.
    pub async fn call(&self, address: SocketAddr) -> Result<(), DialError> {
        self.call_as(address, self.name()).await
    }

    /// Calls another name at `address`, and trusts the same authority.
    pub async fn call_as(&self, address: SocketAddr, name: &str) -> Result<(), DialError> {
        Dialer::new(&self.authority)?
            .readyz(address, name, DIAL)
            .await
    }
}

/// The kubeconfig of a cluster as it is published now.
pub async fn published(host: &Host, tenant: &Tenant) -> Published {
    let secret = format!("{}-kubeconfig", tenant.name);
    let text = secret_text(&host.client, &tenant.namespace, &secret, "kubeconfig").await;
    let config: Value = serde_json::from_str(&text).unwrap();
    let cluster = &config["clusters"][0]["cluster"];
    let authority = cluster["certificate-authority-data"].as_str().unwrap();
    Published {
        server: cluster["server"].as_str().unwrap().to_owned(),
        authority: base64::Engine::decode(&base64::engine::general_purpose::STANDARD, authority)
            .unwrap(),
    }
}

pub fn host_namespace(cluster: &ManagedCluster) -> String {
    let status = cluster.status.as_ref().expect("a status");
    status.host_namespace.clone().expect("a host namespace")
}

pub fn revision(cluster: &ManagedCluster) -> Option<i64> {
    cluster.status.as_ref()?.release.as_ref()?.revision
}

pub fn public_endpoint(cluster: &ManagedCluster) -> Option<&str> {
    let endpoints = cluster.status.as_ref()?.endpoints.as_ref()?;
    endpoints.public.as_deref()
}

/// What status says of one host name, as JSON.
pub fn hostname_status(cluster: &ManagedCluster, name: &str) -> Option<Value> {
    let hostnames = &cluster.status.as_ref()?.hostnames;
    let found = hostnames.iter().find(|hostname| hostname.name == name)?;
    Some(json!(found))
}

/// Waits until the cluster is ready under `name`.
pub async fn ready_as(tenant: &Tenant, name: &str) -> ManagedCluster {
    let address = format!("https://{name}");
    tenant
        .until(&format!("ready as {name}"), |cluster| {
            kubebyon_e2e::operator::is_ready(cluster) && public_endpoint(cluster) == Some(&address)
        })
        .await
}

/// The public names that the tenant's own configuration has.
pub async fn configured_names(host: &Host, namespace: &str, release: &str) -> BTreeSet<String> {
    let name = format!("vc-config-{release}");
    let text = secret_text(&host.client, namespace, &name, "config.yaml").await;
    let config: Value = serde_saphyr::from_str(&text).unwrap();
    let names = config["controlPlane"]["proxy"]["extraSANs"].as_array();
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    names
        .filter(|name| !name.contains(namespace))
        .map(str::to_owned)
        .collect()
}

/// The claim on a host name.
pub async fn claim(host: &Host, hostname: &str) -> Option<ConfigMap> {
    find(&host.client, OPERATOR, &names::hostname_claim(hostname)).await
}

/// Who holds a host name, as namespace/name.
pub async fn holder(host: &Host, hostname: &str) -> Option<String> {
    let data = claim(host, hostname).await?.data?;
    Some(format!("{}/{}", data["namespace"], data["name"]))
}

/// Waits until nobody holds a host name.
pub async fn freed(host: &Host, hostname: &str) {
    let free = || async { claim(host, hostname).await.is_none().then_some(()) };
    eventually(&format!("{hostname} is free"), free).await;
}

/// The TLSRoutes of a namespace.
pub fn routes(host: &Host, namespace: &str, version: Version) -> Api<DynamicObject> {
    Api::namespaced_with(host.client.clone(), namespace, &version.resource())
}

/// The host names on a cluster's route, if there is one.
pub async fn routed(host: &Host, namespace: &str) -> Option<BTreeSet<String>> {
    let api = routes(host, namespace, Version::V1);
    Some(hostnames(&api.get_opt(ROUTE).await.unwrap()?))
}

/// The host names on a route.
pub fn hostnames(route: &DynamicObject) -> BTreeSet<String> {
    let names = route.data["spec"]["hostnames"].as_array();
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

/// Makes every name that the kubeconfig has left due, and waits until they are forgotten. A
/// reconcile that is under way may write what it has read before.
pub async fn make_due(host: &Host, tenant: &Tenant) {
    const RETIRING: &str = "kubebyon.app/retiring-names";
    const LONG_AGO: &str = "2026-01-01T00:00:00Z";
    let secret = format!("{}-kubeconfig", tenant.name);
    eventually("the old names are forgotten", || async {
        let found: Secret = find(&host.client, &tenant.namespace, &secret).await?;
        let Some(text) = found.annotations().get(RETIRING) else {
            return Some(());
        };
        let mut names: Value = serde_json::from_str(text).unwrap();
        if names == json!([]) {
            return Some(());
        }
        for name in names.as_array_mut().unwrap() {
            name["since"] = json!(LONG_AGO);
        }
        let due = names.to_string();
        if due != *text {
            let patch = json!({"metadata": {"annotations": {RETIRING: due}}});
            edit::<Secret>(&host.client, &tenant.namespace, &secret, patch).await;
        }
        None
    })
    .await;
}

/// Watches a cluster for a while: `wrong` never holds of it.
pub async fn never(
    tenant: &Tenant,
    during: Duration,
    what: &str,
    wrong: impl Fn(&ManagedCluster) -> bool,
) {
    let end = Instant::now() + during;
    while Instant::now() < end {
        let cluster = tenant.get().await;
        assert!(!wrong(&cluster), "{what}: {:#?}", cluster.status);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(during < PATIENCE);
}
