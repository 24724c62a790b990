//! A cluster of profile `api` for tests.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    name::ClusterName,
    parts::{self, Part},
    process::output,
    profile::{Profile, api::ApiOptions},
    progress::Progress,
    supervisor::{client::Owned, protocol::Request},
};

/// A control plane with CRDs, ended by dropping it and, whatever happens to this process, with this process.
#[derive(Debug)]
pub struct ApiCluster {
    kubectl: PathBuf,
    helm: PathBuf,
    kubeconfig: PathBuf,
    audit_log: Option<PathBuf>,
    owned: Option<Owned>,
}

impl ApiCluster {
    /// The cluster that tests run against: the one that `KUBECONFIG` names, in which nothing is started or
    /// installed, else a new one with the project's CRDs.
    pub fn for_tests() -> Result<Self> {
        Self::for_tests_with(ApiOptions::default())
    }

    /// As [`for_tests`](Self::for_tests), with options for the case that a cluster is started.
    pub fn for_tests_with(options: ApiOptions) -> Result<Self> {
        match std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
            None => Self::start(options),
            Some(kubeconfig) => {
                let progress = Progress::stderr();
                let bins = parts::ensure(&[Part::Kubectl, Part::Helm], progress)?;
                let kubeconfig = PathBuf::from(kubeconfig);
                progress.say(&format!(
                    "KUBECONFIG is set: using {}, nothing is started",
                    kubeconfig.display()
                ));
                Ok(Self {
                    kubectl: bins.path(Part::Kubectl),
                    helm: bins.path(Part::Helm),
                    kubeconfig,
                    audit_log: None,
                    owned: None,
                })
            }
        }
    }

    /// Starts a new cluster, even when `KUBECONFIG` is set: for tests that restart its api-server or read its log.
    pub fn start(options: ApiOptions) -> Result<Self> {
        let audit = options.audit;
        let owned = Owned::start(
            unique_name()?,
            Profile::Api(options),
            true,
            Progress::stderr(),
        )?;
        Ok(Self {
            kubectl: owned.bins().path(Part::Kubectl),
            helm: owned.bins().path(Part::Helm),
            kubeconfig: owned.kubeconfig(),
            audit_log: audit.then(|| owned.dir().join("audit.log")),
            owned: Some(owned),
        })
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The kubectl program of the cluster's version.
    pub fn kubectl(&self) -> PathBuf {
        self.kubectl.clone()
    }

    /// The helm program.
    pub fn helm(&self) -> PathBuf {
        self.helm.clone()
    }

    /// The log of all requests, one JSON object a line, when it was asked for.
    pub fn audit_log(&self) -> Option<&Path> {
        self.audit_log.as_deref()
    }

    /// Runs kubectl to its end and returns its output.
    pub fn run_kubectl<const N: usize>(&self, args: [&str; N]) -> Result<String> {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(args);
        if let Some(owned) = &self.owned {
            // Each cluster has its own address, so in the home its discovery cache would never be used again.
            command.env("KUBECACHEDIR", owned.dir().join("kubectl-cache"));
        }
        output(&format!("kubectl {}", args.join(" ")), &mut command)
    }

    /// Kills the api-server, as a crash would.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for a cluster that was not started here; so for the next two.
    pub fn stop_apiserver(&self) -> Result<()> {
        self.ask(&Request::StopApiserver)
    }

    /// Starts the api-server again, on the same port, and waits until it is ready.
    pub fn start_apiserver(&self) -> Result<()> {
        self.ask(&Request::StartApiserver)
    }

    /// Kills the api-server and starts it again.
    pub fn restart_apiserver(&self) -> Result<()> {
        self.stop_apiserver()?;
        self.start_apiserver()
    }

    /// The supervisor's process id, for tests that kill it; none for a cluster that was not started here.
    pub fn supervisor(&self) -> Option<u32> {
        self.owned.as_ref().map(Owned::supervisor)
    }

    fn ask(&self, request: &Request) -> Result<()> {
        self.owned.as_ref().ok_or(Error::NotOurs)?.ask(request)
    }
}

/// A name that no other process on this machine, and no other call in this one, comes to.
fn unique_name() -> Result<ClusterName> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let seed = format!(
        "{}/{}/{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed),
        now.as_nanos()
    );
    let hash = format!("{:x}", Sha256::digest(seed));
    format!("test-{}", hash.get(..12).unwrap_or_default()).parse()
}
