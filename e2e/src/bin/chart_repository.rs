//! A chart repository: the files of one folder over HTTPS, a line on standard output for each that it gives.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Path as UrlPath, State},
    http::StatusCode,
    routing::get,
    serve::Listener,
};
use clap::Parser;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// One client at a time shakes hands: who is slow must not hold the others up for long.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(
    name = "chart-repository",
    about = "Serves the files of one folder over HTTPS"
)]
struct Options {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// The folder; nothing below its subfolders is served.
    #[arg(long)]
    folder: PathBuf,
    /// The certificate, PEM.
    #[arg(long)]
    certificate: PathBuf,
    /// Its private key, PEM.
    #[arg(long)]
    key: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let listener = TlsListener {
        tcp: TcpListener::bind(options.listen).await?,
        acceptor: acceptor(&options.certificate, &options.key)?,
    };
    let router = Router::new()
        .route("/", get(|| async { "chart repository\n" }))
        .route("/{file}", get(file))
        .with_state(Arc::from(options.folder));
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;
    Ok(())
}

async fn file(
    State(folder): State<Arc<Path>>,
    UrlPath(name): UrlPath<String>,
) -> Result<Vec<u8>, StatusCode> {
    // An encoded slash would lead out of the folder.
    let plain = !name.contains('/') && !name.starts_with('.');
    let content = if plain {
        tokio::fs::read(folder.join(&name)).await.ok()
    } else {
        None
    };
    let status = content
        .as_ref()
        .map_or(StatusCode::NOT_FOUND, |_| StatusCode::OK);
    println!("GET /{name} {}", status.as_u16());
    content.ok_or(status)
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, Box<dyn std::error::Error>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.tcp).await;
            match tokio::time::timeout(HANDSHAKE_LIMIT, self.acceptor.accept(stream)).await {
                Ok(Ok(stream)) => return (stream, peer),
                Ok(Err(error)) => println!("TLS with {peer}: {error}"),
                Err(_) => println!("TLS with {peer}: no handshake within {HANDSHAKE_LIMIT:?}"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
