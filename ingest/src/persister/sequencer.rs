//! Decides commands in the order of their log: which get a `seq`, what rows they make, what their senders are told.
//!
//! Pure: everything it knows is in the [`Book`], the clock's time included. The same commands on the same book give
//! the same decisions, and a command changes nothing but its own chat.

mod chats;
mod decisions;
mod departure;
mod members;
mod messages;

use runtime::trace::Span;
use schemas::wire::{Answer, Code, Rejection};
use schemas::{ChatCommand, command_type};

pub(crate) use decisions::{Decisions, Effect, NewChange, NewMessage};

use super::book::Book;

/// Most people in one membership command, so that no event grows without bound.
pub(crate) const MAX_MEMBERS: usize = 500;

/// A command and the hash of its body.
pub(crate) struct Candidate {
    pub(crate) command: ChatCommand,
    pub(crate) body_hash: Vec<u8>,
    /// Why it is refused, whatever the book says.
    pub(crate) refusal: Option<Rejection>,
    /// If it is sampled.
    pub(crate) span: Option<Span>,
}

/// The `seq` that a command got, if it got one, or why it is refused.
type Decision = Result<Option<i64>, Rejection>;

/// Decides a batch.
pub(crate) fn decide(book: &mut Book, batch: &[&Candidate]) -> Decisions {
    let mut decisions = Decisions::default();
    for candidate in batch {
        let command = &candidate.command;
        let decision = decide_one(book, candidate, &mut decisions);
        // A send that was taken can be found by its message_id; everything else needs its result kept.
        let is_kept = decision.is_err() || command.command_type != command_type::MESSAGE_SEND;
        let (seq, rejection) = match decision {
            Ok(seq) => (seq, None),
            Err(rejection) => (None, Some(rejection)),
        };
        decisions.answers.push((Answer { command_id: command.command_id.clone(), seq, rejection }, is_kept));
    }
    decisions
}

fn decide_one(book: &mut Book, candidate: &Candidate, decisions: &mut Decisions) -> Decision {
    if let Some(refusal) = &candidate.refusal {
        return Err(refusal.clone());
    }
    let command = &candidate.command;
    let now_ms = book.now_ms;
    let Book { chats, keys, media, .. } = book;
    let chat = chats.entry(command.chat_id.clone()).or_default();
    match command.command_type.as_str() {
        command_type::MESSAGE_SEND => messages::send(chat, (keys, media), now_ms, candidate, decisions),
        command_type::MESSAGE_EDIT => messages::edit(chat, now_ms, command, decisions),
        command_type::MESSAGE_DELETE => messages::delete(chat, media, now_ms, command, decisions),
        command_type::CHAT_CREATE => chats::create(chat, now_ms, command, decisions),
        command_type::CHAT_UPDATE => chats::update(chat, now_ms, command, decisions),
        command_type::MEMBERS_ADD => members::add(chat, now_ms, command, decisions),
        command_type::MEMBERS_REMOVE => members::remove(chat, now_ms, command, decisions),
        command_type::MEMBERS_UPDATE => members::change_roles(chat, now_ms, command, decisions),
        command_type::PERSON_REMOVE => departure::depart(chat, now_ms, command, decisions),
        other => {
            Err(Rejection::new(Code::NotSupported, format!("This version doesn't know commands of type {other}.")))
        }
    }
}

fn new_change(command: &ChatCommand, seq: i64, at_ms: i64, event_type: &'static str) -> NewChange {
    NewChange {
        chat_id: command.chat_id.clone(),
        seq,
        event_type,
        actor_id: command.user_id.clone(),
        occurred_at_ms: at_ms,
        message_seq: None,
        content: None,
        message: None,
        memberships: None,
        chat: None,
    }
}

fn forbidden(text: &str) -> Rejection {
    Rejection::new(Code::Forbidden, text)
}

fn stale(text: &str) -> Rejection {
    Rejection::new(Code::Conflict, text)
}

#[cfg(test)]
#[path = "sequencer_tests.rs"]
mod tests;
