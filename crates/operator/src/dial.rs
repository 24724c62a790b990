//! Proof by dialling: one TLS handshake against a given CA and one `GET /readyz`.
//!
//! The other end belongs to a tenant, so nothing of what it sends is trusted: no
//! redirect is followed, the body is not read, and the whole attempt has one limit.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// Certificates a tenant's CA bundle may hold; more is a tenant's mischief.
const MAX_CA_CERTIFICATES: usize = 16;

/// What one dial found.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The CA bundle holds no usable certificate.
    #[error("the CA bundle is not usable: {0}")]
    BadCa(String),
    /// The name is not one that TLS can ask for.
    #[error("{0:?} is not a name that TLS can ask for")]
    BadName(String),
    /// No TCP connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The handshake came to no end, for another reason than the certificate.
    #[error("the TLS handshake with {address} for {name:?} broke: {source}")]
    Handshake {
        /// Where to.
        address: SocketAddr,
        /// The name asked for by SNI.
        name: String,
        /// What failed.
        source: std::io::Error,
    },
    /// The certificate does not verify for the name.
    #[error("TLS with {address} for {name:?} failed: {source}")]
    Tls {
        /// Where to.
        address: SocketAddr,
        /// The name asked for by SNI.
        name: String,
        /// What failed.
        source: std::io::Error,
    },
    /// The connection broke during the request.
    #[error("{address} did not answer GET /readyz: {source}")]
    Http {
        /// Where to.
        address: SocketAddr,
        /// What failed.
        source: hyper::Error,
    },
    /// Anything but 200.
    #[error("{address} answered GET /readyz with {status}")]
    NotReady {
        /// Where to.
        address: SocketAddr,
        /// The status code.
        status: StatusCode,
    },
    /// The limit for the whole attempt passed.
    #[error("{address} gave no answer to GET /readyz within {limit:?}")]
    Timeout {
        /// Where to.
        address: SocketAddr,
        /// The limit.
        limit: Duration,
    },
}

/// A TLS client that trusts one CA bundle and nothing else.
#[derive(Clone)]
pub struct Dialer {
    connector: TlsConnector,
}

impl Dialer {
    /// A client that trusts the PEM certificates in `ca`.
    pub fn new(ca: &[u8]) -> Result<Self, DialError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(ca).enumerate() {
            if index >= MAX_CA_CERTIFICATES {
                return Err(DialError::BadCa(format!(
                    "more than {MAX_CA_CERTIFICATES} certificates"
                )));
            }
            let certificate = certificate.map_err(|error| DialError::BadCa(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| DialError::BadCa(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(DialError::BadCa("no certificate in it".to_owned()));
        }
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Asks `https://<name>/readyz` at `address`, TLS verified for `name`. `Ok` is a 200 and nothing else.
    pub async fn readyz(
        &self,
        address: SocketAddr,
        name: &str,
        limit: Duration,
    ) -> Result<(), DialError> {
        timeout(limit, self.attempt(address, name))
            .await
            .unwrap_or(Err(DialError::Timeout { address, limit }))
    }

    async fn attempt(&self, address: SocketAddr, name: &str) -> Result<(), DialError> {
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| DialError::BadName(name.to_owned()))?;
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|source| DialError::Connect { address, source })?;
        let tls = self
            .connector
            .connect(server, tcp)
            .await
            .map_err(|source| handshake_error(address, name, source))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|source| DialError::Http { address, source })?;
        let request = Request::get("/readyz")
            .header(http::header::HOST, name)
            .body(Empty::<Bytes>::new())
            .map_err(|_| DialError::BadName(name.to_owned()))?;
        let response = tokio::select! {
            response = sender.send_request(request) => response,
            // The connection has to be driven for the response to come.
            Err(error) = connection => Err(error),
        }
        .map_err(|source| DialError::Http { address, source })?;
        match response.status() {
            StatusCode::OK => Ok(()),
            status => Err(DialError::NotReady { address, status }),
        }
    }
}

/// A server that goes away in the middle of a handshake has shown no wrong certificate.
fn handshake_error(address: SocketAddr, name: &str, source: std::io::Error) -> DialError {
    let cause = source.get_ref().and_then(|inner| inner.downcast_ref());
    let untrusted = matches!(cause, Some(rustls::Error::InvalidCertificate(_)));
    let name = name.to_owned();
    if untrusted {
        DialError::Tls {
            address,
            name,
            source,
        }
    } else {
        DialError::Handshake {
            address,
            name,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;
    use std::io;

    use super::*;

    fn error(source: io::Error) -> DialError {
        handshake_error(([127, 0, 0, 1], 443).into(), "demo", source)
    }

    #[test]
    fn a_certificate_is_called_wrong_only_when_it_is() {
        let wrong = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrong = error(io::Error::new(io::ErrorKind::InvalidData, wrong));
        assert!(matches!(wrong, DialError::Tls { .. }), "{wrong}");
        let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        let refused = rustls::Error::AlertReceived(rustls::AlertDescription::InternalError);
        let refused = io::Error::new(io::ErrorKind::InvalidData, refused);
        for source in [closed, refused] {
            let broken = error(source);
            assert!(matches!(broken, DialError::Handshake { .. }), "{broken}");
        }
    }
}
