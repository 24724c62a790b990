//! A small https server on a loopback address, with a CA of its own.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// What a client asked for.
pub struct Asked {
    pub path: String,
    pub host: String,
    pub authorization: Option<String>,
}

/// What it gets.
pub struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    length: bool,
    silent: bool,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: String::new(),
            body: Vec::new(),
            length: true,
            silent: false,
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::status(200)
        }
    }

    pub fn redirect(target: &str) -> Self {
        Self::status(302).header("Location", target)
    }

    /// No answer until the client gives up.
    pub fn never() -> Self {
        Self {
            silent: true,
            ..Self::status(200)
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers = format!("{}{name}: {value}\r\n", self.headers);
        self
    }

    /// A body that ends with the connection.
    pub fn without_length(mut self) -> Self {
        self.length = false;
        self
    }
}

pub struct Server {
    pub address: SocketAddr,
    /// The certificate, which signs itself.
    pub ca_pem: String,
    pub requests: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Listens on a free port of `ip`, and answers what `answer` says.
    pub async fn start(
        ip: &str,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        // A provider that an earlier test installed is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate().unwrap();
        let names = [
            ip.to_owned(),
            "localhost".to_owned(),
            format!("::ffff:{ip}"),
        ];
        let certificate = CertificateParams::new(names)
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let (answer, count) = (Arc::new(answer), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, count) =
                    (acceptor.clone(), Arc::clone(&answer), Arc::clone(&count));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let answer = answer(&asked(&String::from_utf8(head).unwrap()));
                    if answer.silent {
                        // Ends when the client closes.
                        let _ = stream.read_u8().await;
                        return;
                    }
                    let length = if answer.length {
                        format!("Content-Length: {}\r\n", answer.body.len())
                    } else {
                        String::new()
                    };
                    let head = format!(
                        "HTTP/1.1 {} X\r\n{}{length}Connection: close\r\n\r\n",
                        answer.status, answer.headers
                    );
                    // A client that stops reading is what some tests are about.
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(&answer.body).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self {
            address,
            ca_pem: certificate.pem(),
            requests,
            task,
        }
    }
}

fn asked(head: &str) -> Asked {
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
    };
    Asked {
        path: head.split(' ').nth(1).unwrap().to_owned(),
        host: header("host").unwrap(),
        authorization: header("authorization"),
    }
}
