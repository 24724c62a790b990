//! Entrances on a real Envoy: names in a real DNS zone, and curl, openssl and kubectl outside of the nodes as judges.
//!
//! It takes a machine with root and several minutes, so it runs when it is asked for: `make e2e`.
#![expect(clippy::unwrap_used, reason = "a journey that fails stops there")]

mod addresses;
mod calls;
mod faults;
mod moves;
mod site;
mod tenants;
mod theft;

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use kubebyon_e2e::{
    edge::{object::Object, outside::Outside},
    in_cluster::{Programs, installation::Installation},
};
use kubebyon_testbed::{addons::Addon, agent::zone::Target};
use serde_json::{Value, json};

/// How long an entrance may take to be ready, with data planes that start, on a machine that does other things too.
const READY: Duration = Duration::from_secs(300);
/// How long anything else may take.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn the_platform_has_its_site_and_addresses() {
    let Some(world) = World::enter() else { return };
    let public = site::is_served(&world);
    addresses::single_shares_one(&world, &public);
    let dual = addresses::dual_has_two(&world);
    faults::each_has_its_reason(&world, &public, &dual);
    site::without_web(&world, &public);
}

#[test]
fn tenants_are_reached_under_their_own_names() {
    let Some(world) = World::enter() else { return };
    let town = tenants::Town::start(&world);
    town.each_answers_under_its_own_name(&world);
    calls::nobody_notices(&world, &town);
    theft::moves_no_traffic(&world, &town);
    faults::of_tenants(&world, &town);
    moves::to_the_shared_entrance(&world, &town);
    town.end(&world);
}

/// The cluster that the tests of this program share, one after the other.
struct World {
    installation: &'static Installation,
    outside: Outside,
    _alone: MutexGuard<'static, ()>,
}

/// An entrance and the name of its platform's site.
struct Entrance {
    object: Object,
    spec: Value,
    site: kubebyon_e2e::edge::site::Site,
}

impl World {
    /// The cluster, for one test alone; none when it was not asked for.
    fn enter() -> Option<Self> {
        static INSTALLATION: OnceLock<Installation> = OnceLock::new();
        static ALONE: Mutex<()> = Mutex::new(());
        let wanted = std::env::var_os("KUBEBYON_JOURNEY").is_some();
        if !wanted || !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: it starts a cluster with nodes; run `make e2e` as root");
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let installation = INSTALLATION.get_or_init(|| {
            let chart_repository = PathBuf::from(env!("CARGO_BIN_EXE_chart-repository"));
            let programs = Programs::built(chart_repository).unwrap();
            let addons = vec![Addon::EnvoyGateway, Addon::Vcluster];
            Installation::start("entrance", addons, &programs).unwrap()
        });
        Some(Self {
            outside: Outside::of(&installation.cluster),
            installation,
            _alone: alone,
        })
    }

    fn done(&self, promise: &str) {
        self.installation.done(promise);
    }

    fn namespace(&self, name: &str) {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.apply(&namespace);
    }

    fn apply(&self, object: &Value) {
        let applied = self
            .installation
            .kubectl
            .apply("apply an object", &object.to_string());
        applied.unwrap();
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let text = self.installation.kubectl.run("ask kubectl", arguments);
        text.unwrap()
    }

    /// The Deployment of the data plane of class `steady`.
    fn shared_envoys(&self) -> String {
        let found = self.kubectl(&[
            "get",
            "deployment",
            "--namespace=envoy-gateway-system",
            "--selector=gateway.envoyproxy.io/owning-gatewayclass=steady",
            "--output=name",
        ]);
        found.trim().to_owned()
    }

    fn access(&self, namespace: &str, name: &str, spec: &Value) -> Object {
        let access = Object::access(&self.installation.kubectl, namespace, name);
        access.apply(spec);
        access
    }

    /// Lets a name resolve to the addresses of an entrance's Gateway.
    fn resolve(&self, name: &str, entrance: &Object, role: &str) {
        let addresses = addresses::of(entrance, role);
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let zone = self.installation.cluster.zone();
        zone.set(name, Target::Addresses(addresses)).unwrap();
    }
}
