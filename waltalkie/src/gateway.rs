//! The gateway role: HTTP of `ingest`, WebSocket of `fanout` and the web client on one listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::ListenerExt;
use ingest::auth::Authenticator;
use ingest::chat_service::{self, ChatService};
use ingest::gateway::{Gateway, PeerAddress};
use ingest::limits::Limits;
use ingest::marks::Marks;
use ingest::media::MediaService;
use ingest::removal;
use ingest::standing::Herald;
use ingest::users::Users;
use runtime::config::TrustedProxies;
use runtime::{Config, Health, RoleHealth, Shutdown};
use schemas::wire::Limits as FrameLimits;
use tokio::net::{TcpListener, TcpSocket};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::cors::{AllowOrigin, CorsLayer};
use uuid::Uuid;

use crate::inbound::GatewayInbound;
use crate::{notifications, ops, pages};

/// Connections that may wait to be accepted, as far as the kernel lets them (`net.core.somaxconn`).
const BACKLOG: u32 = 65_535;
/// How long sockets may take for their farewells once the drain time, from the stop on, is over.
const FAREWELLS: Duration = Duration::from_secs(2);
/// Headers that pages of other origins may ask with.
const ASKED_WITH: [&str; 6] =
    ["authorization", "content-type", "idempotency-key", "if-none-match", "on-behalf-of", "prefer"];
/// Headers of answers that they may read.
const SHOWN: [&str; 7] =
    ["etag", "idempotent-replayed", "ratelimit", "ratelimit-policy", "request-id", "retry-after", "www-authenticate"];

/// Binds the public listener, so that a port that is taken is known before anything else starts.
pub(crate) async fn bind(config: &Config) -> Result<TcpListener> {
    let listen = &config.gateway.listen;
    listener(listen).await.with_context(|| {
        let port = listen.rsplit(':').next().and_then(|port| port.parse().ok());
        let holder = port.and_then(local_stack::holder_of_port);
        let holder = holder.map(|holder| format!(", which {holder} has,")).unwrap_or_default();
        format!("gateway.listen = {listen}{holder} can't be had: free it, or set another (port 0 for any)")
    })
}

/// Like [`TcpListener::bind`], but for a crowd that comes at once: connections that find no place in the backlog are tried again
/// by their kernels only after a second.
async fn listener(listen: &str) -> std::io::Result<TcpListener> {
    let mut last = std::io::ErrorKind::AddrNotAvailable.into();
    for address in tokio::net::lookup_host(listen).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Runs the gateway on a bound listener until it is time to stop.
pub(crate) async fn run(
    config: Arc<Config>,
    listener: TcpListener,
    health: Health,
    role: RoleHealth,
    shutdown: Shutdown,
) -> Result<()> {
    let node_id = match config.gateway.node_id.as_str() {
        "" => Uuid::now_v7().to_string(),
        named => named.to_owned(),
    };
    // The page and /readyz answer from the first moment; the rest when the servers behind it are there.
    let limits = Arc::new(Limits::new(&config.limits));
    let authenticator = Authenticator::new(&config)?;
    // Connections drain first; what they need to drain with ends after them.
    let rear = Shutdown::new();
    let chat = ChatService::start(&config, &node_id, Arc::clone(&limits), &role, &shutdown).await?;
    let Some(chat) = chat else { return Ok(()) };
    let Some(marks) = Marks::start(&config, &role, &rear).await? else { return Ok(()) };
    if !authenticator.start(&role, &shutdown).await {
        return Ok(());
    }
    let users = Users::new(chat.pool().clone());
    let Some(mut standings) = users.standings().watch(&config, &role, &shutdown).await? else { return Ok(()) };
    // Checks of files that are under way at the end have the time that open requests have.
    let media = MediaService::start(&config, chat.pool().clone(), &rear)?;
    let gateway = Arc::new(Gateway {
        authenticator,
        chat,
        marks,
        media,
        users,
        herald: Herald::new(&config)?,
        limits,
        read_pool: chat_service::read_pool(&config)?,
        notify: notifications::offered(&config)?,
        frame_limits: FrameLimits::new(config.limits.content_bytes, config.media.is_on()),
        config: Arc::clone(&config),
    });
    let inbound = Arc::new(GatewayInbound(Arc::clone(&gateway)));
    let hub_health = health.role("hub");
    let node = fanout::Node::start(Arc::clone(&config), inbound, hub_health, shutdown.clone()).await?;
    role.ready();
    shutdown.spawn(removal::sweep(Arc::clone(&gateway), shutdown.clone()));
    let watched = node.clone();
    shutdown.spawn(async move {
        while let Some(user_id) = standings.recv().await {
            watched.reconsider(&user_id);
        }
    });
    let unsubscribe = notifications::unsubscribe_router(&gateway)?;
    let app = app(gateway, node.clone(), health, unsubscribe);
    let listener = listener.tap_io(|stream| {
        // Frames are small and must not wait for one another.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %error, "a connection keeps Nagle's algorithm");
        }
    });
    let (stop, over) = (shutdown.clone(), shutdown.clone());
    let most = Duration::from_millis(config.gateway.drain_ms) + FAREWELLS;
    let time_is_up = tokio::spawn(async move {
        over.begun().await;
        tokio::time::sleep(most).await;
    });
    let serving = axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move { stop.begun().await });
    let beat = async {
        loop {
            role.ready();
            if !shutdown.pause(Duration::from_secs(2)).await {
                break;
            }
        }
        // Open requests get the drain time; connections were told to leave by the hub.
        tokio::time::sleep(Duration::from_millis(config.gateway.drain_ms)).await;
    };
    tokio::select! {
        biased;
        served = serving => served.context("the gateway's listener failed")?,
        () = beat => {}
    }
    // To the listener sockets are no connections any more once they are open, and they are heard until they have left.
    tokio::select! {
        biased;
        () = all_left(&node) => {}
        _ = time_is_up => tracing::warn!(connections = node.connections(), "some connections did not leave in time"),
    }
    rear.finish(Duration::from_secs(5)).await;
    Ok(())
}

/// Waits until no socket is open any more.
async fn all_left(node: &fanout::Node) {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while node.connections() > 0 {
        look.tick().await;
    }
}

fn app(gateway: Arc<Gateway>, node: fanout::Node, health: Health, unsubscribe: Router) -> Router {
    // Compression is for JSON and pages; a WebSocket's handshake has no body, and streams must not be held back.
    let handshakes =
        fanout::router(node).layer(middleware::from_fn_with_state(Arc::clone(&gateway), ingest::gateway::limit));
    let compressed = DefaultPredicate::new().and(NotForContentType::const_new("image/"));
    // What can't be read was refused with the configuration.
    let proxies = TrustedProxies::parse(&gateway.config.gateway.trusted_proxies).unwrap_or_default();
    let media_origin = gateway.config.media.client_origin();
    let cors = cors(&gateway.config.gateway.allowed_origins);
    Router::new()
        .merge(ingest::gateway::router(gateway).layer(cors))
        .merge(pages::router(media_origin.as_deref()))
        .merge(unsubscribe)
        .layer(CompressionLayer::new().compress_when(compressed))
        .merge(handshakes)
        .merge(ops::health_router(health))
        .layer(middleware::from_fn_with_state(proxies, note_peer))
        .layer(middleware::from_fn(ingest::gateway::identify))
}

/// Pages of the origins that may open a WebSocket may also ask by HTTP. Tokens travel in a header, so no cookies.
fn cors(allowed_origins: &[String]) -> CorsLayer {
    let origins = allowed_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(ASKED_WITH.map(HeaderName::from_static))
        .expose_headers(SHOWN.map(HeaderName::from_static))
        .max_age(Duration::from_secs(3_600))
}

async fn note_peer(State(proxies): State<TrustedProxies>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    if let Some(address) = peer {
        let forwarded_for = request.headers().get_all("x-forwarded-for").iter();
        // What can't be read ends the search, like what is no address.
        let forwarded_for = forwarded_for.map(|value| value.to_str().unwrap_or_default());
        let client = proxies.client(address, forwarded_for.collect::<Vec<_>>().into_iter());
        request.extensions_mut().insert(PeerAddress(client));
    }
    next.run(request).await
}
