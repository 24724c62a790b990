//! One of the product's objects, as kubectl shows it.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use kubebyon_testbed::kubectl::Kubectl;
use serde_json::{Value, json};

/// A PublicAccess or a ManagedCluster.
#[derive(Clone)]
pub struct Object {
    kubectl: Kubectl,
    kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A condition of the object's newest generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// True, False or Unknown.
    pub status: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// Since when its status is so.
    pub since: String,
}

impl Object {
    /// The PublicAccess of this name, which may not be there yet.
    pub fn access(kubectl: &Kubectl, namespace: &str, name: &str) -> Self {
        Self::new(kubectl, "PublicAccess", namespace, name)
    }

    /// The ManagedCluster of this name, which may not be there yet.
    pub fn cluster(kubectl: &Kubectl, namespace: &str, name: &str) -> Self {
        Self::new(kubectl, "ManagedCluster", namespace, name)
    }

    fn new(kubectl: &Kubectl, kind: &'static str, namespace: &str, name: &str) -> Self {
        Self {
            kubectl: kubectl.clone(),
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Makes it so.
    ///
    /// # Panics
    /// When the api-server refuses it; so for the calls below.
    pub fn apply(&self, spec: &Value) {
        let object = json!({
            "apiVersion": "kubebyon.app/v1alpha1", "kind": self.kind,
            "metadata": {"name": self.name, "namespace": self.namespace}, "spec": spec,
        });
        let what = format!("apply {} {}/{}", self.kind, self.namespace, self.name);
        self.kubectl
            .apply(&what, &object.to_string())
            .expect("it is applied");
    }

    /// The object as it is.
    pub fn get(&self) -> Value {
        let text = self.run("get", &["--output=json"]).expect("it is there");
        serde_json::from_str(&text).expect("JSON")
    }

    /// A part of its status; null when it is not there.
    pub fn status(&self, pointer: &str) -> Value {
        self.get()["status"]
            .pointer(pointer)
            .cloned()
            .unwrap_or_default()
    }

    /// A condition, if the controller has said it of the newest generation.
    pub fn condition(&self, type_: &str) -> Option<Condition> {
        let object = self.get();
        let all = object.pointer("/status/conditions")?.as_array()?;
        let found = all.iter().find(|condition| {
            condition["type"] == type_
                && condition["observedGeneration"] == object["metadata"]["generation"]
        })?;
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Some(Condition {
            status: text("status"),
            reason: text("reason"),
            message: text("message"),
            since: text("lastTransitionTime"),
        })
    }

    /// Waits until a condition of the newest generation has a reason, and gives it with the time that this took.
    pub fn because(&self, type_: &str, reason: &str, limit: Duration) -> (Condition, Duration) {
        self.wait(&format!("{type_} for {reason}"), limit, || {
            self.condition(type_)
                .filter(|condition| condition.reason == reason)
        })
    }

    /// Waits until it is ready in its newest generation, and gives the time that this took.
    pub fn ready(&self, limit: Duration) -> Duration {
        let ready = || {
            self.condition("Ready")
                .filter(|condition| condition.status == "True")
        };
        self.wait("Ready to be True", limit, ready).1
    }

    /// Deletes it, unless it is gone, and waits until it is.
    pub fn delete(&self) {
        if let Err(error) = self.run("delete", &["--ignore-not-found", "--timeout=180s"]) {
            panic!("{error}\n{:#}", self.get()["status"]);
        }
    }

    /// Waits for something about it; the status is shown when that does not come.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> (T, Duration) {
        let began = Instant::now();
        let what = format!("{} {}/{}: {what}", self.kind, self.namespace, self.name);
        loop {
            if let Some(found) = look() {
                return (found, began.elapsed());
            }
            assert!(
                began.elapsed() < limit,
                "waited {limit:?} for {what}: {:#}",
                self.get()["status"]
            );
            // Each look is a process of kubectl, on a machine that has other things to do.
            sleep(Duration::from_millis(500));
        }
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> kubebyon_testbed::Result<String> {
        let namespace = format!("--namespace={}", self.namespace);
        let mut all = vec![verb, self.kind, &self.name, &namespace];
        all.extend(arguments);
        self.kubectl
            .run(&format!("{verb} {} {}", self.kind, self.name), &all)
    }
}
