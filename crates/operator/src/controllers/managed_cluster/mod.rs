//! A ManagedCluster becomes a running vCluster: namespace, release, control plane,
//! kubeconfig, summary.

mod apply;
mod attempts;
mod control_plane;
mod deletion;
mod drift;
mod error;
mod handover;
mod observe;
mod public;
mod release;
mod report;
mod secrets;
mod steps;
mod stores;
mod validate;

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::StreamExt;
use kubebyon_api::{ManagedCluster, Reason, labels};
use kubebyon_helm::{Helm, chart::Charts};
use kubebyon_k8s::kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        PredicateConfig, WatchStreamExt, applier,
        controller::{Action, Config},
        events::{Recorder, Reporter},
        reflector, watcher,
    },
};
use kubebyon_render::{Cluster, values::policy::Policy};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span, warn};

use self::{
    attempts::Attempts,
    drift::Manifests,
    error::{Error, Halt},
    observe::Observed,
    report::{Findings, Outcome, Passing, say},
    secrets::Known,
    stores::{ClusterRef, Guarded, Stores},
    validate::Offer,
};
use crate::{
    apply::Applier,
    backoff::{Backoff, Waits, jittered},
    config::{Options, ValuesPolicy},
    probe::Prober,
    telemetry::metrics::Metrics,
    watches::{authored, key, lasting, refs},
};

/// The controller's name in logs, events and metrics.
const NAME: &str = "managed_cluster";
/// Pause between dials of a tenant at rest: no watch tells that an API stopped answering
/// while its pods still say that they are ready.
const DIAL_AT_REST: Duration = Duration::from_secs(60);
/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(120));
/// While a cluster is on its way, it is looked at this often even if no watch says
/// anything: a watch that lost an event must not hold it up for ever.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// What is due is looked at no earlier, for clocks are not that exact.
const DUE_SOON: Duration = Duration::from_secs(1);
/// How long the watches have, at the start, to tell what is there.
const WATCHES_LIMIT: Duration = Duration::from_secs(30);

/// What the controller works with.
pub struct Context {
    client: Client,
    options: Options,
    offer: Offer,
    values_policy: Policy,
    chart_ca: Option<Vec<u8>>,
    helm: Helm,
    charts: Charts,
    stores: Stores,
    applier: Applier,
    recorder: Recorder,
    metrics: Metrics,
    attempts: Attempts,
    manifests: Manifests,
    deletions: deletion::Clock,
    retries: Backoff<String>,
    dials: Waits<String>,
    known: Known,
    passing: Passing,
    prober: Prober<ClusterRef>,
}

/// What the controller is built from.
pub struct Parts {
    /// The host's api-server.
    pub client: Client,
    /// The host admin's options.
    pub options: Options,
    /// Runs helm.
    pub helm: Helm,
    /// Fetches charts.
    pub charts: Charts,
    /// Certificate authorities of the default chart repository.
    pub chart_ca: Option<Vec<u8>>,
    /// Where it counts.
    pub metrics: Metrics,
}

/// Runs the controller until `stop` is cancelled; returns when the last reconcile has ended.
///
/// # Errors
/// When the options cannot be used.
pub async fn run(parts: Parts, stop: CancellationToken) -> Result<(), String> {
    let Parts {
        client,
        options,
        helm,
        charts,
        chart_ca,
        metrics,
    } = parts;
    let offer = Offer::new(&options)?;
    let (clusters, writer) = reflector::store::<Guarded>();
    let main = lasting(watcher(
        Api::<Guarded>::all(client.clone()),
        watcher::Config::default(),
    ))
    .modify(|cluster| cluster.managed_fields_mut().clear())
    .reflect(writer)
    .applied_objects()
    // Our own status writes bring nothing new.
    .predicate_filter(authored(), PredicateConfig::default());
    let (stores, touched) = Stores::watch(&client, &options.namespace, clusters.clone());
    let (prober, proofs) = Prober::new();
    let context = Arc::new(Context {
        offer,
        values_policy: match options.values_policy {
            ValuesPolicy::Restricted => Policy::Restricted,
            ValuesPolicy::Unrestricted => Policy::Unrestricted,
        },
        chart_ca,
        helm,
        charts,
        stores,
        applier: Applier::new(client.clone(), labels::field_manager::MANAGED_CLUSTER),
        recorder: Recorder::new(
            client.clone(),
            Reporter {
                controller: "kubebyon".to_owned(),
                instance: Some(options.identity.clone()),
            },
        ),
        metrics,
        attempts: Attempts::default(),
        manifests: Manifests::default(),
        deletions: deletion::Clock::default(),
        retries: Backoff::new(RETRY.0, RETRY.1),
        dials: Waits::default(),
        known: Known::default(),
        passing: Passing::default(),
        prober,
        client,
        options,
    });
    let concurrency = context.options.concurrency;
    let main = refs(main, |cluster: &Guarded| {
        vec![reflector::ObjectRef::from_obj(cluster)]
    });
    let proofs = futures::stream::unfold(proofs, |mut proofs| async move {
        proofs.recv().await.map(|cluster| (cluster, proofs))
    });
    let queue = futures::stream::select(main, futures::stream::select(touched, proofs))
        .map(Ok::<_, Infallible>)
        .take_until(stop.cancelled_owned());
    let config = Config::default()
        .concurrency(concurrency)
        .debounce(Duration::from_millis(50));
    // The end of the queue lets what runs come to its end, and then ends this.
    applier(
        |cluster, context| Box::pin(reconcile(cluster, context)),
        on_error,
        context,
        clusters,
        queue,
        config,
    )
    .for_each(|_| std::future::ready(()))
    .await;
    Ok(())
}

// The signature is the runtime's.
#[expect(clippy::needless_pass_by_value)]
fn on_error(cluster: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let pause = context
        .retries
        .failed(cluster.meta().uid.clone().unwrap_or_default());
    warn!(cluster = %key(&*cluster), %error, retry_in = ?pause, "reconcile failed");
    Action::requeue(pause)
}

async fn reconcile(cluster: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let span = info_span!("reconcile", controller = NAME, cluster = %key(&*cluster));
    async move {
        let cluster = match &cluster.0 {
            Ok(cluster) => cluster,
            Err(invalid) => {
                // It was stored under another schema. There is no status to write that would fit it.
                error!(error = %invalid, "the object cannot be read; correct the field that the error names");
                context.metrics.reconciled(NAME, Duration::ZERO, Some(Reason::InvalidSpec.as_str()));
                return Ok(Action::await_change());
            }
        };
        let started = Instant::now();
        let result = match timeout(WATCHES_LIMIT, context.stores.ready()).await {
            Ok(Ok(())) => step(&context, cluster).await,
            Ok(Err(ended)) => Err(Error::Internal { what: "the watches", message: ended.to_string() }),
            Err(_) => blind(&context, cluster).await,
        };
        let failure = match &result {
            Ok((_, reason)) => *reason,
            Err(error) => Some(error.reason()),
        };
        context.metrics.reconciled(NAME, started.elapsed(), failure.map(Reason::as_str));
        let (action, _) = result?;
        if failure.is_none() {
            context.retries.forget(&cluster.metadata.uid.clone().unwrap_or_default());
        }
        Ok(action)
    }
    .instrument(span)
    .await
}

/// Says that nothing can be said: a watch has not told what is there, and to act without
/// it would be to act on half of the truth.
async fn blind(
    context: &Context,
    cluster: &ManagedCluster,
) -> Result<(Action, Option<Reason>), Error> {
    let observed = Observed::read(&context.stores, cluster)?;
    let message = "the operator's watches have not told what is there; its log names the resource, \
                   and its ClusterRole has to grant list and watch on it";
    let findings = Findings {
        steps: report::only([Outcome::Halted(Halt::wait_for(
            Reason::ApiServerError,
            message,
            LOOK_AGAIN,
        ))]),
        facts: report::facts(cluster, &observed),
        suspended: false,
        announced: None,
        due: None,
    };
    say(context, cluster, &findings).await?;
    Ok((
        Action::requeue(jittered(RETRY.0)),
        Some(Reason::ApiServerError),
    ))
}

/// One pass: what to do next, and the reason of a failure, if there was one.
async fn step(
    context: &Context,
    cluster: &ManagedCluster,
) -> Result<(Action, Option<Reason>), Error> {
    let Some(identity) = Cluster::of(cluster) else {
        return Ok((Action::await_change(), None));
    };
    let cluster = &*context.passing.newest(cluster);
    let mut observed = Observed::read(&context.stores, cluster)?;
    let ours = cluster
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == labels::CLUSTER_FINALIZER);
    if cluster.metadata.deletion_timestamp.is_some() {
        return if ours {
            delete(context, cluster, &identity, &observed).await
        } else {
            Ok((Action::await_change(), None))
        };
    }
    if !ours {
        if !cluster.spec.suspend {
            context.set_finalizer(cluster, true).await?;
        }
        // The finalizer's own event brings the cluster back here, unless it is suspended.
        if !cluster.spec.suspend {
            return Ok((Action::await_change(), None));
        }
    }
    let findings = steps::find(context, cluster, &identity, &mut observed).await;
    let untold = say(context, cluster, &findings).await?;
    let failure = findings.halt().and_then(|(_, halt)| match halt {
        Halt::Waiting(_) => None,
        Halt::Failed(_) | Halt::Recalled(_) => Some(halt.reason()),
    });
    Ok((next_look(context, &identity, &findings, untold), failure))
}

async fn delete(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
) -> Result<(Action, Option<Reason>), Error> {
    match deletion::advance(context, cluster, identity, observed).await {
        Ok(()) => {
            context.attempts.forget(&identity.uid);
            context.manifests.forget(&observed.host_namespace);
            context.dials.forget(&identity.uid);
            context.known.forget(&identity.uid);
            context.passing.forget(&identity.uid);
            context
                .prober
                .forget(&ClusterRef::new(&identity.name).within(&identity.namespace));
            context.set_finalizer(cluster, false).await?;
            info!("deleted");
            Ok((Action::await_change(), None))
        }
        Err(halt) => {
            say(
                context,
                cluster,
                &report::deleting(cluster, observed, &halt),
            )
            .await?;
            match halt {
                Halt::Waiting(wait) => {
                    let blocked = (wait.reason == Reason::DeletionBlocked).then_some(wait.reason);
                    Ok((
                        Action::requeue(jittered(wait.look_again.unwrap_or(LOOK_AGAIN))),
                        blocked,
                    ))
                }
                Halt::Recalled(recalled) => {
                    Ok((Action::requeue(recalled.pause), Some(recalled.reason)))
                }
                Halt::Failed(error) => Err(error),
            }
        }
    }
}

/// When to look again; sooner where something is left `untold`.
fn next_look(
    context: &Context,
    identity: &Cluster,
    findings: &Findings,
    untold: Option<Duration>,
) -> Action {
    let pause = match findings.halt() {
        None => findings
            .due
            .map_or(DIAL_AT_REST, |due| due.clamp(DUE_SOON, DIAL_AT_REST)),
        Some((_, Halt::Waiting(wait))) => wait.look_again.unwrap_or(LOOK_AGAIN),
        Some((_, Halt::Recalled(recalled))) => return Action::requeue(recalled.pause),
        Some((_, Halt::Failed(_))) => context.retries.failed(identity.uid.clone()),
    };
    let pause = jittered(pause);
    Action::requeue(untold.map_or(pause, |left| left.min(pause)))
}
