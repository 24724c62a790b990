//! A FAKE gateway controller with a FAKE data plane, for clusters without nodes.
//!
//! For Gateways of its own classes it says what a controller would: addresses, Accepted
//! and Programmed with the generation that was seen, listeners and the routes attached to
//! them; and in the status of TLSRoutes and HTTPRoutes, of whichever version is served,
//! whether they are accepted. Its data plane listens on one loopback address, reads the
//! name in a ClientHello without taking it, and hands the connection to the fake control
//! plane of the Service that an accepted TLSRoute with that name leads to; any other
//! connection it closes.
//!
//! Its limits: all its Gateways share that one address, whatever addresses their status
//! tells; no HTTP is served; it looks every [`TICK`] and watches nothing; a backend that
//! was found once counts as found for ever; of two routes with one name the older has it;
//! it reads no ReferenceGrants, no ListenerSets, and of a selector `matchLabels` alone.

mod status;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kubebyon_k8s::kube::Client;
use rustls::server::Acceptor;
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    control_planes::{Tenant, Tenants},
    operator::Host,
};

/// The controller's name in GatewayClasses and in the status of routes.
pub const CONTROLLER: &str = "example.com/fake-gateway";
/// How often it looks.
pub const TICK: Duration = Duration::from_millis(100);
/// How long a client has for its ClientHello.
const HELLO: Duration = Duration::from_secs(5);

/// What one of its Gateways does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// All that it should.
    #[default]
    Serving,
    /// Its status is as good as ever, and connections are never answered.
    Silent,
    /// It accepts no route any more, and serves none.
    Refusing,
    /// Its controller is gone: nothing is said in any status, and no connection is taken.
    Gone,
}

/// The fake; its tasks end when it is dropped.
pub struct Gateway {
    address: SocketAddr,
    plane: Arc<Plane>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Where the connections for one name go.
#[derive(Clone, Debug)]
struct Way {
    /// namespace/name of the Gateway.
    gateway: String,
    tenant: Tenant,
}

/// What controller and data plane share.
#[derive(Default)]
struct Plane {
    behaviours: Mutex<HashMap<String, Behaviour>>,
    ways: Mutex<BTreeMap<String, Way>>,
    connections: Mutex<HashMap<String, usize>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gateway {
    /// Plays the gateways of `host`; Gateway API may be installed later. To be called
    /// within a runtime.
    pub fn start(host: &Host) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let plane = Arc::<Plane>::default();
        let tenants = host.control_planes.tenants();
        let tasks = vec![
            tokio::spawn(control(host.client.clone(), plane.clone())),
            tokio::spawn(listen(listener, plane.clone(), tenants)),
        ];
        Self {
            address,
            plane,
            tasks,
        }
    }

    /// Where the data plane listens: for the manager's `--public-dial-address`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A GatewayClass `name` of this controller.
    pub fn class(name: &str) -> serde_json::Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": name}, "spec": {"controllerName": CONTROLLER},
        })
    }

    /// From now on the Gateway does this.
    pub fn behave(&self, namespace: &str, name: &str, behaviour: Behaviour) {
        let gateway = format!("{namespace}/{name}");
        locked(&self.plane.behaviours).insert(gateway, behaviour);
    }

    /// How many connections have asked for `name`.
    pub fn connections(&self, name: &str) -> usize {
        let connections = locked(&self.plane.connections);
        connections.get(name).copied().unwrap_or_default()
    }

    /// The tenant (namespace and Service) that connections for `name` go to now.
    pub fn leads_to(&self, name: &str) -> Option<Tenant> {
        Some(self.plane.way(name)?.tenant)
    }
}

impl Plane {
    fn behaviour(&self, gateway: &str) -> Behaviour {
        let behaviours = locked(&self.behaviours);
        behaviours.get(gateway).copied().unwrap_or_default()
    }

    /// By the name itself, else by the longest wildcard above it.
    fn way(&self, name: &str) -> Option<Way> {
        let ways = locked(&self.ways);
        let mut above = name;
        let mut wildcards = std::iter::from_fn(|| {
            (_, above) = above.split_once('.')?;
            Some(format!("*.{above}"))
        });
        ways.get(name)
            .or_else(|| wildcards.find_map(|wildcard| ways.get(&wildcard)))
            .cloned()
    }
}

async fn control(client: Client, plane: Arc<Plane>) {
    let mut controller = status::Controller::new(client);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Gateway API is not there yet, or its versions change: the ways stay as they are.
        if let Ok(ways) = controller.look(|gateway| plane.behaviour(gateway)).await {
            *locked(&plane.ways) = ways;
        }
    }
}

async fn listen(listener: TcpListener, plane: Arc<Plane>, tenants: Arc<Tenants>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (plane, tenants) = (plane.clone(), tenants.clone());
        tokio::spawn(async move { forward(stream, &plane, &tenants).await });
    }
}

async fn forward(mut stream: TcpStream, plane: &Plane, tenants: &Tenants) {
    let Ok(Some(name)) = timeout(HELLO, asked_for(&stream)).await else {
        return;
    };
    *locked(&plane.connections).entry(name.clone()).or_default() += 1;
    let Some(way) = plane.way(&name) else { return };
    match plane.behaviour(&way.gateway) {
        Behaviour::Serving => tenants.serve(stream, Some(&way.tenant)).await,
        Behaviour::Silent => {
            let mut nothing = [0; 1024];
            while stream.read(&mut nothing).await.is_ok_and(|count| count > 0) {}
        }
        Behaviour::Refusing | Behaviour::Gone => {}
    }
}

/// The name that a client asks for in its ClientHello, which stays in the socket.
async fn asked_for(stream: &TcpStream) -> Option<String> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = stream.peek(&mut buffer).await.ok()?;
        let mut acceptor = Acceptor::default();
        let read = acceptor.read_tls(&mut &buffer[..count]).ok()?;
        if read == 0 {
            return None;
        }
        match acceptor.accept() {
            Ok(Some(hello)) => return hello.client_hello().server_name().map(str::to_owned),
            // The rest is on its way; to peek does not wait for it.
            Ok(None) => sleep(Duration::from_millis(5)).await,
            Err(_) => return None,
        }
    }
}
