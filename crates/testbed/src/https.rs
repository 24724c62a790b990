//! A few requests to an api-server, without kubectl.
//!
//! Starting a cluster takes a hundred polls and some thirty requests. Through kubectl each would cost a tenth of a
//! second of CPU, on machines where the daemons being waited for need it, and a cache left behind in the home.

use std::{
    io::{self, Read, Write},
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

const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A client of one api-server.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

/// An api-server's answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The body, JSON for the api-server's own paths.
    pub body: String,
}

impl Client {
    /// A client that trusts `ca_pem` and shows `identity`.
    pub fn new(address: SocketAddr, ca_pem: &str, identity: &Pair) -> Result<Self> {
        let refused = |reason: String| Error::Tls {
            address: address.to_string(),
            reason,
        };
        let pem = |text: &str| {
            CertificateDer::from_pem_slice(text.as_bytes())
                .map_err(|error| refused(error.to_string()))
        };
        let mut roots = RootCertStore::empty();
        roots
            .add(pem(ca_pem)?)
            .map_err(|error| refused(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
            .map_err(|error| refused(error.to_string()))?;
        let certificate = pem(&identity.cert_pem)?;
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .and_then(|builder| {
                    builder
                        .with_root_certificates(roots)
                        .with_client_auth_cert(vec![certificate], key)
                })
                .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            address,
            config: Arc::new(config),
        })
    }

    /// Whether GET `path` answers 200. A server that is not there yet, or answers otherwise, is a plain no.
    pub fn is_ok(&self, path: &str) -> bool {
        self.send("GET", path, "")
            .is_ok_and(|response| response.status == 200)
    }

    /// Whether GET `path` answers anything.
    pub fn answers(&self, path: &str) -> bool {
        self.send("GET", path, "").is_ok()
    }

    /// Sends a request with a body of YAML or JSON, which is YAML too, and expects a status of 2xx.
    ///
    /// # Errors
    /// [`Error::Request`] with the api-server's own words.
    pub fn request(&self, method: &'static str, path: &str, body: &str) -> Result<String> {
        let failed = |answer: String| Error::Request {
            method,
            path: path.to_owned(),
            answer,
        };
        let response = self
            .send(method, path, body)
            .map_err(|error| failed(error.to_string()))?;
        if (200..300).contains(&response.status) {
            Ok(response.body)
        } else {
            Err(failed(response.body))
        }
    }

    fn send(&self, method: &str, path: &str, body: &str) -> io::Result<Response> {
        let tcp = TcpStream::connect_timeout(&self.address, TIME_LIMIT)?;
        tcp.set_read_timeout(Some(TIME_LIMIT))?;
        tcp.set_write_timeout(Some(TIME_LIMIT))?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let connection =
            ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, tcp);
        // HTTP/1.0: the answer ends with the connection and comes in one piece.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAccept: application/json\r\n\
             Content-Type: application/yaml\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len(),
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        parse(&answer)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
    }
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Response {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let response =
            parse("HTTP/1.0 409 Conflict\r\nDate: today\r\n\r\n{\"kind\": \"Status\"}").unwrap();
        assert_eq!(
            (response.status, response.body.as_str()),
            (409, "{\"kind\": \"Status\"}")
        );
        assert!(parse("SSH-2.0").is_none());
    }
}
