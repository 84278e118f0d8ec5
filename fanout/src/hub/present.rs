//! Who of one chat is online, and what of it others have yet to be told. A state machine: no I/O, no clock of its own.
//!
//! Each node says over the chat's channel which members are connected to it. What it says may be lost, so a node that may have
//! missed something asks, and takes whoever isn't in the answer for gone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How long somebody whose last connection has ended counts as online: people reconnect.
const GRACE_MS: u64 = 3_000;
/// How long the other nodes may take to answer. One that doesn't follow the chat any more never does.
const ANSWER_MS: u64 = 7_000;

/// Changes are told once there was none for so long: a node's people come together when another one dies, and their messages go
/// first.
pub(crate) const GATHER_MS: u64 = 500;
/// The longest that the first change waits. Well below [`ANSWER_MS`], since answers of other nodes gather as well.
const GATHER_MOST_MS: u64 = 2_000;

/// How a person looks to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Online,
    /// With the time of the last connection's end, if it is known.
    Offline(Option<i64>),
}

/// What one node says to the others that follow the chat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    pub(crate) node: String,
    /// The others are asked who is connected to them.
    pub(crate) ask: bool,
    /// `online` is everybody who is connected to the node.
    pub(crate) is_whole: bool,
    pub(crate) online: Vec<String>,
    /// People who aren't connected to the node any more, with when it was, in milliseconds since 1970.
    pub(crate) offline: HashMap<String, Option<i64>>,
}

/// What a turn brings.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// For connections that were told before.
    pub(crate) changes: Vec<(Arc<str>, State)>,
    pub(crate) announcement: Option<Announcement>,
    /// When the next turn is due by itself.
    pub(crate) next_ms: Option<u64>,
}

/// Who has been said to be online, and to whom: one list for both, since most people are in both. In the order of their ids, as
/// they are few, and a hash table would hold half as much room again for each of very many chats.
#[derive(Default)]
struct Online(Vec<(Arc<str>, u8)>);

/// Places that the list grows by.
const GROWTH: usize = 4;
/// The connections here were told.
const TOLD: u8 = 1;
/// The other nodes were told, and that it is here.
const ANNOUNCED: u8 = 2;

impl Online {
    fn place(&self, user_id: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(id, _)| (**id).cmp(user_id))
    }

    fn is(&self, user_id: &str, to: u8) -> bool {
        self.place(user_id).is_ok_and(|place| self.0[place].1 & to != 0)
    }

    fn set(&mut self, user_id: &Arc<str>, to: u8) {
        match self.place(user_id) {
            Ok(place) => self.0[place].1 |= to,
            Err(place) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(GROWTH);
                }
                self.0.insert(place, (Arc::clone(user_id), to));
            }
        }
    }

    fn unset(&mut self, user_id: &str, to: u8) {
        if let Ok(place) = self.place(user_id) {
            self.0[place].1 &= !to;
            if self.0[place].1 == 0 {
                self.0.remove(place);
            }
        }
    }

    fn of(&self, to: u8) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().filter(move |(_, known)| *known & to != 0).map(|(user_id, _)| user_id)
    }

    /// Those who aren't online any more.
    fn without(&self, to: u8, online: &HashSet<Arc<str>>) -> Vec<Arc<str>> {
        self.of(to).filter(|user_id| !online.contains(*user_id)).cloned().collect()
    }
}

/// What a node knows of one chat.
#[derive(Default)]
pub(crate) struct Present {
    /// People connected to other nodes, and to which.
    elsewhere: HashMap<Arc<str>, HashSet<Arc<str>>>,
    /// People whose last connection here has ended: until when they count as here, and when it was.
    leaving: BTreeMap<Arc<str>, (u64, i64)>,
    /// When people were last seen who went since the last turn.
    last_seen: BTreeMap<Arc<str>, i64>,
    online: Online,
    asks: bool,
    answers: bool,
    /// Nodes that were asked and haven't answered, and until when they may.
    asked: Option<(u64, HashSet<Arc<str>>)>,
    /// More are online than are told of each other.
    is_large: bool,
    /// When to look whether a turn is due.
    pub(crate) due_ms: Option<u64>,
    /// The first and the last change since the last turn.
    changed_ms: Option<(u64, u64)>,
}

impl Present {
    /// Something has changed that the next turn may tell of.
    pub(crate) fn changed(&mut self, now_ms: u64) {
        let (first_ms, _) = self.changed_ms.unwrap_or((now_ms, now_ms));
        self.changed_ms = Some((first_ms, now_ms));
    }

    /// Until when changes go on gathering; none if it is time to tell them.
    pub(crate) fn gathers_until(&self, now_ms: u64) -> Option<u64> {
        let (first_ms, last_ms) = self.changed_ms?;
        let until_ms = (last_ms + GATHER_MS).min(first_ms + GATHER_MOST_MS);
        (until_ms > now_ms).then_some(until_ms)
    }

    /// Somebody's last connection here has ended.
    pub(crate) fn left(&mut self, user_id: &Arc<str>, now_ms: u64, seen_at: i64) {
        self.leaving.insert(Arc::clone(user_id), (now_ms + GRACE_MS, seen_at));
    }

    /// Somebody is in the chat no more.
    pub(crate) fn removed(&mut self, user_id: &str) {
        self.leaving.remove(user_id);
    }

    /// The next turn asks the other nodes, which may have said something that wasn't heard, and tells them of everybody here,
    /// as they may have missed something too.
    pub(crate) fn ask(&mut self) {
        self.asks = true;
        self.answers = true;
    }

    /// Another node has said something.
    pub(crate) fn hear(&mut self, said: Announcement) {
        if said.is_whole {
            if let Some((_, asked)) = &mut self.asked {
                asked.remove(said.node.as_str());
            }
            let online: HashSet<&str> = said.online.iter().map(String::as_str).collect();
            for user_id in self.people_of(&said.node) {
                if !online.contains(&*user_id) {
                    self.take_away(&user_id, &said.node, None);
                }
            }
        }
        for user_id in said.online {
            self.elsewhere.entry(user_id.into()).or_default().insert(said.node.as_str().into());
        }
        for (user_id, seen_at) in said.offline {
            self.take_away(&user_id, &said.node, seen_at);
        }
        self.answers |= said.ask;
    }

    /// Another node has died, or doesn't follow the chat. `true` if somebody was there.
    pub(crate) fn node_gone(&mut self, node: &str, seen_at: Option<i64>) -> bool {
        let theirs = self.people_of(node);
        for user_id in &theirs {
            self.take_away(user_id, node, seen_at);
        }
        !theirs.is_empty()
    }

    fn people_of(&self, node: &str) -> Vec<Arc<str>> {
        let theirs = self.elsewhere.iter().filter(|(_, nodes)| nodes.contains(node));
        theirs.map(|(user_id, _)| Arc::clone(user_id)).collect()
    }

    fn take_away(&mut self, user_id: &str, node: &str, seen_at: Option<i64>) {
        let Some(nodes) = self.elsewhere.get_mut(user_id) else { return };
        if nodes.remove(node) && nodes.is_empty() {
            self.elsewhere.remove(user_id);
            self.seen(user_id.into(), seen_at);
        }
    }

    fn seen(&mut self, user_id: Arc<str>, seen_at: Option<i64>) {
        if let Some(seen_at) = seen_at {
            self.last_seen.entry(user_id).and_modify(|at| *at = seen_at.max(*at)).or_insert(seen_at);
        }
    }

    /// People who are online, as the connections here were told.
    pub(crate) fn told(&self) -> Vec<(Arc<str>, State)> {
        self.online.of(TOLD).map(|user_id| (Arc::clone(user_id), State::Online)).collect()
    }

    /// Whether more are online than are told of each other.
    pub(crate) const fn is_large(&self) -> bool {
        self.is_large
    }

    /// What is new since the last turn. `members` are those with a connection here.
    pub(crate) fn turn<'a>(
        &mut self,
        node: &str,
        members: impl Iterator<Item = &'a Arc<str>>,
        now_ms: u64,
        most: usize,
    ) -> Turn {
        self.changed_ms = None;
        let here = self.here(members, now_ms);
        if let Some((_, silent)) = self.asked.take_if(|(until_ms, _)| now_ms >= *until_ms) {
            for node in silent {
                self.node_gone(&node, None);
            }
        }
        let mut online: HashSet<Arc<str>> = self.elsewhere.keys().cloned().collect();
        online.extend(here.iter().cloned());
        // Some have to leave before a chat that was too large is told of again: it would flicker.
        self.is_large = online.len() > if self.is_large { most - most / 10 } else { most };

        let mut changes = Vec::new();
        if self.is_large {
            online.clear();
        }
        for user_id in self.online.without(TOLD, &online) {
            self.online.unset(&user_id, TOLD);
            let seen_at = if self.is_large { None } else { self.last_seen.get(&user_id).copied() };
            changes.push((user_id, State::Offline(seen_at)));
        }
        for user_id in online {
            if !self.online.is(&user_id, TOLD) {
                self.online.set(&user_id, TOLD);
                changes.push((user_id, State::Online));
            }
        }
        let announcement = self.announce(node, &here, now_ms, most);
        self.last_seen.clear();
        let leaving = self.leaving.values().map(|(until_ms, _)| *until_ms);
        let next_ms = leaving.chain(self.asked.as_ref().map(|(until_ms, _)| *until_ms)).min();
        Turn { changes, announcement, next_ms }
    }

    /// Who is here, with those who may come back.
    fn here<'a>(&mut self, members: impl Iterator<Item = &'a Arc<str>>, now_ms: u64) -> HashSet<Arc<str>> {
        let mut here: HashSet<Arc<str>> = members.cloned().collect();
        for (user_id, (until_ms, seen_at)) in std::mem::take(&mut self.leaving) {
            if here.contains(&user_id) {
                continue;
            }
            if now_ms >= until_ms {
                self.seen(user_id, Some(seen_at));
            } else {
                self.leaving.insert(user_id, (until_ms, seen_at));
            }
        }
        here.extend(self.leaving.keys().cloned());
        here
    }

    /// One more than are told of each other are announced at most: enough for every node to find that there are too many.
    fn announce(&mut self, node: &str, here: &HashSet<Arc<str>>, now_ms: u64, most: usize) -> Option<Announcement> {
        let gone = self.online.without(ANNOUNCED, here);
        for user_id in &gone {
            self.online.unset(user_id, ANNOUNCED);
        }
        let room = (most + 1).saturating_sub(self.online.of(ANNOUNCED).count());
        let is_new = |user_id: &&Arc<str>| !self.online.is(user_id, ANNOUNCED);
        let new: Vec<Arc<str>> = here.iter().filter(is_new).take(room).cloned().collect();
        for user_id in &new {
            self.online.set(user_id, ANNOUNCED);
        }
        let (ask, is_whole) = (std::mem::take(&mut self.asks), std::mem::take(&mut self.answers));
        if ask {
            let nodes: HashSet<Arc<str>> = self.elsewhere.values().flatten().cloned().collect();
            self.asked = (!nodes.is_empty()).then_some((now_ms + ANSWER_MS, nodes));
        }
        let names = |people: &mut dyn Iterator<Item = &Arc<str>>| people.map(ToString::to_string).collect();
        let announcement = Announcement {
            node: node.to_owned(),
            ask,
            is_whole,
            online: if is_whole { names(&mut self.online.of(ANNOUNCED)) } else { names(&mut new.iter()) },
            offline: gone.iter().map(|id| (id.to_string(), self.last_seen.get(id).copied())).collect(),
        };
        let says_something = ask || is_whole || !announcement.online.is_empty() || !announcement.offline.is_empty();
        says_something.then_some(announcement)
    }
}

#[cfg(test)]
#[path = "present_tests.rs"]
mod tests;
