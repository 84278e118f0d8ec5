//! The sync core: one person's chats over any number of connections.
//!
//! ```text
//!   frames ──▶ receive ──▶ cursor (in order) ──▶ observations
//!   clock  ──▶ tick    ──▶ resumes · marks · outbox · heartbeat ──▶ frames to send
//! ```
//!
//! No I/O, no clock, no randomness of its own: whoever drives it hands frames, milliseconds and random numbers in, and
//! takes [`Output`]s out, in order.

mod receive;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::json;

use super::command::Command;
use super::cursor::Cursor;
use super::marks::Marks;
use super::observation::{Event, Observation, Via};
use super::outbox::Outbox;
use super::resume::ResumePlan;

/// Chats in one `resume`.
const CURSORS_PER_FRAME: usize = 200;
const HEARTBEAT_MS: u64 = 5_000;

/// What the driver must do, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    Frame(String),
    Observe(Observation),
    /// Send a fresh token in `authenticate`.
    FreshToken,
    /// Leave this connection after so long, and come back at once.
    Reconnect {
        after_ms: u64,
    },
    /// Nothing was heard for too long: the connection is dead.
    Dead,
}

/// Where a device begins that has no cursor yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At each chat's head, as a new device does; what was before is read as history.
    #[default]
    Head,
    /// At the beginning: the whole history comes as events.
    Beginning,
}

/// Which marks a client sends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Receipts {
    /// None
    None,
    /// What has arrived
    #[default]
    Delivered,
    /// What has arrived, also as read
    Read,
}

/// What a session is to do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Habits {
    pub(crate) start: Start,
    pub(crate) receipts: Receipts,
    pub(crate) observe_receipts: bool,
}

struct Chat {
    id: Arc<str>,
    cursor: Cursor<Item>,
    is_resuming: bool,
    has_left: bool,
}

enum Item {
    Event(Box<Event>),
    Skipped(Via),
}

/// A person's device.
pub(crate) struct Session {
    user_id: String,
    habits: Habits,
    chats: HashMap<Arc<str>, Chat>,
    outbox: Outbox,
    delivered: Marks,
    read: Marks,
    plan: ResumePlan,
    epoch: Option<String>,
    stage: Stage,
    heartbeat_ms: u64,
    next_beat_ms: u64,
    unanswered_beat_ms: Option<u64>,
    frame_bytes: usize,
    outputs: VecDeque<Output>,
}

/// How far a connection is.
enum Stage {
    Away,
    /// Connected; `hello` hasn't come.
    Greeting,
    /// Chats are being announced; which were.
    Announcing(Vec<Arc<str>>),
    InStep,
}

impl Session {
    pub(crate) fn new(user_id: impl Into<String>, habits: Habits) -> Self {
        Self {
            user_id: user_id.into(),
            habits,
            chats: HashMap::new(),
            outbox: Outbox::default(),
            delivered: Marks::new("mark_delivered"),
            read: Marks::new("mark_read"),
            plan: ResumePlan::default(),
            epoch: None,
            stage: Stage::Away,
            heartbeat_ms: HEARTBEAT_MS,
            next_beat_ms: 0,
            unanswered_beat_ms: None,
            frame_bytes: usize::MAX,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn is_in_step(&self) -> bool {
        matches!(self.stage, Stage::InStep)
    }

    pub(crate) fn pending(&self) -> usize {
        self.outbox.len()
    }

    /// Each chat with its cursor and the highest `seq` that it knows of.
    pub(crate) fn cursors(&self) -> impl Iterator<Item = (&Arc<str>, i64, i64)> {
        self.chats.values().map(|chat| (&chat.id, chat.cursor.at(), chat.cursor.head()))
    }

    /// Takes a command; [`Session::tick`] sends it.
    pub(crate) fn command(&mut self, command: Command) {
        let op_id = command.op_id;
        self.observe(Observation::Invoked(command.clone()));
        let refuse = |code: &str| Output::Observe(Observation::Refused { op_id, code: code.into() });
        if command.frame().len() > self.frame_bytes {
            // The server would close the connection, for every frame's sake.
            self.outputs.push_back(refuse("frame_too_big"));
        } else if !self.outbox.add(command) {
            self.outputs.push_back(refuse("outbox_full"));
        }
    }

    /// The person has read a chat up to here.
    pub(crate) fn mark_read(&mut self, chat_id: &Arc<str>, seq: i64) {
        self.read.want(chat_id, seq);
    }

    /// A connection is there.
    pub(crate) fn connected(&mut self, now_ms: u64) {
        self.stage = Stage::Greeting;
        self.next_beat_ms = now_ms + self.heartbeat_ms;
        self.unanswered_beat_ms = None;
    }

    /// It is gone. Chats, cursors and commands stay.
    pub(crate) fn disconnected(&mut self) {
        self.stage = Stage::Away;
        self.plan.clear();
        self.outbox.disconnected();
        self.delivered.disconnected();
        self.read.disconnected();
        for chat in self.chats.values_mut() {
            chat.is_resuming = false;
        }
    }

    /// The client ends: what has no answer is told as unknown, what never left as refused.
    pub(crate) fn end(&mut self) {
        for (command, was_sent) in self.outbox.drain() {
            let op_id = command.op_id;
            self.observe(if was_sent {
                Observation::Unknown { op_id }
            } else {
                Observation::Refused { op_id, code: "never_sent".into() }
            });
        }
    }

    /// When [`Session::tick`] has something to do next.
    pub(crate) fn next_due_ms(&self, now_ms: u64) -> Option<u64> {
        if matches!(self.stage, Stage::Away) {
            return None;
        }
        let mut due_ms = self.next_beat_ms;
        if self.is_in_step() {
            let others = [
                self.plan.next_due_ms(),
                self.delivered.next_due_ms(),
                self.read.next_due_ms(),
                self.outbox.next_due_ms(now_ms),
            ];
            due_ms = others.into_iter().flatten().fold(due_ms, u64::min);
        }
        Some(due_ms)
    }

    /// What the time that passed asks for.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        if matches!(self.stage, Stage::Away) {
            return;
        }
        self.beat(now_ms);
        if !self.is_in_step() {
            return;
        }
        let due = self.plan.take_due(now_ms);
        for chat_ids in due.chunks(CURSORS_PER_FRAME) {
            self.resume(chat_ids);
        }
        for (command, attempt) in self.outbox.pump(now_ms) {
            self.outputs.push_back(Output::Observe(Observation::Sent { op_id: command.op_id, attempt }));
            self.outputs.push_back(Output::Frame(command.frame()));
        }
        for marks in [&mut self.delivered, &mut self.read] {
            self.outputs.extend(marks.take_due(now_ms).map(Output::Frame));
        }
    }

    fn beat(&mut self, now_ms: u64) {
        if now_ms < self.next_beat_ms {
            return;
        }
        self.next_beat_ms = now_ms + self.heartbeat_ms;
        self.outbox.look_for_silence(now_ms);
        if self.unanswered_beat_ms.is_some_and(|beat_ms| now_ms.saturating_sub(beat_ms) >= 2 * self.heartbeat_ms) {
            self.outputs.push_back(Output::Dead);
        } else {
            self.unanswered_beat_ms.get_or_insert(now_ms);
            self.outputs.push_back(Output::Frame(r#"{"event":"heartbeat"}"#.into()));
        }
    }

    fn observe(&mut self, what: Observation) {
        self.outputs.push_back(Output::Observe(what));
    }

    fn resume(&mut self, chat_ids: &[Arc<str>]) {
        let mut cursors = serde_json::Map::new();
        for chat_id in chat_ids {
            let Some(chat) = self.chats.get_mut(chat_id) else { continue };
            chat.is_resuming = true;
            let cursor = chat.cursor.at();
            cursors.insert(chat_id.to_string(), cursor.into());
            self.outputs.push_back(Output::Observe(Observation::Resuming { chat_id: Arc::clone(chat_id), cursor }));
        }
        let payload = json!({ "cursors": cursors, "epoch": self.epoch });
        self.outputs
            .push_back(Output::Frame(json!({ "event": "resume", "id": "resume", "payload": payload }).to_string()));
    }
}

impl Chat {
    fn new(id: &Arc<str>, cursor: i64) -> Self {
        Self { id: Arc::clone(id), cursor: Cursor::new(cursor), is_resuming: false, has_left: false }
    }
}

#[cfg(test)]
mod tests;
