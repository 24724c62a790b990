//! The Gateways that a tenant's route is attached to: its entrance's, and while it moves to
//! another entrance the one that it leaves.
//!
//! The order of [`crate::exposure::change`] holds for entrances too: the route is attached to the
//! new one, the name is proved through it, and ten minutes later the old one goes. Until then the
//! published kubeconfig, and a resolver that still has the old addresses, lead to the tenant.
//!
//! What is to be remembered is on the route itself: its parents, and in an annotation since when
//! those that are not wanted any more are not needed.

use jiff::Timestamp;
use kubebyon_api::labels;
use kubebyon_k8s::kube::{ResourceExt, core::DynamicObject};
use serde::{Deserialize, Serialize};

use super::{Layout, Role};
use crate::exposure::change::RETIRE_AFTER;

/// Entrances that a route is attached to at most. Gateway API takes 32.
pub const MAX: usize = 8;

/// A listener of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// The Gateway's namespace.
    pub namespace: String,
    /// The Gateway's name.
    pub name: String,
    /// The listener's name.
    pub section_name: String,
}

/// A parent that the spec no longer asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Left {
    #[serde(flatten)]
    parent: Parent,
    /// When the wanted one was proved; none while that is under way.
    since: Option<Timestamp>,
}

impl Left {
    fn due(&self) -> Option<Timestamp> {
        self.since
            .map(|since| since.checked_add(RETIRE_AFTER).unwrap_or(Timestamp::MAX))
    }
}

/// The parents of one route: the wanted one, and those that it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parents {
    wanted: Parent,
    left: Vec<Left>,
}

impl Layout {
    /// Where the routes of tenants' APIs are attached.
    pub fn parent(&self) -> Parent {
        let gateway = &self.place(Role::ControlPlane).at;
        Parent {
            namespace: gateway.namespace.clone(),
            name: gateway.name.clone(),
            section_name: self.tls_listener.clone(),
        }
    }
}

/// Where a route is attached.
pub fn of(route: &DynamicObject) -> impl Iterator<Item = Parent> {
    let parents = route.data.pointer("/spec/parentRefs");
    parents
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|parent| Parent::deserialize(parent).ok())
}

impl Parents {
    /// The wanted parent alone.
    pub fn new(wanted: Parent) -> Self {
        Self {
            wanted,
            left: Vec::new(),
        }
    }

    /// The wanted parent, and those of the route as it is that `vouched` vouches for.
    pub fn of(wanted: Parent, route: &DynamicObject, vouched: impl Fn(&Parent) -> bool) -> Self {
        let remembered = route.annotations().get(labels::LEFT_GATEWAYS);
        let remembered: Vec<Left> = remembered
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let since = |parent: &Parent| {
            let found = remembered.iter().find(|left| left.parent == *parent);
            found.and_then(|left| left.since)
        };
        let mut left: Vec<Left> = of(route)
            .filter(|parent| *parent != wanted && vouched(parent))
            .map(|parent| Left {
                since: since(&parent),
                parent,
            })
            .collect();
        // The one that serves is at the end; those that were only passed through come before it.
        left.drain(..left.len().saturating_sub(MAX - 1));
        Self { wanted, left }
    }

    /// The parents once this step is done: what is left may go when the wanted one has been
    /// `proved` for a while.
    #[must_use]
    pub fn after(&self, proved: bool, now: Timestamp) -> Self {
        if !proved {
            return self.clone();
        }
        let left = self.left.iter().map(|left| Left {
            since: left.since.or(Some(now)),
            ..left.clone()
        });
        Self {
            wanted: self.wanted.clone(),
            left: left
                .filter(|left| left.due().is_some_and(|due| due > now))
                .collect(),
        }
    }

    /// All of them, the wanted one first.
    pub fn iter(&self) -> impl Iterator<Item = &Parent> {
        std::iter::once(&self.wanted).chain(self.left.iter().map(|left| &left.parent))
    }

    /// When the first of them may go.
    pub fn due(&self) -> Option<Timestamp> {
        self.left.iter().filter_map(Left::due).min()
    }

    /// What the route's annotation has to remember, if anything.
    pub fn memory(&self) -> Option<String> {
        let due: Vec<_> = self
            .left
            .iter()
            .filter(|left| left.since.is_some())
            .collect();
        (!due.is_empty())
            .then(|| serde_json::to_string(&due).ok())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parent(name: &str) -> Parent {
        Parent {
            namespace: "edge".to_owned(),
            name: name.to_owned(),
            section_name: "control-plane".to_owned(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The route as the api-server gives it back when `parents` were written.
    fn route(parents: &Parents) -> DynamicObject {
        let refs: Vec<Value> = parents.iter().map(|parent| json!(parent)).collect();
        let annotations = parents
            .memory()
            .map(|text| json!({labels::LEFT_GATEWAYS: text}));
        serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "TLSRoute",
            "metadata": {"name": "r", "annotations": annotations},
            "spec": {"parentRefs": refs},
        }))
        .unwrap()
    }

    fn names(parents: &Parents) -> Vec<&str> {
        parents.iter().map(|parent| parent.name.as_str()).collect()
    }

    #[test]
    fn the_old_one_goes_ten_minutes_after_the_new_one_is_proved() {
        let before = route(&Parents::new(parent("old")));
        let parents = Parents::of(parent("new"), &before, |_| true).after(false, at(0));
        assert_eq!(names(&parents), ["new", "old"]);
        assert_eq!((parents.due(), parents.memory()), (None, None));
        let parents = Parents::of(parent("new"), &route(&parents), |_| true).after(true, at(100));
        assert_eq!(names(&parents), ["new", "old"]);
        assert_eq!(parents.due(), Some(at(700)));
        // While something is wrong with the new one, the old one stays beyond its time.
        let parents = Parents::of(parent("new"), &route(&parents), |_| true);
        assert_eq!(parents.after(false, at(900)), parents);
        assert_eq!(names(&parents.after(true, at(699))), ["new", "old"]);
        assert_eq!(parents.after(true, at(700)), Parents::new(parent("new")));
    }

    #[test]
    fn there_and_back_again() {
        let away = Parents::of(parent("b"), &route(&Parents::new(parent("a"))), |_| true);
        let away = away.after(true, at(0));
        let back = Parents::of(parent("a"), &route(&away), |_| true).after(false, at(60));
        assert_eq!(names(&back), ["a", "b"]);
        assert_eq!(back.memory(), None, "b is needed until a is proved again");
        assert_eq!(back.after(true, at(70)).due(), Some(at(670)));
    }

    #[test]
    fn whoever_nobody_vouches_for_is_left_at_once() {
        let before = route(&Parents::new(parent("gone")));
        let parents = Parents::of(parent("new"), &before, |parent| parent.name != "gone");
        assert_eq!(parents, Parents::new(parent("new")));
    }

    #[test]
    fn what_is_passed_through_in_haste_is_dropped_before_what_serves() {
        let mut parents = Parents::new(parent("serves"));
        for number in 0..20 {
            let next = parent(&format!("n{number}"));
            parents = Parents::of(next, &route(&parents), |_| true).after(false, at(number));
        }
        let names = names(&parents);
        assert_eq!(names.len(), MAX);
        assert_eq!((names[0], names[MAX - 1]), ("n19", "serves"));
    }

    #[test]
    fn what_cannot_be_read_counts_for_nothing() {
        let mut strange = route(&Parents::new(parent("old")));
        strange
            .annotations_mut()
            .insert(labels::LEFT_GATEWAYS.to_owned(), "{]".to_owned());
        let parents = Parents::of(parent("new"), &strange, |_| true);
        assert_eq!(names(&parents), ["new", "old"]);
        strange.data = json!({"spec": {"parentRefs": [{"name": "old"}, 7]}});
        let parents = Parents::of(parent("new"), &strange, |_| true);
        assert_eq!(parents, Parents::new(parent("new")));
    }
}
