//! What each frame from the server does to a session.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::cursor::Arrival;
use super::super::frames::{self, Envelope};
use super::super::observation::{Anomaly, Event, Observation, Via};
use super::super::outbox::{Outcome, Refused};
use super::super::resume::ASK_AGAIN_MS;
use super::{Chat, HEARTBEAT_MS, Item, Output, Receipts, Session, Stage, Start};

impl Session {
    /// Takes one frame. `random`, from 0 to 1, spreads retries.
    pub(crate) fn receive(&mut self, text: &str, now_ms: u64, random: f64) {
        self.unanswered_beat_ms = None;
        let taken = serde_json::from_str::<Envelope<'_>>(text).ok().and_then(|frame| self.take(&frame, now_ms, random));
        if taken.is_none() {
            let message = text.chars().take(200).collect();
            self.observe(Observation::Error { id: None, code: "frame_not_understood".into(), message, field: None });
        }
    }

    /// `None` for a frame whose payload has another shape than the contract says.
    fn take(&mut self, frame: &Envelope<'_>, now_ms: u64, random: f64) -> Option<()> {
        match &*frame.event {
            "message" => self.event(Cow::Borrowed("message"), frame.payload()?, now_ms),
            "heads" => self.heads(&frame.payload()?, now_ms),
            "receipt" => {
                if self.habits.observe_receipts {
                    let receipt: frames::Receipt<'_> = frame.payload()?;
                    let chat_id = self.id_of(&receipt.chat_id);
                    self.observe(Observation::Receipt { chat_id, users: receipt.users });
                }
            }
            "ack" => self.acked(frame, &frame.payload()?),
            "error" => self.refused(frame, &frame.payload()?, now_ms, random),
            "hello" => self.greeted(frame.payload()?),
            "chats" => self.announced(&frame.payload()?, now_ms),
            "skipped" => {
                let skipped: frames::Skipped<'_> = frame.payload()?;
                let chat_id = self.known_chat(&skipped.chat_id, skipped.from_seq);
                self.offer(&chat_id, skipped.from_seq, skipped.to_seq, Item::Skipped, now_ms);
            }
            "resumed" => self.resumed(&frame.payload()?, now_ms),
            "token_expiring" => self.outputs.push_back(Output::FreshToken),
            "reconnect" => {
                let reconnect: frames::Reconnect = frame.payload()?;
                self.outputs.push_back(Output::Reconnect { after_ms: reconnect.after_ms });
            }
            "typing" | "presence" => {}
            // Also an event that this client doesn't know moves the cursor, if it has a `seq`.
            other => {
                if let Some(event) = frame.payload() {
                    self.event(Cow::Owned(other.to_owned()), event, now_ms);
                }
            }
        }
        Some(())
    }

    fn greeted(&mut self, hello: frames::Hello) {
        self.heartbeat_ms = hello.heartbeat_ms.unwrap_or(HEARTBEAT_MS).max(100);
        self.frame_bytes = hello.limits.frame_bytes.unwrap_or(usize::MAX);
        let epoch = hello.epoch.unwrap_or_default();
        self.observe(Observation::Opened { session_id: hello.session_id, epoch: epoch.clone() });
        if self.epoch.as_ref().is_some_and(|earlier| *earlier != epoch) {
            self.chats.clear();
            self.delivered.forget_all();
            self.read.forget_all();
            self.observe(Observation::OtherEpoch { epoch: epoch.clone() });
        }
        self.epoch = Some(epoch);
        self.stage = Stage::Announcing(Vec::new());
    }

    fn announced(&mut self, page: &frames::Chats<'_>, now_ms: u64) {
        for head in &page.chats {
            let start = match self.habits.start {
                Start::Head => head.head_seq,
                Start::Beginning => 0,
            };
            let chat_id = self.id_of(&head.chat_id);
            let chat = self.chats.entry(Arc::clone(&chat_id)).or_insert_with(|| Chat::new(&chat_id, start));
            chat.has_left = false;
            chat.cursor.observe_head(head.head_seq);
            let cursor = chat.cursor.at();
            if chat.cursor.is_behind() {
                chat.is_resuming = true;
                self.plan.ask_at(&chat_id, cursor, now_ms);
            }
            self.delivered.adopt(&chat_id, head.delivered_seq);
            self.read.adopt(&chat_id, head.read_seq);
            self.want_marks(&chat_id, cursor);
            if let Stage::Announcing(announced) = &mut self.stage {
                announced.push(Arc::clone(&chat_id));
            }
            self.observe(Observation::Chat { chat_id, head_seq: head.head_seq, cursor });
        }
        if !page.complete {
            return;
        }
        if let Stage::Announcing(announced) = std::mem::replace(&mut self.stage, Stage::InStep) {
            let announced: HashSet<Arc<str>> = announced.into_iter().collect();
            self.chats.retain(|chat_id, _| announced.contains(chat_id));
            self.delivered.retain(&announced);
            self.read.retain(&announced);
            self.observe(Observation::InStep);
        }
    }

    fn event(&mut self, kind: Cow<'static, str>, event: frames::ChatEvent<'_>, now_ms: u64) {
        let chat_id = self.known_chat(&event.chat_id, event.seq);
        let seq = event.seq;
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Box::<str>::from(&*text));
        let id = Arc::clone(&chat_id);
        let item = |via| {
            Item::Event(Box::new(Event {
                chat_id: id,
                seq,
                kind,
                message_id: event.message_id,
                message_seq: event.message_seq,
                sender_id: owned(event.sender_id),
                actor_id: owned(event.actor_id),
                content: event.content,
                attachments: event.attachments,
                memberships: event.memberships,
                via,
            }))
        };
        self.offer(&chat_id, seq, seq, item, now_ms);
    }

    fn offer(&mut self, chat_id: &Arc<str>, from: i64, to: i64, item: impl FnOnce(Via) -> Item, now_ms: u64) {
        let Some(chat) = self.chats.get_mut(chat_id) else { return };
        let via = if chat.is_resuming { Via::Sync } else { Via::Live };
        let had_gap = chat.cursor.has_gap();
        let arrival = chat.cursor.offer(from, to, item(via));
        let anomaly = match arrival {
            _ if chat.is_resuming => None,
            Arrival::InOrder => None,
            Arrival::Repeat => Some(Anomaly::Repeated),
            Arrival::Early => (!had_gap).then_some(Anomaly::Gap),
            Arrival::Filling => Some(Anomaly::Late),
        };
        if let Some(kind) = anomaly {
            self.outputs.push_back(Output::Observe(Observation::Anomaly {
                chat_id: Arc::clone(chat_id),
                seq: from,
                kind,
            }));
        }
        while let Some((from_seq, to_seq, item)) = chat.cursor.pop() {
            self.outputs.push_back(Output::Observe(match item {
                Item::Event(event) => {
                    for member in event.memberships.iter().filter(|member| member.user_id == self.user_id) {
                        chat.has_left = member.left_seq.is_some();
                    }
                    Observation::Event(*event)
                }
                Item::Skipped(via) => Observation::Skipped { chat_id: Arc::clone(chat_id), from_seq, to_seq, via },
            }));
        }
        let (cursor, has_left) = (chat.cursor.at(), chat.has_left);
        self.plan.note(chat_id, cursor, chat.cursor.is_behind(), chat.cursor.has_gap(), now_ms);
        if has_left {
            self.delivered.forget(chat_id);
            self.read.forget(chat_id);
        } else {
            self.want_marks(chat_id, cursor);
        }
    }

    fn heads(&mut self, heads: &HashMap<Cow<'_, str>, i64>, now_ms: u64) {
        for (chat_id, head) in heads {
            let Some(chat) = self.chats.get_mut(&**chat_id) else { continue };
            chat.cursor.observe_head(*head);
            let cursor = &chat.cursor;
            self.plan.note(&chat.id, cursor.at(), cursor.is_behind(), cursor.has_gap(), now_ms);
        }
    }

    fn resumed(&mut self, resumed: &frames::Resumed<'_>, now_ms: u64) {
        let Some(chat) = self.chats.get_mut(&*resumed.chat_id) else { return };
        chat.is_resuming = !resumed.complete;
        let (chat_id, cursor) = (Arc::clone(&chat.id), chat.cursor.at());
        if resumed.complete {
            // What was asked for is here: a head that is lost later must not wait for this one's next turn.
            self.plan.note(&chat_id, cursor, chat.cursor.is_behind(), chat.cursor.has_gap(), now_ms);
        } else {
            // Nothing more comes unless it is asked for; if nothing could be read just now, not at once.
            let pause_ms = if resumed.to_seq > resumed.from_seq { 0 } else { ASK_AGAIN_MS };
            self.plan.ask_at(&chat_id, cursor, now_ms + pause_ms);
        }
        self.observe(Observation::Resumed { chat_id, to_seq: resumed.to_seq, complete: resumed.complete });
    }

    fn acked(&mut self, frame: &Envelope<'_>, ack: &frames::Ack<'_>) {
        let Some(op_id) = frame.command_id() else { return };
        if ack.state == "persisted" {
            if self.outbox.persisted(op_id) {
                self.observe(Observation::Persisted { op_id, seq: ack.seq });
            }
        } else if self.outbox.accepted(op_id) {
            self.observe(Observation::Accepted { op_id });
        }
    }

    fn refused(&mut self, frame: &Envelope<'_>, refusal: &frames::Refusal<'_>, now_ms: u64, random: f64) {
        let code = refusal.code.clone();
        if code == "token_expired" {
            self.outputs.push_back(Output::FreshToken);
        }
        let seen = Refused { code: &code, temporary: refusal.temporary, retry_after_ms: refusal.retry_after_ms };
        let outcome = frame.command_id().map(|op_id| (op_id, self.outbox.refused(op_id, &seen, now_ms, random)));
        match outcome {
            Some((op_id, Outcome::Postponed)) => return self.observe(Observation::Postponed { op_id, code }),
            Some((op_id, Outcome::Refused(command))) => {
                self.outputs.extend(command.discard_frame().map(Output::Frame));
                return self.observe(Observation::Refused { op_id, code });
            }
            Some((_, Outcome::Foreign)) | None => {}
        }
        let id = frame.id.map(|id| id.get().to_owned());
        if let Some(id) = &id {
            if refusal.temporary {
                let _ = self.delivered.take_refusal(id) || self.read.take_refusal(id);
            }
            if id == "\"resume\""
                && !refusal.temporary
                && let Some(chat_id) = &refusal.chat_id
            {
                self.plan.forget(chat_id);
                self.chats.remove(&**chat_id);
            }
        }
        self.observe(Observation::Error { id, code, message: refusal.message.clone(), field: refusal.field.clone() });
    }

    fn want_marks(&mut self, chat_id: &Arc<str>, cursor: i64) {
        if self.habits.receipts != Receipts::None {
            self.delivered.want(chat_id, cursor);
        }
        if self.habits.receipts == Receipts::Read {
            self.read.want(chat_id, cursor);
        }
    }

    fn id_of(&self, chat_id: &str) -> Arc<str> {
        self.chats.get_key_value(chat_id).map_or_else(|| Arc::from(chat_id), |(id, _)| Arc::clone(id))
    }

    /// The chat of an event; one that wasn't announced begins before the event, or at the beginning.
    fn known_chat(&mut self, chat_id: &str, seq: i64) -> Arc<str> {
        if let Some((id, _)) = self.chats.get_key_value(chat_id) {
            return Arc::clone(id);
        }
        let id: Arc<str> = Arc::from(chat_id);
        let start = match self.habits.start {
            Start::Head => seq - 1,
            Start::Beginning => 0,
        };
        self.chats.insert(Arc::clone(&id), Chat::new(&id, start));
        id
    }
}
