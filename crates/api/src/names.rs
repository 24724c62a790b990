//! How things are called when a user names none: pure functions, the same for ever.
//!
//! A name that was given once is in DNS records, certificates and other people's scripts, so a
//! function here never changes its result.

use sha2::{Digest, Sha256};

use crate::{ManagedCluster, PublicAccess};

/// The longest name of a ManagedCluster (`^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$`).
pub const MAX_CLUSTER_NAME: usize = 30;
/// The longest name of a PublicAccess: its Gateways' names are label values, which end at 63.
pub const MAX_PUBLIC_ACCESS_NAME: usize = 63 - "-workload-gateway".len();
/// The longest sum of the lengths of a release's name and its namespace: the vCluster chart cuts
/// `vc-mn-NAME-v-NAMESPACE` at 63, and a cut name may be another tenant's too.
pub const MAX_RELEASE_AND_NAMESPACE: usize = 63 - "vc-mn--v-".len();

/// The first `digits` (at most 64) hex digits of the SHA-256 of `text`.
pub fn hash(text: &str, digits: usize) -> String {
    let mut hex = format!("{:x}", Sha256::digest(text.as_bytes()));
    hex.truncate(digits);
    hex
}

/// Eight hex digits that tell one `namespace/name` from another.
pub fn object_hash(namespace: &str, name: &str) -> String {
    hash(&format!("{namespace}/{name}"), 8)
}

/// Default host namespace of a ManagedCluster: `byon-<cut of the name>-<hash8>`.
///
/// The cut leaves the release's name and this namespace within [`MAX_RELEASE_AND_NAMESPACE`].
pub fn host_namespace(namespace: &str, name: &str) -> String {
    let room = MAX_RELEASE_AND_NAMESPACE
        .saturating_sub(name.len())
        .saturating_sub("byon--".len() + 8);
    let cut: String = name.chars().take(room).collect();
    format!(
        "byon-{}-{}",
        cut.trim_end_matches('-'),
        object_hash(namespace, name)
    )
}

/// First label of a ManagedCluster's default host names: `<name>-<hash8>`.
pub fn host_label(namespace: &str, name: &str) -> String {
    format!("{name}-{}", object_hash(namespace, name))
}

/// Default public host name of a tenant's API: `<name>-<hash8>.<controlPlane.domain>`.
pub fn control_plane_hostname(namespace: &str, name: &str, domain: &str) -> String {
    format!("{}.{domain}", host_label(namespace, name))
}

/// Host name that a tenant's sites always answer to: `<name>-<hash8>.<workload.domain>`.
pub fn canonical_hostname(namespace: &str, name: &str, domain: &str) -> String {
    format!("{}.{domain}", host_label(namespace, name))
}

/// Default Secret of a tenant's kubeconfig.
pub fn kubeconfig_secret(name: &str) -> String {
    format!("{name}-kubeconfig")
}

/// Name of the ConfigMap, in the operator's namespace, that claims a public host name.
pub fn hostname_claim(hostname: &str) -> String {
    format!("hostname-{}", hash(hostname, 40))
}

/// Default name of the control plane's Gateway of a PublicAccess.
pub fn control_plane_gateway(public_access: &str) -> String {
    format!("{public_access}-gateway")
}

/// Default name of the platform's Gateway of a PublicAccess.
pub fn platform_gateway(public_access: &str) -> String {
    format!("{public_access}-platform-gateway")
}

/// Default name of the workload Gateway of a PublicAccess.
pub fn workload_gateway(public_access: &str) -> String {
    format!("{public_access}-workload-gateway")
}

/// Default shared TLS Secret of a PublicAccess's workload.
pub fn workload_tls_secret(public_access: &str) -> String {
    format!("{public_access}-workload-tls")
}

/// Name of shard `index` (from 0) of something that is split: the name itself, then `-2`, `-3`...
pub fn shard(name: &str, index: usize) -> String {
    if index == 0 {
        name.to_owned()
    } else {
        format!("{name}-{}", index + 1)
    }
}

/// Name of the WorkloadRoutePlan of a cluster, in the control namespace: `<name>-<hash8>`.
pub fn route_plan(namespace: &str, name: &str) -> String {
    host_label(namespace, name)
}

/// What the vCluster chart and the vCluster itself make, by the name of the release.
pub mod vcluster {
    /// The control plane's StatefulSet or Deployment, and its Service.
    pub fn control_plane(release: &str) -> String {
        release.to_owned()
    }

    /// The Secret with the tenant's certificates and its kubeconfig, made at run time.
    pub fn kubeconfig_secret(release: &str) -> String {
        format!("vc-{release}")
    }

    /// The Secret with the tenant's PKI, made at run time.
    pub fn pki_secret(release: &str) -> String {
        format!("{release}-certs")
    }

    /// The volume claim of a control plane replica.
    pub fn control_plane_claim(release: &str, replica: i32) -> String {
        format!("data-{release}-{replica}")
    }

    /// The volume claim of a member of the deployed etcd.
    pub fn etcd_claim(release: &str, member: i32) -> String {
        format!("data-{release}-etcd-{member}")
    }
}

impl ManagedCluster {
    /// Namespace of the object; empty only for one that was never stored.
    pub fn namespace_str(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Name of the object; empty only for one that was never stored.
    pub fn name_str(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The name of the Helm release in the host namespace.
    pub fn release_name(&self) -> &str {
        self.name_str()
    }

    /// The Secret of the kubeconfig: as the spec names it, else the default.
    pub fn kubeconfig_secret_name(&self) -> String {
        self.spec
            .kubeconfig
            .secret_name
            .clone()
            .unwrap_or_else(|| kubeconfig_secret(self.name_str()))
    }

    /// Namespace and name of the PublicAccess that the cluster attaches to.
    pub fn public_access_ref(&self) -> Option<(&str, &str)> {
        let reference = &self.spec.public_access.as_ref()?.ref_;
        Some((
            reference.namespace_or(self.namespace_str()),
            &reference.name,
        ))
    }

    /// The public host name of the tenant's API below `domain`: as the spec names it, else the
    /// default. None without publicAccess.
    pub fn control_plane_hostname(&self, domain: &str) -> Option<String> {
        let binding = self.spec.public_access.as_ref()?;
        Some(binding.hostname.clone().unwrap_or_else(|| {
            control_plane_hostname(self.namespace_str(), self.name_str(), domain)
        }))
    }

    /// The host name below `domain` that the tenant's sites always answer to.
    pub fn canonical_hostname(&self, domain: &str) -> String {
        canonical_hostname(self.namespace_str(), self.name_str(), domain)
    }
}

/// Where one of the Gateways of a PublicAccess is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl PublicAccess {
    /// Namespace of the object; empty only for one that was never stored.
    pub fn namespace_str(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Name of the object; empty only for one that was never stored.
    pub fn name_str(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn gateway(
        &self,
        namespace: Option<&String>,
        name: Option<&String>,
        default: fn(&str) -> String,
    ) -> GatewayName {
        GatewayName {
            namespace: namespace
                .map_or(self.namespace_str(), String::as_str)
                .to_owned(),
            name: name.cloned().unwrap_or_else(|| default(self.name_str())),
        }
    }

    /// Where the Gateway of the tenants' APIs is.
    pub fn control_plane_gateway(&self) -> GatewayName {
        let own = self.spec.gateway_api.as_ref().map(|api| &api.control_plane);
        self.gateway(
            own.and_then(|gateway| gateway.namespace.as_ref()),
            own.and_then(|gateway| gateway.name.as_ref()),
            control_plane_gateway,
        )
    }

    /// Where the Gateway of the platform's site is.
    pub fn platform_gateway(&self) -> GatewayName {
        let own = self.spec.gateway_api.as_ref().map(|api| &api.platform);
        self.gateway(
            own.and_then(|gateway| gateway.namespace.as_ref()),
            own.and_then(|gateway| gateway.name.as_ref()),
            platform_gateway,
        )
    }

    /// Where the Gateway of the tenants' sites is.
    pub fn workload_gateway(&self) -> GatewayName {
        let own = self.spec.gateway_api.as_ref().map(|api| &api.workload);
        self.gateway(
            own.and_then(|gateway| gateway.namespace.as_ref()),
            own.and_then(|gateway| gateway.name.as_ref()),
            workload_gateway,
        )
    }

    /// The shared TLS Secret of the tenants' sites, in the workload Gateway's namespace.
    pub fn workload_tls_secret(&self) -> String {
        self.spec
            .workload
            .as_ref()
            .and_then(|workload| workload.tls.secret_name.clone())
            .unwrap_or_else(|| workload_tls_secret(self.name_str()))
    }

    /// Namespace of the WorkloadRoutePlans of this entrance.
    pub fn route_control_namespace(&self) -> &str {
        self.spec
            .workload
            .as_ref()
            .and_then(|workload| workload.pod_cidr_route.control_namespace.as_deref())
            .unwrap_or_else(|| self.namespace_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{DnsLabel, Hostname, ObjectName};
    use proptest::prelude::*;

    const NAME: &str = "[a-z]([-a-z0-9]{0,28}[a-z0-9])?";
    const NAMESPACE: &str = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?";

    fn longest_domain() -> String {
        let labels = "a".repeat(63);
        let domain = format!("{labels}.{labels}.{labels}.{}", "a".repeat(21));
        assert_eq!(domain.len(), crate::schema::MAX_DOMAIN);
        domain
    }

    #[test]
    fn names_never_change() {
        assert_eq!(host_namespace("team-a", "demo"), "byon-demo-1960e37c");
        assert_eq!(
            control_plane_hostname("team-a", "demo", "clusters.example.com"),
            "demo-1960e37c.clusters.example.com"
        );
        assert_eq!(
            hostname_claim("demo.example.com"),
            "hostname-b80da7a7f7591735cd5304a2fbb8c9de5f0583ad"
        );
        assert_eq!(kubeconfig_secret("demo"), "demo-kubeconfig");
        assert_eq!(control_plane_gateway("r-kubebyon"), "r-kubebyon-gateway");
        assert_eq!(
            platform_gateway("r-kubebyon"),
            "r-kubebyon-platform-gateway"
        );
        assert_eq!(
            workload_gateway("r-kubebyon"),
            "r-kubebyon-workload-gateway"
        );
        assert_eq!(workload_tls_secret("r-kubebyon"), "r-kubebyon-workload-tls");
        assert_eq!(shard("tls", 0), "tls");
        assert_eq!(shard("tls", 1), "tls-2");
    }

    #[test]
    fn the_parts_of_a_hash_are_kept_apart() {
        assert_ne!(object_hash("a", "b-c"), object_hash("a-b", "c"));
    }

    #[test]
    fn a_gateway_is_where_the_spec_or_the_default_says() {
        let mut access: PublicAccess = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "public", "namespace": "system"},
            "spec": {
                "provider": "GatewayAPI",
                "controlPlane": {"domain": "clusters.example.com"},
                "gatewayAPI": {"gatewayClassName": "eg", "platform": {"namespace": "edge", "name": "site"}},
            },
        }))
        .expect("a PublicAccess");
        let at = |namespace: &str, name: &str| GatewayName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(
            access.control_plane_gateway(),
            at("system", "public-gateway")
        );
        assert_eq!(access.platform_gateway(), at("edge", "site"));
        assert_eq!(
            access.workload_gateway(),
            at("system", "public-workload-gateway")
        );
        access.spec.gateway_api = None;
        assert_eq!(
            access.platform_gateway(),
            at("system", "public-platform-gateway")
        );
    }

    proptest! {
        #[test]
        fn default_names_are_within_their_limits(name in NAME, namespace in NAMESPACE) {
            let host = host_namespace(&namespace, &name);
            prop_assert!(host.parse::<DnsLabel>().is_ok(), "{host}");
            prop_assert!(host.len() + name.len() <= MAX_RELEASE_AND_NAMESPACE, "{host}");
            prop_assert_eq!(&host, &host_namespace(&namespace, &name));
            for chart_name in [
                format!("vc-{name}-v-{host}"),
                format!("vc-mn-{name}-v-{host}"),
                vcluster::etcd_claim(&name, 4),
                vcluster::control_plane_claim(&name, 8),
                vcluster::kubeconfig_secret(&name),
                vcluster::pki_secret(&name),
            ] {
                prop_assert!(chart_name.parse::<DnsLabel>().is_ok(), "{chart_name}");
            }
            prop_assert!(host_label(&namespace, &name).parse::<DnsLabel>().is_ok());
            let hostname = control_plane_hostname(&namespace, &name, &longest_domain());
            prop_assert!(hostname.parse::<Hostname>().is_ok(), "{hostname}");
            prop_assert!(kubeconfig_secret(&name).parse::<ObjectName>().is_ok());
            prop_assert!(route_plan(&namespace, &name).parse::<ObjectName>().is_ok());
            prop_assert!(hostname_claim(&hostname).parse::<ObjectName>().is_ok());
        }

        #[test]
        fn gateway_names_are_label_values(name in "[a-z0-9]([-a-z0-9]{0,44}[a-z0-9])?") {
            for gateway in [control_plane_gateway(&name), platform_gateway(&name), workload_gateway(&name)] {
                prop_assert!(gateway.parse::<DnsLabel>().is_ok(), "{gateway}");
            }
            let secret = shard(&workload_tls_secret(&name), 98);
            prop_assert!(secret.parse::<DnsLabel>().is_ok(), "{secret}");
        }

        #[test]
        fn two_clusters_never_share_a_name(a in (NAMESPACE, NAME), b in (NAMESPACE, NAME)) {
            prop_assume!(a != b);
            prop_assert_ne!(host_namespace(&a.0, &a.1), host_namespace(&b.0, &b.1));
            prop_assert_ne!(host_label(&a.0, &a.1), host_label(&b.0, &b.1));
            prop_assert_ne!(route_plan(&a.0, &a.1), route_plan(&b.0, &b.1));
        }

        #[test]
        fn clusters_of_one_prefix_never_share_a_name(prefix in "[a-z]{28}", a in 0_u8..36, b in 0_u8..36) {
            prop_assume!(a != b);
            let digit = |n: u8| char::from_digit(u32::from(n), 36).unwrap_or_default();
            let (a, b) = (format!("{prefix}{}", digit(a)), format!("{prefix}{}", digit(b)));
            prop_assert_ne!(host_namespace("team", &a), host_namespace("team", &b));
        }

        #[test]
        fn any_text_gives_a_hash_of_the_asked_length(text in ".{0,80}", digits in 0_usize..=64) {
            prop_assert_eq!(hash(&text, digits).len(), digits);
        }
    }
}
