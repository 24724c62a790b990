//! What to do next with a release: a pure decision over its history.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    digest::Sha256Digest,
    release::{ReleaseHistory, SecretVersion, Status},
};

/// What a release should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desired {
    /// Digest of the chart archive; it stands for the chart's name and version.
    pub chart_digest: Sha256Digest,
    /// [`crate::values::values_hash`] of the values.
    pub values_hash: Sha256Digest,
    /// Whether a rendered object is known to differ from what was applied, so that the
    /// same revision has to be applied again, with force.
    pub drifted: bool,
}

/// Why an upgrade is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Chart or values changed, or the deployed revision does not tell what it was made from.
    Changed,
    /// The newest revision did not succeed.
    Retry,
    /// Somebody changed an object of the release.
    Drift,
}

/// The next step for a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is as desired.
    None,
    /// There is no release: install it.
    Install,
    /// Upgrade the release.
    Upgrade(Why),
    /// An operation is under way; look again then.
    Wait {
        /// When the operation is certainly dead.
        until: Timestamp,
    },
    /// An operation died and left its lock: call [`crate::unlock`] with this.
    Unlock {
        /// The dead revision's Secret, to delete.
        dead: SecretVersion,
        /// The deployed revision's Secret, to mark as not to be trusted, for the dead
        /// operation may have changed objects of it.
        deployed: Option<SecretVersion>,
    },
    /// A removal was begun and did not end: uninstall first.
    FinishUninstall,
}

/// Decides the next step.
///
/// `time_limit` is the longest that any helm run can take ([`crate::Helm::time_limit`]); a
/// pending revision older than that is dead, since helm ends with the process that ran
/// it and is killed at its time limit. `now` is to come from a clock that agrees with
/// the api-server's to within a minute or so; a pending revision without a time, or with
/// one far in the future, counts from `now` on.
pub fn plan(
    history: &ReleaseHistory,
    desired: &Desired,
    now: Timestamp,
    time_limit: Duration,
) -> Action {
    let Some(latest) = history.latest() else {
        return Action::Install;
    };
    match latest.status {
        Status::PendingInstall | Status::PendingUpgrade | Status::PendingRollback => {
            let started = latest.started.or(latest.modified).unwrap_or(now).min(now);
            let until = started.checked_add(time_limit).unwrap_or(Timestamp::MAX);
            if now < until {
                return Action::Wait { until };
            }
            Action::Unlock {
                dead: latest.secret.clone(),
                deployed: history.deployed().map(|revision| revision.secret.clone()),
            }
        }
        Status::Uninstalling => Action::FinishUninstall,
        Status::Uninstalled => Action::Install,
        Status::Deployed if !latest.is_of(&desired.chart_digest, &desired.values_hash) => {
            Action::Upgrade(Why::Changed)
        }
        Status::Deployed if desired.drifted => Action::Upgrade(Why::Drift),
        Status::Deployed => Action::None,
        Status::Failed | Status::Superseded | Status::Unknown => Action::Upgrade(
            if latest.is_of(&desired.chart_digest, &desired.values_hash) {
                Why::Retry
            } else {
                Why::Changed
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use kubebyon_k8s::k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
    use proptest::prelude::*;

    use super::*;
    use crate::release::{CHART_DIGEST_LABEL, VALUES_HASH_LABEL};

    const LIMIT: Duration = Duration::from_mins(5);
    const STATUSES: [&str; 9] = [
        "deployed",
        "superseded",
        "failed",
        "uninstalled",
        "uninstalling",
        "pending-install",
        "pending-upgrade",
        "pending-rollback",
        "odd",
    ];

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn desired(values: &str) -> Desired {
        Desired {
            chart_digest: Sha256Digest::of(b"chart"),
            values_hash: Sha256Digest::of(values.as_bytes()),
            drifted: false,
        }
    }

    /// A history from (status, values, age at second 1000), oldest first.
    fn history(revisions: &[(&str, &str, i64)]) -> ReleaseHistory {
        let secrets: Vec<_> = revisions
            .iter()
            .enumerate()
            .map(|(index, (status, values, age))| {
                let number = index + 1;
                let labels = [
                    ("owner", "helm".to_owned()),
                    ("name", "demo".to_owned()),
                    ("status", (*status).to_owned()),
                    ("version", number.to_string()),
                    (
                        VALUES_HASH_LABEL,
                        Sha256Digest::of(values.as_bytes()).label(),
                    ),
                    (CHART_DIGEST_LABEL, Sha256Digest::of(b"chart").label()),
                ];
                ObjectMeta {
                    name: Some(format!("sh.helm.release.v1.demo.v{number}")),
                    uid: Some(format!("uid-{number}")),
                    resource_version: Some(format!("rv-{number}")),
                    creation_timestamp: Some(Time(at(1000 - age))),
                    labels: Some(labels.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
                    ..ObjectMeta::default()
                }
            })
            .collect();
        ReleaseHistory::read("demo", &secrets)
    }

    #[test]
    fn each_state_has_its_step() {
        let step = |revisions: &[_]| plan(&history(revisions), &desired("a"), at(1000), LIMIT);
        assert_eq!(step(&[]), Action::Install);
        assert_eq!(step(&[("deployed", "a", 9)]), Action::None);
        assert_eq!(step(&[("deployed", "b", 9)]), Action::Upgrade(Why::Changed));
        assert_eq!(
            step(&[("failed", "a", 9)]),
            Action::Upgrade(Why::Retry),
            "a failed first install is tried again"
        );
        assert_eq!(
            step(&[("deployed", "b", 9), ("failed", "a", 8)]),
            Action::Upgrade(Why::Retry)
        );
        assert_eq!(
            step(&[("deployed", "a", 9), ("failed", "b", 8)]),
            Action::Upgrade(Why::Changed),
            "back to the deployed values after a failed upgrade still has to undo it"
        );
        assert_eq!(
            step(&[("superseded", "a", 9)]),
            Action::Upgrade(Why::Retry),
            "killed between its last two writes"
        );
        assert_eq!(step(&[("uninstalled", "a", 9)]), Action::Install);
        assert_eq!(step(&[("uninstalling", "a", 9)]), Action::FinishUninstall);
        assert_eq!(
            step(&[("pending-install", "a", 10)]),
            Action::Wait { until: at(1290) }
        );
    }

    #[test]
    fn a_dead_lock_is_named_exactly() {
        let step = plan(
            &history(&[("deployed", "a", 999), ("pending-upgrade", "b", 300)]),
            &desired("b"),
            at(1000),
            LIMIT,
        );
        let Action::Unlock { dead, deployed } = step else {
            panic!("{step:?}")
        };
        assert_eq!(
            (
                dead.name.as_str(),
                dead.uid.as_str(),
                dead.resource_version.as_str()
            ),
            ("sh.helm.release.v1.demo.v2", "uid-2", "rv-2")
        );
        assert_eq!(deployed.unwrap().name, "sh.helm.release.v1.demo.v1");
    }

    #[test]
    fn drift_asks_for_the_same_again() {
        let drifted = Desired {
            drifted: true,
            ..desired("a")
        };
        assert_eq!(
            plan(&history(&[("deployed", "a", 9)]), &drifted, at(1000), LIMIT),
            Action::Upgrade(Why::Drift)
        );
    }

    #[test]
    fn a_revision_without_our_labels_is_not_trusted() {
        let mut meta = ObjectMeta {
            name: Some("sh.helm.release.v1.demo.v1".to_owned()),
            ..ObjectMeta::default()
        };
        meta.labels = Some(
            [("owner", "helm"), ("name", "demo"), ("status", "deployed")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        );
        let history = ReleaseHistory::read("demo", [&meta]);
        assert_eq!(
            plan(&history, &desired("a"), at(1000), LIMIT),
            Action::Upgrade(Why::Changed)
        );
    }

    proptest! {
        #[test]
        fn no_step_disturbs_what_is_under_way(
            revisions in prop::collection::vec((prop::sample::select(&STATUSES[..]), prop::sample::select(&["a", "b"][..]), -50_i64..999), 0..6),
            now in 0_i64..5000,
            drifted: bool,
        ) {
            let history = history(&revisions);
            let step = plan(&history, &Desired { drifted, ..desired("a") }, at(now), LIMIT);
            let pending = history.latest().is_some_and(|latest| latest.status.is_pending());
            match &step {
                Action::Wait { until } => prop_assert!(pending && *until > at(now) && *until <= at(now) + LIMIT),
                Action::Unlock { dead, .. } => {
                    let latest = history.latest().unwrap();
                    prop_assert!(pending && latest.started.unwrap() + LIMIT <= at(now));
                    prop_assert_eq!(dead, &latest.secret);
                }
                Action::None => {
                    let latest = history.latest().unwrap();
                    prop_assert!(latest.status == Status::Deployed && !drifted);
                    prop_assert!(latest.is_of(&desired("a").chart_digest, &desired("a").values_hash));
                }
                Action::Install => prop_assert!(history.latest().is_none_or(|latest| latest.status == Status::Uninstalled)),
                Action::Upgrade(_) | Action::FinishUninstall => prop_assert!(!pending),
            }
        }
    }
}
