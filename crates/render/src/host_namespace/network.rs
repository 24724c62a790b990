//! Who talks to whom in a host namespace: nobody, and then what a tenant needs.
//!
//! The rules are additive and each has its reason beside it. They work where the host's network
//! plugin enforces NetworkPolicy; one that does not ignores them in silence, and the host admin has
//! to know that.

use std::net::SocketAddr;

use kubebyon_api::labels;
use kubebyon_k8s::k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement,
};
use kubebyon_k8s::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::Cluster;

/// Name of the policy that closes the namespace.
pub const DEFAULT_DENY: &str = "kubebyon-default-deny";
/// Name of the policy for every pod of the tenant.
pub const TENANT: &str = "kubebyon-tenant";
/// Name of the policy for the control plane.
pub const CONTROL_PLANE: &str = "kubebyon-control-plane";
/// Name of the policy for the tenant's sites.
pub const EDGE: &str = "kubebyon-edge";

/// Port of the control plane's pods.
const API_PORT: i32 = 8443;
/// Ports that api-servers listen on, where their addresses are not known.
const HOST_API_PORTS: [i32; 3] = [443, 6443, 8443];

/// What is not the Internet. Host pods, Services and nodes live in the private ranges, and so do
/// other tenants; the metadata service of a cloud provider, with the node's credentials, is
/// link-local.
const PRIVATE_V4: [&str; 7] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
];
/// As [`PRIVATE_V4`], with the IPv4 addresses that a NAT64 wraps.
const PRIVATE_V6: [&str; 3] = ["64:ff9b::/96", "fc00::/7", "fe80::/10"];
/// Link-local addresses, with the cloud's metadata service.
const LINK_LOCAL_V4: &str = "169.254.0.0/16";
const LINK_LOCAL_V6: &str = "fe80::/10";
/// Where NodeLocal DNSCache listens on each node, the one link-local address that pods need.
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";

/// What the host cluster's people and machines look like from a host namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach<'a> {
    /// Addresses of the host's api-server: the endpoints of Service `default/kubernetes`. None
    /// known: any address, on the ports that api-servers use.
    pub host_api: &'a [SocketAddr],
    /// The tenant's store is outside of the namespace, at an address that only the connection
    /// string tells.
    pub external_database: bool,
    /// Where requests to the tenant's sites come from. None: nobody outside reaches them.
    pub edge: Edge<'a>,
}

/// Where requests to a tenant's sites come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edge<'a> {
    /// Namespaces of the gateways' data plane.
    pub namespaces: &'a [String],
    /// Address ranges of gateways outside of pods and, for node ports, of the nodes.
    pub cidrs: &'a [String],
}

/// All policies of a host namespace.
pub(super) fn policies(
    cluster: &Cluster,
    namespace: &str,
    reach: &Reach<'_>,
) -> Vec<NetworkPolicy> {
    let policy = |name: &str, spec: NetworkPolicySpec| NetworkPolicy {
        metadata: cluster.meta(namespace, name),
        spec: Some(spec),
    };
    let mut policies = vec![
        policy(DEFAULT_DENY, default_deny()),
        policy(TENANT, tenant()),
        policy(CONTROL_PLANE, control_plane(cluster, reach)),
    ];
    if let Some(spec) = edge(cluster, &reach.edge) {
        policies.push(policy(EDGE, spec));
    }
    policies
}

/// Every pod, both ways: what no other policy allows is closed.
fn default_deny() -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(LabelSelector::default()),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        ..NetworkPolicySpec::default()
    }
}

/// Every pod of the namespace: it holds one tenant alone.
fn tenant() -> NetworkPolicySpec {
    let own_pods = NetworkPolicyPeer {
        pod_selector: Some(LabelSelector::default()),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicySpec {
        pod_selector: Some(LabelSelector::default()),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        // Between the tenant's pods, its control plane and its etcd: one network, as in any cluster.
        ingress: Some(vec![NetworkPolicyIngressRule {
            from: Some(vec![own_pods.clone()]),
            ports: None,
        }]),
        egress: Some(vec![
            NetworkPolicyEgressRule {
                to: Some(vec![own_pods]),
                ports: None,
            },
            // Names: the tenant's CoreDNS forwards to the host's, and the control plane asks it directly.
            NetworkPolicyEgressRule {
                to: Some(vec![
                    in_namespaces(&["kube-system".to_owned()]),
                    block(NODE_LOCAL_DNS, &[]),
                ]),
                ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
            },
            // The Internet: images, packages, webhooks, other people's APIs.
            NetworkPolicyEgressRule {
                to: Some(vec![
                    block("0.0.0.0/0", &PRIVATE_V4),
                    block("::/0", &PRIVATE_V6),
                ]),
                ports: None,
            },
        ]),
    }
}

/// The pods that the chart makes: control plane and etcd.
fn control_plane(cluster: &Cluster, reach: &Reach<'_>) -> NetworkPolicySpec {
    let mut egress = host_api(reach.host_api);
    if reach.external_database {
        egress.push(NetworkPolicyEgressRule {
            to: Some(anywhere_but_link_local()),
            ports: None,
        });
    }
    NetworkPolicySpec {
        pod_selector: Some(LabelSelector {
            match_labels: Some(
                [(
                    labels::vcluster::RELEASE.to_owned(),
                    cluster.release().to_owned(),
                )]
                .into(),
            ),
            // The syncer gives the tenant's pods labels of its own, and passes theirs on: a tenant
            // could otherwise make a pod of its own look like its control plane.
            match_expressions: Some(vec![
                requirement(labels::vcluster::APP, "In", &["vcluster", "vcluster-etcd"]),
                requirement(labels::vcluster::MANAGED_BY, "DoesNotExist", &[]),
            ]),
        }),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        // The tenant's API, from anywhere: gateways, the operator's probe, Argo CD, the tenant's
        // nodes, people with the kubeconfig. Gateways may sit in any namespace or on the node's
        // network, where no selector finds them. It is TLS with client authentication, and the
        // public name shows it to the world anyway.
        ingress: Some(vec![NetworkPolicyIngressRule {
            from: None,
            ports: Some(vec![port("TCP", API_PORT)]),
        }]),
        egress: Some(egress),
    }
}

/// The syncer keeps the tenant's pods on the host, so it needs the host's API.
fn host_api(addresses: &[SocketAddr]) -> Vec<NetworkPolicyEgressRule> {
    if addresses.is_empty() {
        let ports = HOST_API_PORTS.map(|number| port("TCP", number)).to_vec();
        return vec![NetworkPolicyEgressRule {
            to: Some(anywhere_but_link_local()),
            ports: Some(ports),
        }];
    }
    let mut sorted: Vec<_> = addresses.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
        .into_iter()
        .map(|address| {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            NetworkPolicyEgressRule {
                to: Some(vec![block(&format!("{}/{prefix}", address.ip()), &[])]),
                ports: Some(vec![port("TCP", i32::from(address.port()))]),
            }
        })
        .collect()
}

/// Requests to the tenant's sites, at whatever port its ingress controller has.
fn edge(cluster: &Cluster, edge: &Edge<'_>) -> Option<NetworkPolicySpec> {
    let mut from = Vec::new();
    if !edge.namespaces.is_empty() {
        from.push(in_namespaces(edge.namespaces));
    }
    let mut cidrs = edge.cidrs.to_vec();
    cidrs.sort_unstable();
    cidrs.dedup();
    from.extend(cidrs.iter().map(|cidr| block(cidr, &[])));
    (!from.is_empty()).then(|| NetworkPolicySpec {
        pod_selector: Some(LabelSelector {
            match_labels: Some(
                [(
                    labels::vcluster::MANAGED_BY.to_owned(),
                    cluster.release().to_owned(),
                )]
                .into(),
            ),
            ..LabelSelector::default()
        }),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(vec![NetworkPolicyIngressRule {
            from: Some(from),
            ports: None,
        }]),
        ..NetworkPolicySpec::default()
    })
}

fn anywhere_but_link_local() -> Vec<NetworkPolicyPeer> {
    vec![
        block("0.0.0.0/0", &[LINK_LOCAL_V4]),
        block("::/0", &[LINK_LOCAL_V6]),
    ]
}

fn in_namespaces(names: &[String]) -> NetworkPolicyPeer {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            // The api-server sets this label, and nobody can change it.
            match_expressions: Some(vec![requirement(
                "kubernetes.io/metadata.name",
                "In",
                &names,
            )]),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn block(cidr: &str, except: &[&str]) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: cidr.to_owned(),
            except: (!except.is_empty())
                .then(|| except.iter().map(|&cidr| cidr.to_owned()).collect()),
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        end_port: None,
    }
}

fn requirement(key: &str, operator: &str, values: &[&str]) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: (!values.is_empty())
            .then(|| values.iter().map(|&value| value.to_owned()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::example;

    fn names(policies: &[NetworkPolicy]) -> Vec<&str> {
        policies
            .iter()
            .filter_map(|policy| policy.metadata.name.as_deref())
            .collect()
    }

    #[test]
    fn by_default() {
        insta::assert_yaml_snapshot!(policies(&example(), "byon-demo", &Reach::default()));
    }

    #[test]
    fn with_an_edge_and_known_addresses() {
        let reach = Reach {
            host_api: &[
                "10.0.0.3:6443".parse().unwrap(),
                "[fd00::3]:6443".parse().unwrap(),
                "10.0.0.3:6443".parse().unwrap(),
            ],
            external_database: true,
            edge: Edge {
                namespaces: &["envoy-gateway-system".to_owned()],
                cidrs: &["10.0.0.0/24".to_owned()],
            },
        };
        let policies = policies(&example(), "byon-demo", &reach);
        assert_eq!(
            names(&policies),
            [DEFAULT_DENY, TENANT, CONTROL_PLANE, EDGE]
        );
        insta::assert_yaml_snapshot!(&policies[2..]);
    }

    #[test]
    fn order_of_facts_does_not_matter() {
        let there = [
            "10.0.0.3:6443".parse().unwrap(),
            "10.0.0.2:6443".parse().unwrap(),
        ];
        let back = [
            "10.0.0.2:6443".parse().unwrap(),
            "10.0.0.3:6443".parse().unwrap(),
        ];
        let with = |host_api| {
            policies(
                &example(),
                "byon-demo",
                &Reach {
                    host_api,
                    ..Reach::default()
                },
            )
        };
        assert_eq!(with(&there), with(&back));
    }
}
