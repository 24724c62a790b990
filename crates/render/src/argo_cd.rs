//! A tenant as a cluster of Argo CD: its declarative cluster Secret.

use kubebyon_k8s::k8s_openapi::ByteString;
use kubebyon_k8s::k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::Cluster;
use crate::kubeconfig::{Endpoint, TenantPki};

/// Label by which Argo CD finds its Secrets.
pub const SECRET_TYPE: &str = "argocd.argoproj.io/secret-type";

/// Where the host admin lets tenants be registered: the operator's flags, never a field.
#[derive(Clone, Copy, Debug)]
pub struct ArgoCd<'a> {
    /// Namespace of Argo CD.
    pub namespace: &'a str,
    /// Project that the clusters belong to.
    pub project: &'a str,
}

/// Name of the Secret in Argo CD's namespace. Neither part can hold a dot, so no two clusters
/// share a name.
pub fn secret_name(cluster: &Cluster) -> String {
    format!("kubebyon.{}.{}", cluster.namespace, cluster.name)
}

/// The Secret that registers the tenant. It is in another namespace than the ManagedCluster, so no
/// owner takes it along: it is pruned by its labels.
pub fn secret(
    cluster: &Cluster,
    argo_cd: ArgoCd<'_>,
    pki: &TenantPki,
    endpoint: &Endpoint,
) -> Secret {
    let mut tls = json!({
        "insecure": false,
        "caData": pki.ca_data(),
        "certData": pki.client_certificate_data(),
        "keyData": pki.client_key_data(),
    });
    if let Some(name) = &endpoint.tls_server_name {
        tls["serverName"] = json!(name);
    }
    let mut meta = cluster.meta(argo_cd.namespace, secret_name(cluster));
    meta.labels
        .get_or_insert_default()
        .insert(SECRET_TYPE.to_owned(), "cluster".to_owned());
    let data = [
        ("name", cluster.key()),
        ("server", endpoint.server.clone()),
        ("project", argo_cd.project.to_owned()),
        ("config", json!({"tlsClientConfig": tls}).to_string()),
    ];
    Secret {
        metadata: meta,
        type_: Some("Opaque".to_owned()),
        data: Some(
            data.into_iter()
                .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kubeconfig::example_pki, metadata::example};

    const ARGO_CD: ArgoCd<'static> = ArgoCd {
        namespace: "argocd",
        project: "tenants",
    };

    #[test]
    fn the_secret_is_argo_cds() {
        let endpoint = Endpoint {
            server: "https://10.96.0.7".to_owned(),
            tls_server_name: Some("demo.byon-demo.svc".to_owned()),
        };
        let secret = secret(&example(), ARGO_CD, &example_pki(), &endpoint);
        let text =
            |key: &str| String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap();
        assert_eq!(
            (text("name"), text("server"), text("project")),
            (
                "team-a/demo".to_owned(),
                "https://10.96.0.7".to_owned(),
                "tenants".to_owned()
            )
        );
        let config: serde_json::Value = serde_json::from_str(&text("config")).unwrap();
        assert_eq!(config["tlsClientConfig"]["insecure"], false);
        assert_eq!(
            config["tlsClientConfig"]["serverName"],
            "demo.byon-demo.svc"
        );
        assert_eq!(
            config["tlsClientConfig"]["keyData"],
            example_pki().client_key_data()
        );
        insta::assert_yaml_snapshot!(secret.metadata);
    }

    #[test]
    fn names_do_not_collide() {
        let cluster = |namespace: &str, name: &str| Cluster {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: String::new(),
        };
        assert_ne!(
            secret_name(&cluster("a-b", "c")),
            secret_name(&cluster("a", "b-c"))
        );
    }
}
