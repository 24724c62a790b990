//! The public side of a cluster: its names, its route, and the proof that they lead to its API.
//!
//! The order of a change of name, in which the published kubeconfig works at every moment, is
//! [`kubebyon_render::exposure::change`]; here its steps are taken.

mod attachment;
mod claims;
mod route;

use std::{sync::Arc, time::Duration};

use kubebyon_api::{
    Reason,
    managed_cluster::{HostnameRole, HostnameState, HostnameStatus},
    types::Hostname,
};
use kubebyon_k8s::{k8s_openapi::jiff::Timestamp, kube::core::DynamicObject};
use kubebyon_render::{
    Cluster,
    exposure::change::{Names, Retiring, Seen, Step},
    gateway_api::{
        Role,
        parents::Parents,
        reading::{self, Verdict},
    },
    kubeconfig::TenantPki,
};

pub use attachment::{Attachment, attach};
pub use claims::{give_up, give_up_all};
pub use route::remove as remove_route;

use super::{
    Context,
    control_plane::{self, Proved},
    error::{Error, Halt},
    observe::Observed,
    report::Outcome,
    stores::{ClusterRef, Stores},
};
use crate::{
    dial::DialError,
    probe::{Address, DnsFault, Proof, Target},
};

/// A certificate that does not carry a name yet is looked at again so soon.
const LOOK_AT_CERTIFICATE: Duration = Duration::from_millis(500);
/// A gateway takes a moment to serve a new route; for so long a failed dial is no fault.
const GRACE: Duration = Duration::from_secs(15);
/// Records that are shown for one name.
const MAX_RECORDS: usize = 8;

/// How a cluster is served.
pub struct Served {
    /// Whether the wanted name leads to the entrance.
    pub dns: Outcome,
    /// Whether the tenant's API answers under the wanted name.
    pub endpoint: Outcome,
    /// The names as the kubeconfig's Secret has to remember them.
    pub names: Names,
    /// What status says of each name.
    pub hostnames: Vec<HostnameStatus>,
    /// When something is due that no watch tells.
    pub due: Option<Duration>,
}

/// What is seen of the wanted name.
struct Sight {
    route: Option<Arc<DynamicObject>>,
    routed: Vec<Hostname>,
    verdict: Verdict,
    proof: Option<Proof>,
    san: San,
}

/// Whether the tenant shows a certificate for the wanted name.
enum San {
    Served,
    Missing(DialError),
    /// The control plane is not proved, so nobody can say.
    Unknown,
}

/// Takes the next step towards the names of `attachment`. Without `proved` nothing is known of
/// the tenant at this moment: what is there is kept.
pub async fn serve(
    context: &Context,
    identity: &Cluster,
    observed: &Observed,
    attachment: &Attachment,
    proved: Option<&Proved>,
    suspended: bool,
) -> Served {
    let names = &attachment.names;
    let sight = look(context, identity, observed, attachment, proved).await;
    let now = Timestamp::now();
    let seen = Seen {
        san_served: matches!(sight.san, San::Served),
        routed: &sight.routed,
        route_accepted: sight.verdict == Verdict::Accepted,
        probe_ok: sight
            .proof
            .as_ref()
            .is_some_and(|proof| proof.dial.is_ok() && proof.dns.is_ok()),
    };
    let step = names.next(&seen);
    let live = sight.route.as_deref();
    let parents = parents(context, identity, attachment, live);
    let mut applied = Ok(false);
    let mut after = names.clone();
    let mut parents_due = parents.due();
    if !suspended {
        after = names.after(&seen, now);
        // Published and proved: nobody needs an entrance that the cluster has left.
        let settled = matches!(step, Step::RetireOld { .. } | Step::Done);
        let parents = parents.after(settled, now);
        parents_due = parents.due();
        if let Some(hostnames) = names.routed(&seen, now) {
            applied = route::ensure(
                context, identity, observed, attachment, live, hostnames, &parents,
            )
            .await;
        }
    }
    let foreign = route::foreign(&context.stores, identity, &names.all().collect::<Vec<_>>());
    let endpoint = match (applied, proved) {
        (Err(halt), _) => Outcome::Halted(halt),
        (Ok(_), None) => Outcome::Halted(Halt::wait(
            Reason::WaitingForDependency,
            "waits for ControlPlaneAvailable",
        )),
        (Ok(_), Some(_)) => endpoint(attachment, step, &sight, foreign.as_ref()),
    };
    let dns = dns(attachment, sight.proof.as_ref());
    Served {
        hostnames: hostnames(attachment, &sight, &dns, &endpoint, foreign.as_ref()),
        due: after
            .retiring()
            .iter()
            .map(Retiring::due)
            .chain(parents_due)
            .map(|due| Duration::try_from(due.duration_since(now)).unwrap_or_default())
            .min(),
        names: after,
        dns,
        endpoint,
    }
}

/// The entrance, and those that the cluster leaves and that still admit it.
fn parents(
    context: &Context,
    identity: &Cluster,
    attachment: &Attachment,
    live: Option<&DynamicObject>,
) -> Parents {
    let wanted = attachment.layout.parent();
    match live {
        Some(live) => Parents::of(wanted, live, |parent| {
            attachment::is_admitted_at(&context.stores, &identity.namespace, parent)
        }),
        None => Parents::new(wanted),
    }
}

async fn look(
    context: &Context,
    identity: &Cluster,
    observed: &Observed,
    attachment: &Attachment,
    proved: Option<&Proved>,
) -> Sight {
    let wanted = attachment.names.desired();
    let route = route::live(&context.stores, &observed.host_namespace);
    let routed = route.as_deref().map(reading::hostnames).unwrap_or_default();
    let gateway = &attachment.layout.place(Role::ControlPlane).at;
    let verdict = route.as_deref().map_or(Verdict::Silent, |route| {
        reading::verdict(route, gateway, attachment.controller.as_deref())
    });
    let settled = proved.is_some() && attachment.names.published() == Some(wanted);
    let pki = proved
        .map(|proved| proved.pki.clone())
        .or_else(|| context.known.pki(&identity.uid));
    let proof = match pki {
        Some(pki) => probe(context, identity, attachment, &pki, settled).await,
        None => None,
    };
    let answers = proof.as_ref().is_some_and(|proof| proof.dial.is_ok());
    let san = match proved {
        _ if answers && routed.contains(wanted) => San::Served,
        None => San::Unknown,
        Some(proved) => match control_plane::answers(&proved.pki, proved.address, wanted).await {
            Ok(()) => San::Served,
            Err(error) => San::Missing(error),
        },
    };
    Sight {
        route,
        routed,
        verdict,
        proof,
        san,
    }
}

async fn probe(
    context: &Context,
    identity: &Cluster,
    attachment: &Attachment,
    pki: &TenantPki,
    settled: bool,
) -> Option<Proof> {
    if attachment.addresses.is_empty() {
        return None;
    }
    let target = Target {
        name: attachment.names.desired().clone(),
        entrance: attachment.addresses.clone(),
        authority: pki.certificate_authority().to_vec(),
        check_dns: attachment.check_dns,
        servers: attachment.dns_servers.clone(),
        interval: attachment.probe_interval,
        dial_at: context.options.public_dial_address,
    };
    let key = ClusterRef::new(&identity.name).within(&identity.namespace);
    if settled {
        context.prober.first(&key, target).await
    } else {
        context.prober.look(&key, target, true)
    }
}

/// Whether the tenant's API answers under the wanted name, and if not, what comes first.
fn endpoint(
    attachment: &Attachment,
    step: Step,
    sight: &Sight,
    foreign: Option<&(Hostname, String)>,
) -> Outcome {
    let wanted = attachment.names.desired();
    let gateway = &attachment.layout.place(Role::ControlPlane).at;
    let gateway = format!("Gateway {}/{}", gateway.namespace, gateway.name);
    let settled = attachment.names.published() == Some(wanted);
    let answers = sight.proof.as_ref().is_some_and(|proof| proof.dial.is_ok());
    if answers && sight.routed.contains(wanted) && (settled || sight.verdict == Verdict::Accepted) {
        let also = foreign.map_or_else(String::new, |(name, route)| {
            format!("; {route} carries {name} too, which its owner has to remove")
        });
        return Outcome::Done(format!(
            "https://{wanted} answered through {gateway}, verified by the tenant's CA{also}"
        ));
    }
    if attachment.addresses.is_empty() {
        return Outcome::Halted(Halt::wait(
            Reason::PublicAccessNotReady,
            format!("{gateway} has no address yet; see the conditions of the PublicAccess"),
        ));
    }
    let halt = match step {
        Step::AddSan => Halt::wait_for(
            Reason::CertificateNamePending,
            match &sight.san {
                San::Missing(error) => {
                    format!("the tenant's certificate does not carry {wanted} yet: {error}")
                }
                San::Served | San::Unknown => {
                    format!("the tenant's certificate does not carry {wanted} yet")
                }
            },
            LOOK_AT_CERTIFICATE,
        ),
        Step::AddRouteHostname => match &sight.verdict {
            Verdict::Refused(message) => Error::RouteNotAccepted {
                gateway,
                message: message.clone(),
            }
            .into(),
            Verdict::Accepted | Verdict::Silent => Halt::wait(
                Reason::RouteNotAccepted,
                format!("no controller has accepted the route of {wanted} at {gateway} yet"),
            ),
        },
        Step::Probe | Step::SwitchKubeconfig | Step::RetireOld { .. } | Step::Done => {
            dialled(attachment, &gateway, sight, foreign)
        }
    };
    Outcome::Halted(halt)
}

fn dialled(
    attachment: &Attachment,
    gateway: &str,
    sight: &Sight,
    foreign: Option<&(Hostname, String)>,
) -> Halt {
    let wanted = attachment.names.desired();
    let Some(proof) = &sight.proof else {
        return Halt::wait(
            Reason::Probing,
            format!("https://{wanted} is being dialled through {gateway}"),
        );
    };
    let why = match (&proof.dial, foreign) {
        (Err(error), Some((name, route))) => format!("{error}; {route} carries {name} too"),
        (Err(error), None) => error.clone(),
        (Ok(()), _) => "the route does not carry the name".to_owned(),
    };
    if proof.wrong_for.is_some_and(|time| time < GRACE) && attachment.names.published().is_none() {
        return Halt::wait_for(
            Reason::Probing,
            format!("https://{wanted} does not answer through {gateway} yet: {why}"),
            GRACE,
        );
    }
    Error::ProbeFailed {
        hostname: wanted.clone(),
        gateway: gateway.to_owned(),
        message: why,
    }
    .into()
}

fn dns(attachment: &Attachment, proof: Option<&Proof>) -> Outcome {
    if !attachment.check_dns {
        return Outcome::NotAsked;
    }
    let wanted = attachment.names.desired();
    match proof.map(|proof| &proof.dns) {
        None if attachment.addresses.is_empty() => Outcome::Halted(Halt::wait(
            Reason::PublicAccessNotReady,
            format!("{wanted} cannot be compared: the Gateway has no address yet"),
        )),
        None => Outcome::Halted(Halt::wait(
            Reason::Progressing,
            format!("{wanted} is being looked up"),
        )),
        Some(Ok(())) => Outcome::Done(format!("{wanted} resolves to the entrance")),
        Some(Err(fault)) => {
            let fault = fault.clone();
            match &fault {
                // Its owner may be on the way to make it.
                DnsFault::NoRecord(_) => Outcome::Halted(Halt::wait(
                    Reason::DNSNotReady,
                    format!("{fault}; create: {}", records(attachment)),
                )),
                DnsFault::Elsewhere { .. } | DnsFault::Unanswered(_) => {
                    let records = records(attachment);
                    Outcome::Halted(Error::Dns { fault, records }.into())
                }
            }
        }
    }
}

/// The records that lead the wanted name to the entrance, in the form of a zone file.
fn records(attachment: &Attachment) -> String {
    let name = attachment.names.desired();
    let records: Vec<String> = attachment
        .addresses
        .iter()
        .take(MAX_RECORDS)
        .map(|address| match address {
            Address::Ip(ip) if ip.is_ipv4() => format!("{name}. 300 IN A {ip}"),
            Address::Ip(ip) => format!("{name}. 300 IN AAAA {ip}"),
            Address::Name(target) => format!("{name}. 300 IN CNAME {target}."),
        })
        .collect();
    records.join("; ")
}

fn hostnames(
    attachment: &Attachment,
    sight: &Sight,
    dns: &Outcome,
    endpoint: &Outcome,
    foreign: Option<&(Hostname, String)>,
) -> Vec<HostnameStatus> {
    let state = |outcome: &Outcome| match outcome {
        Outcome::Done(_) => HostnameState::Ready,
        Outcome::Halted(halt) if !matches!(halt, Halt::Waiting(_)) => HostnameState::Failed,
        Outcome::Halted(_) | Outcome::NotTried => HostnameState::Pending,
        Outcome::NotAsked => HostnameState::NotRequired,
    };
    let route = |name: &Hostname| match (&sight.verdict, sight.routed.contains(name)) {
        (Verdict::Refused(_), true) => HostnameState::Failed,
        (Verdict::Accepted, true) => HostnameState::Ready,
        _ => HostnameState::Pending,
    };
    let stolen = |name: &Hostname| {
        foreign
            .filter(|(hit, _)| hit == name)
            .map(|_| Reason::ForeignRoute)
    };
    let halted = [dns, endpoint]
        .into_iter()
        .find_map(|outcome| match outcome {
            Outcome::Halted(halt) => Some(halt.reason()),
            _ => None,
        });
    let wanted = attachment.names.desired();
    let missing = matches!(dns, Outcome::Halted(_)) && !attachment.addresses.is_empty();
    attachment
        .names
        .all()
        .filter(|name| *name == wanted || sight.routed.contains(name))
        .map(|name| HostnameStatus {
            name: name.to_string(),
            role: HostnameRole::ControlPlane,
            dns: (name == wanted).then(|| state(dns)),
            certificate: None,
            route: Some(route(name)),
            reason: stolen(name)
                .or(halted.filter(|_| name == wanted))
                .map(|reason| reason.to_string()),
            expected_record: (name == wanted && missing).then(|| records(attachment)),
        })
        .collect()
}

/// Whether the cluster has a route.
pub fn has_route(stores: &Stores, observed: &Observed) -> bool {
    route::live(stores, &observed.host_namespace).is_some()
}

/// Takes everything public back: the route first, so that nobody is led astray.
pub async fn withdraw(
    context: &Context,
    identity: &Cluster,
    observed: &Observed,
) -> Result<(), Error> {
    let key = ClusterRef::new(&identity.name).within(&identity.namespace);
    context.prober.forget(&key);
    remove_route(context, identity, &observed.host_namespace).await?;
    give_up(context, identity, &[], false).await
}
