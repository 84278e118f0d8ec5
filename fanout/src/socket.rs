//! `GET /v1/ws`: the handshake, and the end of a socket.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use schemas::wire::{Code, Rejection};

use crate::connection;
use crate::inbound::Identity;
use crate::node::Node;
use crate::roll::Seat;
use crate::writer::{Close, Outgoing};
use crate::{handshake, metrics};

/// Read buffer of an idle connection; the default costs 128 KiB each.
const READ_BUFFER_BYTES: usize = 4_096;
/// Frames that are ready together leave in writes of about this size. The buffer is there only while they do.
const WRITE_BUFFER_BYTES: usize = 4_096;
/// Time for the farewell: writing it, and hearing the client's own.
const FAREWELL: Duration = Duration::from_secs(1);

/// The WebSocket endpoint.
pub fn router(node: Node) -> Router {
    Router::new().route("/v1/ws", any(upgrade)).with_state(node)
}

async fn upgrade(
    State(node): State<Node>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    match admit(&node, &uri, &headers, upgrade).await {
        Ok(response) => response,
        Err((status, rejection)) => {
            ::metrics::counter!(metrics::REFUSED_HANDSHAKES, "code" => rejection.code.name()).increment(1);
            handshake::problem(status, &rejection)
        }
    }
}

async fn admit(
    node: &Node,
    uri: &Uri,
    headers: &HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, (StatusCode, Rejection)> {
    let shared = &node.shared;
    if shared.shutdown.has_begun() {
        let draining = Rejection::new(Code::Unavailable, "This node is stopping; connect again.").retry_after(500);
        return Err((StatusCode::SERVICE_UNAVAILABLE, draining));
    }
    let mut upgrade = upgrade.map_err(|rejected| {
        let status = match rejected.into_response().status() {
            StatusCode::METHOD_NOT_ALLOWED => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::UPGRADE_REQUIRED,
        };
        (status, Rejection::new(Code::BadField, "This address speaks WebSocket (RFC 6455, version 13).").at("Upgrade"))
    })?;
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(Authority::as_str));
    let refused = |rejection: Rejection| {
        let status = StatusCode::from_u16(rejection.code.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
        (status, rejection)
    };
    handshake::check_origin(headers, host, &shared.config.gateway.allowed_origins).map_err(refused)?;
    let protocol = handshake::select_protocol(headers).map_err(refused)?;
    let token = handshake::token(headers).map_err(refused)?;
    let identity = shared.inbound.authenticate(token).await.map_err(refused)?;
    let seat = shared.seat(&identity).ok_or_else(|| {
        let full = "You have too many connections to this node: close others first (limits.connections_per_user).";
        refused(Rejection::new(Code::RateLimited, full).retry_after(5_000))
    })?;
    if let Some(protocol) = protocol {
        upgrade.set_selected_protocol(protocol);
    }
    // Up to twice the limit is read, so that a frame somewhat too long gets a clean 1009 instead of a reset.
    let most = shared.limits.frame_bytes * 2;
    let node = node.clone();
    Ok(upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_frame_size(most)
        .max_message_size(most)
        .on_upgrade(move |socket| async move {
            let shutdown = node.shared.shutdown.clone();
            let _ = shutdown.spawn(serve(socket, node, identity, seat)).await;
        }))
}

async fn serve(socket: WebSocket, node: Node, identity: Identity, seat: Seat) {
    let (mut sink, mut stream) = socket.split();
    let (close, desk) = connection::run(&node.shared, identity, &seat, &mut sink, &mut stream).await;
    let code = close.map_or(1000, |close| close.code.number());
    ::metrics::counter!(metrics::CLOSED, "code" => code.to_string()).increment(1);
    if let Some(close) = close {
        say_farewell(&desk.outgoing, close, &mut sink, &mut stream).await;
    }
    // Only now, so that a person's connections are counted as long as they cost something.
    drop(seat);
}

/// Writes what waits and why it ends, then hears the client out, so that no reset overtakes the reason.
async fn say_farewell(
    outgoing: &Outgoing,
    close: Close,
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
) {
    let writing = async {
        outgoing.write_rest(sink).await?;
        sink.send(Message::Close(Some(CloseFrame { code: close.code.number(), reason: close.reason.into() }))).await
    };
    if !matches!(tokio::time::timeout(FAREWELL, writing).await, Ok(Ok(()))) {
        return;
    }
    if close == Close::TOO_BIG || close == Close::PROTOCOL || close == Close::NOT_UTF8 {
        // What follows on the stream can't be read as frames any more.
        tokio::time::sleep(FAREWELL / 4).await;
        return;
    }
    let hearing = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = tokio::time::timeout(FAREWELL, hearing).await;
}
