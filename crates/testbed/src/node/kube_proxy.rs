//! kube-proxy's configuration.

use std::{net::Ipv4Addr, path::Path};

use serde_json::{Value, json};

use crate::node::lan;

/// kube-proxy's configuration file; kube-proxy reads JSON as YAML.
pub fn config(kubeconfig: &Path, node: &str, address: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "nftables": {"minSyncPeriod": "100ms"},
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": lan::POD_RANGE,
        "hostnameOverride": node,
        "bindAddress": address,
        "healthzBindAddress": format!("{address}:10256"),
        "metricsBindAddress": format!("{address}:10249"),
        // The table of connections is the machine's: its limits are not ours to move.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
        "oomScoreAdj": 0,
    })
}
