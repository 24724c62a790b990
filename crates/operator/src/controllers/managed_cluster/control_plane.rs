//! Is the tenant's control plane there? Its pods say so first, then it has to prove it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kubebyon_api::Reason;
use kubebyon_k8s::{
    k8s_openapi::api::core::v1::{ContainerStatus, Pod, Service},
    kube::ResourceExt,
};
use kubebyon_render::{Cluster, kubeconfig::TenantPki};

use super::{
    Context,
    error::{Error, Halt},
    observe::{Observed, Replicas},
    secrets,
};
use crate::{
    backoff::share,
    dial::{DialError, Dialer},
};

/// Time limit of one dial.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// Shortest and longest pause between dials while a control plane comes up: its pods are ready,
/// and no watch tells when its API is.
const DIAL_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// A control plane that answered.
pub struct Proved {
    /// The tenant's certificates, of which its CA is the one that was verified.
    pub pki: Arc<TenantPki>,
    /// Where it answered.
    pub address: SocketAddr,
    /// `host:port` inside the host cluster.
    pub endpoint: String,
    /// Ready pods and wanted pods.
    pub replicas: Replicas,
}

/// Looks at the pods, then dials the API and verifies it by the tenant's CA.
pub async fn prove(
    context: &Context,
    cluster: &Cluster,
    observed: &Observed,
) -> Result<Proved, Halt> {
    let namespace = observed.host_namespace.as_str();
    let Some(workload) = &observed.workload else {
        return Err(Halt::wait(
            Reason::ControlPlaneNotReady,
            "the control plane's StatefulSet or Deployment is not there yet",
        ));
    };
    let replicas = workload.replicas();
    if replicas.ready < 1 {
        context.dials.forget(&cluster.uid);
        let pods = observed.pods(&context.stores);
        return Err(pods.iter().find_map(|pod| trouble(pod)).unwrap_or_else(|| {
            Halt::wait(
                Reason::ControlPlaneNotReady,
                format!(
                    "0 of {} pods of {namespace}/{} are ready",
                    replicas.wanted, observed.release
                ),
            )
        }));
    }
    if !observed.has_pki {
        return Err(secrets::not_written());
    }
    let pki = secrets::tenant_pki(context, cluster, observed).await?;
    let name = cluster.service_dns_name(namespace);
    let address = match context.options.tenant_dial_address {
        Some(address) => address,
        None => service_address(observed.service.as_deref()).ok_or_else(|| {
            Halt::wait(
                Reason::ControlPlaneNotReady,
                "the control plane's Service has no address yet",
            )
        })?,
    };
    let dialer = Dialer::new(pki.certificate_authority()).map_err(Error::from)?;
    match dialer.readyz(address, &name, DIAL_LIMIT).await {
        Ok(()) => {
            context.dials.forget(&cluster.uid);
            Ok(Proved {
                pki,
                address,
                endpoint: format!("https://{name}"),
                replicas,
            })
        }
        Err(error) => Err(match Error::from(error) {
            error if error.reason() == Reason::ControlPlaneUnreachable => {
                let lasted = context.dials.lasted(cluster.uid.clone());
                let pause = share(lasted, DIAL_AGAIN.0, DIAL_AGAIN.1);
                Halt::wait_for(error.reason(), error.to_string(), pause)
            }
            error => error.into(),
        }),
    }
}

/// Dials another address of the same API, under the name `name`.
pub async fn answers(pki: &TenantPki, address: SocketAddr, name: &str) -> Result<(), DialError> {
    Dialer::new(pki.certificate_authority())?
        .readyz(address, name, DIAL_LIMIT)
        .await
}

/// The ClusterIP of the control plane's own Service: never an address that a tenant names.
fn service_address(service: Option<&Service>) -> Option<SocketAddr> {
    let spec = service?.spec.as_ref()?;
    let ip = spec.cluster_ip.as_ref()?.parse().ok()?;
    Some(SocketAddr::new(ip, 443))
}

/// What keeps a pod from being ready, where waiting alone does not help.
fn trouble(pod: &Pod) -> Option<Halt> {
    let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let status = pod.status.as_ref()?;
    let mut containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    if let Some(halt) = containers.find_map(|container| container_trouble(&name, container)) {
        return Some(halt);
    }
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let why = unscheduled.message.clone().unwrap_or_default();
    let reason = if why.contains("unbound immediate PersistentVolumeClaims") {
        Reason::VolumePending
    } else {
        Reason::Unschedulable
    };
    let message = format!("pod {name}: {why}");
    Some(Error::Pod { reason, message }.into())
}

fn container_trouble(pod: &str, container: &ContainerStatus) -> Option<Halt> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = match waiting.reason.as_deref()? {
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => {
            Reason::ImagePullFailed
        }
        "CrashLoopBackOff" => Reason::CrashLoop,
        _ => return None,
    };
    let message = waiting.message.clone().unwrap_or_default();
    let message = format!(
        "pod {pod}, container {}, image {}: {message}; see: kubectl describe pod -n {}",
        container.name,
        container.image,
        pod.replace('/', " ")
    );
    Some(Error::Pod { reason, message }.into())
}
