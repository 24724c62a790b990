//! Programs on the LAN in front of the nodes, which find names by the public zone alone.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use kubebyon_testbed::NodeCluster;

/// How long one call may take, in seconds.
const LIMIT: &str = "10";

/// A place outside of the nodes.
#[derive(Clone)]
pub struct Outside {
    cluster: Arc<NodeCluster>,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status; 0 when there was none.
    pub status: u16,
    /// Where a redirect leads.
    pub location: String,
    /// The body.
    pub body: String,
    /// What curl says when there is no answer.
    pub error: String,
}

impl Outside {
    /// Beside the nodes of `cluster`.
    pub fn of(cluster: &Arc<NodeCluster>) -> Self {
        Self {
            cluster: cluster.clone(),
        }
    }

    /// Fetches a page; the authority is the only one that is trusted.
    ///
    /// # Panics
    /// When curl does not run.
    pub fn curl(&self, authority: &Path, url: &str) -> Answer {
        let mut command = self.program("curl");
        command.args(["--silent", "--show-error", "--max-time", LIMIT]);
        command.arg("--cacert").arg(authority);
        command.args(["--write-out", "\n%{http_code} %{redirect_url}", url]);
        let (output, error) = finish(&mut command);
        let (body, last) = output.rsplit_once('\n').unwrap_or_default();
        let (status, location) = last.split_once(' ').unwrap_or_default();
        Answer {
            status: status.parse().unwrap_or_default(),
            location: location.to_owned(),
            body: body.trim_end().to_owned(),
            error: error.trim().to_owned(),
        }
    }

    /// The names in the certificate that a server shows under a name that need not be its own; none when it shows
    /// no certificate.
    ///
    /// # Panics
    /// When openssl does not run.
    pub fn certificate(&self, address: &str, sni: &str) -> Option<String> {
        let mut shell = self.program("sh");
        let script = "timeout \"$1\" openssl s_client -connect \"$2:443\" -servername \"$3\" </dev/null 2>/dev/null \
                      | openssl x509 -noout -subject -ext subjectAltName";
        shell.args(["-c", script, "sh", LIMIT, address, sni]);
        let (names, _) = finish(&mut shell);
        Some(names).filter(|names| !names.is_empty())
    }

    /// kubectl, by a kubeconfig.
    ///
    /// # Errors
    /// What kubectl says when it fails.
    pub fn kubectl(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.program(self.cluster.kubectl());
        command
            .env("KUBECACHEDIR", kubeconfig.with_extension("cache"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg(format!("--request-timeout={LIMIT}s"))
            .args(arguments);
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(text.lines().last().unwrap_or_default().to_owned())
    }

    /// A file that outlives no cluster.
    pub fn file(&self, name: &str) -> PathBuf {
        self.cluster.dir().join(name)
    }

    fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.cluster.outside(program).expect("the cluster runs")
    }
}

fn finish(command: &mut Command) -> (String, String) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}
