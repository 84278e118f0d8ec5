//! What a batch comes to: rows in the order in which they must be written, state beside them, answers.

use std::collections::HashMap;

use schemas::wire::Answer;
use schemas::{Attachment, ChatState, Membership, MessageState};
use uuid::Uuid;

use crate::persister::book::{Change, Settings, Stay};

/// A row of `message` to insert.
#[derive(Debug, Clone)]
pub(crate) struct NewMessage {
    pub(crate) message_id: Uuid,
    pub(crate) chat_id: String,
    pub(crate) sender_id: String,
    pub(crate) content: String,
    pub(crate) parent_message_id: Option<Uuid>,
    pub(crate) parent_seq: Option<i64>,
    pub(crate) seq: i64,
    pub(crate) app_data: Option<String>,
    /// None where there are none: rows without go the quick way to their events.
    pub(crate) attachments: Option<Vec<Attachment>>,
    pub(crate) created_at_ms: i64,
    pub(crate) body_hash: Vec<u8>,
}

/// A row of `chat_change` to insert.
#[derive(Debug, Clone)]
pub(crate) struct NewChange {
    pub(crate) chat_id: String,
    pub(crate) seq: i64,
    pub(crate) event_type: &'static str,
    pub(crate) actor_id: String,
    pub(crate) occurred_at_ms: i64,
    pub(crate) message_seq: Option<i64>,
    pub(crate) content: Option<String>,
    pub(crate) message: Option<MessageState>,
    pub(crate) memberships: Option<Vec<Membership>>,
    pub(crate) chat: Option<ChatState>,
}

/// State beside the rows, changed in the same transaction and never published. In the order in which it must happen.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    ChatMade { chat_id: String, settings: Settings },
    ChatChanged { chat_id: String, settings: Settings },
    StayOpened { chat_id: String, user_id: String, stay: Stay, at_ms: i64 },
    StayChanged { chat_id: String, user_id: String, stay: Stay, at_ms: i64 },
    MessageEdited { chat_id: String, message_seq: i64, edited: Change },
    MessageDeleted { chat_id: String, message_seq: i64, at_ms: i64 },
    MediaPosted { chat_id: String, message_seq: i64, media_id: String },
}

/// The rows of one round. A round's messages are written before its changes, so that a chat's rows enter the log in
/// the order of their `seq`: a send after a change goes to the next round.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) messages: Vec<NewMessage>,
    pub(crate) changes: Vec<NewChange>,
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    pub(crate) rounds: Vec<Round>,
    pub(crate) effects: Vec<Effect>,
    /// One for each command, in their order; `true` where the answer must be kept in `command_result`.
    pub(crate) answers: Vec<(Answer, bool)>,
    chat_round: HashMap<String, (usize, bool)>,
}

impl Decisions {
    pub(super) fn message(&mut self, message: NewMessage) {
        let (round, has_change) = self.chat_round.entry(message.chat_id.clone()).or_default();
        if *has_change {
            (*round, *has_change) = (*round + 1, false);
        }
        let round = *round;
        self.round(round).messages.push(message);
    }

    pub(super) fn change(&mut self, change: NewChange) {
        let (round, has_change) = self.chat_round.entry(change.chat_id.clone()).or_default();
        *has_change = true;
        let round = *round;
        self.round(round).changes.push(change);
    }

    fn round(&mut self, number: usize) -> &mut Round {
        while self.rounds.len() <= number {
            self.rounds.push(Round::default());
        }
        &mut self.rounds[number]
    }
}
