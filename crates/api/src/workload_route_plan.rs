//! `WorkloadRoutePlan`: the routes that the host's nodes keep towards a tenant's pods.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kubebyon_k8s::kube::CustomResource;
use kubebyon_k8s::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::refs::ObjectRef;
use crate::schema::cel;
use crate::types::cidr::parse_ip;
use crate::types::error::parse_field;
use crate::types::{Cidr, FieldError, ParseError};

/// Routes towards one tenant's pods, and the nodes that keep them.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "kubebyon.app",
    version = "v1alpha1",
    kind = "WorkloadRoutePlan",
    plural = "workloadrouteplans",
    shortname = "wrp",
    category = "kubebyon",
    namespaced,
    status = "WorkloadRoutePlanStatus",
    derive = "PartialEq",
    doc = "Routes that the host's nodes keep towards the pods of a tenant with nodes of its own.",
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.clusterRef.name",
        description = "ManagedCluster that the routes lead to"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "Whether every node keeps every route"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        description = "Why it is ready or not",
        priority = "1"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    ),
    crates(
        kube = "kubebyon_k8s::kube",
        kube_core = "kubebyon_k8s::kube::core",
        k8s_openapi = "kubebyon_k8s::k8s_openapi",
        schemars = "kubebyon_k8s::schemars",
        serde = "serde",
        serde_json = "serde_json"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "self.clusterRef == oldSelf.clusterRef",
    "clusterRef is immutable: make another WorkloadRoutePlan for another cluster",
)])))]
pub struct WorkloadRoutePlanSpec {
    /// The ManagedCluster that the routes lead to. Immutable.
    pub cluster_ref: ObjectRef,
    /// Labels of the host nodes that keep the routes. Empty: all nodes that run an agent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::node_labels")]
    pub node_selector: BTreeMap<String, String>,
    /// The routes, by destination.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 512),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["destination"])
    )]
    pub routes: Vec<Route>,
    /// Seconds without a sign of life after which an agent counts as stale. Its routes stay.
    #[serde(default = "WorkloadRoutePlanSpec::default_stale_after_seconds")]
    #[schemars(range(min = 10, max = 3600))]
    pub stale_after_seconds: i32,
}

impl WorkloadRoutePlanSpec {
    fn default_stale_after_seconds() -> i32 {
        120
    }
}

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!isCIDR(self.destination) || !isIP(self.via) || cidr(self.destination).ip().family() == ip(self.via).family()",
    "routes[].destination and routes[].via must be of one address family: both IPv4 or both IPv6",
)])))]
pub struct Route {
    /// Range of addresses that the route leads to.
    #[schemars(schema_with = "crate::schema::cidr")]
    pub destination: String,
    /// Address of the tenant's node, the next hop.
    #[schemars(schema_with = "crate::schema::ip")]
    pub via: String,
    /// Name of the tenant's node, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "crate::schema::optional_object_name")]
    pub node: String,
}

/// One route whose texts were read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParsedRoute {
    /// Range of addresses that the route leads to.
    pub destination: Cidr,
    /// The next hop, of the same address family.
    pub via: IpAddr,
}

impl WorkloadRoutePlanSpec {
    /// The routes, in the order of the spec.
    pub fn parsed_routes(&self) -> Result<Vec<ParsedRoute>, FieldError> {
        self.routes
            .iter()
            .enumerate()
            .map(|(index, route)| {
                let field = format!("spec.routes[{index}]");
                let destination: Cidr =
                    parse_field(format!("{field}.destination"), &route.destination)?;
                let refuse = |source| FieldError::new(format!("{field}.via"), &route.via, source);
                let via = parse_ip(&route.via).ok_or_else(|| refuse(ParseError::Ip))?;
                if via.is_ipv4() == destination.is_ipv4() {
                    Ok(ParsedRoute { destination, via })
                } else {
                    Err(refuse(ParseError::AddressFamily))
                }
            })
            .collect()
    }
}

/// What is known about a plan.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRoutePlanStatus {
    /// The conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// What each host node's agent says, by node. Each agent owns its own entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1000),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub nodes: Vec<NodeStatus>,
}

/// What one host node's agent says. Counts are of routes of this plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Name of the host node.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Whether the node keeps every route of the observed generation.
    #[serde(default)]
    pub ready: bool,
    /// Routes that are in the node's table.
    #[serde(default)]
    pub applied: i32,
    /// Routes that could not be written.
    #[serde(default)]
    pub failed: i32,
    /// Routes left out because somebody else's route has the same destination.
    #[serde(default)]
    pub conflicts: i32,
    /// Routes whose next hop was seen to answer from this node.
    #[serde(default)]
    pub reachable: i32,
    /// Generation of the plan that this entry speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Why the node is not ready, one of the reasons of the troubleshooting page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(destination: &str, via: &str) -> WorkloadRoutePlanSpec {
        WorkloadRoutePlanSpec {
            cluster_ref: ObjectRef::default(),
            node_selector: BTreeMap::new(),
            routes: vec![Route {
                destination: destination.to_owned(),
                via: via.to_owned(),
                node: String::new(),
            }],
            stale_after_seconds: 120,
        }
    }

    #[test]
    fn routes_are_read_or_name_their_field() {
        let routes = plan("10.60.1.0/24", "10.0.0.7").parsed_routes();
        assert_eq!(routes.map(|routes| routes.len()), Ok(1));
        for (destination, via, field) in [
            ("10.60.1.7/24", "10.0.0.7", "spec.routes[0].destination"),
            ("10.60.1.0/24", "node-1", "spec.routes[0].via"),
            ("10.60.1.0/24", "fd00::7", "spec.routes[0].via"),
            ("fd00:60::/64", "::ffff:10.0.0.7", "spec.routes[0].via"),
        ] {
            let error = plan(destination, via).parsed_routes().expect_err(via);
            assert_eq!(error.field, field);
        }
    }
}
