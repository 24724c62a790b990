//! What the fake tenants serve: which certificate belongs to whom, and an answer to
//! `GET /readyz`.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kubebyon_k8s::{
    k8s_openapi::{ByteString, api::core::v1::Secret},
    kube::ResourceExt,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{Acceptor, NoServerSessionStorage},
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::LazyConfigAcceptor;

/// A client that says nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// A tenant: the namespace and the name of its release.
pub type Tenant = (String, String);

/// One certificate authority for all fake tenants, and each one's certificate.
pub struct Tenants {
    issuer: CertifiedIssuer<'static, KeyPair>,
    client_certificate: String,
    client_key: String,
    key: KeyPair,
    signer: Arc<dyn SigningKey>,
    served: Mutex<Served>,
    dialled: Mutex<HashSet<String>>,
}

#[derive(Default)]
struct Served {
    certificates: HashMap<Tenant, Arc<CertifiedKey>>,
    /// Tenants by the names in their certificates, the youngest last.
    by_name: HashMap<String, Vec<Tenant>>,
}

impl Served {
    /// Whose certificate covers `name`; one with the name itself goes before one with a wildcard.
    fn tenant(&self, name: &str) -> Option<&Tenant> {
        let wildcard = || {
            name.split_once('.')
                .map(|(_, parent)| format!("*.{parent}"))
        };
        let exact = self.by_name.get(name);
        exact
            .or_else(|| self.by_name.get(&wildcard()?))
            .and_then(|tenants| tenants.last())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tenants {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "fake tenants");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
            .expect("a certificate");
        let client_key = KeyPair::generate().expect("a key");
        let client = CertificateParams::new(Vec::new())
            .expect("parameters")
            .signed_by(&client_key, &issuer)
            .expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        Self {
            client_certificate: client.pem(),
            client_key: client_key.serialize_pem(),
            signer: rustls::crypto::ring::sign::any_supported_type(&private).expect("a key"),
            key,
            issuer,
            served: Mutex::default(),
            dialled: Mutex::default(),
        }
    }

    pub(super) fn kubeconfig_secret(&self, release: &str) -> Secret {
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

    pub(super) fn pki_secret(&self, release: &str) -> Secret {
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

    /// Whether the tenant has a certificate.
    pub(super) fn knows(&self, tenant: &Tenant) -> bool {
        locked(&self.served).certificates.contains_key(tenant)
    }

    /// From now on the tenant shows a certificate with these names and addresses.
    pub(super) fn certify(&self, tenant: Tenant, names: Vec<String>) {
        let params = CertificateParams::new(names.clone()).expect("names of a certificate");
        let certificate = params
            .signed_by(&self.key, &self.issuer)
            .expect("a certificate");
        let certificate = CertifiedKey::new(
            vec![CertificateDer::from(certificate.der().to_vec())],
            self.signer.clone(),
        );
        let mut served = locked(&self.served);
        if served.certificates.contains_key(&tenant) {
            served.by_name.retain(|_, tenants| {
                tenants.retain(|other| *other != tenant);
                !tenants.is_empty()
            });
        }
        for name in names {
            if name.parse::<IpAddr>().is_err() {
                served.by_name.entry(name).or_default().push(tenant.clone());
            }
        }
        served.certificates.insert(tenant, Arc::new(certificate));
    }

    /// The names that were dialled, and that some tenant serves.
    pub(super) fn dialled(&self) -> MutexGuard<'_, HashSet<String>> {
        locked(&self.dialled)
    }

    /// Plays `tenant` on a connection to its Service; without one, the tenant that the
    /// client asks for. Any other client sees the connection close.
    pub async fn serve(&self, stream: TcpStream, tenant: Option<&Tenant>) {
        // A client that goes away in the middle is the client's matter.
        let _ = timeout(PATIENCE, self.answer(stream, tenant)).await;
    }

    async fn answer(&self, stream: TcpStream, tenant: Option<&Tenant>) -> std::io::Result<()> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let name = hello.client_hello().server_name().map(str::to_owned);
        let Some(certificate) = self.certificate(tenant, name.as_deref()) else {
            return Ok(());
        };
        if let Some(name) = name {
            self.dialled().insert(name);
        }
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let mut tls = hello.into_stream(Arc::new(config)).await?;
        let mut request = [0; 1024];
        let count = tls.read(&mut request).await?;
        let ready = request[..count].starts_with(b"GET /readyz ");
        let status = if ready { "200 OK" } else { "404 Not Found" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        tls.write_all(answer.as_bytes()).await?;
        tls.shutdown().await
    }

    fn certificate(
        &self,
        tenant: Option<&Tenant>,
        name: Option<&str>,
    ) -> Option<Arc<CertifiedKey>> {
        let served = locked(&self.served);
        let tenant = tenant.or_else(|| served.tenant(name?))?;
        served.certificates.get(tenant).cloned()
    }
}
