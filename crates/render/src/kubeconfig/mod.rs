//! A tenant's kubeconfig, written by us from its keys alone.
//!
//! A tenant can write anything into the Secret that its control plane exports: an exec plugin,
//! another server. So its kubeconfig text is never read. What is read are the PEM keys
//! ([`TenantPki`]), and the rest is what the operator itself knows.

mod pki;

use kubebyon_k8s::k8s_openapi::ByteString;
use kubebyon_k8s::k8s_openapi::api::core::v1::Secret;
use serde_json::json;

pub use pki::{PkiError, TenantPki};

use crate::Cluster;

/// Key of the kubeconfig in its Secret.
pub const KEY: &str = "kubeconfig";

/// Where a tenant's API is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, such as `https://demo.clusters.example.com`.
    pub server: String,
    /// The name to ask for and to verify, where it is not the address's own.
    pub tls_server_name: Option<String>,
}

impl Endpoint {
    /// The tenant's Service, by its name inside of the host cluster.
    pub fn internal(cluster: &Cluster, host_namespace: &str) -> Self {
        Self {
            server: format!("https://{}", cluster.service_dns_name(host_namespace)),
            tls_server_name: None,
        }
    }

    /// A public name, on port 443.
    pub fn public(hostname: &str) -> Self {
        Self {
            server: format!("https://{hostname}"),
            tls_server_name: None,
        }
    }
}

/// The text of a kubeconfig: JSON, which is YAML too. Its context is called `namespace/name`, so
/// that many of them merge.
pub fn text(cluster: &Cluster, pki: &TenantPki, endpoint: &Endpoint) -> String {
    let name = cluster.key();
    let mut server =
        json!({"server": endpoint.server, "certificate-authority-data": pki.ca_data()});
    if let Some(tls_server_name) = &endpoint.tls_server_name {
        server["tls-server-name"] = json!(tls_server_name);
    }
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": name, "user": {
            "client-certificate-data": pki.client_certificate_data(),
            "client-key-data": pki.client_key_data(),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    });
    format!("{config:#}\n")
}

/// The Secret that holds the kubeconfig, beside the ManagedCluster and gone with it.
pub fn secret(
    cluster: &Cluster,
    secret_name: &str,
    pki: &TenantPki,
    endpoint: &Endpoint,
) -> Secret {
    let mut metadata = cluster.meta(&cluster.namespace, secret_name);
    metadata.owner_references = Some(vec![cluster.owner_reference()]);
    Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        data: Some(
            [(
                KEY.to_owned(),
                ByteString(text(cluster, pki, endpoint).into_bytes()),
            )]
            .into(),
        ),
        ..Secret::default()
    }
}

#[cfg(test)]
pub(crate) use pki::tests::example as example_pki;

#[cfg(test)]
mod tests {
    use kubebyon_k8s::kube::config::Kubeconfig;

    use super::*;
    use crate::metadata::example;

    #[test]
    fn clients_read_it() {
        let endpoint = Endpoint {
            server: "https://10.96.0.7".to_owned(),
            tls_server_name: Some("demo.byon-demo.svc".to_owned()),
        };
        let secret = secret(&example(), "demo-kubeconfig", &example_pki(), &endpoint);
        let text = String::from_utf8(secret.data.unwrap().remove(KEY).unwrap().0).unwrap();
        let config = Kubeconfig::from_yaml(&text).unwrap();
        let cluster = config.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://10.96.0.7"));
        assert_eq!(
            cluster.tls_server_name.as_deref(),
            Some("demo.byon-demo.svc")
        );
        assert_eq!(
            cluster.certificate_authority_data,
            Some(example_pki().ca_data())
        );
        assert_eq!(config.current_context.as_deref(), Some("team-a/demo"));
        let user = config.auth_infos[0].auth_info.as_ref().unwrap();
        assert!(user.exec.is_none() && user.token.is_none() && user.auth_provider.is_none());
        insta::assert_yaml_snapshot!(secret.metadata);
    }

    #[test]
    fn the_name_of_the_service_is_the_one_in_its_certificate() {
        assert_eq!(
            Endpoint::internal(&example(), "byon-demo-x").server,
            "https://demo.byon-demo-x.svc"
        );
        assert_eq!(
            Endpoint::public("demo.clusters.example.com").server,
            "https://demo.clusters.example.com"
        );
    }
}
