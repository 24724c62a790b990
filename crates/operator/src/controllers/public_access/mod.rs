//! A PublicAccess becomes the entrance that clusters share: its Gateways and the
//! platform's routes.

mod apply;
mod error;
mod observe;
mod report;
mod stores;

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::StreamExt;
use kubebyon_api::{PublicAccess, Reason, conditions, labels, public_access::Provider};
use kubebyon_k8s::{
    k8s_openapi::jiff::Timestamp,
    kube::{
        Api, Client, Resource, ResourceExt,
        runtime::{
            PredicateConfig, WatchStreamExt, applier,
            controller::{Action, Config},
            events::{Event, EventType, Recorder, Reporter},
            reflector, watcher,
        },
    },
};
use kubebyon_render::{exposure::Exposure, gateway_api::Layout};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info_span, warn};

use self::{
    error::Error,
    observe::Observed,
    report::Findings,
    stores::{Guarded, Stores},
};
use crate::{
    apply::Applier,
    backoff::{Backoff, jittered},
    config::Options,
    telemetry::metrics::Metrics,
    watches::{authored, key, lasting, refs},
};

/// The controller's name in logs, events and metrics.
const NAME: &str = "public_access";
/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(120));
/// A Gateway's controller is looked after this often though its watch says nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long the watches have, at the start, to tell what is there.
const WATCHES_LIMIT: Duration = Duration::from_secs(30);

/// What the controller works with.
struct Context {
    client: Client,
    operator_namespace: String,
    stores: Stores,
    applier: Applier,
    recorder: Recorder,
    metrics: Metrics,
    retries: Backoff<String>,
}

/// Runs the controller until `stop` is cancelled; returns when the last reconcile has ended.
pub async fn run(client: Client, options: &Options, metrics: Metrics, stop: CancellationToken) {
    let (accesses, writer) = reflector::store::<Guarded>();
    let main = lasting(watcher(
        Api::<Guarded>::all(client.clone()),
        watcher::Config::default(),
    ))
    .modify(|access| access.managed_fields_mut().clear())
    .reflect(writer)
    .applied_objects()
    // Our own status writes bring nothing new.
    .predicate_filter(authored(), PredicateConfig::default());
    let (stores, touched) = Stores::watch(&client, &accesses);
    let context = Arc::new(Context {
        operator_namespace: options.namespace.clone(),
        stores,
        applier: Applier::new(client.clone(), labels::field_manager::PUBLIC_ACCESS),
        recorder: Recorder::new(
            client.clone(),
            Reporter {
                controller: "kubebyon".to_owned(),
                instance: Some(options.identity.clone()),
            },
        ),
        metrics,
        retries: Backoff::new(RETRY.0, RETRY.1),
        client,
    });
    let main = refs(main, |access: &Guarded| {
        vec![reflector::ObjectRef::from_obj(access)]
    });
    let queue = futures::stream::select(main, touched)
        .map(Ok::<_, Infallible>)
        .take_until(stop.cancelled_owned());
    let config = Config::default()
        .concurrency(options.concurrency)
        .debounce(Duration::from_millis(50));
    applier(
        |access, context| Box::pin(reconcile(access, context)),
        on_error,
        context,
        accesses,
        queue,
        config,
    )
    .for_each(|_| std::future::ready(()))
    .await;
}

// The signature is the runtime's.
#[expect(clippy::needless_pass_by_value)]
fn on_error(access: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let pause = context
        .retries
        .failed(access.meta().uid.clone().unwrap_or_default());
    warn!(access = %key(&*access), %error, retry_in = ?pause, "reconcile failed");
    Action::requeue(pause)
}

async fn reconcile(access: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let span = info_span!("reconcile", controller = NAME, access = %key(&*access));
    async move {
        let access = match &access.0 {
            Ok(access) => access,
            Err(invalid) => {
                // It was stored under another schema. There is no status to write that would fit it.
                error!(error = %invalid, "the object cannot be read; correct the field that the error names");
                context.metrics.reconciled(NAME, Duration::ZERO, Some(Reason::InvalidSpec.as_str()));
                return Ok(Action::await_change());
            }
        };
        let started = Instant::now();
        let result = match timeout(WATCHES_LIMIT, context.stores.ready()).await {
            Ok(Ok(())) => step(&context, access).await,
            Ok(Err(ended)) => Err(Error::Internal(ended.to_string())),
            Err(_) => Err(Error::WatchesSilent(WATCHES_LIMIT)),
        };
        let failure = match &result {
            Ok((_, reason)) => *reason,
            Err(error) => Some(error.reason()),
        };
        context.metrics.reconciled(NAME, started.elapsed(), failure.map(Reason::as_str));
        if failure.is_none() {
            context.retries.forget(&access.metadata.uid.clone().unwrap_or_default());
        }
        Ok(result?.0)
    }
    .instrument(span)
    .await
}

/// One pass: what to do next, and the reason of a failure, if there was one.
async fn step(context: &Context, access: &PublicAccess) -> Result<(Action, Option<Reason>), Error> {
    let observed = Observed::read(context, access);
    let ours = access
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == labels::PUBLIC_ACCESS_FINALIZER);
    if access.metadata.deletion_timestamp.is_some() {
        return if ours {
            delete(context, access, &observed).await
        } else {
            Ok((Action::await_change(), None))
        };
    }
    if !ours {
        // The finalizer's own event brings it back here.
        context.set_finalizer(access, true).await?;
        return Ok((Action::await_change(), None));
    }
    let (gateways, error) = match carry_out(context, access, &observed).await {
        Ok(gateways) => (gateways, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let failure = error.as_ref().map(Error::reason);
    let retry = error.as_ref().is_some_and(|error| !error.is_terminal());
    let findings = Findings {
        error,
        gateways,
        attached: observed.attached.len(),
    };
    say(context, access, &findings).await?;
    let action = if retry {
        Action::requeue(
            context
                .retries
                .failed(access.metadata.uid.clone().unwrap_or_default()),
        )
    } else {
        Action::requeue(jittered(LOOK_AGAIN))
    };
    Ok((action, failure))
}

/// Makes the Gateways and the platform's routes so, and gives the Gateways as they are.
async fn carry_out(
    context: &Context,
    access: &PublicAccess,
    observed: &Observed,
) -> Result<report::Gateways, Error> {
    match access.spec.provider {
        Provider::GatewayAPI => {}
        Provider::HAProxy => return Err(Error::ProviderUnavailable("HAProxy")),
    }
    let served = observed.served.ok_or(Error::GatewayApiMissing)?;
    let layout = Layout::of(access)?;
    let exposure = Exposure::of(access)?;
    let gateways = layout.gateways(&exposure, served.listener_sets);
    observed.check(context, &layout, &gateways).await?;
    context.apply_entrance(&layout, &exposure, &gateways).await
}

async fn delete(
    context: &Context,
    access: &PublicAccess,
    observed: &Observed,
) -> Result<(Action, Option<Reason>), Error> {
    let in_use = if observed.attached.is_empty() {
        let leaving = observed.leaving(context, access).await?;
        let (count, some) = (leaving.len(), some(&leaving));
        let error = Error::NotLeftYet { count, some };
        (count > 0).then_some((error, Action::requeue(jittered(LOOK_AGAIN))))
    } else {
        let (count, some) = (observed.attached.len(), some(&observed.attached));
        Some((Error::InUse { count, some }, Action::await_change()))
    };
    if let Some((error, action)) = in_use {
        let reason = error.reason();
        let findings = Findings {
            error: Some(error),
            gateways: Vec::new(),
            attached: observed.attached.len(),
        };
        say(context, access, &findings).await?;
        return Ok((action, Some(reason)));
    }
    context.remove_entrance(access).await?;
    context.set_finalizer(access, false).await?;
    Ok((Action::await_change(), None))
}

/// The first of many.
fn some(clusters: &[String]) -> String {
    let some: Vec<&str> = clusters.iter().take(5).map(String::as_str).collect();
    some.join(", ")
}

async fn say(context: &Context, access: &PublicAccess, findings: &Findings) -> Result<(), Error> {
    let status = report::status(access, findings, Timestamp::now());
    if access.status.as_ref() == Some(&status) {
        return Ok(());
    }
    context.write_status(access, &status).await?;
    let ready = |conditions| conditions::find(conditions, conditions::ConditionType::Ready);
    let before = access
        .status
        .as_ref()
        .and_then(|status| ready(&status.conditions));
    let Some(now) = ready(&status.conditions) else {
        return Ok(());
    };
    if before.is_some_and(|before| before.status == now.status && before.reason == now.reason) {
        return Ok(());
    }
    let event = Event {
        type_: if findings.error.is_some() {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: now.reason.clone(),
        note: Some(now.message.chars().take(1000).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    // An event is for people: to lose one is no reason to fail.
    if let Err(error) = context
        .recorder
        .publish(&event, &access.object_ref(&()))
        .await
    {
        debug!(%error, "could not publish an event");
    }
    Ok(())
}
