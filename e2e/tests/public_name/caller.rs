//! Somebody with the published kubeconfig, who never stops calling.

use std::{net::SocketAddr, time::Duration};

use kubebyon_e2e::operator::Tenant;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::edge::{Entrance, published};

/// The pause between two calls.
const BREATH: Duration = Duration::from_millis(5);
/// Calls are made at least so often, however short the story is.
const LEAST: usize = 10;

/// What became of the calls.
#[derive(Debug, Default)]
pub struct Calls {
    pub made: usize,
    pub failed: Vec<String>,
    /// The servers of the kubeconfig, in their order.
    pub servers: Vec<String>,
}

pub struct Caller {
    stop: CancellationToken,
    task: JoinHandle<Calls>,
}

impl Caller {
    /// Reads the kubeconfig and calls its server through the entrance, over and over; a
    /// server that is no public name is called where the tenants are.
    pub fn begin(entrance: &Entrance<'static>, tenant: &Tenant) -> Self {
        let stop = CancellationToken::new();
        let host = entrance.host;
        let tenant = Tenant::new(host, &tenant.namespace, &tenant.name);
        let (inside, outside) = (host.control_planes.address(), entrance.gateways.address());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut calls = Calls::default();
            while !stopped.is_cancelled() || calls.made < LEAST {
                let published = published(host, &tenant).await;
                let internal = published.name().rsplit('.').next() == Some("svc");
                let address: SocketAddr = if internal { inside } else { outside };
                if let Err(error) = published.call(address).await {
                    calls.failed.push(format!("{}: {error}", published.server));
                }
                calls.made += 1;
                if calls.servers.last() != Some(&published.server) {
                    calls.servers.push(published.server);
                }
                tokio::time::sleep(BREATH).await;
            }
            calls
        });
        Self { stop, task }
    }

    /// Stops, and panics if a call failed.
    pub async fn end(self) -> Calls {
        self.stop.cancel();
        let calls = self.task.await.unwrap();
        assert!(
            calls.failed.is_empty(),
            "{} of {} calls failed: {:#?}",
            calls.failed.len(),
            calls.made,
            calls.failed
        );
        calls
    }
}
