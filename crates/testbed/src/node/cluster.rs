//! A whole cluster: LAN, control plane, nodes, agent and name server.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    addons::{self, Addon},
    agent::{AgentConfig, AgentNode, zone::Zone},
    control_plane::{CONTROL_PLANE_PARTS, ControlPlane, ControlPlaneOptions},
    dirs,
    error::{Error, Result},
    images::{self, ImageSet, store},
    kubectl::Kubectl,
    name::ClusterName,
    node::{
        cgroup,
        handle::Namespaces,
        lan::{self, Lan, MAX_NODES},
        machine::{Node, volumes},
        requirements::{NODE_PARTS, check as check_requirements},
        sandbox::Sandbox,
    },
    parts::{Bins, Part},
    pki::write_private,
    process::{Daemon, DaemonSpec, testbed_program},
    profile::RunningCluster,
    progress::Progress,
};

const API_PORT: u16 = 6443;
/// How long a node may take to become Ready, in seconds.
const READY_LIMIT: u32 = 120;
const BASE: &str = include_str!("../../../../e2e/manifests/cluster.yaml");

/// What a cluster with nodes is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeOptions {
    /// How many nodes, from 1 to [`MAX_NODES`].
    pub nodes: u8,
    /// Whether the testbed routes each node's pod range on the others. Without it that is left to an agent under test.
    pub route_pods: bool,
    /// Whether every request to the api-server is logged.
    pub audit: bool,
    /// What is installed beside the cluster's own needs.
    pub addons: Vec<Addon>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            route_pods: true,
            audit: false,
            addons: Vec::new(),
        }
    }
}

/// A running cluster; dropping it ends it.
#[derive(Debug)]
pub(crate) struct RunningNodes {
    // Dropped in this order: what depends on something goes before it.
    agent: Daemon,
    name_server: Daemon,
    nodes: Vec<Node>,
    control_plane: ControlPlane,
    lan_sandbox: Sandbox,
    ctr: PathBuf,
}

impl NodeOptions {
    /// The parts that the cluster is made of.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let mut parts = CONTROL_PLANE_PARTS.to_vec();
        parts.extend(NODE_PARTS);
        parts.extend(ImageSet::Base.parts());
        parts.extend(self.addons.iter().flat_map(|addon| addon.parts()));
        parts.extend([Part::Helm]);
        parts
    }

    /// Fails early when the options make no cluster, or this machine cannot run one.
    pub(crate) fn check(&self, progress: Progress) -> Result<()> {
        if !(1..=MAX_NODES).contains(&self.nodes) {
            return Err(Error::BadNodeCount {
                count: self.nodes,
                most: MAX_NODES,
            });
        }
        check_requirements(progress)
    }

    /// Starts the cluster below `dir`, a directory of this cluster alone, and returns when its nodes are Ready and
    /// its addons available. To be called from the main thread, as [`Daemon::spawn`].
    ///
    /// # Errors
    /// What could not be started, with the end of its log.
    pub(crate) fn start(
        &self,
        name: &ClusterName,
        dir: &Path,
        bins: &Bins,
        progress: Progress,
    ) -> Result<RunningNodes> {
        RunningNodes::start(self, name, dir, bins, progress)
    }
}

impl RunningNodes {
    fn start(
        options: &NodeOptions,
        name: &ClusterName,
        dir: &Path,
        bins: &Bins,
        progress: Progress,
    ) -> Result<Self> {
        let store = ensure_store(options, bins, progress)?;
        let lan = lan::reserve(name)?;
        let lan_sandbox = Sandbox::start(&format!("{name}-lan"), dir)?;
        lan.create(&lan_sandbox)?;
        let zone = Zone::create(&dir.join("zone"), lan.control_plane())?;
        let name_server = Daemon::spawn(zone.server(bins, dir).netns(lan_sandbox.netns()))?;

        let mut nodes = (0..options.nodes)
            .map(|number| Node::start(name, number, lan, &lan_sandbox, bins, &store, dir))
            .collect::<Result<Vec<_>>>()?;
        route(lan, &lan_sandbox, &nodes, options.route_pods)?;
        let base = base_manifests(lan, &nodes);
        let control_plane = ControlPlane::start(
            control_plane_options(options, name, lan, &lan_sandbox),
            bins,
            dir,
            |kubeconfig, _| {
                Kubectl::new(bins, kubeconfig).apply("make the cluster's own objects", &base)
            },
        )?;
        let proxy = control_plane
            .authority()
            .client("kube-proxy", "system:kube-proxy", None)?;
        let proxy = control_plane.kubeconfig_for("kube-proxy.kubeconfig", &proxy)?;
        for node in &mut nodes {
            node.join(&control_plane, bins, &proxy)?;
        }
        Namespaces::of(&lan_sandbox, &nodes).write(dir)?;
        let agent = Daemon::spawn(agent(dir, lan, &nodes, &control_plane)?)?;
        let mut cluster = Self {
            agent,
            name_server,
            nodes,
            control_plane,
            lan_sandbox,
            ctr: bins.path(Part::Ctr),
        };

        let kubectl = Kubectl::new(bins, cluster.control_plane.kubeconfig());
        let ready = kubectl.wait(
            "wait for the nodes to be Ready",
            "condition=Ready",
            &["node", "--all"],
            READY_LIMIT,
        );
        // A daemon that has ended tells more than the wait that it made fail.
        cluster.check()?;
        ready?;
        let addons = addons::distinct(&options.addons);
        addons::install(&addons, bins, &kubectl, cluster.control_plane.kubeconfig())?;
        kubectl.wait(
            "wait for the cluster's DNS",
            "condition=Available",
            &["--namespace=kube-system", "deployment/coredns"],
            READY_LIMIT,
        )?;
        Ok(cluster)
    }
}

impl RunningCluster for RunningNodes {
    fn control_plane(&mut self) -> &mut ControlPlane {
        &mut self.control_plane
    }

    fn check(&mut self) -> Result<()> {
        self.control_plane.check()?;
        self.lan_sandbox.check()?;
        self.name_server.check()?;
        self.nodes.iter_mut().try_for_each(Node::check)?;
        self.agent.check()
    }

    fn load_image(&mut self, archive: &Path) -> Result<()> {
        self.nodes
            .iter()
            .try_for_each(|node| store::import(&node.sandbox, &self.ctr, archive))
    }
}

/// Removes what a cluster leaves behind when its processes are gone: cgroups and its address range.
pub(crate) fn remove_leftovers(cluster: &ClusterName) -> Result<()> {
    cgroup::remove_all(cluster)?;
    lan::release(cluster)
}

fn ensure_store(options: &NodeOptions, bins: &Bins, progress: Progress) -> Result<PathBuf> {
    let dir = dirs::cache()?.join("images");
    let mut sets = vec![ImageSet::Base];
    sets.extend(options.addons.iter().filter_map(|addon| addon.images()));
    sets.sort();
    sets.dedup();
    let mut archives = Vec::new();
    for set in sets {
        for image in set.images(bins)? {
            archives.push(images::build(&image, &dir)?);
        }
    }
    store::ensure(&archives, bins, &dir, progress)
}

/// Lets the control plane reach Services and pods, as webhooks need, and the nodes one another's pods.
fn route(lan: Lan, lan_sandbox: &Sandbox, nodes: &[Node], route_pods: bool) -> Result<()> {
    let services = (lan::SERVICE_RANGE.to_owned(), lan.node(0));
    let pods: Vec<_> = (0..)
        .zip(nodes)
        .map(|(number, _)| (lan::pod_range(number), lan.node(number)))
        .collect();
    lan::add_routes(lan_sandbox, pods.iter().chain([&services]))?;
    if route_pods {
        for (own, node) in (0..).zip(nodes) {
            lan::add_routes(
                &node.sandbox,
                pods.iter().filter(|(_, via)| *via != lan.node(own)),
            )?;
        }
    }
    Ok(())
}

fn base_manifests(lan: Lan, nodes: &[Node]) -> String {
    let mut text = BASE.replace("@NAMESERVER@", &lan.control_plane().to_string());
    for node in nodes {
        text.push_str("---\n");
        text.push_str(&node.object().to_string());
        text.push('\n');
    }
    text
}

fn control_plane_options(
    options: &NodeOptions,
    name: &ClusterName,
    lan: Lan,
    sandbox: &Sandbox,
) -> ControlPlaneOptions {
    ControlPlaneOptions {
        address: IpAddr::V4(lan.control_plane()),
        port: Some(API_PORT),
        netns: Some(sandbox.netns()),
        service_cidr: lan::SERVICE_RANGE.to_owned(),
        pod_cidr: lan::POD_RANGE.to_owned(),
        audit: options.audit,
        scheduler: true,
        ..ControlPlaneOptions::new(name.as_str())
    }
}

fn agent(dir: &Path, lan: Lan, nodes: &[Node], control_plane: &ControlPlane) -> Result<DaemonSpec> {
    let config = AgentConfig {
        kubeconfig: control_plane.kubeconfig().to_path_buf(),
        pool: lan.pool().collect(),
        volumes: volumes(dir),
        nodes: nodes
            .iter()
            .map(|node| AgentNode {
                name: node.name().to_owned(),
                process: node.sandbox.init(),
            })
            .collect(),
    };
    let path = dir.join("agent.json");
    let text = serde_json::to_string_pretty(&config).map_err(|source| Error::BadRecord {
        path: path.clone(),
        source,
    })?;
    write_private(&path, &text)?;
    Ok(DaemonSpec::new("agent", testbed_program()?, dir)
        .arg("agent")
        .arg(path.display().to_string()))
}
