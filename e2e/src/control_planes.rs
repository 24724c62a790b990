//! A FAKE for clusters without nodes: tenants' control planes that nobody runs.
//!
//! With no kubelet, the pods of a control plane stay pending for ever. This fake marks
//! them as running and ready, writes the Secrets that a vCluster writes at its start,
//! and answers `GET /readyz` over TLS for every tenant, by SNI, with a certificate of
//! that tenant's own CA.
//!
//! Its limits: no tenant has an API behind it; a pod is ready at once; the PKI never
//! changes; nothing is synced between tenant and host. Everything else is real: the
//! api-server, the controller manager that counts the pods, helm, and the chart.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt;
use kubebyon_k8s::{
    k8s_openapi::{
        ByteString,
        api::core::v1::{Pod, Secret},
    },
    kube::{
        Api, Client, ResourceExt,
        api::{Patch, PatchParams, PostParams},
        runtime::{WatchStreamExt, watcher},
    },
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// Images of this tag cannot be pulled: their pods wait in `ImagePullBackOff`.
pub const UNPULLABLE: &str = "unpullable";

/// The fake; its tasks end when it is dropped.
pub struct ControlPlanes {
    address: SocketAddr,
    authority: Arc<Authority>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for ControlPlanes {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl ControlPlanes {
    /// Plays all control planes of the cluster that `client` talks to.
    pub async fn start(client: Client) -> std::io::Result<Self> {
        let authority = Arc::new(Authority::new());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(authority.clone());
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let tasks = vec![
            tokio::spawn(serve(listener, acceptor)),
            tokio::spawn(run_pods(client, authority.clone())),
        ];
        Ok(Self {
            address,
            authority,
            tasks,
        })
    }

    /// Where every tenant answers: for the manager's `--tenant-dial-address`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many different tenants were dialled since [`ControlPlanes::forget_dials`].
    pub fn dialled(&self) -> usize {
        locked(&self.authority.dialled).len()
    }

    /// Begins to count anew.
    pub fn forget_dials(&self) {
        locked(&self.authority.dialled).clear();
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(mut tls) = acceptor.accept(stream).await else {
                return;
            };
            let mut request = [0; 1024];
            let Ok(count) = tls.read(&mut request).await else {
                return;
            };
            let ready = request[..count].starts_with(b"GET /readyz ");
            let status = if ready { "200 OK" } else { "404 Not Found" };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            // A client that is gone already has its answer.
            let _ = tls.write_all(answer.as_bytes()).await;
            let _ = tls.shutdown().await;
        });
    }
}

async fn run_pods(client: Client, authority: Arc<Authority>) {
    let selector = watcher::Config::default().labels("app=vcluster");
    let mut pods = watcher(Api::<Pod>::all(client.clone()), selector)
        .default_backoff()
        .applied_objects()
        .boxed();
    while let Some(event) = pods.next().await {
        let Ok(pod) = event else { continue };
        let running = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            == Some("Running");
        if running || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let (client, authority) = (client.clone(), authority.clone());
        tokio::spawn(async move {
            let name = pod.name_any();
            if let Err(error) = run_pod(&client, &authority, &pod).await {
                // The pod or its namespace may be gone in the meantime.
                println!("fake control plane {name}: {error}");
            }
        });
    }
}

async fn run_pod(
    client: &Client,
    authority: &Authority,
    pod: &Pod,
) -> Result<(), kubebyon_k8s::kube::Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let Some(release) = pod.labels().get("release") else {
        return Ok(());
    };
    if let Some(status) = pull_failure(pod) {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let parameters = PatchParams::default();
        pods.patch_status(&pod.name_any(), &parameters, &Patch::Merge(&status))
            .await?;
        return Ok(());
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    for secret in [
        authority.kubeconfig_secret(release),
        authority.pki_secret(release),
    ] {
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => {}
            Err(kubebyon_k8s::kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    let containers = pod
        .spec
        .as_ref()
        .map(|spec| spec.containers.clone())
        .unwrap_or_default();
    let statuses: Vec<_> = containers
        .iter()
        .map(|container| {
            json!({
                "name": container.name, "image": container.image, "imageID": "", "ready": true, "started": true,
                "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            })
        })
        .collect();
    let conditions: Vec<_> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .iter()
        .map(|type_| json!({"type": type_, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}))
        .collect();
    let status = json!({"status": {"phase": "Running", "podIP": "10.244.0.9", "conditions": conditions, "containerStatuses": statuses}});
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    pods.patch_status(
        &pod.name_any(),
        &PatchParams::default(),
        &Patch::Merge(&status),
    )
    .await?;
    Ok(())
}

/// What a kubelet says of a pod with an image of tag [`UNPULLABLE`].
fn pull_failure(pod: &Pod) -> Option<serde_json::Value> {
    let spec = pod.spec.as_ref()?;
    let container = spec.containers.iter().find(|container| {
        let image = container.image.as_deref().unwrap_or_default();
        image.ends_with(&format!(":{UNPULLABLE}"))
    })?;
    let message = format!(
        "Back-off pulling image \"{}\": not found",
        container.image.as_deref().unwrap_or_default()
    );
    Some(
        json!({"status": {"phase": "Pending", "containerStatuses": [{
            "name": container.name, "image": container.image, "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": message}},
        }]}}),
    )
}

/// One certificate authority for all fake tenants, and a certificate for any name.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    client_certificate: String,
    client_key: String,
    served: Mutex<HashMap<String, Arc<CertifiedKey>>>,
    dialled: Mutex<HashSet<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "fake tenants");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
            .expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let client = CertificateParams::new(Vec::new())
            .expect("parameters")
            .signed_by(&key, &issuer)
            .expect("a certificate");
        Self {
            client_certificate: client.pem(),
            client_key: key.serialize_pem(),
            issuer,
            served: Mutex::default(),
            dialled: Mutex::default(),
        }
    }

    fn kubeconfig_secret(&self, release: &str) -> Secret {
        let data = [
            ("certificate-authority", self.issuer.pem()),
            ("client-certificate", self.client_certificate.clone()),
            ("client-key", self.client_key.clone()),
            ("config", String::new()),
        ];
        let mut secret = Secret {
            data: Some(
                data.into_iter()
                    .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
                    .collect(),
            ),
            ..Secret::default()
        };
        secret.metadata.name = Some(format!("vc-{release}"));
        secret.labels_mut().extend([
            ("app".to_owned(), "vcluster".to_owned()),
            ("vcluster-name".to_owned(), release.to_owned()),
        ]);
        secret
    }

    fn pki_secret(&self, release: &str) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some(format!("{release}-certs"));
        secret.data = Some(
            [(
                "ca.crt".to_owned(),
                ByteString(self.issuer.pem().into_bytes()),
            )]
            .into(),
        );
        secret
    }

    fn certificate(&self, name: &str) -> Option<CertifiedKey> {
        let key = KeyPair::generate().ok()?;
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .ok()?
            .signed_by(&key, &self.issuer)
            .ok()?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).ok()?;
        let signer = rustls::crypto::ring::sign::any_supported_type(&private).ok()?;
        Some(CertifiedKey::new(
            vec![CertificateDer::from(certificate.der().to_vec())],
            signer,
        ))
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_owned();
        locked(&self.dialled).insert(name.clone());
        let mut served = locked(&self.served);
        if let Some(known) = served.get(&name) {
            return Some(known.clone());
        }
        let made = Arc::new(self.certificate(&name)?);
        served.insert(name, made.clone());
        Some(made)
    }
}
