//! Services of type LoadBalancer: an address from the pool, and a node that answers for it on the LAN.
//!
//! The node holds the address on its loopback device, so it answers ARP for it, and kube-proxy takes what arrives.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    process::Stdio,
    sync::Arc,
};

use kubebyon_k8s::{
    k8s_openapi::api::{
        core::v1::{Node, Service},
        discovery::v1::EndpointSlice,
    },
    kube::{Api, Client, ResourceExt, api::Patch, api::PatchParams},
};
use serde_json::json;
use tokio::process::Command;

use crate::{
    agent::AgentNode,
    error::{Error, Result},
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A Service as far as its address is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    namespace: String,
    name: String,
    /// Whether it is to have an address.
    wanted: bool,
    /// The address that it asks for.
    requested: Option<Ipv4Addr>,
    /// The address of the pool that its status has.
    current: Option<Ipv4Addr>,
    /// The nodes that may answer; any of them when there are none named.
    only_on: Option<BTreeSet<String>>,
}

pub(super) struct LoadBalancer {
    client: Client,
    pool: Vec<Ipv4Addr>,
    nodes: Vec<AgentNode>,
    /// Which node answers for an address now.
    answering: BTreeMap<Ipv4Addr, String>,
}

impl LoadBalancer {
    /// Begins with no node answering for anything, whatever an earlier agent left.
    pub(super) async fn new(client: Client, pool: Vec<Ipv4Addr>, nodes: Vec<AgentNode>) -> Self {
        let balancer = Self {
            client,
            pool,
            nodes,
            answering: BTreeMap::new(),
        };
        for node in &balancer.nodes {
            for address in &balancer.pool {
                // Fails for each address that is not there, which is nearly all of them.
                let _ = on(
                    node,
                    &[
                        "ip",
                        "address",
                        "del",
                        &format!("{address}/32"),
                        "dev",
                        "lo",
                    ],
                )
                .await;
            }
        }
        balancer
    }

    pub(super) async fn reconcile(
        &mut self,
        services: &[Arc<Service>],
        slices: &[Arc<EndpointSlice>],
        nodes: &[Arc<Node>],
    ) -> Result<()> {
        let mut wishes: Vec<Wish> = services
            .iter()
            .map(|service| wish(service, slices, &self.pool))
            .filter(Wish::matters)
            .collect();
        wishes.sort_by(|one, two| (&one.namespace, &one.name).cmp(&(&two.namespace, &two.name)));
        let addresses = assign(&self.pool, &wishes);
        let ready: BTreeSet<String> = nodes
            .iter()
            .filter(|node| is_ready(node))
            .map(|node| node.name_any())
            .collect();
        let answers = answers(&wishes, &addresses, &ready, &self.answering);
        self.announce(answers).await?;
        for (wish, address) in wishes.iter().zip(&addresses) {
            if wish.current != *address {
                self.publish(wish, *address).await?;
            }
        }
        Ok(())
    }

    async fn announce(&mut self, answers: BTreeMap<Ipv4Addr, String>) -> Result<()> {
        for (address, name) in &self.answering {
            if answers.get(address) != Some(name)
                && let Some(node) = self.nodes.iter().find(|node| node.name == *name)
            {
                // A node that is gone has lost the address with everything else.
                let _ = on(
                    node,
                    &[
                        "ip",
                        "address",
                        "del",
                        &format!("{address}/32"),
                        "dev",
                        "lo",
                    ],
                )
                .await;
            }
        }
        for (address, name) in &answers {
            if self.answering.get(address) != Some(name)
                && let Some(node) = self.nodes.iter().find(|node| node.name == *name)
            {
                let text = address.to_string();
                on(
                    node,
                    &[
                        "ip",
                        "address",
                        "replace",
                        &format!("{address}/32"),
                        "dev",
                        "lo",
                    ],
                )
                .await?;
                // Neighbours may still send to the node that answered before. Nobody answers the announcement, which
                // the program calls a failure.
                let announce = [
                    "busybox", "arping", "-q", "-U", "-c", "1", "-I", "eth0", &text,
                ];
                let _ = on(node, &announce).await;
            }
        }
        self.answering = answers;
        Ok(())
    }

    async fn publish(&self, wish: &Wish, address: Option<Ipv4Addr>) -> Result<()> {
        let ingress: Vec<_> = address
            .iter()
            .map(|address| json!({"ip": address, "ipMode": "VIP"}))
            .collect();
        let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let api = Api::<Service>::namespaced(self.client.clone(), &wish.namespace);
        match api
            .patch_status(&wish.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if super::is_gone(&error) => Ok(()),
            Err(error) => Err(Error::Agent {
                reason: format!(
                    "cannot give Service {}/{} its address: {error}",
                    wish.namespace, wish.name
                ),
            }),
        }
    }
}

impl Wish {
    fn matters(&self) -> bool {
        self.wanted || self.current.is_some()
    }
}

fn wish(service: &Service, slices: &[Arc<EndpointSlice>], pool: &[Ipv4Addr]) -> Wish {
    let spec = service.spec.as_ref();
    let wanted = spec.is_some_and(|spec| {
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none()
    }) && service.metadata.deletion_timestamp.is_none();
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref()?.first());
    let local = spec.is_some_and(|spec| spec.external_traffic_policy.as_deref() == Some("Local"));
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    Wish {
        wanted,
        requested: spec.and_then(|spec| spec.load_balancer_ip.as_ref()?.parse().ok()),
        current: ingress
            .and_then(|ingress| ingress.ip.as_ref()?.parse().ok())
            .filter(|address| pool.contains(address)),
        only_on: local.then(|| nodes_with_endpoints(&namespace, &name, slices)),
        namespace,
        name,
    }
}

fn nodes_with_endpoints(
    namespace: &str,
    name: &str,
    slices: &[Arc<EndpointSlice>],
) -> BTreeSet<String> {
    slices
        .iter()
        .filter(|slice| slice.metadata.namespace.as_deref() == Some(namespace))
        .filter(|slice| {
            slice
                .labels()
                .get(SERVICE_NAME)
                .is_some_and(|service| service == name)
        })
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| {
            endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready)
                != Some(false)
        })
        .filter_map(|endpoint| endpoint.node_name.clone())
        .collect()
}

fn is_ready(node: &Node) -> bool {
    node.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// An address for each wish, in their order: the one that it has, else the one that it asks for, else the first free.
fn assign(pool: &[Ipv4Addr], wishes: &[Wish]) -> Vec<Option<Ipv4Addr>> {
    let mut taken = BTreeSet::new();
    let mut given: Vec<Option<Ipv4Addr>> = wishes
        .iter()
        .map(|wish| {
            let fits = wish.requested.is_none() || wish.requested == wish.current;
            wish.current
                .filter(|address| wish.wanted && fits && taken.insert(*address))
        })
        .collect();
    for (wish, address) in wishes.iter().zip(&mut given) {
        if wish.wanted && address.is_none() {
            *address = match wish.requested {
                Some(requested) => Some(requested)
                    .filter(|address| pool.contains(address) && taken.insert(*address)),
                None => pool.iter().copied().find(|address| taken.insert(*address)),
            };
        }
    }
    given
}

/// Which node answers for which address: the one that does already if it still may, so that nothing moves without need.
fn answers(
    wishes: &[Wish],
    addresses: &[Option<Ipv4Addr>],
    ready: &BTreeSet<String>,
    now: &BTreeMap<Ipv4Addr, String>,
) -> BTreeMap<Ipv4Addr, String> {
    wishes
        .iter()
        .zip(addresses)
        .filter_map(|(wish, address)| {
            let address = (*address)?;
            let may = |name: &&String| {
                ready.contains(*name)
                    && wish
                        .only_on
                        .as_ref()
                        .is_none_or(|only| only.contains(*name))
            };
            let name = now
                .get(&address)
                .filter(may)
                .or_else(|| ready.iter().find(may))?;
            Some((address, name.clone()))
        })
        .collect()
}

/// Runs a command in the node's network.
async fn on(node: &AgentNode, command: &[&str]) -> Result<()> {
    let what = || format!("{} on {}", command.join(" "), node.name);
    let output = Command::new("nsenter")
        .args(["--target", &node.process.to_string(), "--net", "--"])
        .args(command)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Error::Agent {
            reason: format!("{}: {error}", what()),
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Agent {
        reason: format!(
            "{}: {}",
            what(),
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 89, 1, last)
    }

    fn wish(name: &str) -> Wish {
        Wish {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            wanted: true,
            requested: None,
            current: None,
            only_on: None,
        }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn an_address_that_is_held_stays_and_a_freed_one_is_given_again() {
        let pool = [address(128), address(129)];
        let held = Wish {
            current: Some(address(129)),
            ..wish("b")
        };
        assert_eq!(
            assign(&pool, &[wish("a"), held.clone()]),
            [Some(address(128)), Some(address(129))]
        );
        let given_up = Wish {
            wanted: false,
            ..held
        };
        assert_eq!(
            assign(&pool, &[wish("a"), given_up, wish("c")]),
            [Some(address(128)), None, Some(address(129))]
        );
    }

    #[test]
    fn two_services_never_share_an_address_and_an_empty_pool_gives_none() {
        let pool = [address(128)];
        let one = Wish {
            current: Some(address(128)),
            ..wish("a")
        };
        let two = Wish {
            current: Some(address(128)),
            ..wish("b")
        };
        assert_eq!(assign(&pool, &[one, two]), [Some(address(128)), None]);
    }

    #[test]
    fn a_requested_address_is_given_or_none() {
        let pool = [address(128), address(129)];
        let asks = |last| Wish {
            requested: Some(address(last)),
            ..wish("a")
        };
        assert_eq!(assign(&pool, &[asks(129)]), [Some(address(129))]);
        assert_eq!(assign(&pool, &[asks(1)]), [None]);
    }

    #[test]
    fn an_address_moves_only_when_its_node_is_lost() {
        let wishes = [wish("a")];
        let addresses = [Some(address(128))];
        let now = BTreeMap::from([(address(128), "node1".to_owned())]);
        let both = answers(&wishes, &addresses, &names(&["node0", "node1"]), &now);
        assert_eq!(both, now);
        let one = answers(&wishes, &addresses, &names(&["node0"]), &now);
        assert_eq!(one[&address(128)], "node0");
        assert!(answers(&wishes, &addresses, &names(&[]), &now).is_empty());
    }

    #[test]
    fn a_service_with_local_traffic_answers_on_nodes_with_endpoints() {
        let wishes = [Wish {
            only_on: Some(names(&["node1"])),
            ..wish("a")
        }];
        let given = answers(
            &wishes,
            &[Some(address(128))],
            &names(&["node0", "node1"]),
            &BTreeMap::new(),
        );
        assert_eq!(given[&address(128)], "node1");
    }
}
