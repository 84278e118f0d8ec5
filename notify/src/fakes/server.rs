//! The server beneath each of them: TLS, HTTP/1.1 and HTTP/2, a script of misbehaviour.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::RETRY_AFTER;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A certificate for this machine, and those who trust it.
#[derive(Clone)]
pub struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    pem: String,
    key_pem: String,
}

impl Tls {
    /// A new one.
    pub fn new() -> Self {
        // An error only says that it is installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate =
            CertificateParams::new(names).and_then(|params| params.self_signed(&key)).expect("a certificate");
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("TLS of a server");
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a root");
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self {
            server: Arc::new(server),
            client: Arc::new(client),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// Trusts it alone.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its key as PEM, for servers of other programs.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

/// What happens to a request instead of what should.
#[derive(Debug, Clone)]
pub enum Instead {
    /// This answer.
    Answer {
        /// Its status.
        status: u16,
        /// Its `Retry-After`.
        retry_after: Option<String>,
        /// Its body.
        body: String,
    },
    /// None, ever.
    Hang,
    /// The connection ends, and nothing came of the request.
    Cut,
    /// The connection ends before the answer: what came of the request stays.
    CutAfter,
}

impl Instead {
    /// An answer that is a status alone.
    pub fn status(status: u16) -> Self {
        Self::Answer { status, retry_after: None, body: String::new() }
    }
}

/// What a provider answers to a whole request.
pub(super) trait Provider: Send + Sync + 'static {
    fn answer(&self, request: &Request<Bytes>) -> Response<Full<Bytes>>;
}

#[derive(Clone, Default)]
pub(super) struct Script(Arc<Mutex<VecDeque<Instead>>>);

impl Script {
    pub(super) fn add(&self, instead: Instead) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(instead);
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn next(&self) -> Option<Instead> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Runs until it is dropped.
pub(super) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) fn start(tls: &Tls, listener: TcpListener, provider: Arc<dyn Provider>, script: Script) -> Self {
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.server));
        let task = tokio::spawn(async move {
            // Ends with this task, and all connections with it.
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, acceptor.clone(), Arc::clone(&provider), script.clone()));
            }
        });
        Self { address, task }
    }

    /// Where it listens.
    pub(super) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }
}

/// A place to listen at.
pub(super) async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

async fn serve(socket: TcpStream, acceptor: TlsAcceptor, provider: Arc<dyn Provider>, script: Script) {
    let Ok(stream) = acceptor.accept(socket).await else { return };
    let cut = Arc::new(Notify::new());
    let handler = {
        let cut = Arc::clone(&cut);
        service_fn(move |request: Request<Incoming>| {
            handle(request, Arc::clone(&provider), script.clone(), Arc::clone(&cut))
        })
    };
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), handler);
    tokio::select! {
        biased;
        () = cut.notified() => {}
        _ = connection => {}
    }
}

async fn handle(
    request: Request<Incoming>,
    provider: Arc<dyn Provider>,
    script: Script,
    cut: Arc<Notify>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    match script.next() {
        None => Ok(provider.answer(&Request::from_parts(parts, body))),
        Some(Instead::Answer { status, retry_after, body }) => {
            let mut answer = Response::new(Full::new(Bytes::from(body)));
            *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
            if let Some(value) = retry_after {
                answer.headers_mut().insert(RETRY_AFTER, value.parse().expect("a value"));
            }
            Ok(answer)
        }
        Some(Instead::Hang) => std::future::pending().await,
        Some(instead @ (Instead::Cut | Instead::CutAfter)) => {
            if matches!(instead, Instead::CutAfter) {
                let _lost = provider.answer(&Request::from_parts(parts, body));
            }
            cut.notify_one();
            std::future::pending().await
        }
    }
}

/// An answer of JSON.
pub(super) fn json(status: u16, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer
}

/// A header field's value, if it is there and text.
pub(super) fn field<'a>(request: &'a Request<Bytes>, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// The clock of tests.
pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
