//! The outbox: commands without a final answer, in order.
//!
//! ```text
//!            pump            accepted            persisted
//!   queued ───────▶ sent ───────────▶ accepted ───────────▶ (gone)
//!     ▲  ▲           │ │                 │
//!     │  └───────────┘ └── refused ──────┴────────────────▶ (gone)
//!     │   temporary refusal              │
//!     └──────────────────────────────────┘ connection lost, or no answer for long: sent again with the same id
//! ```
//!
//! *Order.* Commands of one chat leave in the order in which they were made. After a refusal the server refuses all
//! later ones of that chat (`blocked_by_earlier`), so nothing more of it leaves until each one under way has its answer;
//! then sending begins again at the first.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::command::Command;

/// Without an answer for so long, a command is sent again on the connection that lives.
const NO_ANSWER_MS: u64 = 15_000;
const RETRY_FIRST_MS: u64 = 200;
const RETRY_MOST_MS: u64 = 10_000;
/// Commands that may wait; further ones are refused here.
const MOST_ENTRIES: usize = 50_000;

/// What a refusal made of a command.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Not in the outbox.
    Foreign,
    /// It will be sent again.
    Postponed,
    /// It is gone.
    Refused(Command),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued { not_before_ms: u64 },
    Sent { at_ms: u64 },
    Accepted { at_ms: u64 },
}

#[derive(Debug)]
struct Entry {
    command: Command,
    phase: Phase,
    attempts: u32,
}

/// The commands under way.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: BTreeMap<u64, Entry>,
    places: HashMap<Uuid, u64>,
    queued: BTreeSet<u64>,
    /// Chats in which something was refused, until what is under way there is answered.
    stalled: HashSet<Arc<str>>,
    /// How many of each chat wait for their first answer.
    unanswered: HashMap<Arc<str>, usize>,
    next_place: u64,
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a command; `false` if there is no room.
    pub(crate) fn add(&mut self, command: Command) -> bool {
        if self.entries.len() >= MOST_ENTRIES {
            return false;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert(command.op_id, place);
        self.queued.insert(place);
        self.entries.insert(place, Entry { command, phase: Phase::Queued { not_before_ms: 0 }, attempts: 0 });
        true
    }

    /// Commands to send now, with the number of earlier tries. They count as sent.
    pub(crate) fn pump(&mut self, now_ms: u64) -> Vec<(&Command, u32)> {
        if self.queued.is_empty() {
            return Vec::new();
        }
        let mut closed = HashSet::new();
        let mut leaving = Vec::new();
        for place in &self.queued {
            let Some(entry) = self.entries.get_mut(place) else { continue };
            let chat_id = &entry.command.chat_id;
            let unanswered = self.unanswered.entry(Arc::clone(chat_id)).or_default();
            let is_late = matches!(entry.phase, Phase::Queued { not_before_ms } if not_before_ms > now_ms);
            if closed.contains(chat_id) || is_late || (*unanswered > 0 && self.stalled.contains(chat_id)) {
                closed.insert(Arc::clone(chat_id));
                continue;
            }
            self.stalled.remove(chat_id);
            *unanswered += 1;
            entry.phase = Phase::Sent { at_ms: now_ms };
            entry.attempts += 1;
            leaving.push(*place);
        }
        for place in &leaving {
            self.queued.remove(place);
        }
        leaving
            .iter()
            .filter_map(|place| self.entries.get(place))
            .map(|entry| (&entry.command, entry.attempts - 1))
            .collect()
    }

    /// When [`Outbox::pump`] has something that it hasn't now, if only time is missing.
    pub(crate) fn next_due_ms(&self, now_ms: u64) -> Option<u64> {
        let waits = self.queued.iter().filter_map(|place| match self.entries.get(place)?.phase {
            Phase::Queued { not_before_ms } if not_before_ms > now_ms => Some(not_before_ms),
            _ => None,
        });
        waits.min()
    }

    /// An ack of the first level; `false` if it isn't about a command here, or came before.
    pub(crate) fn accepted(&mut self, op_id: Uuid) -> bool {
        let Some(entry) = self.places.get(&op_id).and_then(|place| self.entries.get_mut(place)) else { return false };
        let Phase::Sent { at_ms } = entry.phase else { return false };
        entry.phase = Phase::Accepted { at_ms };
        answered(&mut self.unanswered, &entry.command.chat_id);
        true
    }

    /// An ack of the second level; the command is forgotten.
    pub(crate) fn persisted(&mut self, op_id: Uuid) -> bool {
        self.take(op_id).is_some()
    }

    /// A refusal; `random` from 0 to 1 spreads the retries of many clients.
    pub(crate) fn refused(&mut self, op_id: Uuid, refusal: &Refused<'_>, now_ms: u64, random: f64) -> Outcome {
        let Some(place) = self.places.get(&op_id).copied() else { return Outcome::Foreign };
        let Some(entry) = self.entries.get(&place) else { return Outcome::Foreign };
        let chat_id = Arc::clone(&entry.command.chat_id);
        let waits_too =
            |entry: &Entry| entry.command.chat_id == chat_id && !matches!(entry.phase, Phase::Accepted { .. });
        let has_earlier = self.entries.range(..place).any(|(_, earlier)| waits_too(earlier));
        let Some(entry) = self.entries.get_mut(&place) else { return Outcome::Foreign };
        let not_before_ms = match refusal.code {
            // The earlier one's time counts, or it was just given up. Otherwise the server waits for something else.
            "blocked_by_earlier" if has_earlier || entry.attempts == 1 => 0,
            code if refusal.temporary || code == "token_expired" => {
                let ceiling = RETRY_MOST_MS.min(RETRY_FIRST_MS << entry.attempts.min(10));
                let backoff_ms = (ceiling as f64 * (0.5 + random / 2.0)) as u64;
                now_ms + backoff_ms.max(refusal.retry_after_ms.unwrap_or(0))
            }
            _ => {
                self.stalled.insert(chat_id);
                return self.take(op_id).map_or(Outcome::Foreign, Outcome::Refused);
            }
        };
        if matches!(entry.phase, Phase::Sent { .. }) {
            answered(&mut self.unanswered, &chat_id);
        }
        entry.phase = Phase::Queued { not_before_ms };
        self.queued.insert(place);
        self.stalled.insert(chat_id);
        Outcome::Postponed
    }

    /// The connection is gone: everything without a final answer is sent again on the next one.
    pub(crate) fn disconnected(&mut self) {
        self.stalled.clear();
        self.unanswered.clear();
        for (place, entry) in &mut self.entries {
            entry.phase = Phase::Queued { not_before_ms: 0 };
            self.queued.insert(*place);
        }
    }

    /// Puts back what has had no answer for long on a connection that lives.
    pub(crate) fn look_for_silence(&mut self, now_ms: u64) {
        for (place, entry) in &mut self.entries {
            let (Phase::Sent { at_ms } | Phase::Accepted { at_ms }) = entry.phase else { continue };
            if now_ms.saturating_sub(at_ms) > NO_ANSWER_MS {
                if matches!(entry.phase, Phase::Sent { .. }) {
                    answered(&mut self.unanswered, &entry.command.chat_id);
                }
                entry.phase = Phase::Queued { not_before_ms: 0 };
                self.queued.insert(*place);
            }
        }
    }

    /// Takes everything out, in order, with whether it was ever sent.
    pub(crate) fn drain(&mut self) -> Vec<(Command, bool)> {
        let entries = std::mem::take(self).entries;
        entries.into_values().map(|entry| (entry.command, entry.attempts > 0)).collect()
    }

    fn take(&mut self, op_id: Uuid) -> Option<Command> {
        let place = self.places.remove(&op_id)?;
        let entry = self.entries.remove(&place)?;
        self.queued.remove(&place);
        if matches!(entry.phase, Phase::Sent { .. }) {
            answered(&mut self.unanswered, &entry.command.chat_id);
        }
        Some(entry.command)
    }
}

/// A refusal, as far as the outbox looks at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused<'a> {
    pub(crate) code: &'a str,
    pub(crate) temporary: bool,
    pub(crate) retry_after_ms: Option<u64>,
}

fn answered(unanswered: &mut HashMap<Arc<str>, usize>, chat_id: &Arc<str>) {
    if let Some(count) = unanswered.get_mut(chat_id) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            unanswered.remove(chat_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(count: usize) -> Vec<Command> {
        let chat_id: Arc<str> = "c1".into();
        (0..count).map(|number| Command::send(&chat_id, number.to_string())).collect()
    }

    fn leaving(outbox: &mut Outbox, now_ms: u64) -> Vec<Uuid> {
        outbox.pump(now_ms).into_iter().map(|(command, _)| command.op_id).collect()
    }

    #[test]
    fn after_a_refusal_everything_waits_and_then_begins_at_the_first() {
        let mut outbox = Outbox::default();
        let all = commands(4);
        let ids: Vec<Uuid> = all.iter().map(|command| command.op_id).collect();
        for command in all {
            assert!(outbox.add(command));
        }
        assert_eq!(leaving(&mut outbox, 0), ids);
        assert!(outbox.accepted(ids[0]));
        let limited = Refused { code: "rate_limited", temporary: true, retry_after_ms: Some(700) };
        assert_eq!(outbox.refused(ids[1], &limited, 0, 0.5), Outcome::Postponed);
        let blocked = Refused { code: "blocked_by_earlier", temporary: true, retry_after_ms: None };
        assert_eq!(outbox.refused(ids[2], &blocked, 0, 0.5), Outcome::Postponed);
        assert!(leaving(&mut outbox, 1_000).is_empty(), "one is still without answer");
        assert_eq!(outbox.refused(ids[3], &blocked, 0, 0.5), Outcome::Postponed);
        assert_eq!(outbox.next_due_ms(0), Some(700));
        assert!(leaving(&mut outbox, 699).is_empty());
        assert_eq!(leaving(&mut outbox, 700), ids[1..]);
        let forbidden = Refused { code: "forbidden", temporary: false, retry_after_ms: None };
        assert!(
            matches!(outbox.refused(ids[1], &forbidden, 0, 0.5), Outcome::Refused(command) if command.op_id == ids[1])
        );
        assert!(outbox.persisted(ids[0]));
        // Blocked by nothing that is known here: not at once again.
        assert_eq!(outbox.refused(ids[2], &blocked, 700, 0.5), Outcome::Postponed);
        assert_eq!(outbox.refused(ids[3], &blocked, 700, 0.5), Outcome::Postponed);
        assert!(leaving(&mut outbox, 701).is_empty());
        assert_eq!(leaving(&mut outbox, 700 + RETRY_MOST_MS), ids[2..]);
        assert_eq!(outbox.refused(ids[0], &forbidden, 0, 0.5), Outcome::Foreign);
    }

    #[test]
    fn a_lost_connection_or_a_long_silence_sends_again_in_order() {
        let mut outbox = Outbox::default();
        let all = commands(3);
        let ids: Vec<Uuid> = all.iter().map(|command| command.op_id).collect();
        for command in all {
            outbox.add(command);
        }
        leaving(&mut outbox, 0);
        outbox.accepted(ids[0]);
        outbox.persisted(ids[1]);
        outbox.disconnected();
        assert_eq!(leaving(&mut outbox, 10), [ids[0], ids[2]]);
        outbox.look_for_silence(10 + NO_ANSWER_MS);
        assert!(leaving(&mut outbox, 11 + NO_ANSWER_MS).is_empty());
        outbox.look_for_silence(11 + NO_ANSWER_MS);
        assert_eq!(leaving(&mut outbox, 11 + NO_ANSWER_MS), [ids[0], ids[2]]);
        assert_eq!(outbox.drain().len(), 2);
    }
}
