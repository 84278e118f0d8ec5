//! One connection: what the client asks, in order, and what time brings.
//!
//! ```text
//!  socket ─▶ frames ─▶ parse ─┬─ send, edit, delete ─▶ Inbound::submit ─▶ in flight ─▶ ack, error ─┐
//!                             ├─ marks ─────────────▶ Inbound::mark ──────────────────▶ ack, error ─┤
//!                             ├─ resume ────────────▶ hub ─▶ events, resumed ───────────────────────┤
//!                             ├─ typing ────────────▶ chat's channel ─▶ hubs of the others
//!                             └─ heartbeat ─────────▶ heads ────────────────────────────────────────┤
//!  socket ◀─ writer ◀────────────────────────── outgoing queue ◀───────────────────────────────────┘
//! ```
//!
//! *Progress.* Commands are handed over strictly one after the other, so their order holds up to Kafka; their answers come
//! when they come. *Failure.* A command that the gateway refuses blocks later sends of its chat ([`crate::order`]).

mod activity;
mod allowance;
mod answers;
mod requests;
mod timers;

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand::Rng;
use schemas::wire::{Code, Rejection, client, server};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use uuid::Uuid;

use self::activity::Activity;
use self::allowance::Allowance;
use self::answers::{Answering, End};
use self::timers::{Due, Timers};
use crate::frames::{self, Hello, HelloLimits};
use crate::hub::{Attendance, Desk};
use crate::inbound::{Caller, Identity};
use crate::node::Shared;
use crate::order::Order;
use crate::roll::Seat;
use crate::websocket::{Broken, Message, Reader, Socket, Writing};
use crate::writer::Close;

/// How a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// For a reason of ours, which the client is told.
    Ours(Close),
    /// The client said that it leaves, with its code.
    Theirs(Option<u16>),
    /// The socket is gone.
    Gone,
}

/// Serves a connection until it ends. `arrival` is its place among those who come in, which it leaves once it is in.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    identity: Identity,
    seat: &Seat,
    arrival: Option<OwnedSemaphorePermit>,
    reader: &mut Reader<ReadHalf<Socket>>,
    (io, writing, is_deflated): (&mut WriteHalf<Socket>, &mut Writing, bool),
) -> (Ending, Arc<Desk>) {
    let gateway = &shared.config.gateway;
    let session_id = Uuid::now_v7().to_string();
    let desk = Arc::new(shared.hub.desk(gateway.outgoing_bytes));
    desk.outgoing.gather(frames::hello(&Hello {
        session_id: &session_id,
        user_id: &identity.user_id,
        heartbeat_ms: gateway.heartbeat_ms,
        epoch: &shared.epoch,
        limits: HelloLimits {
            content_bytes: shared.limits.content_bytes,
            frame_bytes: shared.limits.frame_bytes,
            attachments: shared.limits.attachments,
        },
        development: shared.config.development,
    }));
    seat.open(&desk);
    // A revocation since the handshake found no socket to end.
    if let Some(close) = Close::of(shared.inbound.standing(&identity.user_id, identity.issued_at_ms)) {
        return (Ending::Ours(close), desk);
    }
    let session = shared.sessions.open(&identity.user_id, &session_id);
    let attendance = shared.hub.connect(Arc::from(identity.user_id.as_str()), Arc::clone(&desk)).await;
    drop(arrival);
    let mut connection = Connection {
        shared: Arc::clone(shared),
        desk: Arc::clone(&desk),
        timers: Timers::new(gateway.heartbeat_ms, identity.expires_at_ms),
        caller: Caller { user_id: identity.user_id, session_id },
        seat,
        attendance,
        activity: Activity::begin(session),
        order: Order::default(),
        in_flight: FuturesUnordered::new(),
        commands: 0,
        errors: Allowance::new(10.0, 100.0),
        marks: Allowance::new(4.0, 20.0),
        typing: Allowance::new(1.0, 5.0),
        requests: Allowance::new(50.0, 200.0),
    };
    let ending = tokio::select! {
        biased;
        ending = connection.read(reader) => ending,
        _ = desk.outgoing.write(io, writing, is_deflated) => Ending::Gone,
    };
    desk.outgoing.end(if let Ending::Ours(close) = ending { close } else { Close::DRAINING });
    connection.attendance.leave().await;
    (ending, desk)
}

struct Connection<'a> {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    timers: Timers,
    caller: Caller,
    seat: &'a Seat,
    attendance: Attendance,
    activity: Activity,
    order: Order,
    in_flight: FuturesUnordered<Answering>,
    /// Commands so far.
    commands: i64,
    /// Refused frames that are forgiven.
    errors: Allowance,
    marks: Allowance,
    typing: Allowance,
    /// Requests that the chat service doesn't limit.
    requests: Allowance,
}

impl Connection<'_> {
    async fn read(&mut self, reader: &mut Reader<ReadHalf<Socket>>) -> Ending {
        let shutdown = self.shared.shutdown.clone();
        let mut draining = std::pin::pin!(shutdown.begun());
        let mut is_draining = false;
        let mut timer = std::pin::pin!(tokio::time::sleep_until(self.timers.next()));
        let desk = Arc::clone(&self.desk);
        let mut ended = std::pin::pin!(desk.outgoing.ended());
        loop {
            let next = self.timers.next();
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            // What ends the connection first, then answers, then more work.
            tokio::select! {
                biased;
                close = &mut ended => return Ending::Ours(close),
                () = &mut draining, if !is_draining => {
                    is_draining = true;
                    let spread_ms = self.shared.config.gateway.drain_ms;
                    let after_ms = rand::rng().random_range(0..=spread_ms / 2);
                    self.timers.drain(after_ms, spread_ms);
                }
                () = &mut timer => {
                    if let Some(close) = self.take_time() {
                        return Ending::Ours(close);
                    }
                }
                Some(end) = self.in_flight.next(), if !self.in_flight.is_empty() => match end {
                    End::Refused(place) if !self.block(&place) => return Ending::Ours(Close::TOO_MANY_ERRORS),
                    End::Persisted(place) => self.order.persisted(&place.chat_id, place.message_id),
                    End::Refused(_) | End::Other => {}
                },
                message = reader.next() => match message {
                    None => return Ending::Gone,
                    Some(Ok(message)) => {
                        self.timers.heard();
                        if let Some(ending) = self.take_message(message).await {
                            return ending;
                        }
                    }
                    Some(Err(broken)) => return Ending::Ours(close_of(broken)),
                },
            }
        }
    }

    fn take_time(&mut self) -> Option<Close> {
        let now = Instant::now();
        while let Some(due) = self.timers.take_due(now, self.in_flight.is_empty()) {
            match due {
                Due::Ping => self.desk.outgoing.ping(),
                Due::TokenExpiring(expires_at_ms) => self.desk.outgoing.push(frames::token_expiring(expires_at_ms)),
                Due::Reconnect => {
                    self.desk.outgoing.push(frames::reconnect(rand::rng().random_range(0..=500)));
                }
                Due::Close(close) => return Some(close),
            }
        }
        None
    }

    async fn take_message(&mut self, message: Message) -> Option<Ending> {
        match message {
            Message::Text(text) => {
                if text.len() > self.shared.limits.frame_bytes {
                    let rejection = Rejection::new(
                        Code::FrameTooBig,
                        format!("A frame has at most {} bytes.", self.shared.limits.frame_bytes),
                    );
                    self.desk.outgoing.push(server::error(None, &rejection, None, None).into());
                    return Some(Ending::Ours(Close::TOO_BIG));
                }
                let goes_on = match client::parse(&text, &self.shared.limits) {
                    // Boxed: a connection that rests shouldn't hold room for it.
                    Ok(request) => Box::pin(self.take_request(request)).await,
                    Err(refused) => self.refuse_frame(refused),
                };
                (!goes_on).then_some(Ending::Ours(Close::TOO_MANY_ERRORS))
            }
            Message::Binary => Some(Ending::Ours(Close::BINARY)),
            Message::Ping(payload) => {
                // One pong answers all pings so far (RFC 6455, 5.5.3); who floods is an offender like any other.
                self.desk.outgoing.pong(&payload);
                let is_flood = !self.requests.take() && !self.errors.take();
                is_flood.then_some(Ending::Ours(Close::TOO_MANY_ERRORS))
            }
            Message::Pong => None,
            Message::Close(code) => Some(Ending::Theirs(code)),
        }
    }
}

const fn close_of(broken: Broken) -> Close {
    match broken {
        Broken::Protocol => Close::PROTOCOL,
        Broken::TooBig => Close::TOO_BIG,
        Broken::NotUtf8 => Close::NOT_UTF8,
    }
}
