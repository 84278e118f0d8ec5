//! What a client can ask, each with its answer. Methods say `false` when the client has used up what is forgiven.

use std::sync::Arc;

use schemas::wire::client::RefusedFrame;
use schemas::wire::relay::{Kind, Relayed};
use schemas::wire::{ClientFrame, Code, Rejection, Request, server};
use serde_json::Value;
use uuid::Uuid;

use super::Connection;
use super::answers::{self, Place};
use crate::inbound::{Caller, KnownChat, MarkKind, Submitted};
use crate::metrics;
use crate::writer::Close;

/// Commands of one connection that may wait for their answer.
const IN_FLIGHT: usize = 256;

impl Connection<'_> {
    pub(super) async fn take_request(&mut self, request: Request) -> bool {
        let Request { id, frame } = request;
        match &frame {
            ClientFrame::SendMessage(send) => {
                let place = Place::new(id, &send.chat_id, send.message_id, true);
                if let Err(rejection) = self.order.check(&send.chat_id, send.message_id) {
                    return self.refuse(place.id.as_ref(), &rejection, Some(&place));
                }
                self.submit(place, frame).await
            }
            ClientFrame::EditMessage { chat_id, message_id, .. }
            | ClientFrame::DeleteMessage { chat_id, message_id } => {
                let place = Place::new(id, chat_id, *message_id, false);
                self.submit(place, frame).await
            }
            _ if !self.requests.take() => {
                let rejection =
                    Rejection::new(Code::RateLimited, "Too many requests on this connection.").retry_after(1_000);
                self.refuse(id.as_ref(), &rejection, None) && self.errors.take()
            }
            ClientFrame::DiscardMessage { chat_id, message_id } => {
                self.order.settled(chat_id, *message_id);
                self.acknowledge(id.as_ref(), Some(chat_id), Some(&message_id.to_string()));
                true
            }
            ClientFrame::MarkDelivered(_) | ClientFrame::MarkRead(_) => self.mark(id, frame).await,
            ClientFrame::Typing { chat_id } => self.tell_typing(id.as_ref(), chat_id),
            ClientFrame::Resume { .. } => self.resume(id, frame).await,
            ClientFrame::Authenticate { token } => self.authenticate(id, token).await,
            ClientFrame::Heartbeat { active } => {
                let Caller { user_id, session_id } = &self.caller;
                self.activity.heard(*active, &self.shared.sessions, user_id, session_id);
                self.desk.outgoing.push(self.desk.heads());
                true
            }
        }
    }

    /// Hands a command over. Awaited before the next frame is looked at: this is what keeps the sender's order.
    async fn submit(&mut self, place: Place, command: ClientFrame) -> bool {
        if self.in_flight.len() >= IN_FLIGHT {
            let rejection =
                Rejection::new(Code::Overloaded, "Too many of your commands wait for an answer.").retry_after(1_000);
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
            let rejection = Rejection::new(Code::RateLimited, "Send marks once a second, all chats in one frame.")
                .retry_after(1_000);
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
            (Ok(()), Some(chat_id)) => self.refuse_chat(id.as_ref(), "payload.marks", &chat_id),
            (Ok(()), None) => {
                self.acknowledge(id.as_ref(), None, None);
                true
            }
        }
    }

    /// Tells the others of a chat, some time, perhaps: too much of it is dropped without a word.
    fn tell_typing(&mut self, id: Option<&Value>, chat_id: &str) -> bool {
        if self.desk.head_of(chat_id).is_none() {
            return self.refuse_chat(id, "payload.chat_id", chat_id);
        }
        if self.typing.take() {
            let bytes = Relayed::of_node(Kind::Typing, self.caller.user_id.as_bytes()).to_bytes();
            self.shared.whispers.send(self.shared.names.chat_channel(chat_id), bytes);
        }
        if id.is_some() {
            self.acknowledge(id, Some(chat_id), None);
        }
        true
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
                self.seat.renew(identity.issued_at_ms);
                // As at the beginning: a revocation since may have looked at the token before.
                if let Some(close) = Close::of(self.shared.inbound.standing(&identity.user_id, identity.issued_at_ms)) {
                    self.desk.outgoing.end(close);
                }
                self.timers.renew(identity.expires_at_ms);
                self.acknowledge(id.as_ref(), None, None);
                true
            }
            Ok(_) => {
                let rejection =
                    Rejection::new(Code::TokenInvalid, "The token is another person's: open a connection of its own.")
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
    pub(super) fn refuse_frame(&mut self, refused: RefusedFrame) -> bool {
        let RefusedFrame { id, chat_id, message_id, is_send, rejection } = refused;
        count(&rejection);
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
        count(rejection);
        let message_id = place.map(|place| place.message_id.to_string());
        let frame = server::error(id, rejection, place.map(|place| place.chat_id.as_str()), message_id.as_deref());
        self.desk.outgoing.push(frame.into());
        rejection.code.is_temporary() || self.errors.take()
    }

    /// Answers for a chat that isn't the person's.
    fn refuse_chat(&mut self, id: Option<&Value>, field: &str, chat_id: &str) -> bool {
        let rejection = Rejection::chat_not_found().at(field);
        count(&rejection);
        self.desk.outgoing.push(server::error(id, &rejection, Some(chat_id), None).into());
        self.errors.take()
    }

    /// Later sends of the chat wait for this one.
    pub(super) fn block(&mut self, place: &Place) -> bool {
        !place.is_send || self.order.refused(&place.chat_id, place.message_id)
    }
}

fn count(rejection: &Rejection) {
    ::metrics::counter!(metrics::REFUSED_FRAMES, "code" => rejection.code.name()).increment(1);
}
