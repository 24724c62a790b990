//! Helm without the operator: a shell loop with the same binary, arguments, environment,
//! chart, values, ServiceAccount and concurrency.
//!
//! What is the same is not written down here a second time: it is recorded from a run of
//! helm that the operator made, and only the names are changed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::Instant};

/// The cluster whose helm run is recorded, and its host namespace. The namespace's name
/// does not contain the cluster's, so that each can be changed alone.
pub const RECORDED: (&str, &str) = ("recorded", "spare-host");
/// How the files end that the operator hands on; the published one is beside them.
const SMALLER: [&str; 2] = [".bare.tgz", ".slim.tgz"];

/// Which archive of the chart helm is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chart {
    /// As its repository has it, and as whoever calls helm by hand has it.
    Published,
    /// As the operator hands it on, without what helm has no use for.
    AsGiven,
}

/// A helm that writes down how it is called.
pub struct Recorder {
    folder: PathBuf,
}

/// A run of helm as the operator makes it.
pub struct Recording {
    arguments: Vec<String>,
    environment: Vec<String>,
    values: String,
    helm: PathBuf,
    folder: PathBuf,
}

impl Recorder {
    /// Writes the program.
    pub fn new(folder: &Path, helm: &Path) -> (Self, PathBuf) {
        let folder = folder.join("recorded");
        fs::create_dir(&folder).expect("a folder");
        let (record, helm) = (folder.display(), helm.display());
        let script = format!(
            "#!/bin/sh\n\
             if [ \"$1\" = upgrade ]; then\n\
               printf '%s\\n' \"$@\" >{record}/arguments\n\
               /usr/bin/env >{record}/environment\n\
               for argument; do\n\
                 if [ \"$before\" = --values ]; then /bin/cp \"$argument\" {record}/values.yaml; fi\n\
                 before=$argument\n\
               done\n\
             fi\n\
             exec {helm} \"$@\"\n"
        );
        let program = executable(&folder.join("helm"), &script);
        (Self { folder }, program)
    }

    /// What was recorded.
    pub fn recording(self, helm: &Path) -> Recording {
        let read = |name: &str| {
            fs::read_to_string(self.folder.join(name)).expect("the operator has run helm")
        };
        let own = ["PWD=", "SHLVL=", "_=", "OLDPWD="];
        Recording {
            arguments: read("arguments").lines().map(str::to_owned).collect(),
            environment: read("environment")
                .lines()
                .filter(|line| !own.iter().any(|name| line.starts_with(name)))
                .map(str::to_owned)
                .collect(),
            values: read("values.yaml"),
            helm: helm.to_owned(),
            folder: self.folder,
        }
    }
}

impl Recording {
    /// Installs `releases` (name, namespace), `concurrency` at a time; returns how long it took.
    pub async fn run(
        &self,
        releases: &[(String, String)],
        concurrency: u16,
        chart: Chart,
    ) -> Duration {
        for (name, namespace) in releases {
            let values = self.values(name, namespace);
            fs::write(self.values_file(name), values).expect("a file");
            executable(&self.script(name), &self.command(name, namespace, chart));
        }
        let list = self.folder.join("list");
        let scripts: Vec<String> = releases
            .iter()
            .map(|(name, _)| self.script(name).display().to_string())
            .collect();
        fs::write(&list, scripts.join("\n")).expect("a file");
        let started = Instant::now();
        let output = Command::new("xargs")
            .args(["-P", &concurrency.to_string(), "-n", "1", "/bin/sh"])
            .stdin(fs::File::open(&list).expect("a file"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output()
            .await
            .expect("xargs");
        let took = started.elapsed();
        assert!(
            output.status.success(),
            "helm alone: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        took
    }

    /// The values for another release.
    pub fn values(&self, name: &str, namespace: &str) -> String {
        renamed(&self.values, name, namespace)
    }

    /// The archive of the chart.
    pub fn chart(&self, chart: Chart) -> PathBuf {
        let given = self.arguments.iter().find(|argument| is_archive(argument));
        PathBuf::from(which(given.expect("a chart's archive"), chart))
    }

    /// The flags that matter to a reader, without paths and names.
    pub fn flags(&self) -> String {
        let flags = self.arguments.iter().filter(|argument| {
            argument.starts_with("--")
                && ![
                    "--values",
                    "--labels",
                    "--namespace",
                    "--kubeconfig",
                    "--kube-as",
                ]
                .iter()
                .any(|prefix| argument.starts_with(prefix))
        });
        let flags: Vec<&str> = flags.map(String::as_str).collect();
        flags.join(" ")
    }

    fn command(&self, name: &str, namespace: &str, chart: Chart) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let mut words = vec!["exec /usr/bin/env -i".to_owned()];
        words.extend(self.environment.iter().map(|setting| quoted(setting)));
        words.push(quoted(&self.helm.display().to_string()));
        let mut before = "";
        for argument in &self.arguments {
            let argument = if before == "--values" {
                self.values_file(name).display().to_string()
            } else if is_archive(argument) {
                which(argument, chart)
            } else if argument.starts_with('/') || argument.contains("/helm/") {
                argument.clone()
            } else {
                renamed(argument, name, namespace)
            };
            words.push(quoted(&argument));
            before = if argument == "--values" {
                "--values"
            } else {
                ""
            };
        }
        format!("#!/bin/sh\n{}\n", words.join(" "))
    }

    fn values_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.yaml"))
    }

    fn script(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn is_archive(argument: &str) -> bool {
    Path::new(argument)
        .extension()
        .is_some_and(|kind| kind == "tgz")
}

fn which(archive: &str, chart: Chart) -> String {
    let digest = SMALLER
        .iter()
        .find_map(|suffix| archive.strip_suffix(suffix));
    match (chart, digest) {
        (Chart::Published, Some(digest)) => format!("{digest}.tgz"),
        _ => archive.to_owned(),
    }
}

fn renamed(text: &str, name: &str, namespace: &str) -> String {
    text.replace(RECORDED.1, namespace)
        .replace(RECORDED.0, name)
}

fn executable(path: &Path, script: &str) -> PathBuf {
    fs::write(path, script).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    path.to_owned()
}
