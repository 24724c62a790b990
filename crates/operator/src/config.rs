//! What the host admin decides: flags, environment, file, in that order of precedence.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{CommandFactory, Parser, ValueEnum};

/// How far a cluster author's Helm values may reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum ValuesPolicy {
    /// Values that reach outside of the host namespace are refused, by path.
    Restricted,
    /// Only the keys that the operator owns are refused. Cluster authors are then as
    /// mighty as the release's ServiceAccount and the control plane's pods allow.
    Unrestricted,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// A JSON object a line.
    Json,
    /// For reading in a terminal.
    Human,
}

/// The manager's options. Each flag `--some-flag` is also the environment variable
/// `KUBEBYON_SOME_FLAG` and the key `some-flag` of the file.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "kubebyon-operator",
    version,
    about = "Hands out Kubernetes clusters: the KubeBYON manager",
    args_override_self = true
)]
pub struct Options {
    /// YAML file with a key for each flag; flags and environment win over it.
    #[arg(long, env = "KUBEBYON_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The host cluster; default: that of the pod this process runs in.
    #[arg(long, env = "KUBEBYON_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The operator's own namespace: its Lease and the host name claims live there.
    #[arg(long, env = "KUBEBYON_NAMESPACE", default_value = "kubebyon-system")]
    pub namespace: String,

    /// This process among several managers; the pod's name.
    #[arg(long, env = "KUBEBYON_IDENTITY", default_value = "manager")]
    pub identity: String,

    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "KUBEBYON_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// How log lines look.
    #[arg(long, env = "KUBEBYON_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,

    /// What is logged: tracing's filter syntax.
    #[arg(
        long,
        env = "KUBEBYON_LOG_FILTER",
        default_value = "info,kube_client=warn,hyper=warn,tower=warn"
    )]
    pub log_filter: String,

    /// Reconciles that run at once. Helm has a bound of its own, so this one may be generous.
    #[arg(long, env = "KUBEBYON_CONCURRENCY", default_value = "32", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,

    /// Name of the Lease by which managers elect a leader.
    #[arg(long, env = "KUBEBYON_LEASE_NAME", default_value = "kubebyon-operator")]
    pub lease_name: String,

    /// How long a candidate waits for a silent leader.
    #[arg(long, env = "KUBEBYON_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    pub lease_duration: Duration,

    /// The helm binary.
    #[arg(long, env = "KUBEBYON_HELM", default_value = "helm")]
    pub helm: PathBuf,

    /// Helm's own scratch space; emptied at the start.
    #[arg(long, env = "KUBEBYON_WORK_DIR", default_value = "/tmp/kubebyon")]
    pub work_dir: PathBuf,

    /// Helm runs at once, of 100 MiB each; default: one a core, and at most eight.
    #[arg(long, env = "KUBEBYON_HELM_CONCURRENCY")]
    pub helm_concurrency: Option<NonZeroUsize>,

    /// Time limit of one Helm run.
    #[arg(long, env = "KUBEBYON_HELM_TIMEOUT", default_value = "5m", value_parser = duration)]
    pub helm_timeout: Duration,

    /// Folder below which `file://` chart repositories may lie; none are allowed without it.
    #[arg(long, env = "KUBEBYON_CHART_DIR")]
    pub chart_dir: Option<PathBuf>,

    /// Chart repositories that cluster authors may name, as URL prefixes.
    #[arg(
        long,
        env = "KUBEBYON_ALLOWED_CHART_REPOSITORIES",
        value_delimiter = ',',
        default_value = "https://charts.loft.sh"
    )]
    pub allowed_chart_repositories: Vec<url::Url>,

    /// Networks that chart repositories may be in although they are loopback or link-local.
    #[arg(long, env = "KUBEBYON_ALLOWED_CHART_NETWORKS", value_delimiter = ',')]
    pub allowed_chart_networks: Vec<ipnet::IpNet>,

    /// Chart repository of clusters that name none.
    #[arg(
        long,
        env = "KUBEBYON_DEFAULT_CHART_REPOSITORY",
        default_value = "https://charts.loft.sh"
    )]
    pub default_chart_repository: String,

    /// Chart version that a cluster without one gets at its first install, and keeps.
    #[arg(long, env = "KUBEBYON_DEFAULT_CHART_VERSION", default_value = "0.36.1")]
    pub default_chart_version: String,

    /// PEM file with certificate authorities of the default chart repository, besides the system's.
    #[arg(long, env = "KUBEBYON_CHART_CA_FILE", value_name = "FILE")]
    pub chart_ca_file: Option<PathBuf>,

    /// Kubernetes versions on offer: what a minor resolves to. The highest is the default.
    #[arg(
        long,
        env = "KUBEBYON_KUBERNETES_VERSIONS",
        value_delimiter = ',',
        default_value = "1.30.2,1.31.1,1.32.1,1.33.4,1.34.0,1.35.0,1.36.0"
    )]
    pub kubernetes_versions: Vec<String>,

    /// Repositories that `spec.controlPlane.image` may name, as prefixes of registry/repository.
    #[arg(
        long,
        env = "KUBEBYON_ALLOWED_IMAGES",
        value_delimiter = ',',
        default_value = "ghcr.io/loft-sh/"
    )]
    pub allowed_images: Vec<String>,

    /// Control-plane image of clusters that name none, as registry/repository. The
    /// open-source build needs no licence.
    #[arg(
        long,
        env = "KUBEBYON_DEFAULT_IMAGE",
        default_value = "ghcr.io/loft-sh/vcluster-oss"
    )]
    pub default_image: String,

    /// How far a cluster author's Helm values may reach.
    #[arg(
        long,
        env = "KUBEBYON_VALUES_POLICY",
        value_enum,
        default_value = "Restricted"
    )]
    pub values_policy: ValuesPolicy,

    /// Namespace of Argo CD. Without it no cluster is registered there.
    #[arg(long, env = "KUBEBYON_ARGOCD_NAMESPACE", requires = "argocd_project")]
    pub argocd_namespace: Option<String>,

    /// Argo CD project that registered clusters belong to.
    #[arg(long, env = "KUBEBYON_ARGOCD_PROJECT", requires = "argocd_namespace")]
    pub argocd_project: Option<String>,

    /// How long reconciles and Helm runs have to end after SIGTERM.
    #[arg(long, env = "KUBEBYON_DRAIN_TIMEOUT", default_value = "25s", value_parser = duration)]
    pub drain_timeout: Duration,

    /// Longest time a stage of a deletion may take before it is reported as stuck.
    #[arg(long, env = "KUBEBYON_DELETION_STAGE_TIMEOUT", default_value = "5m", value_parser = duration)]
    pub deletion_stage_timeout: Duration,

    /// For tests without a data plane: dial tenants here instead of at their Service.
    #[arg(long, env = "KUBEBYON_TENANT_DIAL_ADDRESS", hide = true)]
    pub tenant_dial_address: Option<SocketAddr>,

    /// For tests without a data plane: dial public names here instead of at their Gateway.
    #[arg(long, env = "KUBEBYON_PUBLIC_DIAL_ADDRESS", hide = true)]
    pub public_dial_address: Option<SocketAddr>,
}

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read --config {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a mapping from flag names to scalars or lists of scalars.
    #[error("--config {path} must map flag names to scalars or lists of scalars: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The reader's message.
        message: String,
    },
    /// A key that is no flag.
    #[error("--config {path}: {key:?} is not a flag of the manager; see --help")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// Clap's own message: an unknown flag, a bad value, or a request for help.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
}

impl Options {
    /// Reads the process's arguments, environment and file.
    pub fn load() -> Result<Self, ConfigError> {
        Self::from_arguments(std::env::args_os().collect(), |name| {
            std::env::var_os(name).is_some()
        })
    }

    fn from_arguments(
        arguments: Vec<OsString>,
        in_environment: impl Fn(&OsStr) -> bool,
    ) -> Result<Self, ConfigError> {
        let first = Self::try_parse_from(&arguments)?;
        let Some(path) = first.config else {
            return Ok(first);
        };
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
        })?;
        let mut merged = vec![arguments.first().cloned().unwrap_or_default()];
        merged.extend(file_arguments(&path, &text, in_environment)?);
        merged.extend(arguments.into_iter().skip(1));
        Ok(Self::try_parse_from(merged)?)
    }
}

/// The file as flags, less those that the environment sets.
fn file_arguments(
    path: &Path,
    text: &str,
    in_environment: impl Fn(&OsStr) -> bool,
) -> Result<Vec<OsString>, ConfigError> {
    let parse = |message: String| ConfigError::Parse {
        path: path.to_owned(),
        message,
    };
    let keys: BTreeMap<String, serde_json::Value> =
        serde_saphyr::from_str(text).map_err(|error| parse(error.to_string()))?;
    let command = Options::command();
    let mut arguments = Vec::new();
    for (key, value) in keys {
        let known = command
            .get_arguments()
            .find(|argument| argument.get_long() == Some(key.as_str()) && key != "config");
        let Some(argument) = known else {
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                key,
            });
        };
        if argument.get_env().is_some_and(&in_environment) {
            continue;
        }
        let text = match value {
            serde_json::Value::Array(items) => items
                .iter()
                .map(scalar)
                .collect::<Option<Vec<_>>>()
                .map(|items| items.join(",")),
            other => scalar(&other),
        };
        let text = text
            .ok_or_else(|| parse(format!("{key:?} is neither a scalar nor a list of scalars")))?;
        arguments.push(format!("--{key}={text}").into());
    }
    Ok(arguments)
}

fn scalar(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A duration as Kubernetes people write it: `90s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is not a duration such as 90s, 5m or 1h"))?;
    let seconds = match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => return Err(format!("{text:?} needs a unit: s, m or h")),
    };
    seconds
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, arguments: &[&str], environment: &[&str]) -> Result<Options, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        std::fs::write(&path, file).unwrap();
        let mut all: Vec<OsString> =
            vec!["kubebyon-operator".into(), "--config".into(), path.into()];
        all.extend(arguments.iter().map(OsString::from));
        Options::from_arguments(all, |name| environment.iter().any(|set| name == *set))
    }

    #[test]
    fn flags_win_over_the_file() {
        let options = load(
            "namespace: from-file\nconcurrency: 7\n",
            &["--namespace", "from-flag"],
            &[],
        )
        .unwrap();
        assert_eq!(options.namespace, "from-flag");
        assert_eq!(options.concurrency, 7);
    }

    #[test]
    fn environment_wins_over_the_file() {
        let options = load("namespace: from-file\n", &[], &["KUBEBYON_NAMESPACE"]).unwrap();
        assert_eq!(options.namespace, "kubebyon-system");
    }

    #[test]
    fn lists_may_be_lists_in_the_file() {
        let options = load("kubernetes-versions: [1.35.6, 1.36.3]\n", &[], &[]).unwrap();
        assert_eq!(options.kubernetes_versions, ["1.35.6", "1.36.3"]);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = load("namespaces: x\n", &[], &[]).unwrap_err();
        assert!(
            error.to_string().contains("\"namespaces\" is not a flag"),
            "{error}"
        );
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("5").is_err());
        assert!(duration("0s").is_err());
        assert!(duration("99999999999999999999h").is_err());
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Options::command().debug_assert();
    }
}
