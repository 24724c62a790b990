//! The one question that the testbed itself asks an api-server: what does a path answer?
//!
//! A start-up poll through kubectl costs a tenth of a second of CPU each time, on machines where the daemons being
//! waited for need it; this costs a hundredth of that.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use crate::{
    error::{Error, Result},
    pki::Pair,
};

const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A client of one api-server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Client {
    /// A client that trusts `ca_pem` and shows `identity`.
    pub(crate) fn new(address: SocketAddr, ca_pem: &str, identity: &Pair) -> Result<Self> {
        let refused = |reason: String| Error::Tls { address: address.to_string(), reason };
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|error| refused(error.to_string()))?;
        roots.add(ca).map_err(|error| refused(error.to_string()))?;
        let cert = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes())
            .map_err(|error| refused(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
            .map_err(|error| refused(error.to_string()))?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(vec![cert], key))
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self { address, config: Arc::new(config) })
    }

    /// Whether GET `path` answers 200. A server that is not there yet, or answers otherwise, is a plain no.
    pub(crate) fn is_ok(&self, path: &str) -> bool {
        self.status(path).is_ok_and(|status| status == 200)
    }

    fn status(&self, path: &str) -> std::io::Result<u16> {
        let tcp = TcpStream::connect_timeout(&self.address, TIME_LIMIT)?;
        tcp.set_read_timeout(Some(TIME_LIMIT))?;
        tcp.set_write_timeout(Some(TIME_LIMIT))?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let connection = ClientConnection::new(self.config.clone(), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, tcp);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
        // "HTTP/1.1 200": what follows the first twelve bytes does not matter.
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        std::str::from_utf8(&head[9..]).ok().and_then(|code| code.parse().ok()).ok_or_else(|| {
            std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer is not HTTP")
        })
    }
}
