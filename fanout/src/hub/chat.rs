//! One followed chat: its place in the history, its connected members, and delivery to them.

use std::collections::VecDeque;
use std::sync::Arc;

use schemas::wire::json::Way;
use schemas::wire::server;
use schemas::{ChatEvent, Membership, event_type};
use smallvec::SmallVec;

use super::desk::{Desk, Head};
use super::entitlement::{Share, Stays};
use super::members::Members;
use super::present::Present;
use super::sequence::Sequence;
use crate::websocket::{FirstWrite, Frame};
use crate::writer::cost;

/// Events that may come before the chat's head is known. More are read again.
const EARLY: usize = 256;
/// Changes of membership that are kept for members who were loaded a little before them.
const RECENT_CHANGES: usize = 16;
/// Frames that one connection may have waiting behind a resume of one chat, if they aren't too long before that.
const HELD_FRAMES: usize = 1_000;

/// An event and, in development, its way.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) event: ChatEvent,
    pub(crate) way: Option<Way>,
    /// If it is sampled: ended by the first socket that it is written to.
    pub(crate) span: Option<FirstWrite>,
}

/// What waits for one connection behind a resume that is being read: the events after it.
#[derive(Default)]
pub(crate) struct Held {
    frames: Vec<Frame>,
    bytes: usize,
    /// Too many came; what is held is not the whole.
    pub(crate) is_broken: bool,
    /// Where the connection wants to resume once more.
    pub(crate) again_from: Option<i64>,
    /// What was delivered after this had no room. The read that begins once all is delivered brings it, so none is held.
    skipped_from: Option<i64>,
}

impl Held {
    fn push(&mut self, frame: Frame, desk: &Desk) {
        if self.is_broken || self.skipped_from.is_some() {
            return;
        }
        let bytes = cost(&frame);
        if self.frames.len() < HELD_FRAMES && desk.hold(bytes) {
            self.bytes += bytes;
            self.frames.push(frame);
        } else {
            self.is_broken = true;
            self.frames = Vec::new();
            desk.release(std::mem::take(&mut self.bytes));
        }
    }
}

/// A member's connection. It gets events as they come, unless it holds some or is behind.
pub(crate) struct Link {
    pub(crate) desk: Arc<Desk>,
    pub(crate) held: Option<Box<Held>>,
    /// It gets none until it resumes again: it was told how far it came.
    pub(crate) is_behind: bool,
    /// It was told who is online.
    pub(crate) knows_presence: bool,
}

impl Link {
    pub(crate) const fn new(desk: Arc<Desk>) -> Self {
        Self { desk, held: None, is_behind: false, knows_presence: false }
    }

    /// Whether events go to it as they come.
    pub(crate) fn is_live(&self) -> bool {
        self.held.is_none() && !self.is_behind
    }
}

/// A member with at least one connection on this node.
pub(crate) struct Member {
    pub(crate) stays: Stays,
    /// The chat's head when the stays were read: events up to it are in them.
    pub(crate) loaded_at: i64,
    pub(crate) links: SmallVec<[Link; 1]>,
}

/// A connection that hadn't room for all that was delivered at once: it gets the rest as a resume does it, at its own speed.
pub(crate) struct CatchUp {
    pub(crate) connection: u64,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) stays: Stays,
}

/// What a delivery means for the hub.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) deliveries: u64,
    /// Events of types that this program doesn't know.
    pub(crate) unknown: u64,
    /// People who joined and have no link here, each with the event's `seq`.
    pub(crate) joined: Vec<(String, i64)>,
    /// Somebody joined, left or has another role.
    pub(crate) changes_members: bool,
    /// To be read now.
    pub(crate) catch_ups: Vec<CatchUp>,
}

pub(crate) struct Chat {
    pub(crate) id: Arc<str>,
    pub(crate) head: Arc<Head>,
    /// None until the head was read.
    pub(crate) sequence: Option<Sequence<Item>>,
    early: Vec<Item>,
    pub(crate) members: Members,
    pub(crate) present: Present,
    recent: VecDeque<(i64, Vec<Membership>)>,
    /// Changes after this are all in `recent`.
    recent_from: i64,
    /// When the subscription was last confirmed, in moments of the hub; none while it isn't.
    pub(crate) confirmed: Option<u64>,
    /// Connections that wait for the subscription.
    pub(crate) waiting: Vec<u64>,
    pub(crate) idle_since_ms: Option<u64>,
}

impl Chat {
    pub(crate) fn new(id: Arc<str>, now_ms: u64) -> Self {
        Self {
            head: Arc::new(Head::new(Arc::clone(&id))),
            id,
            sequence: None,
            early: Vec::new(),
            members: Members::default(),
            present: Present::default(),
            recent: VecDeque::new(),
            recent_from: 0,
            confirmed: None,
            waiting: Vec::new(),
            idle_since_ms: Some(now_ms),
        }
    }

    pub(crate) fn last_seq(&self) -> i64 {
        self.sequence.as_ref().map_or(0, Sequence::last)
    }

    /// Starts at a head that was read after the subscription was confirmed. A chat that runs already learns of the head:
    /// it goes there at once if nobody is attached, since nobody misses anything.
    pub(crate) fn activate(&mut self, head: i64, now_ms: u64) {
        if let Some(sequence) = &mut self.sequence {
            if !self.members.is_empty() {
                sequence.head(head, self.confirmed.is_none(), now_ms);
            } else if head > sequence.last() {
                sequence.skip_to(head);
                self.recent.clear();
                self.recent_from = head;
                self.head.set(head);
            }
            return;
        }
        let mut sequence = Sequence::new(head);
        for item in self.early.drain(..) {
            sequence.live(item.event.seq, item);
        }
        self.early = Vec::new();
        self.recent_from = head;
        self.head.set(head);
        self.sequence = Some(sequence);
    }

    /// An event came over Pub/Sub.
    pub(crate) fn live(&mut self, item: Item) {
        match &mut self.sequence {
            Some(sequence) => sequence.live(item.event.seq, item),
            None if self.early.len() < EARLY => self.early.push(item),
            None => {}
        }
    }

    /// Brings stays that were read at `loaded_at` up to what was delivered. `false` if they are too old for that.
    pub(crate) fn bring_up(&self, user_id: &str, stays: &mut Stays, loaded_at: i64) -> bool {
        if loaded_at >= self.last_seq() {
            return true;
        }
        if loaded_at < self.recent_from {
            return false;
        }
        for (seq, memberships) in &self.recent {
            if *seq > loaded_at {
                memberships
                    .iter()
                    .filter(|membership| membership.user_id == user_id)
                    .for_each(|membership| stays.apply(membership));
            }
        }
        true
    }

    /// Adds a connection of a member.
    pub(crate) fn link(&mut self, user_id: &Arc<str>, stays: &Stays, loaded_at: i64, link: Link, told: i64) {
        link.desk.attach(&self.head, told);
        self.idle_since_ms = None;
        let member =
            self.members.get_or_make(user_id, || Member { stays: stays.clone(), loaded_at, links: SmallVec::new() });
        if loaded_at > member.loaded_at {
            member.stays.clone_from(stays);
            member.loaded_at = loaded_at;
        }
        member.links.push(link);
    }

    pub(crate) fn link_of(&mut self, user_id: &str, connection: u64) -> Option<&mut Link> {
        self.members.get_mut(user_id)?.links.iter_mut().find(|link| link.desk.connection == connection)
    }

    /// Ends a connection's link. `true` if it was the member's last one here.
    pub(crate) fn unlink(&mut self, user_id: &str, connection: u64, now_ms: u64) -> bool {
        let mut was_last = false;
        if let Some(member) = self.members.get_mut(user_id) {
            member.links.retain(|link| link.desk.connection != connection);
            if member.links.is_empty() {
                self.members.remove(user_id);
                was_last = true;
            }
        }
        self.waiting.retain(|waiting| *waiting != connection);
        self.rest_if_idle(now_ms);
        was_last
    }

    fn rest_if_idle(&mut self, now_ms: u64) {
        if self.members.is_empty() && self.idle_since_ms.is_none() {
            self.idle_since_ms = Some(now_ms);
        }
    }

    /// Delivers whatever is here in order. One event is for everybody; of more, which come where a gap was, each connection
    /// gets as many as it has room for: they come faster than any network takes them.
    pub(crate) fn deliver(&mut self, now_ms: u64) -> Outcome {
        let mut outcome = Outcome::default();
        let (mut is_burst, mut is_skipping) = (false, false);
        while let Some(item) = self.sequence.as_mut().and_then(Sequence::pop) {
            is_skipping |= self.deliver_one(&item, is_burst, now_ms, &mut outcome);
            is_burst = true;
        }
        if is_skipping {
            outcome.catch_ups = self.catch_ups();
        }
        outcome
    }

    /// What those who hadn't room lack. From here on events wait for them behind the reads of it.
    fn catch_ups(&mut self) -> Vec<CatchUp> {
        let last = self.last_seq();
        let mut catch_ups = Vec::new();
        for Member { stays, links, .. } in self.members.values_mut() {
            let to = stays.ended_at().map_or(last, |end| end.min(last));
            for Link { desk, held, .. } in links {
                if let Some(from) = held.as_mut().and_then(|held| held.skipped_from.take()) {
                    catch_ups.push(CatchUp { connection: desk.connection, from, to, stays: stays.clone() });
                }
            }
        }
        catch_ups
    }

    /// `true` if a connection hadn't room for it.
    fn deliver_one(&mut self, item: &Item, is_burst: bool, now_ms: u64, outcome: &mut Outcome) -> bool {
        let event = &item.event;
        let mut is_skipping = false;
        outcome.unknown += u64::from(!event_type::is_known(&event.event_type));
        if !event.memberships.is_empty() {
            self.apply(event, outcome);
            outcome.changes_members = true;
        }
        // Before the frames: marks of them are bounded by it, and a client can be quicker than this loop.
        self.head.set(event.seq);
        // Made once each, and only if somebody gets them.
        let mut shown: Option<Frame> = None;
        let mut hidden: Option<Frame> = None;
        for member in self.members.values_mut() {
            let frame = match member.stays.share(event) {
                Share::Shown => shown.get_or_insert_with(|| {
                    Frame::text_of(&server::event_frame(event, item.way.clone()), item.span.clone())
                }),
                Share::Hidden => {
                    hidden.get_or_insert_with(|| server::skipped(&event.chat_id, event.seq, event.seq).into())
                }
                Share::Nothing => continue,
            };
            for link in &mut member.links {
                if let Some(held) = &mut link.held {
                    held.push(frame.clone(), &link.desk);
                } else if is_burst && !link.is_behind && !link.desk.outgoing.has_room_for(cost(frame)) {
                    link.held = Some(Box::new(Held { skipped_from: Some(event.seq - 1), ..Held::default() }));
                    is_skipping = true;
                } else if !link.is_behind {
                    link.desk.outgoing.push(frame.clone());
                    outcome.deliveries += 1;
                }
            }
        }
        if event.memberships.iter().any(|membership| membership.left_seq.is_some()) {
            self.let_go(event, now_ms);
        }
        is_skipping
    }

    fn apply(&mut self, event: &ChatEvent, outcome: &mut Outcome) {
        if self.recent.len() == RECENT_CHANGES
            && let Some((seq, _)) = self.recent.pop_front()
        {
            self.recent_from = seq;
        }
        self.recent.push_back((event.seq, event.memberships.clone()));
        for membership in &event.memberships {
            match self.members.get_mut(membership.user_id.as_str()) {
                Some(member) if event.seq > member.loaded_at => member.stays.apply(membership),
                None if membership.left_seq.is_none() => outcome.joined.push((membership.user_id.clone(), event.seq)),
                // Loaded with this in it already, or gone and not here.
                _ => {}
            }
        }
    }

    /// Ends the links of those who left by this event. A link that holds frames behind a resume ends with it instead.
    fn let_go(&mut self, event: &ChatEvent, now_ms: u64) {
        let last = event.seq;
        for membership in &event.memberships {
            let user_id = membership.user_id.as_str();
            let Some(member) = self.members.get_mut(user_id) else { continue };
            if member.stays.ended_at().is_none_or(|end| end > last) {
                continue;
            }
            self.present.removed(user_id);
            member.links.retain_mut(|link| {
                let is_held = link.held.is_some();
                if is_held {
                    link.desk.set_open(&self.id, false);
                    link.knows_presence = false;
                } else {
                    link.desk.detach(&self.id);
                }
                is_held
            });
            if member.links.is_empty() {
                self.members.remove(user_id);
            }
        }
        self.rest_if_idle(now_ms);
    }

    /// A resume has come to `to`: what was held follows, unless it isn't whole. All of it is gathered; the caller flushes.
    /// Returns where to resume once more.
    pub(crate) fn finish_resume(&mut self, user_id: &str, connection: u64, done: &Resumed, now_ms: u64) -> Option<i64> {
        let last = self.last_seq();
        let chat_id = Arc::clone(&self.id);
        let link = self.link_of(user_id, connection)?;
        let held = link.held.take()?;
        link.desk.release(held.bytes);
        // What doesn't fit is read again, at the client's own speed, instead of closing it as slow.
        let fits = held.frames.is_empty() || link.desk.outgoing.has_room_for(held.bytes);
        let is_whole = done.is_complete && !held.is_broken && fits;
        if done.is_announced || !is_whole {
            link.desk.outgoing.gather(server::resumed(&chat_id, done.from_seq, done.to_seq, is_whole).into());
        }
        link.is_behind = !is_whole;
        if is_whole {
            for frame in held.frames {
                link.desk.outgoing.gather(frame);
            }
        }
        let desk = Arc::clone(&link.desk);
        let member = self.members.get(user_id)?;
        if member.stays.ended_at().is_some_and(|end| end <= last) {
            desk.detach(&chat_id);
            self.unlink(user_id, connection, now_ms);
            return None;
        }
        desk.set_open(&chat_id, true);
        held.again_from
    }
}

/// How far a resume has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resumed {
    pub(crate) from_seq: i64,
    pub(crate) to_seq: i64,
    /// Everything asked for was queued.
    pub(crate) is_complete: bool,
    /// The client asked, and waits for `resumed`.
    pub(crate) is_announced: bool,
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
