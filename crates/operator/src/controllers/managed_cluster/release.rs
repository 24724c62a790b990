//! The tenant's Helm release: as the spec asks, and no run of helm when it is so already.

mod storage;
mod wanted;

use std::time::Duration;

use kubebyon_api::{ManagedCluster, Reason, managed_cluster::ReleaseStatus};
use kubebyon_helm::{
    Action, ReleaseHistory, ServiceAccount, Sha256Digest, Uninstall, Upgrade, WaitFor,
    plan::{self, Why},
};
use kubebyon_k8s::{
    k8s_openapi::{api::core::v1::Service, jiff::Timestamp},
    kube::{self, Api, Client, api::DeleteParams},
};
use kubebyon_render::{Cluster, host_namespace::RELEASE_SERVICE_ACCOUNT};

use self::wanted::{Wanted, wanted};
use super::{
    Context,
    drift::{self, Drift},
    error::{Error, Halt},
    observe::{self, Observed},
    report::announce,
    validate::Validated,
};
use crate::client::impersonate;

/// Steps that one reconcile takes towards a release: unlocking, finishing a removal and
/// installing are one each.
const MAX_STEPS: usize = 4;

/// A release that is as it should be.
pub struct Deployed {
    /// What status says of it.
    pub status: ReleaseStatus,
    /// Whether the watches tell of this very revision. Until they do, what they tell of the
    /// control plane is about one before, and proves nothing.
    pub is_observed: bool,
}

/// Where the release goes.
pub struct Target<'a> {
    /// The facts about its cluster.
    pub observed: &'a Observed,
    /// Whether the host namespace was made a moment ago, and so holds no release.
    pub is_new: bool,
}

/// Makes the release so. What takes long or disturbs the tenant is announced before.
pub async fn ensure(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    target: &Target<'_>,
    validated: &Validated,
) -> Result<Deployed, Halt> {
    let observed = target.observed;
    let wanted = wanted(context, cluster, identity, observed, validated).await?;
    let drift = match observed.history.latest() {
        Some(latest) => drift::find(context, identity, observed, latest).await?,
        None => Drift::None,
    };
    let drift = match drift {
        Drift::None => None,
        Drift::Changed(what) => Some(what),
        Drift::Behind => return Err(no_news()),
    };
    // At rest everything is known without asking anybody.
    if let (None, Some(digest)) = (&drift, wanted.request.digest) {
        let desired = plan::Desired {
            chart_digest: digest,
            values_hash: wanted.values_hash,
            drifted: false,
        };
        if plan::plan(
            &observed.history,
            &desired,
            Timestamp::now(),
            context.helm.time_limit(),
        ) == Action::None
        {
            context
                .attempts
                .succeeded(identity, &wanted.request, digest);
            return Ok(deployed(cluster, observed, &observed.history, digest));
        }
    }
    if cluster.spec.suspend {
        return Err(Halt::wait(
            Reason::Suspended,
            "the release is not as the spec asks, and spec.suspend holds the change back",
        ));
    }
    let fingerprint = format!(
        "{}{}",
        wanted.fingerprint(),
        drift.as_deref().unwrap_or_default()
    );
    if let Some(failure) = context.attempts.recall(&identity.uid, &fingerprint) {
        return Err(failure);
    }
    match advance(context, cluster, target, &wanted, drift).await {
        Ok((deployed, digest)) => {
            context
                .attempts
                .succeeded(identity, &wanted.request, digest);
            Ok(deployed)
        }
        Err(Halt::Failed(error)) => {
            Err(context.attempts.failed(&identity.uid, &fingerprint, &error))
        }
        Err(waiting) => Err(waiting),
    }
}

async fn advance(
    context: &Context,
    cluster: &ManagedCluster,
    target: &Target<'_>,
    wanted: &Wanted,
    drift: Option<String>,
) -> Result<(Deployed, Sha256Digest), Halt> {
    let observed = target.observed;
    let namespace = observed.host_namespace.as_str();
    let run_as = ServiceAccount {
        namespace: namespace.to_owned(),
        name: RELEASE_SERVICE_ACCOUNT.to_owned(),
    };
    let first = observed.history.latest().is_none();
    if first {
        announce(
            context,
            cluster,
            observed,
            Reason::Progressing,
            "installing the release".to_owned(),
        )
        .await;
    }
    let chart = context
        .charts
        .fetch(&wanted.request)
        .await
        .map_err(Error::from)?;
    for step in 0..MAX_STEPS {
        let history = if target.is_new && step == 0 {
            ReleaseHistory::default()
        } else {
            own_history(context, observed).await?
        };
        // What differs from a revision that is not the newest any more is no drift.
        let is_observed = history.latest() == observed.history.latest();
        let drift = drift.as_ref().filter(|_| is_observed);
        let desired = plan::Desired {
            chart_digest: chart.digest,
            values_hash: wanted.values_hash,
            drifted: drift.is_some(),
        };
        let action = plan::plan(
            &history,
            &desired,
            Timestamp::now(),
            context.helm.time_limit(),
        );
        match action {
            Action::None => {
                let mut deployed = deployed(cluster, observed, &history, chart.digest);
                deployed.is_observed = is_observed;
                return Ok((deployed, chart.digest));
            }
            Action::Wait { until } => return Err(locked(until)),
            Action::Unlock { dead, deployed } => {
                kubebyon_helm::unlock(context.client.clone(), namespace, &dead, deployed.as_ref())
                    .await
                    .map_err(Error::from)?;
            }
            Action::FinishUninstall => {
                let request = Uninstall {
                    release: &observed.release,
                    namespace,
                    run_as: Some(&run_as),
                    wait: WaitFor::Hooks,
                };
                context.run_uninstall(&request).await.map_err(Error::from)?;
            }
            Action::Install | Action::Upgrade(_) => {
                if !first {
                    let (reason, message) =
                        announcement(cluster, observed, &action, drift.map(String::as_str));
                    announce(context, cluster, observed, reason, message).await;
                    storage::grow_claims(context, cluster, observed).await?;
                }
                let retried = action == Action::Upgrade(Why::Retry);
                let upgrade = Upgrade {
                    release: &observed.release,
                    namespace,
                    chart: &chart,
                    values: &wanted.values,
                    run_as: Some(&run_as),
                    // What a repair that failed left undone is no drift any more.
                    force_conflicts: drift.is_some() || retried,
                    wait: WaitFor::Hooks,
                };
                let runs = upgrade_or_replace(context, cluster, observed, &upgrade).await?;
                context.manifests.repaired(namespace, drift);
                // Nobody else runs helm here, so its record need not be asked for.
                let mut deployed = deployed(cluster, observed, &history, chart.digest);
                let before = history.latest().map_or(0, |latest| latest.number);
                deployed.status.revision = Some(i64::from(before + runs));
                deployed.status.chart_version = Some(chart.version.clone());
                deployed.status.values_hash = Some(wanted.values_hash.label());
                deployed.is_observed = false;
                return Ok((deployed, chart.digest));
            }
        }
    }
    Err(Halt::wait_for(
        Reason::Progressing,
        "the release needs more steps",
        Duration::from_secs(1),
    ))
}

/// A watch may be behind; helm is too costly, and a restart of a tenant too rude, for that.
async fn own_history(context: &Context, observed: &Observed) -> Result<ReleaseHistory, Error> {
    let (namespace, release) = (&observed.host_namespace, &observed.release);
    let history = observe::history_now(&context.client, namespace, release).await?;
    if observe::is_foreign(&history) {
        return Err(Error::ForeignRelease {
            namespace: namespace.clone(),
            release: release.clone(),
        });
    }
    Ok(history)
}

/// A watch tells what it missed, so nobody has to ask.
pub fn no_news() -> Halt {
    Halt::wait(
        Reason::Progressing,
        "waiting for news of the control plane's pods",
    )
}

fn locked(until: Timestamp) -> Halt {
    let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
    let left = left + Duration::from_secs(1);
    let message = format!(
        "a helm run that died left the release pending; it is unlocked in {} s",
        left.as_secs()
    );
    Halt::wait_for(Reason::ReleaseLocked, message, left)
}

fn announcement(
    cluster: &ManagedCluster,
    observed: &Observed,
    action: &Action,
    drift: Option<&str>,
) -> (Reason, String) {
    match (action, drift) {
        (Action::Install, _) => (Reason::Progressing, "installing the release".to_owned()),
        (_, Some(what)) => (Reason::DriftRepaired, format!("putting back what somebody changed: {what}")),
        (Action::Upgrade(Why::Retry), _) => (Reason::Progressing, "trying the release again".to_owned()),
        _ if cluster.spec.control_plane.replicas == 1 && observed.workload.is_some() => (
            Reason::RestartPending,
            "upgrading the release; the only replica restarts, and the tenant's API is gone for about 20 seconds".to_owned(),
        ),
        _ => (Reason::Progressing, "upgrading the release".to_owned()),
    }
}

fn deployed(
    cluster: &ManagedCluster,
    observed: &Observed,
    history: &ReleaseHistory,
    digest: Sha256Digest,
) -> Deployed {
    let latest = history.latest();
    let recorded = cluster
        .status
        .as_ref()
        .and_then(|status| status.release.clone())
        .unwrap_or_default();
    Deployed {
        status: ReleaseStatus {
            name: observed.release.clone(),
            namespace: observed.host_namespace.clone(),
            revision: latest.map(|revision| i64::from(revision.number)),
            chart_version: latest
                .and_then(|revision| revision.chart_version.clone())
                .or(recorded.chart_version),
            chart_digest: Some(format!("sha256:{}", digest.hex())),
            values_hash: latest.and_then(|revision| revision.values_hash.clone()),
            failures: None,
        },
        is_observed: true,
    }
}

/// Upgrades; an object that cannot become what the chart wants of it in place is taken
/// away first, which its pods and volumes survive. Gives the number of helm's runs.
async fn upgrade_or_replace(
    context: &Context,
    cluster: &ManagedCluster,
    observed: &Observed,
    upgrade: &Upgrade<'_>,
) -> Result<u32, Halt> {
    let error = match context.run_upgrade(upgrade).await {
        Ok(()) => return Ok(1),
        Err(error) => error,
    };
    let replaced = match &error {
        kubebyon_helm::Error::ObjectInvalid { object, message }
            if message.contains("Duplicate value") =>
        {
            service_with_a_foreign_port(context, observed, object).await?
        }
        kubebyon_helm::Error::ImmutableField { object, .. } => {
            storage::replace_stateful_set(context, cluster, observed, object).await?
        }
        _ => false,
    };
    if !replaced {
        return Err(Error::from(error).into());
    }
    context.run_upgrade(upgrade).await.map_err(Error::from)?;
    Ok(2)
}

/// Ports of a Service are merged by their number: one that somebody moved stands beside
/// the one that the chart wants, under the same name, and no apply gets rid of it.
async fn service_with_a_foreign_port(
    context: &Context,
    observed: &Observed,
    object: &str,
) -> Result<bool, Error> {
    let Some(name) = named("Service", object).filter(|name| *name == observed.release) else {
        return Ok(false);
    };
    let services: Api<Service> =
        Api::namespaced(tenant(context, observed)?, &observed.host_namespace);
    match services.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(source) => Err(Error::Api {
            what: "replace a Service whose ports somebody changed",
            source,
        }),
    }
}

/// The name in `Kind "name"` or `Kind.group "name"`.
fn named<'a>(kind: &str, object: &'a str) -> Option<&'a str> {
    let (found, name) = object.split_once(" \"")?;
    let found = found.split_once('.').map_or(found, |(kind, _)| kind);
    (found == kind).then(|| name.strip_suffix('"')).flatten()
}

/// A client with the rights of the release alone.
fn tenant(context: &Context, observed: &Observed) -> Result<Client, Error> {
    impersonate(
        &context.client,
        &observed.host_namespace,
        RELEASE_SERVICE_ACCOUNT,
    )
    .map_err(|error| Error::Internal {
        what: "an impersonating client",
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_known_by_kind_with_or_without_group() {
        assert_eq!(named("Service", "Service \"demo\""), Some("demo"));
        assert_eq!(
            named("StatefulSet", "StatefulSet.apps \"demo\""),
            Some("demo")
        );
        assert_eq!(named("Service", "StatefulSet.apps \"demo\""), None);
    }
}
