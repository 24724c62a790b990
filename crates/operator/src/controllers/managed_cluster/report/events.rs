//! What is told to people when a status changes: an event each time that readiness moves on, and
//! one when somebody else's route carries a name of the cluster.

use kubebyon_api::{
    ManagedClusterStatus, Reason,
    conditions::{self, ConditionType},
};
use kubebyon_k8s::kube::runtime::events::{Event, EventType};

use super::{super::error::Halt, Findings};

/// Characters of a message that an event takes (events.k8s.io/v1, `note`: 1 kB).
const MAX_NOTE: usize = 1000;

/// The events for the step from `before` to `now`.
pub fn events(
    before: Option<&ManagedClusterStatus>,
    now: &ManagedClusterStatus,
    findings: &Findings,
) -> Vec<Event> {
    readiness(before, now, findings)
        .into_iter()
        .chain(foreign_route(before, now))
        .collect()
}

fn readiness(
    before: Option<&ManagedClusterStatus>,
    now: &ManagedClusterStatus,
    findings: &Findings,
) -> Option<Event> {
    let ready = |status: &ManagedClusterStatus| {
        conditions::find(&status.conditions, ConditionType::Ready).cloned()
    };
    let now = ready(now)?;
    let same = before
        .and_then(ready)
        .is_some_and(|before| before.status == now.status && before.reason == now.reason);
    // That something is on its way is told once, when it begins.
    let on_its_way = now.reason == Reason::Progressing.as_str() && findings.announced.is_none();
    if same || on_its_way {
        return None;
    }
    let wrong = findings
        .halt()
        .is_some_and(|(_, halt)| !matches!(halt, Halt::Waiting(_)));
    Some(Event {
        type_: if wrong {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: now.reason,
        note: Some(now.message.chars().take(MAX_NOTE).collect()),
        action: findings
            .halt()
            .map_or("Reconcile", |(type_, _)| type_.as_str())
            .to_owned(),
        secondary: None,
    })
}

fn foreign_route(
    before: Option<&ManagedClusterStatus>,
    now: &ManagedClusterStatus,
) -> Option<Event> {
    let stolen = |status: &ManagedClusterStatus| -> Vec<String> {
        let foreign = status
            .hostnames
            .iter()
            .filter(|hostname| hostname.reason.as_deref() == Some(Reason::ForeignRoute.as_str()));
        foreign.map(|hostname| hostname.name.clone()).collect()
    };
    let known = before.map(stolen).unwrap_or_default();
    let name = stolen(now).into_iter().find(|name| !known.contains(name))?;
    let what = conditions::find(&now.conditions, ConditionType::PublicEndpointReady)
        .map(|condition| condition.message.clone())
        .unwrap_or_default();
    Some(Event {
        type_: EventType::Warning,
        reason: Reason::ForeignRoute.to_string(),
        note: Some(
            format!("somebody else's route carries {name}: {what}")
                .chars()
                .take(MAX_NOTE)
                .collect(),
        ),
        action: ConditionType::PublicEndpointReady.as_str().to_owned(),
        secondary: None,
    })
}
