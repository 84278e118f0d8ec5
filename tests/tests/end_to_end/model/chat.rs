//! A chat as docs/roles.md and docs/api.md describe it, in a few lines: people are numbers, time is `seq`.

use std::collections::BTreeMap;

/// What a command is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With a `seq`, or none if nothing changed.
    Seq(Option<i64>),
    /// Without saying where.
    Done,
    /// As new.
    Made,
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

/// What has a `seq`, in the words of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "the history's word")]
pub(super) struct Event {
    pub(super) seq: i64,
    pub(super) event_type: &'static str,
    /// What was written with it.
    pub(super) text: Option<String>,
    /// `seq` of the message that it is about.
    message_seq: Option<i64>,
}

/// What somebody is shown at a `seq`: what it was and its text, or nothing.
pub(super) type Shown = Option<(&'static str, Option<String>)>;

/// The chat; the default isn't there yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Chat {
    is_group: bool,
    seq: i64,
    events: Vec<Event>,
    /// How far each has read.
    read: BTreeMap<usize, i64>,
    roles: BTreeMap<usize, u8>,
    stays: Vec<Stay>,
    messages: Vec<Message>,
    is_hidden: bool,
    name: String,
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
    pub(super) fn made_by(who: usize, name: &str) -> Self {
        let mut chat = Self { is_group: true, name: name.to_owned(), ..Self::default() };
        chat.begin_with(&[who], OWNER);
        chat
    }

    /// The 1:1 chat of two: it is there once, as the first of them made it.
    pub(super) fn meet(&mut self, two: [usize; 2], name: &str) -> Outcome {
        if self.seq > 0 {
            return Outcome::Done;
        }
        name.clone_into(&mut self.name);
        self.begin_with(&two, MEMBER);
        Outcome::Made
    }

    fn begin_with(&mut self, people: &[usize], role: u8) {
        self.next("chat.created");
        self.roles.extend(people.iter().map(|who| (*who, role)));
        self.stays.extend(people.iter().map(|who| Stay { who: *who, visible_from: 1, left: None }));
    }

    fn next(&mut self, event_type: &'static str) -> i64 {
        self.happens(event_type, None, None)
    }

    fn happens(&mut self, event_type: &'static str, message_seq: Option<i64>, text: Option<&str>) -> i64 {
        self.seq += 1;
        self.events.push(Event { seq: self.seq, event_type, text: text.map(str::to_owned), message_seq });
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
        let seq = self.happens("message.persisted", Some(self.seq + 1), Some(text));
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
        self.happens("message.edited", Some(message_seq), Some(text));
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
        self.happens("message.deleted", Some(message_seq), None);
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
        let seq = self.next("member.joined");
        self.roles.insert(whom, rank(role));
        let visible_from = if self.is_hidden { seq } else { 1 };
        self.stays.push(Stay { who: whom, visible_from, left: None });
        Outcome::Seq(Some(seq))
    }

    pub(super) fn remove(&mut self, who: usize, whom: usize) -> Outcome {
        let Some(own) = self.roles.get(&who).copied() else { return NO_CHAT };
        if !self.is_group {
            return FORBIDDEN;
        }
        let Some(theirs) = self.roles.get(&whom).copied() else { return NOTHING };
        let may = who == whom || own == OWNER || (own == ADMIN && theirs == MEMBER);
        if !may {
            return FORBIDDEN;
        }
        if theirs == OWNER && self.owners() == 1 && self.roles.len() > 1 {
            return LAST_OWNER;
        }
        let seq = self.next("member.left");
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
        Outcome::Seq(Some(self.next("member.updated")))
    }

    pub(super) fn hide(&mut self, who: usize, is_hidden: bool) -> Outcome {
        let Some(own) = self.roles.get(&who).copied() else { return NO_CHAT };
        if own < ADMIN {
            return FORBIDDEN;
        }
        if self.is_hidden != is_hidden {
            self.is_hidden = is_hidden;
            self.next("chat.updated");
        }
        Outcome::Done
    }

    pub(super) fn rename(&mut self, who: usize, name: &str) -> Outcome {
        let Some(own) = self.roles.get(&who).copied() else { return NO_CHAT };
        if own < ADMIN {
            return FORBIDDEN;
        }
        if self.name != name {
            name.clone_into(&mut self.name);
            self.next("chat.updated");
        }
        Outcome::Done
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn read(&mut self, who: usize, seq: i64) -> Outcome {
        if !self.roles.contains_key(&who) {
            return NO_CHAT;
        }
        let seq = seq.min(self.seq);
        self.read.entry(who).and_modify(|read| *read = seq.max(*read)).or_insert(seq);
        Outcome::Done
    }

    /// How far a member has read, and what others wrote since that they see in this stay.
    pub(super) fn unread_of(&self, who: usize) -> Option<(i64, i64)> {
        let stay = self.stays.iter().find(|stay| stay.who == who && stay.left.is_none())?;
        let read = self.read.get(&who).copied().unwrap_or(0);
        let from = stay.visible_from.max(read + 1);
        let is_unread = |message: &&Message| message.seq >= from && message.sender != who && !message.is_deleted;
        Some((read, self.messages.iter().filter(is_unread).count() as i64))
    }

    /// What is told to one who begins at the beginning, `seq` by `seq`, up to now or to their leaving: nothing from outside
    /// their stays, and no text of what was deleted. `None` for one who never was in it.
    pub(super) fn told(&self, who: usize) -> Option<Vec<Shown>> {
        let last = self.stays.iter().filter(|stay| stay.who == who).map(|stay| stay.left.unwrap_or(self.seq)).max()?;
        let is_deleted = |seq: i64| self.messages.iter().any(|message| message.seq == seq && message.is_deleted);
        let shown = |event: &Event| {
            let is_seen = self.sees(who, event.seq) && event.message_seq.is_none_or(|seq| self.sees(who, seq));
            let text = event.text.clone().filter(|_| !event.message_seq.is_some_and(is_deleted));
            is_seen.then_some((event.event_type, text))
        };
        Some(self.events.iter().take_while(|event| event.seq <= last).map(shown).collect())
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
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
