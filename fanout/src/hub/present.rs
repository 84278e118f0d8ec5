//! Who of one chat is online, and what of it others have yet to be told. A state machine: no I/O, no clock of its own.
//!
//! Each node says over the chat's channel which members are connected to it. Nobody is told of everybody in large chats: a
//! node announces at most so many people, and its clients are told nothing while more than that are online.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How long somebody whose last connection has ended counts as online: people reconnect.
const GRACE_MS: u64 = 3_000;

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
    pub(crate) online: Vec<String>,
    /// People who aren't connected to the node any more, with when it was, in milliseconds since 1970.
    pub(crate) offline: HashMap<String, i64>,
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

#[derive(Default)]
pub(crate) struct Present {
    /// People connected to other nodes, and to which.
    elsewhere: HashMap<Arc<str>, HashSet<Arc<str>>>,
    /// People whose last connection here has ended: until when they count as here, and when it was.
    leaving: HashMap<Arc<str>, (u64, i64)>,
    /// When people were last seen who went since the last turn.
    last_seen: HashMap<Arc<str>, i64>,
    /// People whom the connections here were told to be online.
    told: HashSet<Arc<str>>,
    /// People whom the other nodes were told to be online here.
    announced: HashSet<Arc<str>>,
    asks: bool,
    answers: bool,
    /// When the next turn is due.
    pub(crate) due_ms: Option<u64>,
}

impl Present {
    /// Somebody's last connection here has ended.
    pub(crate) fn left(&mut self, user_id: &Arc<str>, now_ms: u64, seen_at: i64) {
        self.leaving.insert(Arc::clone(user_id), (now_ms + GRACE_MS, seen_at));
    }

    /// The next turn asks the other nodes, which may have said something that wasn't heard.
    pub(crate) fn ask(&mut self) {
        self.asks = true;
        self.answers = true;
    }

    /// The next turn tells the other nodes of everybody here, since they may have forgotten.
    pub(crate) fn answer(&mut self) {
        self.answers = true;
    }

    /// Another node has said something.
    pub(crate) fn hear(&mut self, said: Announcement) {
        for user_id in said.online {
            self.elsewhere.entry(user_id.into()).or_default().insert(said.node.as_str().into());
        }
        for (user_id, seen_at) in said.offline {
            self.take_away(&user_id, &said.node, seen_at);
        }
        self.answers |= said.ask;
    }

    /// Another node has died. `true` if somebody was there.
    pub(crate) fn node_gone(&mut self, node: &str, seen_at: i64) -> bool {
        let theirs = self.elsewhere.iter().filter(|(_, nodes)| nodes.contains(node));
        let theirs: Vec<Arc<str>> = theirs.map(|(user_id, _)| Arc::clone(user_id)).collect();
        for user_id in &theirs {
            self.take_away(user_id, node, seen_at);
        }
        !theirs.is_empty()
    }

    fn take_away(&mut self, user_id: &str, node: &str, seen_at: i64) {
        let Some(nodes) = self.elsewhere.get_mut(user_id) else { return };
        if nodes.remove(node) && nodes.is_empty() {
            self.elsewhere.remove(user_id);
            self.last_seen.insert(user_id.into(), seen_at);
        }
    }

    /// People who are online, as the connections here were told.
    pub(crate) fn told(&self) -> Vec<(Arc<str>, State)> {
        self.told.iter().map(|user_id| (Arc::clone(user_id), State::Online)).collect()
    }

    /// Whether so few are online that they are told of each other.
    pub(crate) fn is_small(&self, here: usize, most: usize) -> bool {
        here + self.elsewhere.len() <= most
    }

    /// What is new since the last turn. `members` are those with a connection here.
    pub(crate) fn turn<'a>(
        &mut self,
        node: &str,
        members: impl Iterator<Item = &'a Arc<str>>,
        now_ms: u64,
        most: usize,
    ) -> Turn {
        let mut here: HashSet<Arc<str>> = members.cloned().collect();
        self.leaving.retain(|user_id, (until_ms, seen_at)| {
            let has_come_back = here.contains(user_id);
            let is_over = now_ms >= *until_ms;
            if is_over && !has_come_back {
                self.last_seen.insert(Arc::clone(user_id), *seen_at);
            }
            !is_over && !has_come_back
        });
        here.extend(self.leaving.keys().cloned());
        let mut online: HashSet<Arc<str>> = self.elsewhere.keys().cloned().collect();
        online.extend(here.iter().cloned());

        let mut changes = Vec::new();
        if online.len() <= most {
            changes.extend(online.difference(&self.told).map(|user_id| (Arc::clone(user_id), State::Online)));
            let gone = self.told.difference(&online);
            changes.extend(gone.map(|id| (Arc::clone(id), State::Offline(self.last_seen.get(id).copied()))));
            self.told = online;
        } else {
            changes.extend(self.told.drain().map(|user_id| (user_id, State::Offline(None))));
        }
        let announcement = self.announce(node, here, most);
        self.last_seen.clear();
        let next_ms = self.leaving.values().map(|(until_ms, _)| *until_ms).min();
        Turn { changes, announcement, next_ms }
    }

    fn announce(&mut self, node: &str, here: HashSet<Arc<str>>, most: usize) -> Option<Announcement> {
        let gone: Vec<Arc<str>> = self.announced.difference(&here).cloned().collect();
        for user_id in &gone {
            self.announced.remove(user_id);
        }
        // Counted without the other nodes, so that two of them don't take turns in finding that there are too many.
        let may_announce = here.len() <= most;
        let is_new = |user_id: &&Arc<str>| self.answers || !self.announced.contains(*user_id);
        let online = here.iter().filter(is_new).filter(|_| may_announce).map(|user_id| user_id.to_string());
        let offline = gone.iter().map(|id| (id.to_string(), self.last_seen.get(id).copied().unwrap_or(0)));
        let announcement = Announcement {
            node: node.to_owned(),
            ask: self.asks && may_announce,
            online: online.collect(),
            offline: offline.collect(),
        };
        if may_announce {
            self.announced = here;
        }
        (self.asks, self.answers) = (false, false);
        let says_nothing = !announcement.ask && announcement.online.is_empty() && announcement.offline.is_empty();
        (!says_nothing).then_some(announcement)
    }
}

#[cfg(test)]
#[path = "present_tests.rs"]
mod tests;
