//! What the controller says about a cluster: conditions out of what the steps found,
//! then the summary that programs wait for.

mod events;
mod passing;
mod say;

use std::time::Duration;

use kubebyon_api::{
    ManagedCluster, ManagedClusterStatus, Reason,
    conditions::{self, ConditionStatus, ConditionType, condition, keep_transition_time},
    managed_cluster::{HostnameRole, Phase},
};
use kubebyon_k8s::k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

pub use passing::Passing;
pub use say::{announce, facts, say};

use super::{
    error::{Halt, STEPS},
    observe::Observed,
};

/// The summary that programs wait for.
const SUMMARY: [ConditionType; 3] = [
    ConditionType::Ready,
    ConditionType::Reconciling,
    ConditionType::Stalled,
];
/// The steps of clusters with a public name alone.
const PUBLIC: [ConditionType; 2] = [ConditionType::DnsReady, ConditionType::PublicEndpointReady];

/// What became of one step.
#[derive(Debug)]
pub enum Outcome {
    /// It is done; the message says what is there.
    Done(String),
    /// It waits, or it failed.
    Halted(Halt),
    /// It was not tried, for an earlier step is not done.
    NotTried,
    /// The spec does not ask for it.
    NotAsked,
}

impl From<Result<String, Halt>> for Outcome {
    fn from(result: Result<String, Halt>) -> Self {
        match result {
            Ok(message) => Self::Done(message),
            Err(halt) => Self::Halted(halt),
        }
    }
}

/// What became of each of [`STEPS`].
pub type Steps = [Outcome; STEPS.len()];

/// The steps of a reconcile that came no further than the first ones.
pub fn only<const N: usize>(first: [Outcome; N]) -> Steps {
    let mut first = first.into_iter();
    STEPS.map(|_| first.next().unwrap_or(Outcome::NotTried))
}

/// The findings of one reconcile.
#[derive(Debug)]
pub struct Findings {
    /// One outcome for each of [`STEPS`], in their order.
    pub steps: Steps,
    /// What the steps found that is no condition.
    pub facts: ManagedClusterStatus,
    /// Whether `spec.suspend` holds everything back.
    pub suspended: bool,
    /// A change that is about to be made, announced before it is.
    pub announced: Option<(Reason, String)>,
    /// When something is due though all is done.
    pub due: Option<Duration>,
}

impl Findings {
    /// The first step that is not done.
    pub fn halt(&self) -> Option<(ConditionType, &Halt)> {
        STEPS
            .into_iter()
            .zip(&self.steps)
            .find_map(|(type_, outcome)| match outcome {
                Outcome::Halted(halt) => Some((type_, halt)),
                Outcome::Done(_) | Outcome::NotTried | Outcome::NotAsked => None,
            })
    }

    fn done(&self) -> bool {
        self.steps
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Done(_) | Outcome::NotAsked))
    }
}

/// The status of `cluster` after `findings`. Conditions of other controllers are left
/// out: each controller applies its own.
pub fn status(
    cluster: &ManagedCluster,
    findings: &Findings,
    now: Timestamp,
) -> ManagedClusterStatus {
    let generation = cluster.metadata.generation.unwrap_or_default();
    let before = cluster.status.clone().unwrap_or_default();
    let now = Time(now);
    let old = |type_: ConditionType| conditions::find(&before.conditions, type_);
    let make = |type_, status, reason, message: String| {
        keep_transition_time(
            old(type_),
            condition(type_, status, reason, message, generation, &now),
        )
    };

    let private = cluster.spec.public_access.is_none();
    let mut list: Vec<Condition> = STEPS
        .into_iter()
        .zip(&findings.steps)
        .filter(|(type_, _)| !(private && PUBLIC.contains(type_)))
        .filter_map(|(type_, outcome)| match outcome {
            Outcome::NotAsked => None,
            Outcome::Done(message) => Some(make(
                type_,
                ConditionStatus::True,
                Reason::Succeeded,
                message.clone(),
            )),
            Outcome::Halted(halt) => Some(make(
                type_,
                ConditionStatus::False,
                halt.reason(),
                halt.message(),
            )),
            // What was known of it stays, with the generation of which it was known.
            Outcome::NotTried => Some(old(type_).cloned().unwrap_or_else(|| {
                let message = findings.halt().map_or_else(String::new, |(earlier, halt)| {
                    format!("waits for {earlier} ({})", halt.reason())
                });
                make(
                    type_,
                    ConditionStatus::Unknown,
                    Reason::WaitingForDependency,
                    message,
                )
            })),
        })
        .collect();
    list.extend(summary(findings, make));

    let mut status = findings.facts.clone();
    status.observed_generation = Some(generation);
    status.phase = Some(phase(cluster, findings, &before));
    status.conditions = list;
    status
}

fn summary(
    findings: &Findings,
    make: impl Fn(ConditionType, ConditionStatus, Reason, String) -> Condition,
) -> Vec<Condition> {
    use ConditionStatus::{False, True};
    let halt = findings.halt().map(|(_, halt)| halt);
    let ready = match (findings.done(), halt) {
        (true, _) => (
            True,
            Reason::Succeeded,
            "the tenant's API answered, verified by its own CA".to_owned(),
        ),
        (false, Some(halt)) => (False, halt.reason(), halt.message()),
        (false, None) => (False, Reason::Progressing, String::new()),
    };
    let stalled = halt.filter(|halt| halt.is_terminal());
    let reconciling = match (&findings.announced, findings.suspended, stalled, halt) {
        (_, true, _, _) => (
            False,
            Reason::Suspended,
            "spec.suspend is true: nothing is changed".to_owned(),
        ),
        (Some((reason, message)), _, _, _) => (True, *reason, message.clone()),
        (None, _, Some(halt), _) => (
            False,
            halt.reason(),
            "waiting for a change of the spec, or of what the message of Stalled names".to_owned(),
        ),
        (None, _, None, Some(halt)) => (True, halt.reason(), halt.message()),
        (None, _, None, None) => (False, Reason::Succeeded, String::new()),
    };
    let stalled = match (findings.suspended, stalled) {
        (false, Some(halt)) => (True, halt.reason(), halt.message()),
        _ => (False, Reason::Succeeded, String::new()),
    };
    vec![
        make(ConditionType::Ready, ready.0, ready.1, ready.2),
        make(
            ConditionType::Reconciling,
            reconciling.0,
            reconciling.1,
            reconciling.2,
        ),
        make(ConditionType::Stalled, stalled.0, stalled.1, stalled.2),
    ]
}

/// The findings of a deletion that is under way: the steps are left as they were, and
/// the summary says which stage it is in.
pub fn deleting(cluster: &ManagedCluster, observed: &Observed, halt: &Halt) -> Findings {
    let before = cluster.status.clone().unwrap_or_default();
    Findings {
        steps: only([Outcome::Halted(Halt::wait(halt.reason(), halt.message()))]),
        facts: ManagedClusterStatus {
            kubernetes_version: before.kubernetes_version,
            release: before.release,
            host_namespace: Some(observed.host_namespace.clone()),
            ..ManagedClusterStatus::default()
        },
        suspended: false,
        announced: Some((halt.reason(), halt.message())),
        due: None,
    }
}

fn phase(cluster: &ManagedCluster, findings: &Findings, before: &ManagedClusterStatus) -> Phase {
    if cluster.metadata.deletion_timestamp.is_some() {
        return Phase::Deleting;
    }
    if findings.suspended {
        return Phase::Suspended;
    }
    let installed = before
        .release
        .as_ref()
        .is_some_and(|release| release.revision.is_some())
        || findings
            .facts
            .release
            .as_ref()
            .is_some_and(|release| release.revision.is_some());
    let was_up = matches!(
        before.phase,
        Some(Phase::Ready | Phase::Updating | Phase::Degraded)
    );
    match findings.halt() {
        Some((_, halt)) if halt.is_terminal() => Phase::Failed,
        _ if findings.announced.is_some() => {
            if installed {
                Phase::Updating
            } else {
                Phase::Installing
            }
        }
        None if findings.done() => Phase::Ready,
        None => Phase::Pending,
        Some((ConditionType::NamespaceReady, _)) if !installed => Phase::Pending,
        Some(_) if was_up => Phase::Degraded,
        Some(_) => Phase::Installing,
    }
}

/// Whether writing `new` over `old` would tell anybody anything.
pub fn differs(old: Option<&ManagedClusterStatus>, new: &ManagedClusterStatus) -> bool {
    let Some(old) = old else { return true };
    let mut mine = old.clone();
    let is_mine = |condition: &Condition| {
        STEPS
            .iter()
            .chain(&SUMMARY)
            .any(|type_| condition.type_ == type_.as_str())
    };
    mine.conditions.retain(is_mine);
    mine.hostnames
        .retain(|hostname| hostname.role == HostnameRole::ControlPlane);
    let order = |status: &mut ManagedClusterStatus| {
        status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        status.hostnames.sort_by(|a, b| a.name.cmp(&b.name));
    };
    let mut new = new.clone();
    order(&mut mine);
    order(&mut new);
    // Fields of other controllers are not ours to compare.
    mine.canonical_hostname.clone_from(&new.canonical_hostname);
    mine.backend.clone_from(&new.backend);
    mine != new
}
