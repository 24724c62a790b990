//! A cluster's place at an entrance: whether it may have one, and under which names.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use kubebyon_api::{
    ManagedCluster, PublicAccess,
    managed_cluster::PublicAccessBinding,
    names,
    public_access::{AllowedNamespaces, DnsCheck, NamespacesFrom, Provider},
    types::{HostPattern, Hostname},
};
use kubebyon_k8s::{
    gateway_api::gateways::Gateway,
    kube::{
        ResourceExt,
        core::{Selector, SelectorExt},
        runtime::reflector::ObjectRef,
    },
};
use kubebyon_render::{
    Cluster,
    exposure::{
        certificate,
        change::Names,
        names::{NameRules, is_default},
    },
    gateway_api::{Layout, Role, parents::Parent, tls_route::Version},
};

use super::{
    super::{
        Context,
        error::{Error, Halt},
        observe::{Exposed, Observed},
        secrets,
        stores::Stores,
    },
    claims,
};
use crate::{
    probe, served,
    watches::{cached, key},
};

/// What a cluster has at an entrance.
pub struct Attachment {
    /// Where the entrance's Gateways are.
    pub layout: Layout,
    /// Version of TLSRoute to write.
    pub route_version: Version,
    /// The names of the tenant's API, all of them claimed.
    pub names: Names,
    /// The public names of the tenant's certificate.
    pub sans: BTreeSet<HostPattern>,
    /// Who serves the Gateway: the `controllerName` of its class.
    pub controller: Option<String>,
    /// Addresses of the Gateway, as its controller says.
    pub addresses: Vec<probe::Address>,
    /// Whether the names have to resolve to these addresses.
    pub check_dns: bool,
    /// DNS servers to ask; none: the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// Pause between two probes at rest.
    pub probe_interval: Duration,
}

impl Attachment {
    /// What the host namespace and the release have to carry.
    pub fn exposed(&self) -> Exposed {
        Exposed {
            routes: true,
            sans: self.sans.clone(),
            hostname: Some(
                self.names
                    .published()
                    .unwrap_or(self.names.desired())
                    .clone(),
            ),
        }
    }
}

/// The attachment of `cluster`; none when its spec asks for none. Every name that it has or is
/// to have is claimed afterwards.
pub async fn attach(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
) -> Result<Option<Attachment>, Halt> {
    let (Some(binding), Some(reference)) =
        (&cluster.spec.public_access, cluster.public_access_ref())
    else {
        return Ok(None);
    };
    let access = admitted(&context.stores, cluster, reference)?;
    let unusable = |message: String| Error::PublicAccessUnusable {
        access: key(&*access),
        message,
    };
    if access.spec.provider != Provider::GatewayAPI {
        return Err(
            unusable("this version of the operator has no such provider".to_owned()).into(),
        );
    }
    let served =
        served::gateway_api(&context.stores.definitions).ok_or(Error::GatewayApiMissing)?;
    context.stores.entrances_told().await;
    let layout = Layout::of(&access).map_err(|error| unusable(error.to_string()))?;
    let rules = rules(&context.stores, &access).map_err(|error| unusable(error.to_string()))?;
    let desired = desired(context, cluster, identity, binding, &rules)?;
    rules.check_tenant_api(&desired).map_err(Error::Name)?;
    let memory = secrets::kubeconfig_memory(context, cluster, identity).await?;
    // A name that was given stays the cluster's though the domains have changed since; what else
    // is remembered may have been written by the cluster's author.
    let held = claims::of(&context.stores, identity);
    let names = Names::remembered(desired, &memory.unwrap_or_default())
        .only(|name| held.contains(name) || rules.check_tenant_api(name).is_ok());
    for name in names.all() {
        claims::hold(context, identity, name, cluster.spec.suspend).await?;
    }
    let workload = access.spec.workload.as_ref();
    let gateway = gateway(&context.stores, &layout);
    let edge = &access.spec.control_plane;
    Ok(Some(Attachment {
        route_version: served.tls_route,
        sans: certificate::subject_alt_names(&observed.exposed.sans, rules.domain(), names.all()),
        controller: controller(&context.stores, &layout),
        addresses: gateway.as_deref().map(addresses).unwrap_or_default(),
        check_dns: edge.dns_check == DnsCheck::Enabled,
        dns_servers: workload
            .map(|workload| workload.dns.servers())
            .transpose()
            .map_err(|error| unusable(error.to_string()))?
            .unwrap_or_default(),
        probe_interval: Duration::from_secs(edge.probe_interval_seconds.unsigned_abs().into()),
        layout,
        names,
    }))
}

/// The PublicAccess, if it admits the cluster.
fn admitted(
    stores: &Stores,
    cluster: &ManagedCluster,
    (namespace, name): (&str, &str),
) -> Result<Arc<PublicAccess>, Error> {
    let not_found = || Error::PublicAccessNotFound(format!("{namespace}/{name}"));
    let found = stores
        .accesses
        .get(&ObjectRef::new(name).within(namespace))
        .ok_or_else(not_found)?;
    let access = match &found.0 {
        Ok(access) => Arc::new(access.clone()),
        Err(invalid) => {
            return Err(Error::PublicAccessUnusable {
                access: format!("{namespace}/{name}"),
                message: invalid.to_string(),
            });
        }
    };
    if admits(stores, &access, cluster.namespace_str()) {
        Ok(access)
    } else {
        Err(Error::AttachmentNotAllowed {
            access: key(&*access),
            namespace: cluster.namespace_str().to_owned(),
        })
    }
}

fn admits(stores: &Stores, access: &PublicAccess, namespace: &str) -> bool {
    let AllowedNamespaces { from, selector } = &access.spec.allowed_namespaces;
    match from {
        NamespacesFrom::All => true,
        NamespacesFrom::Same => namespace == access.namespace_str(),
        NamespacesFrom::Selector => {
            let found = stores.all_namespaces.get(&ObjectRef::new(namespace));
            let selector = selector.clone().map(Selector::try_from);
            match (found, selector) {
                (Some(found), Some(Ok(selector))) => selector.matches(found.labels()),
                _ => false,
            }
        }
    }
}

/// Whether some PublicAccess has this listener, and admits clusters of `namespace`.
pub fn is_admitted_at(stores: &Stores, namespace: &str, parent: &Parent) -> bool {
    let accesses = stores.accesses.state();
    let mut accesses = accesses.iter().filter_map(|found| found.0.as_ref().ok());
    accesses.any(|access| {
        Layout::of(access).is_ok_and(|layout| layout.parent() == *parent)
            && admits(stores, access, namespace)
    })
}

fn rules(
    stores: &Stores,
    access: &PublicAccess,
) -> Result<NameRules, kubebyon_api::types::FieldError> {
    let others = stores.accesses.state();
    let others = others
        .iter()
        .filter_map(|other| other.0.as_ref().ok())
        .filter(|other| other.metadata.uid != access.metadata.uid);
    NameRules::of(access, others)
}

/// The wanted name: as the spec says, else the default. A default that was given stays for life,
/// for as long as its domain is the entrance's.
fn desired(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    binding: &PublicAccessBinding,
    rules: &NameRules,
) -> Result<Hostname, Error> {
    if let Some(name) = binding.hostname()? {
        return Ok(name);
    }
    let given = claims::of(&context.stores, identity)
        .into_iter()
        .find(|name| is_default(name, identity) && rules.check_tenant_api(name).is_ok());
    if let Some(name) = given {
        return Ok(name);
    }
    let text =
        names::control_plane_hostname(cluster.namespace_str(), cluster.name_str(), rules.domain());
    text.parse()
        .map_err(|source| kubebyon_api::types::FieldError::new("metadata.name", &text, source))
        .map_err(Error::from)
}

fn gateway(stores: &Stores, layout: &Layout) -> Option<Arc<Gateway>> {
    let at = &layout.place(Role::ControlPlane).at;
    cached(&stores.gateways, &at.namespace, &at.name)
}

fn controller(stores: &Stores, layout: &Layout) -> Option<String> {
    let class = &layout.place(Role::ControlPlane).class;
    stores
        .gateway_classes
        .get(&ObjectRef::new(class))
        .map(|class| class.spec.controller_name.clone())
}

fn addresses(gateway: &Gateway) -> Vec<probe::Address> {
    let status = gateway.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_ref());
    addresses
        .into_iter()
        .flatten()
        .filter_map(|address| match address.value.parse() {
            Ok(ip) => Some(probe::Address::Ip(ip)),
            Err(_) => address.value.parse().ok().map(probe::Address::Name),
        })
        .collect()
}
