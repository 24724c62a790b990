//! Tenants' APIs behind two entrances: three of them share one Gateway whose Envoy has two replicas, and a highly
//! available one has the other.

use std::time::Duration;

use kubebyon_e2e::{
    edge::{
        object::Object,
        site::Site,
        tenant::{Published, Tenant},
        until,
    },
    in_cluster::charts,
};
use serde_json::{Value, json};

use super::{
    Entrance, READY, SOON, World, addresses,
    site::{single, spec},
};

/// Below it are the names of the three.
pub const DOMAIN: &str = "clusters.tenants.test";
/// The platform's own name, which could be a tenant's by its form.
pub const CONSOLE: &str = "console.clusters.tenants.test";
/// The namespace of the shared entrance.
pub const EDGE: &str = "edge-tenants";
/// The namespace of the three.
pub const TEAM: &str = "team-a";
const OTHER_EDGE: &str = "edge-other";
/// The namespace of the highly available one.
pub const OTHER_TEAM: &str = "team-b";
/// Where nobody is trusted.
pub const THIEF: &str = "thief";
const CLASS: &str = include_str!("steady.yaml");

/// The tenants and their entrances.
pub struct Town {
    /// The shared entrance.
    pub entrance: Entrance,
    /// The other one.
    pub other: Object,
    /// Of the default name.
    pub red: Tenant,
    /// Of a name of its own choice, which somebody else's route carries too.
    pub green: Tenant,
    /// Of a name of its own choice.
    pub blue: Tenant,
    /// Highly available, at the other entrance.
    pub steady: Tenant,
}

impl Town {
    /// Both entrances, and all tenants proved through them.
    pub fn start(world: &World) -> Self {
        world.namespace(THIEF);
        // Before there is a Gateway, nobody can know that it will be ours.
        let early = super::theft::tls_route("early", "green.clusters.tenants.test");
        world.apply(&early);
        let entrance = shared_entrance(world);
        let other = other_entrance(world);
        for team in [TEAM, OTHER_TEAM] {
            world.namespace(team);
            world.apply(&world.installation.repository.authority(team).unwrap());
        }
        world.kubectl(&["label", "namespace", OTHER_TEAM, "tenants=welcome"]);
        let tenant = |namespace, name| {
            let installation = &world.installation;
            Tenant::new(
                &installation.cluster,
                &installation.kubectl,
                namespace,
                name,
            )
        };
        let town = Self {
            entrance,
            other,
            red: tenant(TEAM, "red"),
            green: tenant(TEAM, "green"),
            blue: tenant(TEAM, "blue"),
            steady: tenant(OTHER_TEAM, "steady"),
        };
        town.red.object.apply(&at_shared(world, None));
        let took = town.red.object.ready(READY);
        world.done(&format!(
            "kubectl apply became a tenant that is proved through Envoy, by its name in DNS, in {:.1} s",
            took.as_secs_f32()
        ));
        town.steady
            .object
            .apply(&highly_available(world, "console"));
        for tenant in [&town.green, &town.blue] {
            let name = format!("{}.{DOMAIN}", tenant.object.name);
            tenant.object.apply(&at_shared(world, Some(&name)));
        }
        let all = [&town.green, &town.blue, &town.steady];
        let took = all.map(|tenant| tenant.object.ready(READY).as_secs_f32());
        let last = took.iter().sum::<f32>();
        world.done(&format!(
            "three more at once, one of them highly available: {last:.1} s until the last is proved"
        ));
        town
    }

    /// Each answers under its own name, with its own authority, and no other does.
    pub fn each_answers_under_its_own_name(&self, world: &World) {
        let three = [&self.red, &self.green, &self.blue];
        let published: Vec<Published> = three
            .iter()
            .map(|tenant| tenant.published(&tenant.object.name).unwrap())
            .collect();
        let mut uids = Vec::new();
        for (tenant, own) in three.iter().zip(&published) {
            assert_eq!(
                tenant.object.status("/endpoints/public"),
                json!(own.server),
                "the kubeconfig names what was proved"
            );
            assert_eq!(own.server.matches(':').count(), 1, "on 443: {}", own.server);
            for other in &published {
                let url = format!("{}/readyz", other.server);
                let answer = world.outside.curl(&own.authority, &url);
                if own.server == other.server {
                    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{url}");
                } else {
                    assert_eq!(answer.status, 0, "{url} for {}", own.server);
                    assert!(answer.error.contains("certificate"), "{answer:?}");
                }
            }
            let path = "--output=jsonpath={.metadata.uid}";
            let uid = world
                .outside
                .kubectl(&own.path, &["get", "namespace", "kube-system", path])
                .unwrap();
            assert!(!uids.contains(&uid), "each is a cluster of its own");
            uids.push(uid);
        }
        let address = addresses::of(&self.entrance.object, "ControlPlane").remove(0);
        for unknown in ["nobody.clusters.tenants.test", "nobody.test", DOMAIN] {
            let shown = world.outside.certificate(&address, unknown);
            assert_eq!(shown, None, "no tenant answers to {unknown}");
        }
        let site = self.entrance.get(world, "https", "/healthz");
        assert_eq!(site.status, 200, "the platform's site is beside them");
        world.done("each of three tenants behind one Gateway answers under its own name alone, and to no unknown one");
    }

    /// Takes everything down: no route and no claim of a tenant stays.
    pub fn end(self, world: &World) {
        let all = [self.red, self.green, self.blue, self.steady];
        for tenant in &all {
            let namespace = format!("--namespace={}", tenant.object.namespace);
            let name = tenant.object.name.as_str();
            world.kubectl(&["delete", "managedcluster", name, &namespace, "--wait=false"]);
        }
        for tenant in &all {
            tenant.object.delete();
        }
        let routes = world.kubectl(&["get", "tlsroutes", "--all-namespaces", "--output=name"]);
        assert!(!routes.contains("kubebyon"), "{routes}");
        let claims = world.kubectl(&[
            "get",
            "configmaps",
            "--namespace=kubebyon-system",
            "--selector=kubebyon.app/cluster-name",
            "--output=name",
        ]);
        assert_eq!(claims, "", "no name is claimed any more");
        self.entrance.object.delete();
        world.done(
            "deleted, the tenants leave no route and no claim, and then the entrance goes too",
        );
    }
}

fn shared_entrance(world: &World) -> Entrance {
    world.namespace(EDGE);
    let applied = world.installation.kubectl.apply("make a class", CLASS);
    applied.unwrap();
    let kubectl = &world.installation.kubectl;
    let site = Site::start(kubectl, &world.outside, EDGE, CONSOLE).unwrap();
    let mut spec = spec(CONSOLE, "tenants.test", &single("steady"));
    spec["controlPlane"]["probeIntervalSeconds"] = json!(5);
    let object = world.access(EDGE, "tenants", &spec);
    object.ready(READY);
    world.resolve(&format!("*.{DOMAIN}"), &object, "ControlPlane");
    Entrance { object, spec, site }
}

fn other_entrance(world: &World) -> Object {
    world.namespace(OTHER_EDGE);
    let spec = json!({
        "provider": "GatewayAPI",
        "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"tenants": "welcome"}}},
        "controlPlane": {"domain": "clusters.other.test"},
        "gatewayAPI": {"gatewayClassName": "eg"},
    });
    let object = world.access(OTHER_EDGE, "other", &spec);
    object.ready(READY);
    world.resolve("*.clusters.other.test", &object, "ControlPlane");
    object
}

/// A tenant at the shared entrance; without a name it is given one.
pub fn at_shared(world: &World, hostname: Option<&str>) -> Value {
    let mut spec = tenant(world, EDGE, "tenants");
    if let Some(hostname) = hostname {
        spec["publicAccess"]["hostname"] = json!(hostname);
    }
    spec
}

/// The highly available tenant; its pods log in the form of `encoding`.
pub fn highly_available(world: &World, encoding: &str) -> Value {
    let mut spec = tenant(world, OTHER_EDGE, "other");
    spec["controlPlane"]["replicas"] = json!(2);
    spec["controlPlane"]["backingStore"] =
        json!({"type": "DeployedEtcd", "deployedEtcd": {"replicas": 3}});
    spec["values"] = json!({"logging": {"encoding": encoding}});
    spec
}

/// A tenant at an entrance.
pub fn tenant(world: &World, namespace: &str, access: &str) -> Value {
    json!({
        "kubernetesVersion": "1.36",
        "chart": {
            "repository": charts::URL, "version": charts::CHART_VERSION,
            "digest": world.installation.repository.digest,
            "caSecretRef": {"name": charts::AUTHORITY_SECRET},
        },
        "controlPlane": {"storage": {"size": "1Gi"}},
        "publicAccess": {"ref": {"namespace": namespace, "name": access}},
    })
}

/// Waits until the published kubeconfig names `server`.
pub fn switched(tenant: &Tenant, world: &World, hostname: &str) -> Duration {
    let secret = format!("{}-kubeconfig", tenant.object.name);
    let namespace = format!("--namespace={}", tenant.object.namespace);
    let path = r"--output=jsonpath={.metadata.annotations.kubebyon\.app/public-name}";
    let what = format!("the kubeconfig to name {hostname}");
    let ((), took) = until(&what, SOON, || {
        (world.kubectl(&["get", "secret", &secret, &namespace, path]) == hostname).then_some(())
    });
    took
}
