//! The Kubernetes crates that KubeBYON is built on, under one roof.
//!
//! `kube`, `k8s-openapi`, `gateway-api` and the cert-manager types have to move
//! together: their traits are those of one another's exact versions. Every other
//! crate of the workspace reaches them through here, so such a move is one change
//! in the workspace's manifest.

pub use gateway_api;
pub use k8s_crds_cert_manager as cert_manager;
pub use k8s_openapi;
pub use kube;
pub use schemars;
pub use serde;
pub use serde_json;
