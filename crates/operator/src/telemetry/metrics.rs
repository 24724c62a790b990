//! The manager's Prometheus metrics, in OpenMetrics text.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Which controller; the label of most metrics.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ControllerLabels {
    /// The controller's name, as in its field manager.
    pub controller: &'static str,
}

/// A controller and the reason of a failure.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct FailureLabels {
    /// The controller's name.
    pub controller: &'static str,
    /// The reason: the same word as the condition's and the event's.
    pub reason: String,
}

/// What a run of helm did.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct HelmLabels {
    /// `upgrade`, `uninstall`, ...
    pub verb: &'static str,
    /// `ok` or the error's reason.
    pub outcome: &'static str,
}

/// All metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Reconciles begun.
    pub reconciles: Family<ControllerLabels, Counter>,
    /// Reconciles that ended with a reason.
    pub failures: Family<FailureLabels, Counter>,
    /// Seconds of a reconcile.
    pub reconcile_seconds: Family<ControllerLabels, Histogram, fn() -> Histogram>,
    /// Runs of the helm binary.
    pub helm_runs: Family<HelmLabels, Counter>,
    /// Requests to the api-server.
    pub api_requests: Counter,
    /// 1 while this process leads.
    pub leader: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn reconcile_buckets() -> Histogram {
    Histogram::new([0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("kubebyon");
        let reconciles = Family::default();
        let failures = Family::default();
        let reconcile_seconds =
            Family::new_with_constructor(reconcile_buckets as fn() -> Histogram);
        let helm_runs = Family::default();
        let api_requests = Counter::default();
        let leader = Gauge::default();
        registry.register("reconciles", "Reconciles begun", reconciles.clone());
        registry.register(
            "reconcile_failures",
            "Reconciles that ended with a reason",
            failures.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Time of a reconcile",
            Unit::Seconds,
            reconcile_seconds.clone(),
        );
        registry.register("helm_runs", "Runs of the helm binary", helm_runs.clone());
        registry.register(
            "api_requests",
            "Requests to the api-server",
            api_requests.clone(),
        );
        registry.register("leader", "1 while this process leads", leader.clone());
        Self {
            registry: Arc::new(registry),
            reconciles,
            failures,
            reconcile_seconds,
            helm_runs,
            api_requests,
            leader,
        }
    }
}

impl Metrics {
    /// Counts one reconcile of `controller` that took `time` and ended with `failure`, if any.
    pub fn reconciled(&self, controller: &'static str, time: Duration, failure: Option<&str>) {
        let labels = ControllerLabels { controller };
        self.reconciles.get_or_create(&labels).inc();
        self.reconcile_seconds
            .get_or_create(&labels)
            .observe(time.as_secs_f64());
        if let Some(reason) = failure {
            self.failures
                .get_or_create(&FailureLabels {
                    controller,
                    reason: reason.to_owned(),
                })
                .inc();
        }
    }

    /// The exposition text.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
