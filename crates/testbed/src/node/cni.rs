//! The pods' network: a veth pair a pod, addresses from the node's range.
//!
//! The `ptp` plugin routes between the pods of a node, where `bridge` would switch: then a Service's answer comes back
//! past the node's NAT tables without the br_netfilter module.

use serde_json::{Value, json};

/// The plugin list of a node whose pods take addresses of `pod_range`.
pub fn config(pod_range: &str) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "testbed",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni",
                    "ranges": [[{"subnet": pod_range}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}
