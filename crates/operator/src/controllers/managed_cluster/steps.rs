//! The steps from a spec to a kubeconfig that works.

use kubebyon_api::{ManagedCluster, ManagedClusterStatus, Reason};
use kubebyon_render::Cluster;

use super::{
    Context, control_plane,
    error::{Error, Halt},
    handover::{HandedOver, hand_over},
    observe::{self, Observed},
    public, release,
    report::{self, Findings, Outcome},
    validate::{self, Validated},
};

/// The steps, in order. A later step is tried though an earlier one failed, where what
/// it needs is there: a release that cannot be upgraded still serves, and says so.
pub async fn find(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &mut Observed,
) -> Findings {
    let mut facts = report::facts(cluster, observed);
    let validated = validate::validate(&context.offer, cluster, observed);
    let attached = public::attach(context, cluster, identity, observed).await;
    match &attached {
        Ok(Some(attachment)) => observed.exposed = attachment.exposed(),
        // As long as there is a route, somebody may depend on it.
        Ok(None) => observed.exposed.routes &= public::has_route(&context.stores, observed),
        Err(Halt::Failed(Error::AttachmentNotAllowed { .. })) => observed.exposed.routes = false,
        Err(_) => {}
    }
    let observed = &*observed;
    let home = context.host_namespace(cluster, identity, observed).await;
    // The first install carries the public name: to add it later is to restart the tenant.
    let unnamed = attached.is_err() && observed.history.latest().is_none();
    let released = match (&home, validated) {
        (Ok(_), Ok(_)) if unnamed => Outcome::NotTried,
        (Ok(home), Ok(validated)) => {
            let target = release::Target {
                observed,
                is_new: home.is_new,
            };
            deploy(context, cluster, identity, &target, &validated, &mut facts)
                .await
                .into()
        }
        (Ok(_), Err(error)) => Outcome::Halted(Halt::Failed(error)),
        (Err(_), _) => Outcome::NotTried,
    };
    // What serves under a foreign release is not ours to hand out.
    let serving = home.is_ok()
        && !observe::is_foreign(&observed.history)
        && (observed.workload.is_some() || matches!(released, Outcome::Done(_)));
    let proved = if serving {
        Some(control_plane::prove(context, identity, observed).await)
    } else {
        None
    };
    let handed = match attached {
        Ok(attachment) => {
            let proved = proved.as_ref().and_then(|proved| proved.as_ref().ok());
            let attachment = attachment.as_ref();
            hand_over(
                context, cluster, identity, observed, attachment, proved, &mut facts,
            )
            .await
        }
        Err(halt) => HandedOver {
            dns: Outcome::NotTried,
            endpoint: Outcome::Halted(refused(context, cluster, identity, observed, halt).await),
            kubeconfig: Outcome::NotTried,
            due: None,
        },
    };
    let available = match proved {
        Some(Ok(proved)) => {
            let pods = proved.replicas;
            Outcome::Done(format!(
                "{} of {} pods ready; {} answered, verified by the tenant's CA",
                pods.ready, pods.wanted, proved.endpoint
            ))
        }
        Some(Err(halt)) => Outcome::Halted(halt),
        None => Outcome::NotTried,
    };
    Findings {
        steps: [
            home.map(|home| home.message).into(),
            released,
            available,
            handed.dns,
            handed.endpoint,
            handed.kubeconfig,
        ],
        facts,
        suspended: cluster.spec.suspend,
        announced: None,
        due: handed.due,
    }
}

/// Whoever is not admitted any more is not served any more; after any other fault what serves
/// is left as it is.
async fn refused(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
    halt: Halt,
) -> Halt {
    let excluded = matches!(halt, Halt::Failed(Error::AttachmentNotAllowed { .. }));
    if excluded && !cluster.spec.suspend {
        let removed = public::remove_route(context, identity, &observed.host_namespace).await;
        if let Err(error) = removed {
            return error.into();
        }
    }
    halt
}

async fn deploy(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    target: &release::Target<'_>,
    validated: &Validated,
    facts: &mut ManagedClusterStatus,
) -> Result<String, Halt> {
    let deployed = release::ensure(context, cluster, identity, target, validated).await?;
    let revision = deployed.status.revision.unwrap_or_default();
    let chart = deployed.status.chart_version.clone().unwrap_or_default();
    facts.kubernetes_version = Some(validated.version.to_string());
    facts.release = Some(deployed.status);
    rolled_out(target.observed)?;
    if !deployed.is_observed {
        return Err(release::no_news());
    }
    Ok(format!(
        "revision {revision}, chart {chart}, Kubernetes {}",
        validated.version
    ))
}

/// Whether every pod of the control plane is of the newest template: until then an
/// answer of the tenant's API may come from the revision before.
fn rolled_out(observed: &Observed) -> Result<(), Halt> {
    let Some(workload) = &observed.workload else {
        return Err(Halt::wait(
            Reason::Progressing,
            "the control plane's pods are being made",
        ));
    };
    let pods = workload.replicas();
    if pods.current && pods.updated >= pods.wanted {
        return Ok(());
    }
    let updated = if pods.current { pods.updated } else { 0 };
    Err(Halt::wait(
        Reason::Progressing,
        format!(
            "rolling out: {updated} of {} pods are of the newest revision",
            pods.wanted
        ),
    ))
}
