//! What is handed out to people: the tenant's address, proved, and the kubeconfig that names it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use kubebyon_api::{
    ManagedCluster, ManagedClusterStatus, Reason,
    managed_cluster::{Endpoints, ServiceType},
    refs::SecretRef,
};
use kubebyon_render::{Cluster, kubeconfig::Endpoint};
use tracing::debug;

use super::{
    Context,
    apply::Publication,
    control_plane::{self, Proved},
    error::Halt,
    observe::Observed,
    public::{self, Attachment, Served},
    report::Outcome,
};
use crate::watches::cached;

/// What became of the last three steps.
pub struct HandedOver {
    /// Whether the public name leads to the entrance.
    pub dns: Outcome,
    /// Whether the tenant's API answers under its public name.
    pub endpoint: Outcome,
    /// Whether the kubeconfig is published.
    pub kubeconfig: Outcome,
    /// When something is due that no watch tells.
    pub due: Option<Duration>,
}

/// Takes the next step towards the public name, and publishes the kubeconfig with the best
/// address that is proved. Values came before; the route comes first here, then the Secret.
pub async fn hand_over(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
    attachment: Option<&Attachment>,
    proved: Option<&Proved>,
    facts: &mut ManagedClusterStatus,
) -> HandedOver {
    let suspended = cluster.spec.suspend;
    let served = match attachment {
        Some(attachment) => {
            Some(public::serve(context, identity, observed, attachment, proved, suspended).await)
        }
        None => None,
    };
    facts.hostnames = served
        .as_ref()
        .map(|served| served.hostnames.clone())
        .unwrap_or_default();
    let kubeconfig = match proved {
        None => Outcome::NotTried,
        Some(proved) => {
            facts.endpoints = Some(endpoints(observed, proved, served.as_ref()));
            let result = publish(
                context,
                cluster,
                identity,
                observed,
                served.as_ref(),
                proved,
            )
            .await;
            if result.is_ok() {
                facts.kubeconfig_secret_ref = Some(SecretRef {
                    name: cluster.kubeconfig_secret_name(),
                });
            }
            result.into()
        }
    };
    match served {
        Some(served) => HandedOver {
            dns: served.dns,
            endpoint: served.endpoint,
            kubeconfig,
            due: served.due,
        },
        None => HandedOver {
            dns: Outcome::NotAsked,
            endpoint: Outcome::NotAsked,
            kubeconfig,
            due: None,
        },
    }
}

async fn publish(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
    served: Option<&Served>,
    proved: &Proved,
) -> Result<String, Halt> {
    let published = served.and_then(|served| served.names.published());
    let publication = match (published, served) {
        (Some(name), Some(served)) => Publication {
            endpoint: Endpoint::public(name),
            memory: served.names.memory(),
        },
        // A kubeconfig that was handed out before stays what it is until the public name is proved.
        (None, Some(_)) if !was_handed_out(context, cluster, identity) => {
            return Err(Halt::wait(
                Reason::WaitingForDependency,
                "waits for the public name; see PublicEndpointReady and DNSReady",
            ));
        }
        _ => Publication {
            endpoint: private_endpoint(context, cluster, identity, observed, proved).await,
            memory: BTreeMap::new(),
        },
    };
    let message = context
        .publish(cluster, identity, &proved.pki, &publication)
        .await?;
    // Only what the kubeconfig does not name any more is given up.
    if !cluster.spec.suspend {
        match served {
            Some(served) => {
                let kept: Vec<_> = served.names.all().collect();
                public::give_up(context, identity, &kept, true).await?;
            }
            None => public::withdraw(context, identity, observed).await?,
        }
    }
    Ok(message)
}

fn was_handed_out(context: &Context, cluster: &ManagedCluster, identity: &Cluster) -> bool {
    let name = cluster.kubeconfig_secret_name();
    cached(&context.stores.secrets, &identity.namespace, &name)
        .is_some_and(|secret| identity.made(&secret.metadata))
}

fn endpoints(observed: &Observed, proved: &Proved, served: Option<&Served>) -> Endpoints {
    let ports = observed
        .service
        .as_ref()
        .and_then(|service| service.spec.as_ref())
        .and_then(|spec| spec.ports.as_ref());
    let port = ports
        .into_iter()
        .flatten()
        .find(|port| port.port == 443)
        .and_then(|port| port.node_port);
    let public = served.filter(|served| matches!(served.endpoint, Outcome::Done(_)));
    Endpoints {
        internal: Some(proved.endpoint.clone()),
        node_port: port.map(|port| port.to_string()),
        public: public
            .and_then(|served| served.names.published())
            .map(|name| format!("https://{name}")),
    }
}

/// Where the kubeconfig of a tenant without a public name points: at the load balancer, once it proved to answer there
/// under its own address, else at the Service.
async fn private_endpoint(
    context: &Context,
    cluster: &ManagedCluster,
    identity: &Cluster,
    observed: &Observed,
    proved: &Proved,
) -> Endpoint {
    let internal = Endpoint::internal(identity, &observed.host_namespace);
    if cluster.spec.control_plane.service.type_ != ServiceType::LoadBalancer
        || context.options.tenant_dial_address.is_some()
    {
        return internal;
    }
    let status = observed
        .service
        .as_ref()
        .and_then(|service| service.status.as_ref());
    let ingress = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    let Some(address) = ingress
        .into_iter()
        .flatten()
        .find_map(|ingress| ingress.ip.clone())
    else {
        return internal;
    };
    let Ok(ip) = address.parse() else {
        return internal;
    };
    match control_plane::answers(&proved.pki, SocketAddr::new(ip, 443), &address).await {
        Ok(()) => Endpoint {
            server: format!("https://{address}"),
            tls_server_name: None,
        },
        Err(error) => {
            debug!(%error, "the load balancer's address is not proved yet");
            internal
        }
    }
}
