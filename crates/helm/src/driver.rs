//! Runs helm for one release at a time.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    chart::ChartArchive,
    classify::{Run, classify},
    digest::Sha256Digest,
    error::{Error, Result},
    exec::{Ended, Finished, GRACE, Runner, WorkDir, locate},
    redact::Redactor,
    release::{CHART_DIGEST_LABEL, CHART_VERSION_LABEL, VALUES_HASH_LABEL},
    values::{helm_text, unprintable, values_hash},
};

/// How much longer than its own time limit helm may take before it is stopped: that limit
/// is for each of its waits, not for the whole run.
const SLACK: Duration = Duration::from_secs(30);
/// Where a pod finds its ServiceAccount.
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How helm reaches the api-server.
#[derive(Debug, Clone)]
pub enum ClusterAccess {
    /// By this kubeconfig file.
    Kubeconfig(PathBuf),
    /// By the pod's ServiceAccount. The driver writes a kubeconfig that points at the token
    /// file, because client-go's own in-cluster configuration drops what `--kube-as-user`
    /// asks for (client-go tools/clientcmd inClusterClientConfig), and helm would then act
    /// with all the operator's rights.
    InCluster,
}

/// Settings of the driver.
#[derive(Debug, Clone)]
pub struct HelmConfig {
    /// The helm binary, version 4.3 or newer: a path, or a name that `PATH` knows.
    pub binary: PathBuf,
    /// A folder of this driver alone; made if missing, and emptied of leftovers.
    pub work_dir: PathBuf,
    /// How helm reaches the api-server.
    pub cluster: ClusterAccess,
    /// How many helm processes may run at once; the number of cores is a good value.
    pub concurrency: usize,
    /// Helm's `--timeout`.
    pub timeout: Duration,
    /// Revisions that Helm keeps of a release.
    pub history_max: u32,
}

impl HelmConfig {
    /// Defaults: a process a core and at most eight, five minutes, ten revisions.
    pub fn new(binary: PathBuf, work_dir: PathBuf, cluster: ClusterAccess) -> Self {
        Self {
            binary,
            work_dir,
            cluster,
            concurrency: Self::default_concurrency(),
            timeout: Duration::from_mins(5),
            history_max: 10,
        }
    }

    /// How many helm processes run at once unless somebody says otherwise: one a core, and at
    /// most eight, for each takes 100 MiB.
    pub fn default_concurrency() -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        cores.min(8)
    }
}

/// A ServiceAccount that helm acts as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What helm waits for before it calls an operation successful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitFor {
    /// For hooks only.
    #[default]
    Hooks,
    /// Until the objects are ready.
    Ready,
}

/// An install or an upgrade.
#[derive(Debug, Clone, Copy)]
pub struct Upgrade<'a> {
    /// The release.
    pub release: &'a str,
    /// Its namespace, which exists.
    pub namespace: &'a str,
    /// The chart.
    pub chart: &'a ChartArchive,
    /// All values: those of earlier revisions are never reused.
    pub values: &'a Value,
    /// Whom helm acts as; None: the operator itself.
    pub run_as: Option<&'a ServiceAccount>,
    /// Take fields back that another field manager has taken: for the repair of drift.
    pub force_conflicts: bool,
    /// What to wait for.
    pub wait: WaitFor,
}

/// A removal.
#[derive(Debug, Clone, Copy)]
pub struct Uninstall<'a> {
    /// The release.
    pub release: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Whom helm acts as; None: the operator itself.
    pub run_as: Option<&'a ServiceAccount>,
    /// `Ready` waits until the objects are gone.
    pub wait: WaitFor,
}

/// Drives the helm binary. Clones share one bound on processes.
#[derive(Debug, Clone)]
pub struct Helm(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: HelmConfig,
    kubeconfig: PathBuf,
    work_dir: WorkDir,
    runner: Runner,
}

impl Helm {
    /// Prepares the work folder and checks the binary.
    ///
    /// # Errors
    /// [`Error::HelmMissing`], [`Error::HelmVersion`]; [`Error::Io`] for the folder, or
    /// when `InCluster` is asked for outside of a pod.
    pub async fn new(mut config: HelmConfig) -> Result<Self> {
        let path = std::env::var_os("PATH");
        config.binary =
            locate(&config.binary, path.as_deref()).map_err(|source| Error::HelmMissing {
                path: config.binary.clone(),
                source,
            })?;
        let work_dir =
            WorkDir::open(&config.work_dir).map_err(Error::io("prepare helm's work folder"))?;
        let kubeconfig = match &config.cluster {
            ClusterAccess::Kubeconfig(path) => {
                std::path::absolute(path).map_err(Error::io("find the kubeconfig"))?
            }
            ClusterAccess::InCluster => {
                let content =
                    in_cluster_kubeconfig().map_err(Error::io("read the pod's ServiceAccount"))?;
                work_dir
                    .stable_file("kubeconfig", content.as_bytes())
                    .map_err(Error::io("write a kubeconfig"))?
            }
        };
        let runner = Runner::new(config.concurrency).map_err(Error::io("start a thread"))?;
        let helm = Self(Arc::new(Inner {
            config,
            kubeconfig,
            work_dir,
            runner,
        }));
        helm.check_version().await?;
        Ok(helm)
    }

    /// The longest that any run can take: for [`crate::plan`]'s judgement of a lock.
    pub fn time_limit(&self) -> Duration {
        self.0.config.timeout + SLACK + GRACE
    }

    /// Kills every helm at once, refuses new ones, and returns when the last is reaped. For
    /// the loss of leadership: call it before the process ends.
    pub async fn kill_all(&self) {
        self.0.runner.kill_all().await;
    }

    /// Installs the release, or upgrades it. The revision carries labels by which
    /// [`crate::plan`] knows it again.
    ///
    /// # Errors
    /// Any but those of fetching a chart. The old revision stays in force on all errors
    /// that come before helm writes; else Helm's record says `failed`.
    pub async fn upgrade_install(&self, upgrade: &Upgrade<'_>) -> Result<()> {
        let found = match upgrade.values {
            Value::Object(_) => None,
            Value::Null => Some("null"),
            Value::Bool(_) => Some("a boolean"),
            Value::Number(_) => Some("a number"),
            Value::String(_) => Some("a string"),
            Value::Array(_) => Some("a list"),
        };
        if let Some(found) = found {
            return Err(Error::ValuesNotAMapping { found });
        }
        if let Some(path) = unprintable(upgrade.values) {
            return Err(Error::ValuesUnprintable { path });
        }
        let text = helm_text(upgrade.values);
        let file = self
            .0
            .work_dir
            .private_file("values-", ".yaml", text.as_bytes())
            .map_err(Error::io("write the values file"))?;
        let mut args = Args::new(&["upgrade", upgrade.release]);
        args.push(upgrade.chart.file(upgrade.values).as_os_str());
        args.extend([
            "--install",
            "--reset-values",
            "--hide-notes",
            "--disable-openapi-validation",
            "--server-side=true",
        ]);
        args.push("--values");
        args.push(file.path());
        args.push("--labels");
        args.push(labels(upgrade.chart, &values_hash(upgrade.values)));
        args.push(format!("--history-max={}", self.0.config.history_max));
        if upgrade.force_conflicts {
            args.push("--force-conflicts");
        }
        args.wait(upgrade.wait);
        args.scope(upgrade.namespace, upgrade.run_as, self.0.config.timeout);
        let redactor = Redactor::for_values(
            upgrade.values,
            &[upgrade.release, upgrade.namespace, &upgrade.chart.name],
        );
        self.run(args, upgrade.release, &upgrade.chart.name, &redactor, file)
            .await
            .map(drop)
    }

    /// Removes the release and its objects; one that is not there is removed already.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::Timeout`], [`Error::ClusterUnreachable`] and the like.
    pub async fn uninstall(&self, uninstall: &Uninstall<'_>) -> Result<()> {
        let mut args = Args::new(&["uninstall", uninstall.release, "--ignore-not-found"]);
        args.wait(uninstall.wait);
        if uninstall.wait == WaitFor::Ready {
            args.push("--cascade=foreground");
        }
        args.scope(uninstall.namespace, uninstall.run_as, self.0.config.timeout);
        self.run(args, uninstall.release, "", &Redactor::default(), ())
            .await
            .map(drop)
    }

    /// Makes revision `revision` the newest again, as a new revision.
    ///
    /// # Errors
    /// [`Error::RevisionNotFound`]; else as for an upgrade.
    pub async fn rollback(
        &self,
        release: &str,
        namespace: &str,
        revision: u32,
        run_as: Option<&ServiceAccount>,
    ) -> Result<()> {
        let revision = revision.to_string();
        let mut args = Args::new(&[
            "rollback",
            release,
            &revision,
            "--server-side=true",
            "--force-conflicts",
        ]);
        args.push(format!("--history-max={}", self.0.config.history_max));
        args.scope(namespace, run_as, self.0.config.timeout);
        self.run(args, release, "", &Redactor::default(), ())
            .await
            .map(drop)
    }

    async fn check_version(&self) -> Result<()> {
        let args = Args::new(&["version", "--template", "{{.Version}}"]);
        let found = self
            .run(args, "", "", &Redactor::default(), ())
            .await?
            .stdout;
        let mut numbers = found
            .trim()
            .trim_start_matches('v')
            .split('.')
            .map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(4)), Some(Ok(minor))) if minor >= 3 => Ok(()),
            _ => Err(Error::HelmVersion {
                path: self.0.config.binary.clone(),
                found: found.chars().take(40).collect(),
            }),
        }
    }

    async fn run<K: Send + 'static>(
        &self,
        args: Args,
        release: &str,
        chart: &str,
        redactor: &Redactor,
        keep: K,
    ) -> Result<Finished> {
        let Inner {
            config,
            kubeconfig,
            work_dir,
            runner,
        } = &*self.0;
        let home = work_dir.home();
        let mut command = Command::new(&config.binary);
        // Nothing of our environment reaches helm: no user's settings, plugins, proxies or tokens.
        command
            .args(args.0)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env_clear()
            .current_dir(&home);
        for (name, folder) in [
            ("HOME", ""),
            ("TMPDIR", ""),
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
            ("HELM_PLUGINS", "plugins"),
            ("KUBECACHEDIR", "kube-cache"),
        ] {
            command.env(name, home.join(folder));
        }
        // A run is short and its garbage small: not to collect it saves a seventh of the CPU time,
        // and adds 20 MiB. A chart whose garbage is large is collected all the same.
        command.env("GOGC", "off");
        command.env("GOMEMLIMIT", "128MiB");
        let limit = config.timeout + SLACK;
        let started = std::time::Instant::now();
        let finished = runner
            .run(command, limit, keep)
            .await
            .map_err(|error| match error {
                Error::Io {
                    what: "start helm",
                    source,
                } => Error::HelmMissing {
                    path: config.binary.clone(),
                    source,
                },
                other => other,
            })?;
        tracing::debug!(release, ended = ?finished.ended, seconds = started.elapsed().as_secs_f64(), "helm ended");
        match finished.ended {
            Ended::Code(0) => Ok(finished),
            Ended::Code(code) => Err(classify(
                &Run {
                    release,
                    chart,
                    timeout: config.timeout,
                    redactor,
                },
                code,
                &finished.stderr,
            )),
            Ended::Signal(signal) => Err(Error::Killed { signal }),
            Ended::TimedOut => Err(Error::Timeout { after: limit }),
            Ended::Cancelled => Err(Error::ShutDown),
        }
    }
}

/// Arguments of one run. None of them is a secret: everyone on the machine can read them.
struct Args(Vec<OsString>);

impl Args {
    fn new(args: &[&str]) -> Self {
        Self(args.iter().map(OsString::from).collect())
    }

    fn push(&mut self, arg: impl Into<OsString>) {
        self.0.push(arg.into());
    }

    fn extend<'a>(&mut self, args: impl IntoIterator<Item = &'a str>) {
        self.0.extend(args.into_iter().map(OsString::from));
    }

    fn wait(&mut self, wait: WaitFor) {
        match wait {
            WaitFor::Hooks => self.push("--wait=hookOnly"),
            WaitFor::Ready => self.push("--wait=watcher"),
        }
    }

    fn scope(&mut self, namespace: &str, run_as: Option<&ServiceAccount>, timeout: Duration) {
        self.extend(["--namespace", namespace]);
        self.push(format!("--timeout={}s", timeout.as_secs()));
        let Some(account) = run_as else { return };
        self.push(format!(
            "--kube-as-user=system:serviceaccount:{}:{}",
            account.namespace, account.name
        ));
        // Not the group of its namespace: the operator would need the right to impersonate
        // any group for it, and no role of ours is bound to that group.
        self.extend([
            "--kube-as-group=system:serviceaccounts",
            "--kube-as-group=system:authenticated",
        ]);
    }
}

/// The value of `--labels`.
fn labels(chart: &ChartArchive, values_hash: &Sha256Digest) -> String {
    let mut version = chart.version.replace('+', "_");
    version.truncate(63);
    let version = version.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    format!(
        "{VALUES_HASH_LABEL}={},{CHART_DIGEST_LABEL}={},{CHART_VERSION_LABEL}={version}",
        values_hash.label(),
        chart.digest.label()
    )
}

/// A kubeconfig that says what client-go's in-cluster configuration would.
fn in_cluster_kubeconfig() -> io::Result<String> {
    let env = |name: &str| {
        std::env::var(name).map_err(|_| {
            io::Error::other(format!(
                "{name} is not set: this is no pod; give a kubeconfig"
            ))
        })
    };
    let (host, port) = (
        env("KUBERNETES_SERVICE_HOST")?,
        env("KUBERNETES_SERVICE_PORT")?,
    );
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    Ok(kubeconfig_for(&format!("https://{host}:{port}"), Path::new(IN_CLUSTER)).to_string())
}

fn kubeconfig_for(server: &str, account: &Path) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "host", "cluster": {"server": server, "certificate-authority": account.join("ca.crt")}}],
        "users": [{"name": "operator", "user": {"tokenFile": account.join("token")}}],
        "contexts": [{"name": "host", "context": {"cluster": "host", "user": "operator"}}],
        "current-context": "host",
    })
}

#[cfg(test)]
mod tests {
    use kubebyon_k8s::kube::config::Kubeconfig;

    use super::*;

    #[test]
    fn the_kubeconfig_of_a_pod_holds_no_token_but_its_path() {
        let text = kubeconfig_for("https://[fd00::1]:443", Path::new(IN_CLUSTER)).to_string();
        let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
        let cluster = kubeconfig.clusters[0].cluster.clone().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://[fd00::1]:443"));
        assert_eq!(
            cluster.certificate_authority,
            Some(format!("{IN_CLUSTER}/ca.crt"))
        );
        let user = kubeconfig.auth_infos[0].auth_info.clone().unwrap();
        assert_eq!(user.token_file, Some(format!("{IN_CLUSTER}/token")));
        assert!(user.token.is_none());
        assert_eq!(kubeconfig.current_context.as_deref(), Some("host"));
    }

    #[test]
    fn labels_are_valid_whatever_the_version() {
        let digest = Sha256Digest::of(b"");
        for (version, expected) in [
            ("1.2.3", "1.2.3"),
            ("1.2.3+build.7", "1.2.3_build.7"),
            ("1.0.0-", "1.0.0"),
            (&format!("1.0.0-{}", "a.".repeat(50)), ""),
        ] {
            let chart = ChartArchive {
                path: PathBuf::new(),
                bare: None,
                name: "web".to_owned(),
                version: version.to_owned(),
                digest,
            };
            let labels = labels(&chart, &digest);
            let label = labels.rsplit('=').next().unwrap();
            assert!(
                label.len() <= 63 && label.ends_with(|c: char| c.is_ascii_alphanumeric()),
                "{label}"
            );
            assert!(expected.is_empty() || label == expected, "{label}");
        }
    }
}
