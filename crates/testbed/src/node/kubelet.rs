//! The kubelet's configuration.

use std::path::Path;

use serde_json::{Value, json};

use crate::node::{containerd, lan};

/// The kubelet's configuration file; the kubelet reads JSON as YAML.
pub fn config(ca: &Path, cert: &Path, key: &Path, cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": ca},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": cert,
        "tlsPrivateKeyFile": key,
        "containerRuntimeEndpoint": format!("unix://{}", containerd::SOCKET),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": false,
        "failSwapOn": false,
        // Lowering it takes CAP_SYS_RESOURCE.
        "oomScoreAdj": 0,
        "clusterDNS": [lan::CLUSTER_DNS.to_string()],
        "clusterDomain": "cluster.local",
        "resolvConf": RESOLV_CONF,
        // The disk is the machine's and shared with everything else on it.
        "evictionHard": {
            "memory.available": "1%",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        // Images come from no registry, so one that is collected cannot come back.
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "8760h",
        "maxPods": 250,
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
    })
}

/// The name servers of pods that do not use the cluster's, inside the node.
pub const RESOLV_CONF: &str = "/run/testbed/resolv.conf";
