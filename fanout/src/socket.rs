//! `GET /v1/ws`: the handshake, and the end of a socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::any;
use hyper_util::rt::TokioIo;
use schemas::wire::{Code, Rejection};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::OwnedSemaphorePermit;

use crate::connection::{self, Ending};
use crate::inbound::Identity;
use crate::node::Node;
use crate::roll::Seat;
use crate::websocket::{Frame, Message, Reader, Socket, Upgrade, Writing};
use crate::writer::{Close, Outgoing};
use crate::{handshake, metrics};

/// Time for the farewell: writing it, and hearing the client's own.
const FAREWELL: Duration = Duration::from_secs(1);

/// The WebSocket endpoint.
pub fn router(node: Node) -> Router {
    Router::new().route("/v1/ws", any(upgrade)).with_state(node)
}

async fn upgrade(State(node): State<Node>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    match admit(&node, &mut parts).await {
        Ok(response) => response,
        Err((status, rejection)) => {
            ::metrics::counter!(metrics::REFUSED_HANDSHAKES, "code" => rejection.code.name()).increment(1);
            let mut response = handshake::problem(status, &rejection);
            if status == StatusCode::UPGRADE_REQUIRED {
                response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            }
            response
        }
    }
}

async fn admit(node: &Node, parts: &mut Parts) -> Result<Response, (StatusCode, Rejection)> {
    let shared = &node.shared;
    if shared.shutdown.has_begun() {
        let draining = Rejection::new(Code::Unavailable, "This node is stopping; connect again.").retry_after(500);
        return Err((StatusCode::SERVICE_UNAVAILABLE, draining));
    }
    let upgrade = Upgrade::of(parts).map_err(|status| {
        (status, Rejection::new(Code::BadField, "This address speaks WebSocket (RFC 6455, version 13).").at("Upgrade"))
    })?;
    let headers = &parts.headers;
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| parts.uri.authority().map(Authority::as_str));
    let refused = |rejection: Rejection| {
        let status = StatusCode::from_u16(rejection.code.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
        (status, rejection)
    };
    handshake::check_origin(headers, host, &shared.config.gateway.allowed_origins).map_err(refused)?;
    let protocol = handshake::select_protocol(headers).map_err(refused)?;
    let token = handshake::token(headers).map_err(refused)?;
    // Held until the hub knows of the connection. Nobody closes it.
    let arrival = Arc::clone(&shared.arrivals).acquire_owned().await.ok();
    let identity = shared.inbound.authenticate(token).await.map_err(refused)?;
    let seat = shared.seat(&identity).ok_or_else(|| {
        let full = "You have too many connections to this node: close others first (limits.connections_per_user).";
        refused(Rejection::new(Code::RateLimited, full).retry_after(5_000))
    })?;
    // Up to twice the limit is read, so that a frame somewhat too long gets a clean 1009 instead of a reset.
    let most_bytes = shared.limits.frame_bytes * 2;
    let (response, socket, is_deflated) = upgrade.accept(protocol, shared.config.gateway.compression);
    let node = node.clone();
    shared.shutdown.spawn(async move {
        match socket.await {
            Ok(socket) => {
                let (reading, writing) = tokio::io::split(TokioIo::new(socket));
                let reader = Reader::new(reading, most_bytes, is_deflated);
                let served = Served { node, reader, io: writing, writing: Writing::default(), is_deflated };
                served.run(identity, seat, arrival).await;
            }
            Err(error) => tracing::debug!(%error, "a client went before its socket was open"),
        }
    });
    Ok(response)
}

struct Served {
    node: Node,
    reader: Reader<ReadHalf<Socket>>,
    io: WriteHalf<Socket>,
    writing: Writing,
    is_deflated: bool,
}

impl Served {
    async fn run(mut self, identity: Identity, seat: Seat, arrival: Option<OwnedSemaphorePermit>) {
        let Self { node, reader, io, writing, is_deflated } = &mut self;
        let writer = (io, writing, *is_deflated);
        let (ending, desk) = connection::run(&node.shared, identity, &seat, arrival, reader, writer).await;
        let code = if let Ending::Ours(close) = ending { close.code.number() } else { 1000 };
        ::metrics::counter!(metrics::CLOSED, "code" => code.to_string()).increment(1);
        match ending {
            Ending::Ours(close) => self.say_farewell(&desk.outgoing, close).await,
            Ending::Theirs(code) => {
                self.writing.forget_rest();
                self.writing.frames().push(Frame::close(code, ""));
                let answering = self.writing.write(&mut self.io, self.is_deflated, 0);
                let _ = tokio::time::timeout(FAREWELL, answering).await;
            }
            Ending::Gone => {}
        }
        // Only now, so that a person's connections are counted as long as they cost something.
        drop(seat);
    }

    /// Writes what waits and why it ends, then hears the client out, so that no reset overtakes the reason.
    async fn say_farewell(&mut self, outgoing: &Outgoing, close: Close) {
        let last = Frame::close(Some(close.code.number()), close.reason);
        let writing = outgoing.write_rest(&mut self.io, &mut self.writing, self.is_deflated, last);
        if !matches!(tokio::time::timeout(FAREWELL, writing).await, Ok(Ok(()))) {
            return;
        }
        if close == Close::TOO_BIG || close == Close::PROTOCOL || close == Close::NOT_UTF8 {
            // What follows on the stream can't be read as frames any more.
            let _ = tokio::time::timeout(FAREWELL / 4, self.reader.drain()).await;
            return;
        }
        let hearing =
            async { while !matches!(self.reader.next().await, None | Some(Err(_) | Ok(Message::Close(_)))) {} };
        let _ = tokio::time::timeout(FAREWELL, hearing).await;
    }
}
