//! The table.

use std::{fmt, fs};

use super::{
    Options,
    audit::Requests,
    entrance,
    fleet::{Alone, Figures},
    node::{Pairs, median},
};

/// Everything that was measured, as Markdown.
pub struct Report {
    machine: String,
    fleet: Option<Fleet>,
    entrance: Option<entrance::Figures>,
    node: Option<Pairs>,
}

/// What was measured without nodes, and of how much.
struct Fleet {
    clusters: u16,
    rest_seconds: u64,
    figures: Figures,
}

impl Report {
    /// Puts it together.
    pub(super) fn new(
        options: &Options,
        fleet: Option<Figures>,
        entrance: Option<entrance::Figures>,
        node: Option<Pairs>,
    ) -> Self {
        Self {
            machine: machine(),
            fleet: fleet.map(|fleet| Fleet {
                clusters: options.clusters,
                rest_seconds: options.rest_seconds,
                figures: fleet,
            }),
            entrance,
            node,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "# Benchmarks\n\nWritten by `make bench`, on {}. Absolute times are that machine's; the ratios \
             were taken side by side in one run, and are what to compare.\n",
            self.machine
        )?;
        writeln!(out, "| what | measured | target |\n|---|---|---|")?;
        if let Some(node) = &self.node {
            pairs(out, node)?;
        }
        if let Some(fleet) = &self.fleet {
            fleet.creation(out)?;
            fleet.cost(out)?;
            fleet.restart(out)?;
            fleet.rest(out)?;
        }
        if let Some(entrance) = &self.entrance {
            public(out, entrance)?;
        }
        writeln!(out, "\n## How")?;
        if let Some(node) = &self.node {
            how_pairs(out, node)?;
        }
        if let Some(entrance) = &self.entrance {
            how_public(out, entrance)?;
        }
        if let Some(fleet) = &self.fleet {
            fleet.how(out)?;
            fleet.cpu(out)?;
            fleet.requests(out)?;
        }
        Ok(())
    }
}

fn pairs(out: &mut fmt::Formatter<'_>, node: &Pairs) -> fmt::Result {
    let (operator, by_hand) = (median(&node.operator), median(&node.by_hand));
    let ratios: Vec<f64> = node
        .operator
        .iter()
        .zip(&node.by_hand)
        .map(|(operator, by_hand)| operator / by_hand)
        .collect();
    writeln!(
        out,
        "| one cluster on a real node, from apply until it is proved ready (median of {}) | {operator:.2} s | |",
        node.operator.len()
    )?;
    writeln!(
        out,
        "| the same steps by hand (median of {}) | {by_hand:.2} s | |",
        node.by_hand.len()
    )?;
    writeln!(
        out,
        "| apply beside by hand (median of the pairs' ratios: {:.2}) | **{:.2}** | 1.05 or less |",
        median(&ratios),
        operator / by_hand
    )
}

fn how_pairs(out: &mut fmt::Formatter<'_>, node: &Pairs) -> fmt::Result {
    let list = |seconds: &[f64]| {
        let texts: Vec<String> = seconds.iter().map(|one| format!("{one:.2}")).collect();
        texts.join(", ")
    };
    writeln!(
        out,
        "\nOn a real node (kubelet, containerd, the real vCluster, images present), the two sides take turns. The \
         operator's time is `kubectl apply` and `kubectl wait --for=condition=Ready`. By hand it is `helm upgrade \
         --install` of the same chart with the values of a release that the operator made, in a namespace made \
         beforehand, then asking the tenant's `/readyz` every 100 ms until it answers, its certificate not verified. \
         Seconds of the operator: {}; by hand: {}.",
        list(&node.operator),
        list(&node.by_hand)
    )
}

fn public(out: &mut fmt::Formatter<'_>, entrance: &entrance::Figures) -> fmt::Result {
    let clusters = f64::from(entrance.clusters);
    #[expect(clippy::cast_precision_loss)]
    let per = |count: u64, of: f64| count as f64 / of;
    writeln!(
        out,
        "| {} clusters on one Gateway, from apply until each was dialled under its public name | {:.1} s | |",
        entrance.clusters, entrance.seconds
    )?;
    writeln!(
        out,
        "| the operator's writes for one of them (all its requests: {:.1}) | {:.1} | |",
        per(entrance.requests.total(), clusters),
        per(entrance.requests.writes, clusters)
    )?;
    #[expect(clippy::cast_precision_loss)]
    let changes = entrance.changes.len() as f64;
    writeln!(
        out,
        "| change of a public name, from apply until the kubeconfig says the new one (median of {changes}) | {:.2} s | |",
        median(&entrance.changes)
    )?;
    writeln!(
        out,
        "| the operator's writes for one change of name | {:.1} | |",
        per(entrance.of_changes.writes, changes)
    )
}

fn how_public(out: &mut fmt::Formatter<'_>, entrance: &entrance::Figures) -> fmt::Result {
    let list: Vec<String> = entrance
        .changes
        .iter()
        .map(|one| format!("{one:.2}"))
        .collect();
    writeln!(
        out,
        "\nBehind one Gateway: an api-server without nodes, the real chart, and fakes in place of the tenants' pods and \
         of the gateway, which looks for routes ten times a second. Routed means that the operator's own probe went \
         through the fake data plane by SNI and verified the tenant's CA. Seconds of the changes of name: {}.",
        list.join(", ")
    )
}

impl Fleet {
    fn creation(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (clusters, made) = (f64::from(self.clusters), &self.figures.made);
        let each = made.seconds / clusters;
        #[expect(clippy::cast_precision_loss)]
        let a_release = |alone: &[Alone; 2]| {
            alone
                .each_ref()
                .map(|alone| alone.seconds / alone.releases as f64)
        };
        let [before, after] = a_release(&self.figures.alone);
        let alone = f64::midpoint(before, after);
        let [before_as_given, after_as_given] = a_release(&self.figures.alone_as_given);
        let alone_as_given = f64::midpoint(before_as_given, after_as_given);
        writeln!(
            out,
            "| {} clusters at once, from apply until all are ready | {:.1} s, {:.1} clusters/s | |",
            self.clusters,
            made.seconds,
            1.0 / each
        )?;
        writeln!(
            out,
            "| the same number of releases of the published chart by helm alone, {} at a time (before: {:.1} s, after: {:.1} s) | {:.1} s | |",
            self.figures.helm_concurrency,
            before * clusters,
            after * clusters,
            alone * clusters
        )?;
        writeln!(
            out,
            "| clusters beside helm alone | **{:.2}** | 1.15 or less |",
            each / alone
        )?;
        writeln!(
            out,
            "| the same by helm alone with the smaller archive that the operator hands it (before: {:.1} s, after: {:.1} s) | {:.1} s | |",
            before_as_given * clusters,
            after_as_given * clusters,
            alone_as_given * clusters
        )?;
        writeln!(
            out,
            "| clusters beside helm alone with that archive | {:.2} | |",
            each / alone_as_given
        )?;
        self.beside_flux(out)
    }

    fn beside_flux(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some([flux, lax]) = &self.figures.flux else {
            return Ok(());
        };
        let seconds = self.figures.made.seconds;
        writeln!(
            out,
            "| the same number of releases of the published chart by Flux's helm-controller 1.4.0, 4 at a time | {:.1} s | |",
            flux.seconds
        )?;
        writeln!(
            out,
            "| clusters beside Flux | **{:.2}** | 0.8 or less |",
            seconds / flux.seconds
        )?;
        writeln!(
            out,
            "| by Flux without its validation; clusters beside that | {:.1} s; {:.2} | |",
            lax.seconds,
            seconds / lax.seconds
        )
    }

    fn cost(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (clusters, made) = (f64::from(self.clusters), &self.figures.made);
        #[expect(clippy::cast_precision_loss)]
        let per_cluster = |count: u64| count as f64 / clusters;
        writeln!(
            out,
            "| helm runs for {} clusters | {} | {} |",
            self.clusters, made.helm_runs, self.clusters
        )?;
        writeln!(
            out,
            "| the operator's requests a cluster, watches and Lease left out (its own counter, with them: {:.1}) | {:.1} | |",
            per_cluster(made.counted_requests),
            per_cluster(made.requests.total())
        )?;
        writeln!(
            out,
            "| of these, writes | {:.1} | |\n| helm's requests a cluster | {:.1} | |",
            per_cluster(made.requests.writes),
            per_cluster(made.requests.impersonated)
        )?;
        writeln!(
            out,
            "| CPU of the operator a cluster (helm's: {:.2} s{}) | {:.3} s | |",
            made.usage.helm_cpu_seconds / clusters,
            self.figures
                .flux
                .as_ref()
                .map_or_else(String::new, |[flux, _]| {
                    format!(
                        "; of Flux, with Helm in it: {:.2} s",
                        flux.cpu_seconds / clusters
                    )
                }),
            made.usage.cpu_seconds / clusters
        )?;
        let peak = made.usage.peak_mib.max(self.figures.rest.peak_mib);
        writeln!(
            out,
            "| most memory of the operator with {} clusters (all helm children together: {:.0} MiB{}) | **{peak:.1} MiB** | 64 MiB or less |",
            self.clusters,
            made.helm_peak_mib,
            self.figures
                .flux
                .as_ref()
                .map_or_else(String::new, |[flux, _]| {
                    format!("; Flux, with Helm in it: {:.0} MiB", flux.peak_mib)
                })
        )
    }

    fn restart(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let restart = &self.figures.restart;
        writeln!(
            out,
            "| restart over {} converged clusters, until each was proved again | **{:.2} s** | 5 s or less |",
            self.clusters, restart.seconds
        )?;
        writeln!(
            out,
            "| the restart's helm runs; writes | {}; {} | 0; 0 |",
            restart.helm_runs, restart.requests.writes
        )?;
        writeln!(
            out,
            "| the restart's reconciles; requests; CPU; memory | {}; {}; {:.2} s; {:.1} MiB | |",
            restart.reconciles,
            restart.requests.total(),
            restart.usage.cpu_seconds,
            restart.usage.peak_mib
        )
    }

    fn rest(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = &self.figures.rest;
        let programs = if rest.child_faults == 0 { "0" } else { "some" };
        writeln!(
            out,
            "| {} clusters at rest for {} s: writes; programs run | **{}; {programs}** | 0; 0 |",
            self.clusters, self.rest_seconds, rest.requests.writes
        )?;
        writeln!(
            out,
            "| meanwhile: reads; begun watches; renewals of the Lease; CPU of the operator | {}; {}; {}; {:.2} s | |",
            rest.requests.total(),
            rest.requests.watches,
            rest.requests.lease_writes,
            rest.cpu_seconds
        )
    }

    fn how(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "\nThe clusters at once need no node: the api-server, etcd, the controller manager, helm and the vCluster chart are real. \
             A fake marks the tenants' pods as running and answers for their APIs (`e2e/src/control_planes.rs`), so \
             what is measured is the operator, helm and the api-server, and not how long a control plane takes to start.\n\n\
             - The operator is the release build, a process of its own, under its own ServiceAccount.\n\
             - Helm alone is a shell loop (`xargs -P {}`) with the operator's binary, arguments (`{}`), environment, \
             values and impersonation, recorded from a run that the operator made, in namespaces made beforehand like the \
             operator's. Half of its releases run before the operator's clusters and half after, on the same api-server. \
             The chart is the archive as its repository has it, which is what anybody gives helm; the operator leaves out \
             what helm only carries, and checks values against the chart's schema itself (`crates/helm/src/chart/slim.rs`); \
             what that alone saves is shown by the rows with the smaller archive. Helm alone waits for nothing else; the operator also makes the namespaces, proves each API by TLS, publishes \
             kubeconfigs and keeps status.\n\
             - Flux is the real helm-controller with its own defaults (four workers), and HelmReleases that wait for \
             nothing, in such namespaces, and act as the same ServiceAccount. By default its Helm checks each object \
             against the api-server's schemas first, which the operator leaves to the api-server. Its source-controller \
             does not run: the archive is served, and its HelmChart written, by the bench (`e2e/src/bench/flux.rs`).\n\
             - Requests and writes are the api-server's audit log, by user. Memory is the kernel's high-water mark of the \
             process, CPU its own times; that no program was run is read from the page faults of its children.\n\
             - A restart is over when the fake has been dialled for each tenant, which is the last thing that a reconcile \
             with nothing to do asks for.",
            self.figures.helm_concurrency, self.figures.helm_flags
        )
    }

    fn cpu(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "\n## Where the CPU time goes\n\nMilliseconds a cluster, or a release.\n\n| process | the operator's clusters | helm alone |\n|---|---|---|"
        )?;
        let figures = &self.figures;
        let releases: usize = figures.alone.iter().map(|alone| alone.releases).sum();
        let mut sums = [0.0, 0.0];
        for (name, seconds) in &figures.made.spent {
            let alone: f64 = figures
                .alone
                .iter()
                .filter_map(|alone| alone.spent.get(name))
                .sum();
            #[expect(clippy::cast_precision_loss)]
            let each = [
                seconds * 1000.0 / f64::from(self.clusters),
                alone * 1000.0 / releases as f64,
            ];
            sums[0] += each[0];
            sums[1] += each[1];
            writeln!(out, "| {name} | {:.0} | {:.0} |", each[0], each[1])?;
        }
        writeln!(out, "| all | {:.0} | {:.0} |", sums[0], sums[1])
    }

    fn requests(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            (&self.figures.made.requests, f64::from(self.clusters)),
            (&self.figures.restart.requests, f64::from(self.clusters)),
        ];
        writeln!(
            out,
            "\n## The operator's requests a cluster\n\n| request | creation | restart |\n|---|---|---|"
        )?;
        let mut names: Vec<&String> = columns
            .iter()
            .flat_map(|(requests, _)| requests.own.keys())
            .collect();
        let total = |name: &String| -> u64 {
            columns
                .iter()
                .map(|(requests, _)| count(requests, name))
                .sum()
        };
        names.sort_by(|a, b| total(b).cmp(&total(a)).then(a.cmp(b)));
        names.dedup();
        for name in names {
            write!(out, "| {name} |")?;
            for (requests, clusters) in columns {
                #[expect(clippy::cast_precision_loss)]
                let each = count(requests, name) as f64 / clusters;
                write!(out, " {each:.2} |")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

fn count(requests: &Requests, name: &str) -> u64 {
    requests.own.get(name).copied().unwrap_or_default()
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: String, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split(':').nth(1))
            .map(|value| value.trim().to_owned())
    };
    let model = value(read("/proc/cpuinfo"), "model name").unwrap_or("an unknown CPU".to_owned());
    let memory = value(read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .unwrap_or_default();
    format!("{cores} cores ({model}), {} GiB", memory >> 20)
}
