//! Leader election by a `coordination.k8s.io` Lease, with fencing.
//!
//! Every write carries the resourceVersion it was decided on, so two candidates can
//! never both believe a write. A holder's term ends by its own monotonic clock
//! before a candidate's patience does: [`LeaseOptions::renew_deadline`] is shorter
//! than [`LeaseOptions::duration`], and no clock of another machine is trusted: a
//! candidate measures how long it saw the Lease unchanged.

use std::time::Duration;

use jiff::Timestamp;
use kubebyon_k8s::{
    k8s_openapi::{
        api::coordination::v1::{Lease, LeaseSpec},
        apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    },
    kube::{self, Api, Client, api::PostParams},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How one manager takes part in the election.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Name of the Lease.
    pub name: String,
    /// Namespace of the Lease.
    pub namespace: String,
    /// This process: unique among candidates, for example pod name and a random part.
    pub identity: String,
    /// How long a candidate has to see the Lease unchanged before it takes it.
    pub duration: Duration,
    /// How long a holder goes on without a successful renewal.
    pub renew_deadline: Duration,
    /// Pause between renewals, and between a candidate's looks.
    pub retry: Duration,
}

/// Why the lease is not, or no longer, held.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another process wrote the Lease, or it was deleted under the holder.
    #[error("lease {namespace}/{name} was taken from this process; it now names {holder:?}")]
    Taken {
        /// Namespace of the Lease.
        namespace: String,
        /// Name of the Lease.
        name: String,
        /// Who holds it, as far as it is known.
        holder: Option<String>,
    },
    /// No renewal succeeded within the deadline.
    #[error(
        "lease {namespace}/{name} was not renewed within {deadline:?}; check the api-server's health; last error: {last}"
    )]
    RenewDeadline {
        /// Namespace of the Lease.
        namespace: String,
        /// Name of the Lease.
        name: String,
        /// The deadline that passed.
        deadline: Duration,
        /// The last error, in words.
        last: String,
    },
}

/// The right to act, as long as [`Held::keep`] has not returned.
pub struct Held {
    api: Api<Lease>,
    options: LeaseOptions,
    lease: Lease,
    renewed: Instant,
    ends: watch::Sender<Instant>,
}

/// Until when the Lease is held, for those that act in its name. It is up to date even
/// when this process was paused and [`Held::keep`] had no time yet to notice.
#[derive(Clone, Debug)]
pub struct Fence(watch::Receiver<Instant>);

impl Fence {
    /// Whether this process may act now.
    pub fn holds(&self) -> bool {
        Instant::now() < *self.0.borrow()
    }
}

/// Waits until this process holds the Lease. `None` when `shutdown` came first.
///
/// Errors of the api-server are retried for ever: a candidate has nothing better to do.
pub async fn acquire(
    client: Client,
    options: LeaseOptions,
    shutdown: &CancellationToken,
) -> Option<Held> {
    let api: Api<Lease> = Api::namespaced(client, &options.namespace);
    let mut seen: Option<(String, Instant)> = None;
    loop {
        let started = Instant::now();
        match timeout(
            options.renew_deadline,
            try_acquire(&api, &options, &mut seen),
        )
        .await
        {
            Ok(Ok(Some(lease))) => {
                info!(lease = %options.name, identity = %options.identity, "became leader");
                return Some(Held {
                    api,
                    ends: watch::Sender::new(started + options.renew_deadline),
                    options,
                    lease,
                    renewed: started,
                });
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                warn!(%error, lease = %options.name, "could not read or take the lease");
            }
            Err(_) => warn!(lease = %options.name, "the api-server did not answer in time"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = sleep(options.retry) => {}
        }
    }
}

async fn try_acquire(
    api: &Api<Lease>,
    options: &LeaseOptions,
    seen: &mut Option<(String, Instant)>,
) -> Result<Option<Lease>, kube::Error> {
    let Some(current) = api.get_opt(&options.name).await? else {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(options.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(spec(options, 0, None)),
        };
        return conflict_is_none(api.create(&PostParams::default(), &lease).await);
    };
    let version = current
        .metadata
        .resource_version
        .clone()
        .unwrap_or_default();
    let since = match seen {
        Some((known, since)) if *known == version => *since,
        _ => {
            let now = Instant::now();
            *seen = Some((version, now));
            now
        }
    };
    let held = current.spec.as_ref();
    let holder = held
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default();
    let patience = held
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(options.duration, Duration::from_secs);
    if !holder.is_empty() && holder != options.identity && since.elapsed() < patience {
        debug!(holder, "another process leads");
        return Ok(None);
    }
    let transitions = held
        .and_then(|spec| spec.lease_transitions)
        .unwrap_or(0)
        .saturating_add(1);
    let mut next = current;
    next.spec = Some(spec(options, transitions, None));
    conflict_is_none(
        api.replace(&options.name, &PostParams::default(), &next)
            .await,
    )
}

fn spec(options: &LeaseOptions, transitions: i32, acquired: Option<MicroTime>) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    LeaseSpec {
        holder_identity: Some(options.identity.clone()),
        lease_duration_seconds: i32::try_from(options.duration.as_secs()).ok(),
        acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

fn conflict_is_none(result: Result<Lease, kube::Error>) -> Result<Option<Lease>, kube::Error> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

impl Held {
    /// Tells those that act in the Lease's name whether they may.
    pub fn fence(&self) -> Fence {
        Fence(self.ends.subscribe())
    }

    /// Renews until `stop` is cancelled (`Ok`: the Lease is still ours, to be
    /// [released](Held::release) after the drain) or the Lease is lost (`Err`: the
    /// caller must stop every write and exit).
    pub async fn keep(mut self, stop: &CancellationToken) -> Result<Self, LeaseError> {
        let mut last = String::from("none");
        loop {
            let left = (self.renewed + self.options.renew_deadline)
                .saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LeaseError::RenewDeadline {
                    namespace: self.options.namespace.clone(),
                    name: self.options.name.clone(),
                    deadline: self.options.renew_deadline,
                    last,
                });
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(self),
                () = sleep(self.options.retry.min(left)) => {}
            }
            let started = Instant::now();
            let left =
                (self.renewed + self.options.renew_deadline).saturating_duration_since(started);
            let mut next = self.lease.clone();
            if let Some(spec) = next.spec.as_mut() {
                spec.renew_time = Some(MicroTime(Timestamp::now()));
            }
            match timeout(
                left,
                self.api
                    .replace(&self.options.name, &PostParams::default(), &next),
            )
            .await
            {
                Ok(Ok(lease)) => {
                    self.lease = lease;
                    self.renewed = started;
                    self.ends
                        .send_replace(started + self.options.renew_deadline);
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 409 || status.code == 404 => {
                    self.reread_after_conflict().await?;
                }
                Ok(Err(error)) => {
                    warn!(%error, "could not renew the lease");
                    last = error.to_string();
                }
                Err(_) => "the api-server did not answer in time".clone_into(&mut last),
            }
        }
    }

    /// A conflict is a loss, unless the write that won was our own: its answer can be
    /// lost on the way while the write itself arrived.
    async fn reread_after_conflict(&mut self) -> Result<(), LeaseError> {
        let found = timeout(self.options.retry, self.api.get_opt(&self.options.name)).await;
        // Unknown is not lost: the renew deadline decides.
        let Ok(Ok(lease)) = found else { return Ok(()) };
        let holder = lease
            .as_ref()
            .and_then(|lease| lease.spec.as_ref())
            .and_then(|spec| spec.holder_identity.clone());
        match lease {
            Some(lease) if holder.as_deref() == Some(self.options.identity.as_str()) => {
                self.lease = lease;
                Ok(())
            }
            _ => Err(LeaseError::Taken {
                namespace: self.options.namespace.clone(),
                name: self.options.name.clone(),
                holder,
            }),
        }
    }

    /// Gives the Lease up, so that the next candidate need not wait. Call it only when
    /// nothing of this process acts any more.
    pub async fn release(self) {
        let mut next = self.lease;
        if let Some(spec) = next.spec.as_mut() {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let parameters = PostParams::default();
        let write = self.api.replace(&self.options.name, &parameters, &next);
        match timeout(self.options.retry, write).await {
            Ok(Ok(_)) => info!(lease = %self.options.name, "released the lease"),
            Ok(Err(error)) => warn!(%error, "could not release the lease; it runs out by itself"),
            Err(_) => warn!("could not release the lease in time; it runs out by itself"),
        }
    }
}
