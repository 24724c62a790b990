//! From one public name of a tenant's API to another, so that the published kubeconfig works at
//! every moment.
//!
//! The order: the tenant's certificate serves the new name, the route carries it, it answers when
//! dialled, the kubeconfig switches, and ten minutes later the old name goes. The first name takes
//! the same way. The name in the kubeconfig is always among those that the certificate and the
//! route have to carry, whatever else goes wrong.
//!
//! What has to be remembered between two runs is [`Names::published`] and [`Names::retiring`]. Both
//! belong into one object, the kubeconfig's Secret, so that one write moves both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use kubebyon_api::labels;
use kubebyon_api::types::Hostname;
use serde::{Deserialize, Serialize};

use super::{Hostnames, MAX_HOSTNAMES};

/// How long a name still works after the kubeconfig has left it.
pub const RETIRE_AFTER: Duration = Duration::from_secs(600);

/// A name that the kubeconfig has left.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Retiring {
    /// The name.
    pub name: Hostname,
    /// When the kubeconfig left it.
    pub since: Timestamp,
}

impl Retiring {
    /// When the name may go.
    pub fn due(&self) -> Timestamp {
        self.since
            .checked_add(RETIRE_AFTER)
            .unwrap_or(Timestamp::MAX)
    }
}

/// The names of a tenant's API: none is in two of the three places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    desired: Hostname,
    published: Option<Hostname>,
    retiring: Vec<Retiring>,
}

/// What was seen of the wanted name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The tenant shows a certificate that covers the wanted name.
    pub san_served: bool,
    /// The host names on the route as it is.
    pub routed: &'a [Hostname],
    /// The gateway's controller has accepted that route in its present generation.
    pub route_accepted: bool,
    /// The wanted name was dialled through the entrance, and the tenant's API answered.
    pub probe_ok: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Have the tenant's certificate cover the wanted name, and wait until it is served.
    AddSan,
    /// Put the wanted name on the route, and wait until the route is accepted.
    AddRouteHostname,
    /// Dial the wanted name until it answers.
    Probe,
    /// Write the wanted name into the kubeconfig: see [`Names::after`].
    SwitchKubeconfig,
    /// Names that the kubeconfig has left are still routed. Those that are due go at `due`, which
    /// may be past.
    RetireOld {
        /// When the first of them is due.
        due: Timestamp,
    },
    /// Nothing.
    Done,
}

impl Names {
    /// The wanted name, the one in the kubeconfig, and those that it has left. A name that is wanted
    /// or published is not retiring.
    pub fn new(
        desired: Hostname,
        published: Option<Hostname>,
        retiring: impl IntoIterator<Item = Retiring>,
    ) -> Self {
        let mut retiring: Vec<_> = retiring
            .into_iter()
            .filter(|old| old.name != desired && Some(&old.name) != published.as_ref())
            .collect();
        // The youngest first: should there be too many for one route, the oldest go early.
        retiring.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.name.cmp(&b.name)));
        let mut seen = BTreeSet::new();
        retiring.retain(|old| seen.insert(old.name.clone()));
        retiring.truncate(MAX_HOSTNAMES - 2);
        Self {
            desired,
            published,
            retiring,
        }
    }

    /// As [`Names::new`], with what the annotations of the kubeconfig's Secret remember. What cannot be
    /// read in them was not written by us, and is forgotten.
    pub fn remembered(desired: Hostname, annotations: &BTreeMap<String, String>) -> Self {
        let published = annotations.get(labels::PUBLIC_NAME);
        let retiring = annotations.get(labels::RETIRING_NAMES);
        Self::new(
            desired,
            published.and_then(|text| text.parse().ok()),
            retiring
                .and_then(|text| serde_json::from_str::<Vec<Retiring>>(text).ok())
                .unwrap_or_default(),
        )
    }

    /// Without the names that were left or published and that `vouched` does not vouch for: the
    /// kubeconfig's Secret is beside the ManagedCluster, where its author may write what they like.
    #[must_use]
    pub fn only(self, vouched: impl Fn(&Hostname) -> bool) -> Self {
        Self {
            published: self.published.filter(&vouched),
            retiring: self
                .retiring
                .into_iter()
                .filter(|old| vouched(&old.name))
                .collect(),
            desired: self.desired,
        }
    }

    /// What the annotations of the kubeconfig's Secret have to remember. That nothing is retiring is
    /// said in so many words: an annotation that somebody has edited would outlive being left out.
    pub fn memory(&self) -> BTreeMap<String, String> {
        let published = self
            .published
            .iter()
            .map(|name| (labels::PUBLIC_NAME.to_owned(), name.to_string()));
        let retiring = serde_json::to_string(&self.retiring)
            .ok()
            .map(|text| (labels::RETIRING_NAMES.to_owned(), text));
        published.chain(retiring).collect()
    }

    /// The name that the spec asks for.
    pub fn desired(&self) -> &Hostname {
        &self.desired
    }

    /// The name in the kubeconfig.
    pub fn published(&self) -> Option<&Hostname> {
        self.published.as_ref()
    }

    /// The names that the kubeconfig has left, the youngest first.
    pub fn retiring(&self) -> &[Retiring] {
        &self.retiring
    }

    /// All of them: to be claimed, and to be covered by the tenant's certificate
    /// ([`super::certificate::subject_alt_names`]).
    pub fn all(&self) -> impl Iterator<Item = &Hostname> {
        std::iter::once(&self.desired)
            .chain(
                self.published
                    .as_ref()
                    .filter(|name| **name != self.desired),
            )
            .chain(self.retiring.iter().map(|old| &old.name))
    }

    /// What comes next.
    pub fn next(&self, seen: &Seen<'_>) -> Step {
        if !seen.san_served {
            Step::AddSan
        } else if !seen.routed.contains(&self.desired) || !seen.route_accepted {
            Step::AddRouteHostname
        } else if !seen.probe_ok {
            Step::Probe
        } else if self.published.as_ref() != Some(&self.desired) {
            Step::SwitchKubeconfig
        } else {
            let due = self.retiring.iter().map(Retiring::due).min();
            due.map_or(Step::Done, |due| Step::RetireOld { due })
        }
    }

    /// The host names that the route has to carry at `now`; none before the first is served.
    ///
    /// The wanted name enters once the tenant's certificate serves it, and stays when that is no
    /// longer seen: a tenant that restarts is no reason to write. Old names leave only when all is
    /// well with the new one.
    pub fn routed(&self, seen: &Seen<'_>, now: Timestamp) -> Option<Hostnames> {
        let wanted = seen.san_served
            || seen.routed.contains(&self.desired)
            || self.published.as_ref() == Some(&self.desired);
        let kept = self.after(seen, now);
        Hostnames::new(
            wanted
                .then_some(&self.desired)
                .into_iter()
                .chain(self.published.as_ref())
                .chain(kept.retiring.iter().map(|old| &old.name)),
        )
    }

    /// The names once this step is done: what the kubeconfig's Secret has to say then. Equal to
    /// `self` while there is nothing to write.
    #[must_use]
    pub fn after(&self, seen: &Seen<'_>, now: Timestamp) -> Self {
        match self.next(seen) {
            Step::SwitchKubeconfig => self.switched(now),
            Step::RetireOld { .. } => Self {
                retiring: self
                    .retiring
                    .iter()
                    .filter(|old| old.due() > now)
                    .cloned()
                    .collect(),
                ..self.clone()
            },
            Step::AddSan | Step::AddRouteHostname | Step::Probe | Step::Done => self.clone(),
        }
    }

    /// The names when the kubeconfig has switched to the wanted one.
    fn switched(&self, now: Timestamp) -> Self {
        let left = self
            .published
            .clone()
            .map(|name| Retiring { name, since: now });
        Self::new(
            self.desired.clone(),
            Some(self.desired.clone()),
            left.into_iter().chain(self.retiring.iter().cloned()),
        )
    }
}

#[cfg(test)]
mod tests;
