//! A chat as docs/roles.md and docs/api.md describe it, in a few lines: people are numbers, time is `seq`.

use std::collections::BTreeMap;

/// What a command is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With a `seq`, or none if nothing changed.
    Seq(Option<i64>),
    /// Without saying where.
    Done,
    Refused(&'static str),
}

#[derive(Debug, Clone)]
struct Stay {
    who: usize,
    visible_from: i64,
    left: Option<i64>,
}

#[derive(Debug, Clone)]
struct Message {
    /// Its place among the ids that were tried.
    place: usize,
    seq: i64,
    sender: usize,
    original: String,
    edits: Vec<(i64, String)>,
    is_deleted: bool,
}

/// The chat.
#[derive(Debug, Default)]
pub(super) struct Chat {
    seq: i64,
    roles: BTreeMap<usize, u8>,
    stays: Vec<Stay>,
    messages: Vec<Message>,
    is_hidden: bool,
}

const NO_CHAT: Outcome = Outcome::Refused("chat_not_found");
const NO_MESSAGE: Outcome = Outcome::Refused("message_not_found");
const FORBIDDEN: Outcome = Outcome::Refused("forbidden");
const LAST_OWNER: Outcome = Outcome::Refused("last_owner");
const NOTHING: Outcome = Outcome::Seq(None);

const MEMBER: u8 = 0;
const ADMIN: u8 = 1;
const OWNER: u8 = 2;

fn rank(role: &str) -> u8 {
    match role {
        "owner" => OWNER,
        "admin" => ADMIN,
        _ => MEMBER,
    }
}

impl Chat {
    pub(super) fn made_by(who: usize) -> Self {
        let stay = Stay { who, visible_from: 1, left: None };
        Self { seq: 1, roles: BTreeMap::from([(who, OWNER)]), stays: vec![stay], ..Self::default() }
    }

    fn next(&mut self) -> i64 {
        self.seq += 1;
        self.seq
    }

    fn sees(&self, who: usize, seq: i64) -> bool {
        let mut own = self.stays.iter().filter(|stay| stay.who == who);
        own.any(|stay| stay.visible_from <= seq && stay.left.is_none_or(|left| seq <= left))
    }

    fn owners(&self) -> usize {
        self.roles.values().filter(|role| **role == OWNER).count()
    }

    fn message(&mut self, place: usize) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.place == place)
    }

    pub(super) fn say(&mut self, who: usize, place: usize, text: &str, parent: Option<usize>) -> Outcome {
        let is_member = self.roles.contains_key(&who);
        if let Some(message) = self.message(place) {
            let is_own = message.sender == who;
            return match (is_own && message.original == text, is_member || is_own) {
                (true, _) => Outcome::Seq(Some(message.seq)),
                (false, true) => Outcome::Refused("message_id_conflict"),
                (false, false) => NO_CHAT,
            };
        }
        if !is_member {
            return NO_CHAT;
        }
        if let Some(parent) = parent {
            let seq = self.message(parent).map(|message| message.seq);
            if !seq.is_some_and(|seq| self.sees(who, seq)) {
                return NO_MESSAGE;
            }
        }
        let seq = self.next();
        let (original, edits) = (text.to_owned(), Vec::new());
        self.messages.push(Message { place, seq, sender: who, original, edits, is_deleted: false });
        Outcome::Seq(Some(seq))
    }

    pub(super) fn edit(&mut self, who: usize, place: usize, text: &str) -> Outcome {
        if !self.roles.contains_key(&who) {
            return NO_CHAT;
        }
        let seq = self.seq + 1;
        let sees = |chat: &Self, seq| chat.sees(who, seq);
        let Some(message_seq) = self.message(place).map(|message| message.seq) else { return NO_MESSAGE };
        let is_seen = sees(self, message_seq);
        let Some(message) = self.message(place) else { return NO_MESSAGE };
        if !is_seen || message.is_deleted || message.sender != who {
            return NO_MESSAGE;
        }
        message.edits.push((seq, text.to_owned()));
        self.seq = seq;
        // The message is shown, which has the place at which it was sent.
        Outcome::Seq(Some(message_seq))
    }

    pub(super) fn delete(&mut self, who: usize, place: usize) -> Outcome {
        let Some(role) = self.roles.get(&who).copied() else { return NO_CHAT };
        let Some(message_seq) = self.message(place).map(|message| message.seq) else { return NO_MESSAGE };
        let is_seen = self.sees(who, message_seq);
        let seq = self.seq + 1;
        let Some(message) = self.message(place) else { return NO_MESSAGE };
        if !is_seen || (message.sender != who && role < ADMIN) {
            return NO_MESSAGE;
        }
        if message.is_deleted {
            return NOTHING;
        }
        message.is_deleted = true;
        self.seq = seq;
        Outcome::Seq(Some(seq))
    }

    pub(super) fn add(&mut self, who: usize, whom: usize, role: &str) -> Outcome {
        let Some(own) = self.roles.get(&who).copied() else { return NO_CHAT };
        if own < ADMIN || rank(role) > own {
            return FORBIDDEN;
        }
        if self.roles.contains_key(&whom) {
            return NOTHING;
        }
        let seq = self.next();
        self.roles.insert(whom, rank(role));
        let visible_from = if self.is_hidden { seq } else { 1 };
        self.stays.push(Stay { who: whom, visible_from, left: None });
        Outcome::Seq(Some(seq))
    }

    pub(super) fn remove(&mut self, who: usize, whom: usize) -> Outcome {
        let Some(own) = self.roles.get(&who).copied() else { return NO_CHAT };
        let Some(theirs) = self.roles.get(&whom).copied() else { return NOTHING };
        let may = who == whom || own == OWNER || (own == ADMIN && theirs == MEMBER);
        if !may {
            return FORBIDDEN;
        }
        if theirs == OWNER && self.owners() == 1 && self.roles.len() > 1 {
            return LAST_OWNER;
        }
        let seq = self.next();
        self.roles.remove(&whom);
        for stay in self.stays.iter_mut().filter(|stay| stay.who == whom && stay.left.is_none()) {
            stay.left = Some(seq);
        }
        Outcome::Seq(Some(seq))
    }

    pub(super) fn promote(&mut self, who: usize, whom: usize, role: &str) -> Outcome {
        let Some(own) = self.roles.get(&who).copied() else { return NO_CHAT };
        if own < OWNER {
            return FORBIDDEN;
        }
        let Some(theirs) = self.roles.get(&whom).copied() else { return Outcome::Refused("user_not_found") };
        if theirs == rank(role) {
            return NOTHING;
        }
        if theirs == OWNER && self.owners() == 1 {
            return LAST_OWNER;
        }
        self.roles.insert(whom, rank(role));
        Outcome::Seq(Some(self.next()))
    }

    pub(super) fn hide(&mut self, who: usize, is_hidden: bool) -> Outcome {
        let Some(own) = self.roles.get(&who).copied() else { return NO_CHAT };
        if own < ADMIN {
            return FORBIDDEN;
        }
        if self.is_hidden != is_hidden {
            self.is_hidden = is_hidden;
            self.next();
        }
        Outcome::Done
    }

    /// Members and their roles.
    pub(super) fn members(&self) -> impl Iterator<Item = (usize, &'static str)> {
        self.roles.iter().map(|(who, role)| (*who, ["member", "admin", "owner"][usize::from(*role)]))
    }

    /// The messages as a member sees them: `seq`, and the latest text that they may see unless it was deleted. `None` for
    /// one who is none.
    pub(super) fn view_of(&self, who: usize) -> Option<Vec<(i64, Option<String>)>> {
        self.roles.get(&who)?;
        let seen = self.messages.iter().filter(|message| self.sees(who, message.seq));
        let text = |message: &Message| {
            let latest = message.edits.iter().rev().find(|(seq, _)| self.sees(who, *seq));
            latest.map_or_else(|| message.original.clone(), |(_, text)| text.clone())
        };
        Some(seen.map(|message| (message.seq, (!message.is_deleted).then(|| text(message)))).collect())
    }
}
