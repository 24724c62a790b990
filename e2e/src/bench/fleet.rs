//! Many clusters at once, at rest, and after a restart, on an api-server without nodes.
//! The control planes are the fake of `control_planes`: see there for its limits.

use std::{collections::HashSet, path::Path, time::Duration};

use futures::{StreamExt, TryStreamExt};
use kubebyon_api::{ManagedCluster, managed_cluster::Quota};
use kubebyon_k8s::{
    k8s_openapi::api::core::v1::{Namespace, ServiceAccount},
    kube::{
        Api, Client, ResourceExt,
        api::{DeleteParams, ListParams},
        runtime::{WatchStreamExt, watcher},
    },
};
use kubebyon_render::{
    Cluster,
    host_namespace::{HostNamespace, Origin, network::Reach},
};
use kubebyon_testbed::ApiOptions;
use serde_json::{from_value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Options,
    audit::{AuditLog, Requests},
    cpu::{Clock, Spent, between},
    flux::{self, Flux, Validation},
    helm_alone::{Chart, RECORDED, Recorder, Recording},
    limits::{AT_ONCE, PATIENCE},
    process::{Operator, Usage},
    say,
};
use crate::{
    judge::create,
    operator::{Host, Tenant, is_ready},
};

const NAMESPACE: &str = "fleet";

/// All figures.
pub struct Figures {
    /// Helm runs at once, of both sides.
    pub helm_concurrency: u16,
    /// The flags of helm, of both sides.
    pub helm_flags: String,
    /// Helm alone, with the chart as published: before the clusters were made, and after.
    pub alone: [Alone; 2],
    /// As above, with the chart as the operator hands it on.
    pub alone_as_given: [Alone; 2],
    /// The making of all clusters.
    pub made: Made,
    /// The same number of releases by Flux, with its validation and without.
    pub flux: Option<[Flux; 2]>,
    /// The restart of the operator over the converged clusters.
    pub restart: Restart,
    /// The converged clusters, left alone.
    pub rest: Rest,
}

/// Releases by helm alone.
pub struct Alone {
    /// How many.
    pub releases: usize,
    /// How long all took.
    pub seconds: f64,
    /// CPU time, by the kernel.
    pub spent: Spent,
}

/// All clusters from apply to ready.
pub struct Made {
    /// From the first request of their author until all are ready.
    pub seconds: f64,
    /// CPU time, by the kernel.
    pub spent: Spent,
    /// By the operator's own counter.
    pub helm_runs: u64,
    /// By the operator's own counter.
    pub counted_requests: u64,
    /// By the api-server's audit log.
    pub requests: Requests,
    /// By the kernel.
    pub usage: Usage,
    /// All helm children together, sampled.
    pub helm_peak_mib: f64,
}

/// A restart.
pub struct Restart {
    /// From the start of the process until each tenant was dialled again.
    pub seconds: f64,
    /// By the operator's own counter, when each tenant was dialled.
    pub reconciles: u64,
    /// By the operator's own counter.
    pub helm_runs: u64,
    /// By the api-server's audit log.
    pub requests: Requests,
    /// By the kernel.
    pub usage: Usage,
}

/// Nothing to do.
pub struct Rest {
    /// By the api-server's audit log.
    pub requests: Requests,
    /// Of the operator alone.
    pub cpu_seconds: f64,
    /// Page faults of children that ended: none means that no program was run.
    pub child_faults: u64,
    /// The most that the operator ever held.
    pub peak_mib: f64,
}

/// Measures them one after the other: helm alone with half of the releases, by either
/// archive, all clusters, Flux, helm alone with the other half, the restart, the rest.
pub async fn measure(options: &Options) -> Figures {
    let bench = Bench::start(options).await;
    let (recording, helm_concurrency) = bench.record().await;
    let half = usize::from(options.clusters) / 2;
    let alone = async |prefix, chart| {
        bench
            .helm_alone(&recording, prefix, chart, half, helm_concurrency)
            .await
    };
    let before = alone("before", Chart::Published).await;
    let before_as_given = alone("before-as-given", Chart::AsGiven).await;
    let operator = bench.operator(helm_concurrency);
    let made = bench.make(&operator).await;
    operator.stop().await;
    let flux = if options.without_flux {
        None
    } else {
        Some(bench.flux(&recording).await)
    };
    let after_as_given = alone("after-as-given", Chart::AsGiven).await;
    let after = alone("after", Chart::Published).await;
    let (operator, restart) = bench.restart(helm_concurrency).await;
    let rest = bench.rest(&operator).await;
    operator.stop().await;
    Figures {
        helm_concurrency,
        helm_flags: recording.flags(),
        alone: [before, after],
        alone_as_given: [before_as_given, after_as_given],
        made,
        flux,
        restart,
        rest,
    }
}

struct Bench<'a> {
    options: &'a Options,
    host: Host,
    operator_client: Client,
    folder: TempDir,
    audit: std::path::PathBuf,
    clock: Clock,
}

impl<'a> Bench<'a> {
    async fn start(options: &'a Options) -> Self {
        say("starting an api-server");
        // The log of a large run must stay one file.
        let host = Host::start_with(ApiOptions {
            audit: true,
            apiserver_args: vec!["--audit-log-maxsize=100000".to_owned()],
            ..ApiOptions::default()
        })
        .await;
        let audit = host.cluster.audit_log().expect("an audit log").to_owned();
        let clock = Clock::new(audit.parent().expect("the cluster's folder"));
        let namespace: Namespace =
            from_value(json!({"metadata": {"name": NAMESPACE}})).expect("a namespace");
        create(&Api::all(host.client.clone()), &namespace).await;
        let operator = Client::try_from(host.operator_config().await).expect("a client");
        Self {
            options,
            host,
            operator_client: operator,
            folder: tempfile::tempdir().expect("a folder"),
            audit,
            clock,
        }
    }

    fn operator(&self, helm_concurrency: u16) -> Operator {
        let concurrency = format!("--helm-concurrency={helm_concurrency}");
        self.start_operator(&[concurrency])
    }

    fn start_operator(&self, extra: &[String]) -> Operator {
        let program: &Path = &self.options.operator;
        Operator::start(program, &self.host, self.folder.path(), extra)
    }

    /// Lets the operator install one cluster, and takes down how it calls helm.
    async fn record(&self) -> (Recording, u16) {
        say("recording how the operator calls helm");
        let helm = self.host.cluster.helm();
        let (recorder, program) = Recorder::new(self.folder.path(), &helm);
        let operator = self.start_operator(&[format!("--helm={}", program.display())]);
        let spec = spec(RECORDED.1);
        let tenant = Tenant::apply(&self.host, NAMESPACE, RECORDED.0, spec).await;
        tenant.ready().await;
        tenant.delete().await;
        tenant.gone().await;
        operator.stop().await;
        let default = u16::try_from(kubebyon_helm::HelmConfig::default_concurrency());
        let concurrency = self.options.helm_concurrency;
        (
            recorder.recording(&helm),
            concurrency.unwrap_or(default.expect("a small number")),
        )
    }

    /// Helm alone, in namespaces as the operator makes them.
    async fn helm_alone(
        &self,
        recording: &Recording,
        prefix: &str,
        chart: Chart,
        count: usize,
        concurrency: u16,
    ) -> Alone {
        say(&format!("helm alone, {count} releases, {prefix}"));
        let releases = self.host_namespaces(prefix, count).await;
        let before = self.clock.read();
        let took = recording.run(&releases, concurrency, chart).await;
        let spent = between(&before, &self.clock.read());
        self.remove(&releases).await;
        Alone {
            releases: count,
            seconds: took.as_secs_f64(),
            spent,
        }
    }

    async fn flux(&self, recording: &Recording) -> [Flux; 2] {
        flux::prepare(&self.host, self.folder.path(), recording).await;
        [
            self.flux_with(recording, Validation::On, "flux").await,
            self.flux_with(recording, Validation::Off, "flux-lax").await,
        ]
    }

    async fn flux_with(&self, recording: &Recording, validation: Validation, prefix: &str) -> Flux {
        let count = usize::from(self.options.clusters);
        say(&format!(
            "Flux's helm-controller, {count} releases, validation {validation:?}"
        ));
        let releases = self.host_namespaces(prefix, count).await;
        let folder = self.folder.path();
        let took = flux::measure(&self.host, folder, recording, validation, &releases).await;
        self.remove(&releases).await;
        took
    }

    /// Namespaces as the operator makes them, each with the name of the release for it.
    async fn host_namespaces(&self, prefix: &str, count: usize) -> Vec<(String, String)> {
        let releases: Vec<(String, String)> = (0..count)
            .map(|number| {
                (
                    format!("{prefix}-{number:03}"),
                    format!("host-{prefix}-{number:03}"),
                )
            })
            .collect();
        futures::stream::iter(&releases)
            .for_each_concurrent(AT_ONCE, |(name, namespace)| {
                self.host_namespace(name, namespace)
            })
            .await;
        releases
    }

    async fn host_namespace(&self, name: &str, namespace: &str) {
        let cluster: ManagedCluster = from_value(json!({
            "apiVersion": "kubebyon.app/v1alpha1", "kind": "ManagedCluster",
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": name}, "spec": spec(namespace),
        }))
        .expect("a cluster");
        let identity = Cluster::of(&cluster).expect("a name, a namespace and a uid");
        let objects = HostNamespace {
            cluster: &identity,
            name: namespace,
            origin: Origin::Created,
            quota: &Quota::default(),
            reach: Reach::default(),
        }
        .objects();
        // The policies let nobody else make such a namespace.
        let client = &self.operator_client;
        create(&Api::all(client.clone()), &objects.namespace).await;
        for policy in &objects.network_policies {
            create(&Api::namespaced(client.clone(), namespace), policy).await;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        create(&accounts, &objects.service_account).await;
        create(
            &Api::namespaced(client.clone(), namespace),
            &objects.role_binding,
        )
        .await;
    }

    /// Deletes the namespaces of `releases`, and waits until they are gone.
    async fn remove(&self, releases: &[(String, String)]) {
        let api: Api<Namespace> = Api::all(self.host.client.clone());
        futures::stream::iter(releases)
            .for_each_concurrent(AT_ONCE, |(_, namespace)| {
                let api = &api;
                async move {
                    api.delete(namespace, &DeleteParams::default())
                        .await
                        .expect("the namespace goes");
                }
            })
            .await;
        let gone: HashSet<&str> = releases.iter().map(|(_, name)| name.as_str()).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let there = api
                .list_metadata(&ListParams::default())
                .await
                .expect("an answer");
            if !there
                .iter()
                .any(|namespace| gone.contains(namespace.name_any().as_str()))
            {
                return;
            }
            assert!(Instant::now() < deadline, "the namespaces do not go");
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn make(&self, operator: &Operator) -> Made {
        let count = self.options.clusters;
        say(&format!("the operator, {count} clusters at once"));
        let api: Api<ManagedCluster> = Api::namespaced(self.host.client.clone(), NAMESPACE);
        leads(operator).await;
        let mut audit = AuditLog::new(self.audit.clone());
        let requests_before = operator.metric("kubebyon_api_requests_total").await;
        let (before, usage_before) = (self.clock.read(), operator.usage());
        let started = Instant::now();
        let make = async {
            futures::stream::iter(0..count)
                .for_each_concurrent(AT_ONCE, |number| {
                    let cluster: ManagedCluster = from_value(json!({
                        "apiVersion": "kubebyon.app/v1alpha1", "kind": "ManagedCluster",
                        "metadata": {"name": format!("tenant-{number:03}")},
                        "spec": spec(&format!("host-{number:03}")),
                    }))
                    .expect("a cluster");
                    let api = &api;
                    async move { create(api, &cluster).await }
                })
                .await;
        };
        let ((), ()) = tokio::join!(make, all_ready(&api, count.into(), operator));
        let seconds = started.elapsed().as_secs_f64();
        let (mut spent, usage) = (between(&before, &self.clock.read()), operator.usage());
        // It has not been waited for, so the kernel does not count it to this process yet.
        spent.insert(
            "helm",
            usage.helm_cpu_seconds - usage_before.helm_cpu_seconds,
        );
        spent.insert("the operator", usage.cpu_seconds - usage_before.cpu_seconds);
        Made {
            seconds,
            spent,
            requests: audit.read(),
            helm_runs: operator.metric("kubebyon_helm_runs_total").await,
            counted_requests: operator.metric("kubebyon_api_requests_total").await
                - requests_before,
            usage,
            helm_peak_mib: operator.helm_peak_mib(),
        }
    }

    /// A tenant is dialled at the end of a reconcile that found nothing to do, so the
    /// fake's own count of dialled tenants tells from outside when all were looked at.
    async fn restart(&self, helm_concurrency: u16) -> (Operator, Restart) {
        say("a restart of the operator");
        let wanted = usize::from(self.options.clusters);
        let mut audit = AuditLog::new(self.audit.clone());
        self.host.control_planes.forget_dials();
        let started = Instant::now();
        let mut operator = self.operator(helm_concurrency);
        while self.host.control_planes.dialled() < wanted {
            operator.assert_running();
            assert!(
                started.elapsed() < PATIENCE,
                "only {} tenants were dialled: {}",
                self.host.control_planes.dialled(),
                operator.log_end()
            );
            sleep(Duration::from_millis(5)).await;
        }
        let seconds = started.elapsed().as_secs_f64();
        // The last reconciles are counted a moment after their dials.
        sleep(Duration::from_secs(1)).await;
        let restart = Restart {
            seconds,
            usage: operator.usage(),
            reconciles: operator.metric("kubebyon_reconciles_total").await,
            helm_runs: operator.metric("kubebyon_helm_runs_total").await,
            requests: audit.read(),
        };
        (operator, restart)
    }

    async fn rest(&self, operator: &Operator) -> Rest {
        // What the restart began comes to its end first.
        sleep(Duration::from_secs(5)).await;
        let rest = self.options.rest();
        say(&format!("at rest for {} s", rest.as_secs()));
        let mut audit = AuditLog::new(self.audit.clone());
        let before = operator.usage();
        sleep(rest).await;
        let after = operator.usage();
        Rest {
            requests: audit.read(),
            cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            child_faults: after.child_faults - before.child_faults,
            peak_mib: after.peak_mib,
        }
    }
}

/// Waits until the operator leads.
pub async fn leads(operator: &Operator) {
    let deadline = Instant::now() + PATIENCE;
    while operator.metric("kubebyon_leader").await != 1 {
        assert!(
            Instant::now() < deadline,
            "the operator does not lead: {}",
            operator.log_end()
        );
        sleep(Duration::from_millis(20)).await;
    }
}

fn spec(host_namespace: &str) -> serde_json::Value {
    json!({"kubernetesVersion": "1.36", "hostNamespace": host_namespace})
}

/// Waits until `count` clusters are ready.
pub async fn all_ready(api: &Api<ManagedCluster>, count: usize, operator: &Operator) {
    let mut ready = HashSet::new();
    let stream = watcher(api.clone(), watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let mut stream = std::pin::pin!(stream);
    let wait = async {
        while ready.len() < count {
            let cluster = stream.try_next().await.expect("a watch").expect("an event");
            if is_ready(&cluster) {
                ready.insert(cluster.name_any());
            }
        }
    };
    let ended = timeout(PATIENCE, wait).await;
    assert!(
        ended.is_ok(),
        "only {} of {count} clusters are ready: {}",
        ready.len(),
        operator.log_end()
    );
}
