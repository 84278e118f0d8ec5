//! One connection: what the client asks, in order, and what time brings.
//!
//! ```text
//!  socket ─▶ frames ─▶ parse ─┬─ send, edit, delete ─▶ Inbound::submit ─▶ in flight ─▶ ack, error ─┐
//!                             ├─ marks ─────────────▶ Inbound::mark ──────────────────▶ ack, error ─┤
//!                             ├─ resume ────────────▶ hub ─▶ events, resumed ───────────────────────┤
//!                             └─ heartbeat ─────────▶ heads ────────────────────────────────────────┤
//!  socket ◀─ writer ◀────────────────────────── outgoing queue ◀───────────────────────────────────┘
//! ```
//!
//! *Progress.* Commands are handed over strictly one after the other, so their order holds up to Kafka; their answers come
//! when they come. *Failure.* A command that the gateway refuses blocks later sends of its chat ([`crate::order`]).

mod allowance;
mod answers;
mod timers;

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use rand::Rng;
use schemas::wire::client::{self, RefusedFrame};
use schemas::wire::{ClientFrame, Code, Rejection, Request, server};
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use self::allowance::Allowance;
use self::answers::{Answering, Place};
use self::timers::{Due, Timers};
use crate::frames::{self, Hello};
use crate::hub::{Attendance, Desk};
use crate::inbound::{Caller, Identity, KnownChat, MarkKind, Submitted};
use crate::metrics;
use crate::node::Shared;
use crate::order::Order;
use crate::writer::Close;

/// Commands of one connection that may wait for their answer.
const IN_FLIGHT: usize = 256;

/// Serves a connection until it ends; why, if it is for us to say.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    identity: Identity,
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
) -> (Option<Close>, Arc<Desk>) {
    let gateway = &shared.config.gateway;
    let session_id = Uuid::now_v7().to_string();
    let desk = Arc::new(Desk::new(gateway.outgoing_bytes));
    desk.outgoing.push(frames::hello(&Hello {
        session_id: &session_id,
        user_id: &identity.user_id,
        heartbeat_ms: gateway.heartbeat_ms,
        epoch: &shared.epoch,
        limits: &shared.limits,
        development: shared.config.development,
    }));
    let session = shared.sessions.open(&identity.user_id, &session_id);
    let attendance = shared.hub.connect(Arc::from(identity.user_id.as_str()), Arc::clone(&desk)).await;
    let mut connection = Connection {
        shared: Arc::clone(shared),
        desk: Arc::clone(&desk),
        timers: Timers::new(gateway.heartbeat_ms, identity.expires_at_ms),
        caller: Caller { user_id: identity.user_id, session_id },
        attendance,
        order: Order::default(),
        in_flight: FuturesUnordered::new(),
        commands: 0,
        errors: Allowance::new(10.0, 100.0),
        marks: Allowance::new(4.0, 20.0),
        requests: Allowance::new(50.0, 200.0),
    };
    let close = tokio::select! {
        biased;
        close = connection.read(stream) => close,
        _ = desk.outgoing.write(sink) => None,
    };
    desk.outgoing.end(close.unwrap_or(Close::DRAINING));
    connection.attendance.leave().await;
    drop(session);
    (close, desk)
}

struct Connection {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    timers: Timers,
    caller: Caller,
    attendance: Attendance,
    order: Order,
    in_flight: FuturesUnordered<Answering>,
    /// Commands so far.
    commands: i64,
    /// Refused frames that are forgiven.
    errors: Allowance,
    marks: Allowance,
    /// Requests that the chat service doesn't limit.
    requests: Allowance,
}

impl Connection {
    async fn read(&mut self, stream: &mut SplitStream<WebSocket>) -> Option<Close> {
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
                close = &mut ended => return Some(close),
                () = &mut draining, if !is_draining => {
                    is_draining = true;
                    let spread_ms = self.shared.config.gateway.drain_ms;
                    let after_ms = rand::rng().random_range(0..=spread_ms / 2);
                    self.timers.drain(after_ms, spread_ms);
                }
                () = &mut timer => {
                    if let Some(close) = self.take_time() {
                        return Some(close);
                    }
                }
                Some(refused) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    if let Some(place) = refused && !self.block(&place) {
                        return Some(Close::TOO_MANY_ERRORS);
                    }
                }
                message = stream.next() => match message {
                    None => return None,
                    Some(Ok(message)) => {
                        self.timers.heard();
                        if let Some(close) = self.take_message(message).await {
                            return Some(close);
                        }
                    }
                    Some(Err(error)) => return close_of(&error),
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

    async fn take_message(&mut self, message: Message) -> Option<Close> {
        match message {
            Message::Text(text) => {
                if text.len() > self.shared.limits.frame_bytes {
                    let rejection = Rejection::new(
                        Code::FrameTooBig,
                        format!("A frame has at most {} bytes.", self.shared.limits.frame_bytes),
                    );
                    self.desk.outgoing.push(server::error(None, &rejection, None, None).into());
                    return Some(Close::TOO_BIG);
                }
                let goes_on = match client::parse(&text, &self.shared.limits) {
                    Ok(request) => self.take_request(request).await,
                    Err(refused) => self.refuse_frame(refused),
                };
                (!goes_on).then_some(Close::TOO_MANY_ERRORS)
            }
            Message::Binary(_) => Some(Close::BINARY),
            // Their answers and the client's own farewell are the protocol's business.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => None,
        }
    }

    /// `false` if the client has used up what is forgiven.
    async fn take_request(&mut self, request: Request) -> bool {
        let Request { id, frame } = request;
        match &frame {
            ClientFrame::SendMessage(send) => {
                let place = Place::new(id, &send.chat_id, send.message_id, true);
                if let Err(rejection) = self.order.check(&send.chat_id, send.message_id) {
                    return self.refuse(place.id.as_ref(), &rejection, Some(&place));
                }
                self.submit(place, frame).await
            }
            ClientFrame::EditMessage { chat_id, message_id, .. } | ClientFrame::DeleteMessage { chat_id, message_id } => {
                let place = Place::new(id, chat_id, *message_id, false);
                self.submit(place, frame).await
            }
            _ if !self.requests.take() => {
                let rejection = Rejection::new(Code::RateLimited, "Too many requests on this connection.").retry_after(1_000);
                self.refuse(id.as_ref(), &rejection, None) && self.errors.take()
            }
            ClientFrame::DiscardMessage { chat_id, message_id } => {
                self.order.settled(chat_id, *message_id);
                self.acknowledge(id.as_ref(), Some(chat_id), Some(&message_id.to_string()));
                true
            }
            ClientFrame::MarkDelivered(_) | ClientFrame::MarkRead(_) => self.mark(id, frame).await,
            ClientFrame::Typing { .. } => {
                let rejection = Rejection::new(Code::NotSupported, "Typing isn't passed on yet.").at("event");
                self.refuse(id.as_ref(), &rejection, None)
            }
            ClientFrame::Resume { .. } => self.resume(id, frame).await,
            ClientFrame::Authenticate { token } => self.authenticate(id, token).await,
            ClientFrame::Heartbeat => {
                self.desk.outgoing.push(self.desk.heads());
                true
            }
        }
    }

    /// Hands a command over. Awaited before the next frame is looked at: this is what keeps the sender's order.
    async fn submit(&mut self, place: Place, command: ClientFrame) -> bool {
        if self.in_flight.len() >= IN_FLIGHT {
            let rejection = Rejection::new(Code::Overloaded, "Too many of your commands wait for an answer.").retry_after(1_000);
            return self.refuse(place.id.as_ref(), &rejection, Some(&place)) && self.block(&place);
        }
        self.commands += 1;
        let known = self.desk.head_of(&place.chat_id).map(|head_seq| KnownChat { head_seq });
        let submitted = self.shared.inbound.submit(&self.caller, self.commands, command, known).await;
        match submitted {
            Ok(Submitted { accepted, decided }) => {
                if place.is_send {
                    self.order.settled(&place.chat_id, place.message_id);
                }
                self.in_flight.push(answers::answer(Arc::clone(&self.desk), place, accepted, decided));
                true
            }
            Err(rejection) => self.refuse(place.id.as_ref(), &rejection, Some(&place)) && self.block(&place),
        }
    }

    async fn mark(&mut self, id: Option<Value>, frame: ClientFrame) -> bool {
        let (kind, marks) = match frame {
            ClientFrame::MarkDelivered(marks) => (MarkKind::Delivered, marks),
            ClientFrame::MarkRead(marks) => (MarkKind::Read, marks),
            _ => return true,
        };
        if !self.marks.take() {
            let rejection = Rejection::new(Code::RateLimited, "Send marks once a second, all chats in one frame.").retry_after(1_000);
            return self.refuse(id.as_ref(), &rejection, None);
        }
        let mut own = Vec::with_capacity(marks.len());
        let mut foreign = None;
        for (chat_id, seq) in marks {
            match self.desk.head_of(&chat_id) {
                Some(head) => own.push((chat_id, seq.min(head))),
                None => foreign = Some(chat_id),
            }
        }
        // Somebody who was just removed from one chat still marks the others.
        let outcome = if own.is_empty() { Ok(()) } else { self.shared.inbound.mark(&self.caller, kind, own).await };
        match (outcome, foreign) {
            (Err(rejection), _) => self.refuse(id.as_ref(), &rejection, None),
            (Ok(()), Some(chat_id)) => {
                let mut rejection = Rejection::chat_not_found();
                rejection.field = Some("payload.marks".into());
                self.count(&rejection);
                self.desk.outgoing.push(server::error(id.as_ref(), &rejection, Some(&chat_id), None).into());
                self.errors.take()
            }
            (Ok(()), None) => {
                self.acknowledge(id.as_ref(), None, None);
                true
            }
        }
    }

    async fn resume(&mut self, id: Option<Value>, frame: ClientFrame) -> bool {
        let ClientFrame::Resume { cursors, epoch } = frame else { return true };
        if epoch.is_some_and(|epoch| epoch != self.shared.epoch) {
            let rejection = Rejection::new(
                Code::Conflict,
                "History was restored since these cursors were made: drop them and what is kept, and start from `chats`.",
            )
            .at("payload.epoch");
            return self.refuse(id.as_ref(), &rejection, None);
        }
        self.attendance.resume(cursors, id).await;
        true
    }

    async fn authenticate(&mut self, id: Option<Value>, token: &str) -> bool {
        match self.shared.inbound.authenticate(token).await {
            Ok(identity) if identity.user_id == self.caller.user_id => {
                self.timers.renew(identity.expires_at_ms);
                self.acknowledge(id.as_ref(), None, None);
                true
            }
            Ok(_) => {
                let rejection = Rejection::new(Code::TokenInvalid, "The token is another person's: open a connection of its own.")
                    .at("payload.token");
                self.refuse(id.as_ref(), &rejection, None)
            }
            Err(rejection) => self.refuse(id.as_ref(), &rejection, None),
        }
    }

    fn acknowledge(&self, id: Option<&Value>, chat_id: Option<&str>, message_id: Option<&str>) {
        self.desk.outgoing.push(server::ack(id, chat_id, message_id, "accepted", None).into());
    }

    /// A frame that isn't one.
    fn refuse_frame(&mut self, refused: RefusedFrame) -> bool {
        let RefusedFrame { id, chat_id, message_id, is_send, rejection } = refused;
        self.count(&rejection);
        let frame = server::error(id.as_ref(), &rejection, chat_id.as_deref(), message_id.as_deref());
        self.desk.outgoing.push(frame.into());
        let uuid = message_id.as_deref().and_then(|message_id| Uuid::try_parse(message_id).ok());
        if let (true, Some(chat_id), Some(message_id)) = (is_send, chat_id, uuid)
            && !self.block(&Place::new(None, &chat_id, message_id, true))
        {
            return false;
        }
        self.errors.take()
    }

    /// Answers with a refusal; `false` if there were too many that the client could have known.
    fn refuse(&mut self, id: Option<&Value>, rejection: &Rejection, place: Option<&Place>) -> bool {
        self.count(rejection);
        let message_id = place.map(|place| place.message_id.to_string());
        let frame = server::error(id, rejection, place.map(|place| place.chat_id.as_str()), message_id.as_deref());
        self.desk.outgoing.push(frame.into());
        rejection.code.is_temporary() || self.errors.take()
    }

    fn count(&self, rejection: &Rejection) {
        ::metrics::counter!(metrics::REFUSED_FRAMES, "code" => rejection.code.name()).increment(1);
    }

    /// Later sends of the chat wait for this one.
    fn block(&mut self, place: &Place) -> bool {
        !place.is_send || self.order.refused(&place.chat_id, place.message_id)
    }
}

/// Why a stream that can't be read is closed. The library keeps its error type to itself, so its words have to do; a
/// test holds each of them.
fn close_of(error: &axum::Error) -> Option<Close> {
    let words = error.to_string();
    if words.starts_with("Space limit exceeded") {
        Some(Close::TOO_BIG)
    } else if words.starts_with("UTF-8 encoding error") {
        Some(Close::NOT_UTF8)
    } else if words.starts_with("WebSocket protocol error") && !words.contains("without closing handshake") {
        Some(Close::PROTOCOL)
    } else {
        None
    }
}
