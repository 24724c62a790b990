//! What a release is to be made from: the chart, and all values.

use kubebyon_api::{
    ManagedCluster,
    managed_cluster::{BackingStoreType, NodeMode},
};
use kubebyon_helm::{
    Sha256Digest,
    chart::{ChartCredentials, ChartRequest},
};
use kubebyon_k8s::{
    k8s_openapi::{ByteString, api::core::v1::Secret},
    kube::Api,
};
use kubebyon_render::{
    Cluster,
    values::{PLATFORM_SECRET, Tenant, UserValues, vcluster},
};
use serde_json::Value;

use super::super::{
    Context,
    error::Error,
    observe::{self, Observed},
    validate::Validated,
};

/// The name of the chart where the spec gives none.
const CHART: &str = "vcluster";
/// What the release is to be made from.
pub struct Wanted {
    /// All of its values.
    pub values: Value,
    /// Their hash.
    pub values_hash: Sha256Digest,
    /// The chart.
    pub request: ChartRequest,
}

impl Wanted {
    /// Tells this from any other thing to try.
    pub fn fingerprint(&self) -> String {
        let chart = &self.request;
        format!(
            "{} {} {} {} {}",
            chart.repository,
            chart.name,
            chart.version.as_deref().unwrap_or_default(),
            chart.digest.map(|digest| digest.hex()).unwrap_or_default(),
            self.values_hash.hex()
        )
    }
}

/// Works out what the release is to be made from.
pub async fn wanted(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
    validated: &Validated,
) -> Result<Wanted, Error> {
    let sources = observe::values_sources(&context.client, cluster).await?;
    let user = UserValues::read(sources, context.values_policy)?;
    let data_source = match &cluster.spec.control_plane.backing_store.external_database {
        Some(database)
            if cluster.spec.control_plane.backing_store.type_
                == BackingStoreType::ExternalDatabase =>
        {
            let field = "spec.controlPlane.backingStore.externalDatabase.secretRef";
            Some(
                secret_text(
                    context,
                    cluster,
                    field,
                    &database.secret_ref.name,
                    "dataSource",
                )
                .await?,
            )
        }
        _ => None,
    };
    let tenant = Tenant {
        cluster: identity,
        spec: &cluster.spec,
        host_namespace: &observed.host_namespace,
        kubernetes_version: Some(&validated.version.to_string()),
        default_image: &context.options.default_image,
        public: observed.exposed.values(),
        data_source: data_source.as_deref(),
    };
    if !cluster.spec.suspend {
        copy_platform_secret(context, cluster, identity, observed).await?;
    }
    let values = vcluster(&tenant, user)?;
    let values_hash = kubebyon_helm::values::values_hash(&values);
    Ok(Wanted {
        values,
        values_hash,
        request: chart_request(context, cluster, identity, observed).await?,
    })
}

/// The chart: as the spec names it, else as it was pinned at the first install, else the
/// operator's default of today.
async fn chart_request(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
) -> Result<ChartRequest, Error> {
    let chart = &cluster.spec.chart;
    let recorded = cluster
        .status
        .as_ref()
        .and_then(|status| status.release.clone())
        .unwrap_or_default();
    let deployed = observed.history.latest();
    let pinned = recorded
        .chart_version
        .clone()
        .or_else(|| deployed.and_then(|revision| revision.chart_version.clone()));
    let version = chart
        .version
        .clone()
        .or_else(|| pinned.clone())
        .unwrap_or_else(|| context.options.default_chart_version.clone());
    let asked = parse_digest("spec.chart.digest", chart.digest.as_deref())?;
    let known = parse_digest(
        "status.release.chartDigest",
        recorded.chart_digest.as_deref(),
    )?;
    let credentials = match &chart.auth_secret_ref {
        Some(reference) => {
            let field = "spec.chart.authSecretRef";
            Some(ChartCredentials {
                username: secret_text(context, cluster, field, &reference.name, "username").await?,
                password: secret_text(context, cluster, field, &reference.name, "password").await?,
            })
        }
        None => None,
    };
    let ca_pem = match &chart.ca_secret_ref {
        Some(reference) => Some(
            secret_text(
                context,
                cluster,
                "spec.chart.caSecretRef",
                &reference.name,
                "ca.crt",
            )
            .await?
            .into_bytes(),
        ),
        None if chart.repository.is_none() => context.chart_ca.clone(),
        None => None,
    };
    Ok(ChartRequest {
        repository: chart
            .repository
            .clone()
            .unwrap_or_else(|| context.options.default_chart_repository.clone()),
        name: chart.name.clone().unwrap_or_else(|| CHART.to_owned()),
        digest: asked
            .or_else(|| known.filter(|_| pinned.as_deref() == Some(version.as_str())))
            .or_else(|| context.attempts.digest(identity, &version)),
        version: Some(version),
        credentials,
        ca_pem,
    })
}

/// The access to the vCluster platform, as the user gave it: the chart looks for it in the
/// host namespace.
async fn copy_platform_secret(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
) -> Result<(), Error> {
    let private = cluster
        .spec
        .nodes
        .private
        .as_ref()
        .filter(|_| cluster.spec.nodes.mode == NodeMode::Private);
    let Some(reference) = private.and_then(|private| private.platform_secret_ref.as_ref()) else {
        return Ok(());
    };
    let field = "spec.nodes.private.platformSecretRef";
    let data = observe::secret(
        &context.client,
        field,
        cluster.namespace_str(),
        &reference.name,
    )
    .await?;
    let mut copy = Secret {
        data: Some(
            data.into_iter()
                .map(|(key, bytes)| (key, ByteString(bytes)))
                .collect(),
        ),
        ..Secret::default()
    };
    copy.metadata.name = Some(PLATFORM_SECRET.to_owned());
    copy.metadata.namespace = Some(observed.host_namespace.clone());
    copy.metadata.labels = Some(identity.labels());
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &observed.host_namespace);
    let live = api
        .get_opt(PLATFORM_SECRET)
        .await
        .map_err(Error::api("read the copy of the platform's Secret"))?;
    context
        .applier
        .ensure(&api, live.as_ref(), copy)
        .await
        .map_err(Error::api("copy the platform's Secret"))?;
    Ok(())
}

fn parse_digest(field: &'static str, text: Option<&str>) -> Result<Option<Sha256Digest>, Error> {
    text.map(str::parse)
        .transpose()
        .map_err(|_| Error::InvalidField {
            field,
            message: "it is not sha256: and 64 hex digits",
        })
}

async fn secret_text(
    context: &Context,
    cluster: &ManagedCluster,
    field: &'static str,
    name: &str,
    key: &str,
) -> Result<String, Error> {
    let namespace = cluster.namespace_str();
    let mut data = observe::secret(&context.client, field, namespace, name).await?;
    let bytes = data.remove(key);
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::SecretNotFound {
            field,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            lack: format!("has no text in key {key}; add it"),
        })
}
