//! Status and events, written.

use std::time::Duration;

use kubebyon_api::{ManagedCluster, ManagedClusterStatus, Reason, managed_cluster::HostnameRole};
use kubebyon_k8s::{k8s_openapi::jiff::Timestamp, kube::Resource};
use tracing::{debug, info, warn};

use super::{
    super::{
        Context,
        error::{Error, Halt},
        observe::Observed,
    },
    Findings, Outcome, differs, events, only, status,
};

/// Writes the status, if it says anything new, and an event where a step halts or the
/// cluster becomes ready. Gives the time after which to look again, if it was left untold.
pub async fn say(
    context: &Context,
    cluster: &ManagedCluster,
    findings: &Findings,
) -> Result<Option<Duration>, Error> {
    let cluster = &*context.passing.newest(cluster);
    let before = cluster.status.as_ref();
    let status = status(cluster, findings, Timestamp::now());
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    if !differs(before, &status) {
        context.passing.arrived(uid);
        return Ok(None);
    }
    if let Some(left) = context.passing.hold(uid, before, &status, findings) {
        return Ok(Some(left));
    }
    let version = context.write_status(cluster, &status).await?;
    let events = events::events(before, &status, findings);
    context.passing.told(uid, status, version.as_deref());
    for event in events {
        // An event is for people: to lose one is no reason to fail.
        let object = cluster.object_ref(&());
        if let Err(error) = context.recorder.publish(&event, &object).await {
            debug!(%error, "could not publish an event");
        }
    }
    Ok(None)
}

/// Says what is about to happen, before it does.
pub async fn announce(
    context: &Context,
    cluster: &ManagedCluster,
    observed: &Observed,
    reason: Reason,
    message: String,
) {
    info!(%reason, message, "a change of the release is on the way");
    let findings = Findings {
        steps: only([
            Outcome::Done(format!(
                "namespace {} is claimed and fenced",
                observed.host_namespace
            )),
            Outcome::Halted(Halt::wait(reason, message.clone())),
        ]),
        facts: facts(cluster, observed),
        suspended: false,
        announced: Some((reason, message)),
        due: None,
    };
    // To be late with the news is no reason not to do it.
    if let Err(error) = say(context, cluster, &findings).await {
        warn!(%error, "could not announce the change");
    }
}

/// What stays known when a step does not come to its end.
pub fn facts(cluster: &ManagedCluster, observed: &Observed) -> ManagedClusterStatus {
    let before = cluster.status.clone().unwrap_or_default();
    let release = before.release.map(|mut release| {
        let failures = i32::try_from(observed.history.failures()).unwrap_or(i32::MAX);
        release.failures = (failures > 0).then_some(failures);
        release
    });
    ManagedClusterStatus {
        kubernetes_version: before.kubernetes_version,
        release,
        endpoints: before.endpoints,
        kubeconfig_secret_ref: before.kubeconfig_secret_ref,
        host_namespace: Some(observed.host_namespace.clone()),
        hostnames: before
            .hostnames
            .into_iter()
            .filter(|hostname| hostname.role == HostnameRole::ControlPlane)
            .collect(),
        ..ManagedClusterStatus::default()
    }
}
