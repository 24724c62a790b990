//! The types of conditions, and pure helpers over Kubernetes' `Condition`.

use std::fmt;

use kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::Reason;

/// Every type of condition that the controllers write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// ManagedCluster: the host namespace is there, claimed and guarded.
    NamespaceReady,
    /// ManagedCluster: the Helm release is deployed as the spec asks.
    ReleaseDeployed,
    /// ManagedCluster: the tenant's own API answered, verified by its CA.
    ControlPlaneAvailable,
    /// ManagedCluster: the Secret with the kubeconfig is as it should be.
    KubeconfigPublished,
    /// ManagedCluster: the public name was dialled through the gateway and answered.
    PublicEndpointReady,
    /// ManagedCluster: the names that the operator gave resolve to the gateway.
    DnsReady,
    /// ManagedCluster: the tenant's sites have routes and backends.
    WorkloadEdgeReady,
    /// ManagedCluster with private nodes: the host's nodes keep the routes to its pods.
    RoutesReady,
    /// PublicAccess: the spec can be carried out.
    Accepted,
    /// PublicAccess: the data plane carries the configuration, as its controller says.
    Programmed,
    /// PublicAccess: every certificate asked for is there.
    CertificatesReady,
    /// Summary: all of it works. Also read by `kubectl wait`, Argo CD and Flux (kstatus).
    Ready,
    /// Summary: a change is on the way (kstatus).
    Reconciling,
    /// Summary: only a change of the spec, or of something outside, can help (kstatus).
    Stalled,
}

impl ConditionType {
    /// All types.
    pub const ALL: [Self; 14] = [
        Self::NamespaceReady,
        Self::ReleaseDeployed,
        Self::ControlPlaneAvailable,
        Self::KubeconfigPublished,
        Self::PublicEndpointReady,
        Self::DnsReady,
        Self::WorkloadEdgeReady,
        Self::RoutesReady,
        Self::Accepted,
        Self::Programmed,
        Self::CertificatesReady,
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NamespaceReady => "NamespaceReady",
            Self::ReleaseDeployed => "ReleaseDeployed",
            Self::ControlPlaneAvailable => "ControlPlaneAvailable",
            Self::KubeconfigPublished => "KubeconfigPublished",
            Self::PublicEndpointReady => "PublicEndpointReady",
            Self::DnsReady => "DNSReady",
            Self::WorkloadEdgeReady => "WorkloadEdgeReady",
            Self::RoutesReady => "RoutesReady",
            Self::Accepted => "Accepted",
            Self::Programmed => "Programmed",
            Self::CertificatesReady => "CertificatesReady",
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl ConditionStatus {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// The longest message that the schema admits, in characters.
pub const MAX_MESSAGE: usize = 32_768;

/// A condition as of `now`, about generation `generation` of its object.
///
/// A message over [`MAX_MESSAGE`] is cut: a status that cannot be written says nothing at all.
pub fn condition(
    type_: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: impl Into<String>,
    generation: i64,
    now: &Time,
) -> Condition {
    let mut message = message.into();
    if let Some((cut, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(cut);
    }
    Condition {
        type_: type_.as_str().to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: now.clone(),
    }
}

/// The condition of a type, if it is there.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions
        .iter()
        .find(|condition| condition.type_ == type_.as_str())
}

/// What a condition says about `generation`: one that is missing, or speaks of an older
/// generation, says nothing.
pub fn status_of(
    conditions: &[Condition],
    type_: ConditionType,
    generation: i64,
) -> ConditionStatus {
    match find(conditions, type_) {
        Some(condition) if condition.observed_generation.unwrap_or_default() >= generation => {
            match condition.status.as_str() {
                "True" => ConditionStatus::True,
                "False" => ConditionStatus::False,
                _ => ConditionStatus::Unknown,
            }
        }
        _ => ConditionStatus::Unknown,
    }
}

/// Whether a condition holds for `generation`.
pub fn is_true(conditions: &[Condition], type_: ConditionType, generation: i64) -> bool {
    status_of(conditions, type_, generation) == ConditionStatus::True
}

/// Puts `new` in the place of the condition of its type, and keeps the order of the others.
///
/// The time of transition moves only when the status does, so that writing the same again
/// changes nothing.
pub fn set(conditions: &mut Vec<Condition>, new: Condition) {
    match conditions
        .iter_mut()
        .find(|condition| condition.type_ == new.type_)
    {
        Some(old) => *old = keep_transition_time(Some(old), new),
        None => conditions.push(new),
    }
}

/// `new` with the time of transition of `old`, where the status is the same.
pub fn keep_transition_time(old: Option<&Condition>, mut new: Condition) -> Condition {
    if let Some(old) = old
        && old.status == new.status
    {
        new.last_transition_time = old.last_transition_time.clone();
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubebyon_k8s::k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("a time"))
    }

    fn ready(status: ConditionStatus, generation: i64, second: i64) -> Condition {
        condition(
            ConditionType::Ready,
            status,
            Reason::Succeeded,
            "",
            generation,
            &at(second),
        )
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let mut conditions = vec![ready(ConditionStatus::True, 1, 10)];
        set(&mut conditions, ready(ConditionStatus::True, 2, 20));
        assert_eq!(conditions[0].last_transition_time, at(10));
        assert_eq!(conditions[0].observed_generation, Some(2));
        set(&mut conditions, ready(ConditionStatus::False, 2, 30));
        assert_eq!(conditions[0].last_transition_time, at(30));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn an_older_generation_says_nothing() {
        let conditions = [ready(ConditionStatus::True, 1, 10)];
        assert!(is_true(&conditions, ConditionType::Ready, 1));
        assert_eq!(
            status_of(&conditions, ConditionType::Ready, 2),
            ConditionStatus::Unknown
        );
        assert_eq!(
            status_of(&conditions, ConditionType::Stalled, 1),
            ConditionStatus::Unknown
        );
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = condition(
            ConditionType::Ready,
            ConditionStatus::False,
            Reason::InternalError,
            "é".repeat(MAX_MESSAGE + 1),
            1,
            &at(0),
        );
        assert_eq!(cut.message.chars().count(), MAX_MESSAGE);
    }

    #[test]
    fn every_type_is_listed_once() {
        let mut words: Vec<_> = ConditionType::ALL.map(ConditionType::as_str).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ConditionType::ALL.len());
    }
}
