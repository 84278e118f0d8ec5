//! A client's task: a session over one connection after another.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use futures_util::{SinkExt, StreamExt};
use rand::Rng;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::client::{Options, Order, Snapshot};
use super::observation::{Observation, Observed, Sink};
use super::sync::{Habits, Output, Session};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The longest that a connect may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The longest that a write may take, before the connection counts as dead.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// A thousand clients share a process, so each reads into a small buffer; it grows with a frame that needs it.
const BUFFER_BYTES: usize = 4_096;

/// Why a connection is over.
enum End {
    /// The server closed, with a code, or the connection broke.
    Closed(Option<u16>),
    /// The same after the server had asked for it, with what is left of the wait that it named.
    Moved(Option<u16>, Duration),
    /// The client is told to end.
    Told,
}

struct Task<S> {
    options: Options,
    sink: S,
    orders: mpsc::Receiver<Order>,
    session: Session,
    began: Instant,
    /// When the server asked this client to come back, if it did.
    move_at: Option<Instant>,
}

/// Runs a client until it is told to close, its handles are gone, or the server says to stay away.
pub(crate) async fn run(options: Options, sink: impl Sink, orders: mpsc::Receiver<Order>) {
    let habits =
        Habits { start: options.start, receipts: options.receipts, observe_receipts: options.observe_receipts };
    let session = Session::new(options.user_id.clone(), habits);
    let mut task = Task { options, sink, orders, session, began: Instant::now(), move_at: None };
    task.live().await;
    task.session.end();
    task.tell().await;
}

impl<S: Sink> Task<S> {
    async fn live(&mut self) {
        let (first_ms, most_ms) = self.options.backoff_ms;
        let mut backoff = Backoff::new(first_ms, most_ms);
        loop {
            let pause = match connect(&self.options).await {
                Ok(socket) => {
                    self.session.connected(self.now_ms());
                    let end = self.drive(socket, &mut backoff).await;
                    self.session.disconnected();
                    let (End::Closed(code) | End::Moved(code, _)) = end else {
                        self.observe(Observation::Closed { code: Some(1_000) }).await;
                        return;
                    };
                    self.observe(Observation::Closed { code }).await;
                    match end {
                        End::Closed(Some(4_102..=4_199)) | End::Told => return,
                        End::Moved(_, rest) => rest,
                        // A fresh token, which 4101 asks for, is had for every connection.
                        End::Closed(_) => backoff.next_pause(),
                    }
                }
                Err(refused) => {
                    let pause = backoff.next_pause().max(refused.retry_after);
                    let failed = Observation::ConnectFailed { status: refused.status, reason: refused.reason };
                    self.observe(failed).await;
                    pause
                }
            };
            if self.pause(pause).await.is_break() {
                return;
            }
        }
    }

    async fn observe(&mut self, what: Observation) {
        self.tell().await;
        self.sink.observe(Observed { at: Instant::now(), what }).await;
    }

    /// Waits, and takes orders meanwhile.
    async fn pause(&mut self, pause: Duration) -> ControlFlow<()> {
        let until = tokio::time::Instant::now() + pause;
        loop {
            self.tell().await;
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    None | Some(Order::Close) => return ControlFlow::Break(()),
                    Some(order) => self.order(order),
                },
                () = tokio::time::sleep_until(until) => return ControlFlow::Continue(()),
            }
        }
    }

    /// One connection. Reads before it takes orders, so that what came is stamped when it came; its one timer is moved
    /// only when something is due earlier.
    async fn drive(&mut self, mut socket: Socket, backoff: &mut Backoff) -> End {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut at = Instant::now();
        let mut is_new = true;
        loop {
            self.session.tick(self.now_ms());
            match tokio::time::timeout(WRITE_WITHIN, self.act(&mut socket, at)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return End::Closed(None),
            }
            if is_new && self.session.is_in_step() {
                is_new = false;
                backoff.reset();
            }
            let due = self.session.next_due_ms(self.now_ms()).map(|due_ms| self.began + Duration::from_millis(due_ms));
            if let Some(due) = due.into_iter().chain(self.move_at).min()
                && (timer.is_elapsed() || due < timer.deadline().into_std())
            {
                timer.as_mut().reset(due.into());
            }
            tokio::select! {
                biased;
                message = socket.next() => {
                    at = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            let now_ms = self.now_ms();
                            self.session.receive(&text, now_ms, rand::rng().random());
                        }
                        Some(Ok(Message::Close(frame))) => {
                            // The answer to it is flushed by the farewell.
                            let _ = tokio::time::timeout(WRITE_WITHIN, socket.flush()).await;
                            return self.ended(frame.map(|frame| u16::from(frame.code)));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return self.ended(None),
                    }
                }
                order = self.orders.recv() => {
                    at = Instant::now();
                    match order {
                        None | Some(Order::Close) => {
                            let _ = tokio::time::timeout(WRITE_WITHIN, socket.close(None)).await;
                            return End::Told;
                        }
                        Some(Order::Reset) => return End::Closed(None),
                        Some(Order::Raw(text)) => {
                            if socket.send(Message::text(text)).await.is_err() {
                                return End::Closed(None);
                            }
                        }
                        Some(order) => self.order(order),
                    }
                }
                () = &mut timer => {
                    at = Instant::now();
                    if self.move_at.is_some_and(|move_at| move_at <= at) {
                        // In peace, by this side: as a page that is left.
                        let _ = tokio::time::timeout(WRITE_WITHIN, socket.close(None)).await;
                        return self.ended(Some(1_000));
                    }
                }
            }
        }
    }

    /// Does what the session wants, in order; frames that belong together leave in one write.
    async fn act(&mut self, socket: &mut Socket, at: Instant) -> Result<(), tungstenite::Error> {
        let mut has_written = false;
        while let Some(output) = self.session.pop() {
            let frame = match output {
                Output::Observe(what) => {
                    self.sink.observe(Observed { at, what }).await;
                    continue;
                }
                Output::Frame(frame) => frame,
                Output::FreshToken => {
                    let token = (self.options.token)();
                    json!({ "event": "authenticate", "payload": { "token": token } }).to_string()
                }
                Output::Reconnect { after_ms } => {
                    self.move_at = Some(at + Duration::from_millis(after_ms));
                    continue;
                }
                Output::Dead => return Err(tungstenite::Error::ConnectionClosed),
            };
            socket.feed(Message::text(frame)).await?;
            has_written = true;
        }
        if has_written { socket.flush().await } else { Ok(()) }
    }

    /// Why the connection is over, and when to come back if the server had said so before.
    fn ended(&mut self, code: Option<u16>) -> End {
        match self.move_at.take() {
            Some(at) => End::Moved(code, at.saturating_duration_since(Instant::now())),
            None => End::Closed(code),
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Command(command) => self.session.command(command),
            Order::Read(chat_id, seq) => self.session.mark_read(&chat_id, seq),
            Order::Snapshot(answer) => {
                let _ = answer.send(Snapshot {
                    is_in_step: self.session.is_in_step(),
                    pending: self.session.pending(),
                    chats: self.session.cursors().map(|(id, cursor, head)| (Arc::clone(id), cursor, head)).collect(),
                });
            }
            // Only a connection knows what to do with these.
            Order::Raw(_) | Order::Reset | Order::Close => {}
        }
    }

    /// Tells the sink what the session has to tell, where there is no connection to write to.
    async fn tell(&mut self) {
        while let Some(output) = self.session.pop() {
            if let Output::Observe(what) = output {
                self.sink.observe(Observed { at: Instant::now(), what }).await;
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

struct NotConnected {
    status: Option<u16>,
    reason: String,
    retry_after: Duration,
}

async fn connect(options: &Options) -> Result<Socket, NotConnected> {
    let wrong = |reason: String| NotConnected { status: None, reason, retry_after: Duration::ZERO };
    let (scheme, authority) = match options.url.split_once("://") {
        Some(("http", authority)) => ("ws", authority),
        Some(("https", authority)) => ("wss", authority),
        _ => return Err(wrong(format!("{} is no http:// or https:// address", options.url))),
    };
    crate::install_provider();
    let address = format!("{scheme}://{}/v1/ws", authority.trim_end_matches('/'));
    let mut request = address.into_client_request().map_err(|error| wrong(error.to_string()))?;
    let protocols = HeaderValue::try_from(format!("waltalkie.v1, bearer.{}", (options.token)()))
        .map_err(|_| wrong("the token can't stand in a header".into()))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocols);
    let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
    let connecting = tokio_tungstenite::connect_async_with_config(request, Some(config), true);
    match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) => {
            let retry_after_s =
                response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            Err(NotConnected {
                status: Some(response.status().as_u16()),
                reason: body.chars().take(500).collect(),
                retry_after: Duration::from_secs(retry_after_s.unwrap_or(0)),
            })
        }
        Ok(Err(error)) => Err(wrong(error.to_string())),
        Err(_) => Err(wrong(format!("no connection within {} s", CONNECT_WITHIN.as_secs()))),
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
