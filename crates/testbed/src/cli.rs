//! The commands of the `testbed` program.

use std::{
    env,
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    agent::{self, zone::Zone},
    error::{Error, Result},
    name::ClusterName,
    node::{NodeCluster, NodeOptions},
    parts::{self, Bins, Part},
    process::{become_daemon, testbed_program},
    profile::{Profile, api::ApiOptions},
    progress::{Progress, clock},
    smoke,
    state::ClusterDir,
    supervisor::{
        self,
        client::{self, Owned},
        protocol::Request,
    },
};

const AFTER_HELP: &str = "\
Parts are built once into $KUBEBYON_CACHE (default ~/.cache/kubebyon); clusters are recorded in $KUBEBYON_STATE
(default ~/.local/state/kubebyon). Where KUBECONFIG is set, `run` uses that cluster and starts nothing.";

#[derive(Debug, Parser)]
#[command(name = "testbed", about = "A real local Kubernetes for demo, tests and benches", after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a cluster and leave it running
    Up {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// The cluster's name
        #[arg(long, default_value = "testbed")]
        name: ClusterName,
    },
    /// End a cluster and remove everything of it
    Down {
        /// The cluster's name
        #[arg(long, default_value = "testbed", conflicts_with = "all")]
        name: ClusterName,
        /// All clusters, also those of tests
        #[arg(long)]
        all: bool,
    },
    /// List the clusters
    Status,
    /// Print the path of a cluster's kubeconfig
    Kubeconfig {
        /// The cluster's name
        #[arg(long, default_value = "testbed")]
        name: ClusterName,
    },
    /// Give every node of a cluster the images of an archive
    LoadImage {
        /// The archive, as `docker save` writes it
        file: PathBuf,
        /// The cluster's name
        #[arg(long, default_value = "testbed")]
        name: ClusterName,
    },
    /// List the parts that clusters are made of, or build some
    Parts {
        /// Build these now, separated by commas; `all` for all
        #[arg(long, value_delimiter = ',')]
        ensure: Vec<String>,
        /// Print the path of this part and nothing else
        #[arg(long, conflicts_with = "ensure")]
        path: Option<Part>,
    },
    /// Start a cluster, run a command with KUBECONFIG set and kubectl and helm on PATH, and end the cluster
    Run {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Run a command beside the nodes of a cluster of profile node, on their LAN and with the public DNS zone
    Enter {
        /// The cluster's name
        #[arg(long, default_value = "testbed")]
        name: ClusterName,
        /// Run it on this node instead, in all of its namespaces
        #[arg(long)]
        node: Option<String>,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Pull the network cable of a node of a cluster of profile node, or plug it in again
    Link {
        /// The node
        node: String,
        /// What to do
        #[arg(value_enum)]
        state: LinkState,
        /// The cluster's name
        #[arg(long, default_value = "testbed")]
        name: ClusterName,
    },
    /// Edit the public DNS zone of a cluster of profile node
    Dns {
        #[command(subcommand)]
        verb: DnsVerb,
        /// The cluster's name
        #[arg(long, default_value = "testbed", global = true)]
        name: ClusterName,
    },
    /// Try everything that profile node promises, on clusters of its own; needs root
    Smoke {
        /// Only start and end a cluster this many times, every second time by a crash, and look for what it leaves
        #[arg(long)]
        rounds: Option<u32>,
    },
    /// Do the cloud's work for a cluster
    #[command(hide = true)]
    Agent { config: PathBuf },
    /// Hold a cluster together
    #[command(hide = true)]
    Supervise { dir: PathBuf },
    /// Become a daemon that ends with its parent
    #[command(hide = true)]
    Exec {
        #[arg(long)]
        parent: u32,
        #[arg(long)]
        netns: Option<PathBuf>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LinkState {
    /// Pull it
    Down,
    /// Plug it in
    Up,
}

#[derive(Debug, Subcommand)]
enum DnsVerb {
    /// Make a name resolve to addresses, separated by commas, or to another name
    Set { host: String, target: String },
    /// Make a name resolve to nothing
    Remove { host: String },
    /// List the names
    List,
}

#[derive(Debug, Args)]
struct ClusterArgs {
    /// What kind of cluster
    #[arg(long, value_enum, default_value_t = ProfileWord::Api)]
    profile: ProfileWord,
    /// What else to install, separated by commas (api: gateway-api, gateway-api-experimental, cert-manager;
    /// node: gateway-api, envoy-gateway, cert-manager, vcluster)
    #[arg(long, value_delimiter = ',')]
    with: Vec<String>,
    /// Log every request that the api-server answers
    #[arg(long)]
    audit: bool,
    /// How many nodes (node)
    #[arg(long, default_value_t = 1)]
    nodes: u8,
    /// Leave it to an agent under test to route pod ranges between nodes (node)
    #[arg(long)]
    no_pod_routes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProfileWord {
    /// A control plane without nodes; needs no rights
    Api,
    /// A whole cluster with nodes, each in namespaces of its own; needs root
    Node,
}

impl ClusterArgs {
    fn profile(&self) -> Result<Profile> {
        match self.profile {
            ProfileWord::Api => Ok(Profile::Api(ApiOptions {
                with: self
                    .with
                    .iter()
                    .map(|word| word.parse())
                    .collect::<Result<_>>()?,
                audit: self.audit,
                ..ApiOptions::default()
            })),
            ProfileWord::Node => Ok(Profile::Node(NodeOptions {
                nodes: self.nodes,
                route_pods: !self.no_pod_routes,
                audit: self.audit,
                addons: self
                    .with
                    .iter()
                    .map(|word| word.parse())
                    .collect::<Result<_>>()?,
            })),
        }
    }
}

/// Runs the program; errors go to standard error.
pub fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up { cluster, name } => up(&name, cluster.profile()?)?,
        Verb::Down { all: true, .. } => ClusterDir::list()?.iter().try_for_each(down)?,
        Verb::Down { name, .. } => down(&ClusterDir::find(&name)?)?,
        Verb::Status => status()?,
        Verb::Kubeconfig { name } => {
            println!("{}", ClusterDir::find(&name)?.kubeconfig().display());
        }
        Verb::LoadImage { file, name } => {
            let dir = ClusterDir::find(&name)?;
            let file = std::path::absolute(&file).map_err(Error::file("resolve", file))?;
            client::ask(&dir, &Request::LoadImage(file))?;
        }
        Verb::Parts { ensure, path } => list_parts(&ensure, path)?,
        Verb::Run { cluster, command } => return run_in(cluster.profile()?, &command),
        Verb::Enter {
            name,
            node,
            command,
        } => return enter(&name, node.as_deref(), &command),
        Verb::Link { node, state, name } => {
            let cluster = NodeCluster::attach(name.as_str())?;
            match state {
                LinkState::Down => cluster.cut(&node)?,
                LinkState::Up => cluster.reconnect(&node)?,
            }
        }
        Verb::Dns { verb, name } => dns(&Zone::of(ClusterDir::find(&name)?.path()), verb)?,
        Verb::Smoke { rounds: None } => smoke::run(Progress::stderr())?,
        Verb::Smoke {
            rounds: Some(rounds),
        } => smoke::rounds(rounds, Progress::stderr())?,
        Verb::Agent { config } => agent::run(&config)?,
        Verb::Supervise { dir } => supervisor::run(dir)?,
        Verb::Exec {
            parent,
            netns,
            command,
        } => return Err(become_daemon(parent, netns.as_deref(), &command)),
    }
    Ok(ExitCode::SUCCESS)
}

fn up(name: &ClusterName, profile: Profile) -> Result<()> {
    let started = std::time::Instant::now();
    let progress = Progress::stderr();
    let owned = Owned::start(name.clone(), profile, false, progress)?;
    let kubeconfig = owned.kubeconfig();
    owned.detach()?;
    progress.say(&format!(
        "cluster {name} is ready after {}",
        clock(started.elapsed())
    ));
    println!("export KUBECONFIG={}", kubeconfig.display());
    Ok(())
}

fn down(dir: &ClusterDir) -> Result<()> {
    client::down(dir)?;
    Progress::stderr().say(&format!("ended {}", dir.path().display()));
    Ok(())
}

fn enter(name: &ClusterName, node: Option<&str>, command: &[OsString]) -> Result<ExitCode> {
    let cluster = NodeCluster::attach(name.as_str())?;
    let program = command.first().cloned().unwrap_or_default();
    let mut entered = match node {
        Some(node) => cluster.on_node(node, &program)?,
        None => cluster.outside(&program)?,
    };
    let status = entered
        .args(command.iter().skip(1))
        .status()
        .map_err(|source| Error::Spawn {
            program: program.to_string_lossy().into_owned(),
            source,
            hint: "nsenter and unshare are in the Debian package util-linux".to_owned(),
        })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn dns(zone: &Zone, verb: DnsVerb) -> Result<()> {
    match verb {
        DnsVerb::Set { host, target } => zone.set(&host, target.parse()?),
        DnsVerb::Remove { host } => zone.remove(&host).map(drop),
        DnsVerb::List => {
            for (host, target) in zone.list()? {
                println!("{host:<50} {target}");
            }
            Ok(())
        }
    }
}

fn status() -> Result<()> {
    println!("{:<20} {:<8} {:<10} KUBECONFIG", "NAME", "PROFILE", "STATE");
    for dir in ClusterDir::list()? {
        let record = match dir.read() {
            Ok(record) => record,
            Err(error) => {
                println!("{}: {error}", dir.path().display());
                continue;
            }
        };
        let state = match (dir.is_alive()?, record.ready) {
            (true, true) => "ready",
            (true, false) => "starting",
            (false, _) => "dead",
        };
        println!(
            "{:<20} {:<8} {state:<10} {}",
            record.name,
            record.profile.word(),
            dir.kubeconfig().display()
        );
    }
    Ok(())
}

fn list_parts(ensure: &[String], path: Option<Part>) -> Result<()> {
    if let Some(part) = path {
        println!(
            "{}",
            parts::ensure(&[part], Progress::stderr())?
                .path(part)
                .display()
        );
        return Ok(());
    }
    let wanted: Vec<Part> = if ensure.iter().any(|name| name == "all") {
        Part::ALL.to_vec()
    } else {
        ensure
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_>>()?
    };
    if !wanted.is_empty() {
        parts::ensure(&wanted, Progress::stderr())?;
    }
    println!(
        "{:<32} {:<10} {:<8} {:>9} {:>10}",
        "PART", "VERSION", "CACHED", "SIZE MB", "BUILD S"
    );
    for status in parts::status()? {
        let (part, version) = (status.part, status.version);
        match status.cached {
            Some((record, size)) => println!(
                "{part:<32} {version:<10} {:<8} {:>9.1} {:>10.1}",
                "yes",
                megabytes(size),
                std::time::Duration::from_millis(record.build_millis).as_secs_f64(),
            ),
            None => println!(
                "{part:<32} {version:<10} {:<8} {:>9} {:>10}",
                "no", "-", "-"
            ),
        }
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of files, shown with one decimal"
)]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn run_in(profile: Profile, command: &[OsString]) -> Result<ExitCode> {
    let progress = Progress::stderr();
    if let Some(kubeconfig) = env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        let bins = parts::ensure(&[Part::Kubectl, Part::Helm], progress)?;
        progress.say("KUBECONFIG is set: nothing is started");
        return run_command(command, Path::new(&kubeconfig), &bins, None);
    }
    let name = format!("run-{}", std::process::id()).parse()?;
    let owned = Owned::start(name, profile, true, progress)?;
    run_command(
        command,
        &owned.kubeconfig(),
        owned.bins(),
        Some(&owned.dir().join("kubectl-cache")),
    )
}

fn run_command(
    command: &[OsString],
    kubeconfig: &Path,
    bins: &Bins,
    cache: Option<&Path>,
) -> Result<ExitCode> {
    let failed = |source, hint: &str| Error::Spawn {
        program: command
            .first()
            .map(|program| program.to_string_lossy().into_owned())
            .unwrap_or_default(),
        source,
        hint: hint.to_owned(),
    };
    let mut path = vec![
        bins.dir(Part::Kubectl).to_path_buf(),
        bins.dir(Part::Helm).to_path_buf(),
    ];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let path = env::join_paths(path)
        .map_err(|_| failed(std::io::ErrorKind::InvalidInput.into(), "PATH is malformed"))?;
    // Through our own `exec`, so that the command ends when this process is killed, as the cluster does.
    let mut child = Command::new(testbed_program()?);
    if let Some(cache) = cache {
        // Each cluster has its own address, so in the home its discovery cache would never be used again.
        child.env("KUBECACHEDIR", cache);
    }
    let status = child
        .args(["exec", "--parent", &std::process::id().to_string(), "--"])
        .args(command)
        .env("KUBECONFIG", kubeconfig)
        .env("PATH", path)
        .status()
        .map_err(|source| failed(source, "it could not be handed over"))?;
    // Ended by a signal: 128 and its number, as a shell says.
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_unknown_extra_is_refused_by_name() {
        let cli = Cli::try_parse_from(["testbed", "up", "--with", "gateway-api,nonsense"]).unwrap();
        let Verb::Up { cluster, .. } = cli.verb else {
            panic!("up was parsed as something else")
        };
        let message = cluster.profile().unwrap_err().to_string();
        assert!(
            message.contains("nonsense") && message.contains("cert-manager"),
            "{message}"
        );
    }
}
