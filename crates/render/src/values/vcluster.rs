//! The values of a tenant's release: the author's, and the operator's own on top.

use std::collections::BTreeSet;

use kubebyon_api::managed_cluster::{
    BackingStoreType, ControlPlane, ManagedClusterSpec, NodeMode, Placement, Storage,
};
use kubebyon_api::types::{HostPattern, Hostname};
use kubebyon_k8s::k8s_openapi::api::core::v1::ResourceRequirements;
use serde_json::{Map, Value, json};

use super::{UserValues, ValuesError, merge};
use crate::Cluster;

/// Name, in the host namespace, of the Secret with the access to the vCluster platform: a copy of
/// the one that `spec.nodes.private.platformSecretRef` names. The chart looks for it there.
pub const PLATFORM_SECRET: &str = "vcluster-platform-api-key";

/// How a replica of several ends: it serves on for five seconds, until Services and gateways have
/// heard that it goes. vCluster itself ends on the spot, and the chart has no hook before that.
/// Its pods have fifteen seconds (the chart's terminationGracePeriodSeconds). The image has to
/// have a shell, as vCluster's own do; one without needs `command` in `spec.values`.
const LINGER: &str = "trap 'sleep 5; kill $child' TERM; /vcluster start & child=$!; while kill -0 $child 2>/dev/null; do wait $child; code=$?; done; exit $code";

/// What the values of a tenant's release are made from.
#[derive(Clone, Copy)]
pub struct Tenant<'a> {
    /// Whose release it is.
    pub cluster: &'a Cluster,
    /// What is asked for.
    pub spec: &'a ManagedClusterSpec,
    /// Where the release lives.
    pub host_namespace: &'a str,
    /// Full Kubernetes version without `v`, such as `1.36.3`. None: the chart's own.
    pub kubernetes_version: Option<&'a str>,
    /// Image of the control plane where the spec names none, as registry/repository without tag.
    pub default_image: &'a str,
    /// The public name, when the tenant has one.
    pub public: Option<Public<'a>>,
    /// Connection string of the external database, exactly with that store.
    pub data_source: Option<&'a str>,
}

/// The public names of a tenant's API.
#[derive(Clone, Copy, Debug)]
pub struct Public<'a> {
    /// The name that the tenant's own nodes dial.
    pub hostname: &'a Hostname,
    /// The names in its certificate: see [`crate::exposure::certificate`].
    pub sans: &'a BTreeSet<HostPattern>,
}

/// Whether the control plane needs the licensed build of vCluster: the tenant's own nodes and
/// external databases are features of that build.
pub fn needs_licence(spec: &ManagedClusterSpec) -> bool {
    spec.nodes.mode == NodeMode::Private
        || spec.control_plane.backing_store.type_ == BackingStoreType::ExternalDatabase
}

/// The values to install or upgrade a tenant's release with. Keys are sorted, lists that have no
/// order of their own too: the same input gives the same bytes, and so the same hash.
pub fn vcluster(tenant: &Tenant<'_>, user: UserValues) -> Result<Value, ValuesError> {
    let owned = owned(tenant)?;
    single_lines(&owned, &mut Vec::new())?;
    let author = merge(defaults(tenant.spec), Value::Object(user.0));
    Ok(merge(author, owned))
}

/// What the author's values override, where the host admin lets them.
fn defaults(spec: &ManagedClusterSpec) -> Value {
    // One replica alone would only end later: nobody serves in its place.
    if spec.control_plane.replicas < 2 {
        return json!({});
    }
    json!({"controlPlane": {"statefulSet": {"command": ["/bin/sh", "-c", LINGER]}}})
}

fn owned(tenant: &Tenant<'_>) -> Result<Value, ValuesError> {
    let control_plane = &tenant.spec.control_plane;
    let mut stateful_set = json!({
        "highAvailability": {"replicas": control_plane.replicas},
        "image": image(tenant),
        "persistence": {"volumeClaim": volume_claim(control_plane)},
        "scheduling": scheduling(&tenant.spec.placement),
    });
    if control_plane.resources != ResourceRequirements::default() {
        stateful_set["resources"] = json!(control_plane.resources);
    }
    if let Some(class) = &tenant.spec.placement.runtime_class_name {
        stateful_set["runtimeClassName"] = json!(class);
    }
    let mut values = json!({
        "controlPlane": {
            "backingStore": backing_store(tenant)?,
            "proxy": {"extraSANs": subject_alt_names(tenant)},
            "service": {"spec": {"type": control_plane.service.type_.as_str()}},
            "statefulSet": stateful_set,
        },
        // Never the public name: the operator proves that one before it hands it out, and a change
        // here restarts the pod.
        "exportKubeConfig": {"server": format!("https://{}", tenant.cluster.service_dns_name(tenant.host_namespace))},
        // With the chart's default, true, deleting the Service by hand takes the PKI, the volumes
        // and every synced object along.
        "experimental": {"syncSettings": {"setOwner": false}},
    });
    if let Some(version) = tenant.kubernetes_version {
        values["controlPlane"]["distro"] = json!({"k8s": {"version": format!("v{version}")}});
    }
    Ok(merge(values, private_nodes(tenant)))
}

/// The author's choice part by part, else the host admin's default. The licensed build is another
/// repository, which the chart knows.
fn image(tenant: &Tenant<'_>) -> Value {
    let asked = &tenant.spec.control_plane.image;
    let (registry, repository) = split_image(tenant.default_image);
    let default = |part: Option<&str>| {
        part.filter(|_| !needs_licence(tenant.spec))
            .map(str::to_owned)
    };
    let parts = [
        (
            "registry",
            asked.registry.clone().or_else(|| default(registry)),
        ),
        (
            "repository",
            asked
                .repository
                .clone()
                .or_else(|| default(Some(repository))),
        ),
        ("tag", asked.tag.clone()),
    ];
    parts
        .into_iter()
        .filter_map(|(key, part)| Some((key.to_owned(), Value::from(part?))))
        .collect::<Map<_, _>>()
        .into()
}

/// Splits `ghcr.io/loft-sh/vcluster-oss` into registry and repository. As for container engines, the
/// first part is a registry only when it looks like a host.
pub fn split_image(image: &str) -> (Option<&str>, &str) {
    match image.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), rest)
        }
        _ => (None, image),
    }
}

/// The control plane has a volume where its own database is the store. It holds nothing else that
/// has to stay: the PKI is in a Secret.
fn volume_claim(control_plane: &ControlPlane) -> Value {
    if control_plane.backing_store.type_ == BackingStoreType::EmbeddedDatabase {
        claim(&control_plane.storage)
    } else {
        json!({"enabled": false})
    }
}

/// A volume that outlives its pod and its release: what goes with a tenant is decided by
/// `spec.deletionPolicy`, not by Kubernetes.
fn claim(storage: &Storage) -> Value {
    let mut claim = json!({"enabled": true, "size": storage.size, "retentionPolicy": "Retain"});
    if let Some(class) = &storage.class_name {
        claim["storageClass"] = json!(class);
    }
    claim
}

fn backing_store(tenant: &Tenant<'_>) -> Result<Value, ValuesError> {
    let control_plane = &tenant.spec.control_plane;
    let store = &control_plane.backing_store;
    Ok(match store.type_ {
        BackingStoreType::EmbeddedDatabase => json!({"database": {"embedded": {"enabled": true}}}),
        BackingStoreType::DeployedEtcd => json!({"etcd": {"deploy": {
            "enabled": true,
            "statefulSet": {
                "highAvailability": {"replicas": store.deployed_etcd.clone().unwrap_or_default().replicas},
                "persistence": {"volumeClaim": claim(&control_plane.storage)},
                "scheduling": scheduling(&tenant.spec.placement),
            },
        }}}),
        // The chart takes the connection string as a value and in no other way. Values are kept in
        // Secrets: Helm's own, and the one that the pod mounts.
        BackingStoreType::ExternalDatabase => {
            let data_source = tenant
                .data_source
                .filter(|text| !text.is_empty())
                .ok_or(ValuesError::NoDataSource)?;
            json!({"database": {"external": {"enabled": true, "dataSource": data_source}}})
        }
    })
}

/// Placement is the control plane's: its own pods and those of its etcd. The tenant's pods go where
/// the tenant asks and the host's scheduler agrees; to bind them to nodes would take a ClusterRole
/// in each release.
fn scheduling(placement: &Placement) -> Value {
    let mut scheduling = json!({});
    if !placement.node_selector.is_empty() {
        scheduling["nodeSelector"] = json!(placement.node_selector);
    }
    if !placement.tolerations.is_empty() {
        scheduling["tolerations"] = json!(placement.tolerations);
    }
    scheduling
}

fn subject_alt_names(tenant: &Tenant<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::from([tenant.cluster.service_dns_name(tenant.host_namespace)]);
    names.extend(tenant.spec.control_plane.extra_sans.iter().cloned());
    if let Some(public) = tenant.public {
        names.extend(public.sans.iter().map(ToString::to_string));
    }
    names
}

fn private_nodes(tenant: &Tenant<'_>) -> Value {
    let Some(private) = tenant
        .spec
        .nodes
        .private
        .as_ref()
        .filter(|_| tenant.spec.nodes.mode == NodeMode::Private)
    else {
        return json!({});
    };
    let mut values = json!({
        "privateNodes": {"enabled": true},
        "networking": {"podCIDR": private.pod_cidr, "serviceCIDR": private.service_cidr},
    });
    if let Some(public) = tenant.public {
        // Where the tenant's nodes join: outside of the host cluster, so the public name.
        values["controlPlane"] = json!({"endpoint": format!("{}:443", public.hostname)});
    }
    if private.platform_secret_ref.is_some() {
        values["platform"] = json!({"apiKey": {"secretName": PLATFORM_SECRET}});
    }
    values
}

/// The chart prints some of these without quoting, so each has to be one line.
fn single_lines(value: &Value, path: &mut Vec<String>) -> Result<(), ValuesError> {
    let enter = |path: &mut Vec<String>, key: String, value: &Value| {
        path.push(key);
        let result = single_lines(value, path);
        path.pop();
        result
    };
    match value {
        Value::String(text) if text.chars().any(char::is_control) => {
            Err(ValuesError::ControlCharacter(path.join(".")))
        }
        Value::Object(map) => map
            .iter()
            .try_for_each(|(key, value)| enter(path, key.clone(), value)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| enter(path, index.to_string(), value)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
