//! Typing and presence: what the hub hears of other nodes and tells its connections. Never stored; heads and events don't
//! depend on it.
//!
//! *Failure.* A node keeps a key alive in Redis; when that has been away for longer than Redis takes to be told again
//! after a flush, the node's people are offline. Redis away: everybody stays as they were.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use redis::Pipeline;
use runtime::clock;
use runtime::redis::Commands;
use schemas::wire::relay::{Kind, Relayed};

use super::present::{Announcement, GATHER_MS, State};
use super::task::{Found, Task};
use crate::frames;
use crate::whisper::Whispers;

/// Chats told of in one look at the clock, and chats looked at, of which some go on gathering.
const TURNS: usize = 100;
const LOOKS: usize = 2_000;
/// How often nodes show that they live, and look at each other.
const LOOK_EVERY_MS: u64 = 2_000;
/// How long the key of a node that died lives on.
const NODE_TTL_MS: u64 = 10_000;
/// How long a node's key must have been away: it isn't dead if Redis has just forgotten.
const GONE_AFTER_MS: u64 = 6_000;

/// The hub's part in presence.
pub(super) struct Presence {
    pub(super) node: Arc<str>,
    pub(super) whispers: Whispers,
    redis: Commands,
    most_people: usize,
    /// Chats that may have something to tell, by when to look.
    due: BTreeSet<(u64, Arc<str>)>,
    /// Other nodes, and since when their key is away.
    nodes: HashMap<Arc<str>, Option<u64>>,
    next_look_ms: u64,
    is_looking: bool,
    /// What this node has said, and what it was told, is known to the others and to it.
    is_known: bool,
    /// It hasn't looked yet.
    is_new: bool,
}

/// What a look at the nodes' keys has shown.
pub(super) struct Look {
    /// This node's own key was there.
    was_known: bool,
    alive: Vec<(Arc<str>, bool)>,
}

impl Presence {
    pub(super) fn new(node: Arc<str>, whispers: Whispers, redis: Commands, most_people: usize) -> Self {
        Self {
            node,
            whispers,
            redis,
            most_people,
            due: BTreeSet::new(),
            nodes: HashMap::new(),
            next_look_ms: 0,
            is_looking: false,
            is_known: true,
            is_new: true,
        }
    }

    /// Whether anybody is told of anybody.
    pub(super) const fn is_on(&self) -> bool {
        self.most_people > 0
    }
}

impl Task {
    /// Who is online in a chat may have changed.
    pub(super) fn presence_changed(&mut self, chat_id: &Arc<str>) {
        let now_ms = self.now_ms();
        if let Some(chat) = self.chats.get_mut(chat_id) {
            chat.present.changed(now_ms);
        }
        self.presence_due(chat_id, now_ms + GATHER_MS);
    }

    fn presence_due(&mut self, chat_id: &Arc<str>, at_ms: u64) {
        if !self.presence.is_on() {
            return;
        }
        let Some(chat) = self.chats.get_mut(chat_id) else { return };
        if let Some(due_ms) = chat.present.due_ms {
            if due_ms <= at_ms {
                return;
            }
            self.presence.due.remove(&(due_ms, Arc::clone(chat_id)));
        }
        chat.present.due_ms = Some(at_ms);
        self.presence.due.insert((at_ms, Arc::clone(chat_id)));
    }

    /// Tells what is due, and looks whether the other nodes live.
    pub(super) fn presence_tick(&mut self, now_ms: u64) {
        let mut turns = 0;
        for _ in 0..LOOKS {
            if turns == TURNS {
                break;
            }
            match self.presence.due.first() {
                Some((due_ms, _)) if *due_ms <= now_ms => {}
                _ => break,
            }
            if let Some((_, chat_id)) = self.presence.due.pop_first() {
                turns += usize::from(self.presence_turn(&chat_id, now_ms));
            }
        }
        if now_ms >= self.presence.next_look_ms && !self.presence.is_looking && self.presence.is_on() {
            self.presence.next_look_ms = now_ms + LOOK_EVERY_MS;
            self.look_at_nodes();
        }
    }

    /// `false` if there was nothing to tell yet.
    fn presence_turn(&mut self, chat_id: &Arc<str>, now_ms: u64) -> bool {
        let Some(chat) = self.chats.get_mut(chat_id) else { return false };
        chat.present.due_ms = None;
        if let Some(until_ms) = chat.present.gathers_until(now_ms) {
            self.presence_due(chat_id, until_ms);
            return false;
        }
        let members = chat.members.iter().filter(|(_, member)| member.stays.open_since().is_some());
        let members = members.map(|(user_id, _)| user_id);
        let turn = chat.present.turn(&self.presence.node, members, now_ms, self.presence.most_people);
        let frame_of = |people: &[(Arc<str>, State)]| (!people.is_empty()).then(|| frames::presence(chat_id, people));
        let changes = frame_of(&turn.changes);
        let mut all = None;
        let mut has_to_wait = false;
        for member in chat.members.values_mut().filter(|member| member.stays.open_since().is_some()) {
            for link in &mut member.links {
                let frame = if link.knows_presence {
                    &changes
                } else if link.desk.outgoing.has_room() {
                    link.knows_presence = true;
                    all.get_or_insert_with(|| frame_of(&chat.present.told()))
                } else {
                    // Whoever is in many chats isn't closed as slow for it.
                    has_to_wait = true;
                    continue;
                };
                if let Some(frame) = frame {
                    link.desk.outgoing.push(frame.clone());
                }
            }
        }
        if let Some(announcement) = &turn.announcement {
            let bytes = serde_json::to_vec(announcement).unwrap_or_default();
            let bytes = Relayed::of_node(Kind::Presence, &bytes).to_bytes();
            self.presence.whispers.send(self.names.chat_channel(chat_id), bytes);
        }
        let next_ms = if has_to_wait { Some(now_ms) } else { turn.next_ms };
        if let Some(next_ms) = next_ms {
            self.presence_due(chat_id, next_ms.max(now_ms + GATHER_MS));
        }
        true
    }

    /// Another node says who is connected to it; this one hears itself as well.
    pub(super) fn take_announcement(&mut self, channel: &str, json: &[u8]) {
        if !self.presence.is_on() {
            return;
        }
        let Some(chat) = self.names.chat_of_channel(channel).and_then(|chat_id| self.chats.get_mut(chat_id)) else {
            return;
        };
        let Ok(said) = serde_json::from_slice::<Announcement>(json) else {
            tracing::warn!("an announcement on a channel of ours can't be read and is passed over");
            return;
        };
        if *said.node == *self.presence.node {
            return;
        }
        self.presence.nodes.entry(said.node.as_str().into()).or_default();
        chat.present.hear(said);
        let chat_id = Arc::clone(&chat.id);
        self.presence_changed(&chat_id);
    }

    /// Somebody types: tells the others who are in the chat.
    pub(super) fn take_typing(&mut self, channel: &str, user_id: &[u8]) {
        let Some(chat) = self.names.chat_of_channel(channel).and_then(|chat_id| self.chats.get(chat_id)) else {
            return;
        };
        let Ok(user_id) = std::str::from_utf8(user_id) else { return };
        if chat.present.is_large() || !self.presence.is_on() {
            return;
        }
        // Who has left since isn't shown any more.
        if chat.members.get(user_id).is_some_and(|member| member.stays.open_since().is_none()) {
            return;
        }
        let frame = frames::typing(&chat.id, user_id);
        let others =
            chat.members.iter().filter(|(id, member)| &***id != user_id && member.stays.open_since().is_some());
        for link in others.flat_map(|(_, member)| &member.links) {
            if link.is_live() {
                link.desk.outgoing.push(frame.clone());
            }
        }
    }

    fn look_at_nodes(&mut self) {
        self.presence.is_looking = true;
        let own = self.names.node_key(&self.presence.node);
        let nodes: Vec<Arc<str>> = self.presence.nodes.keys().cloned().collect();
        let mut pipeline = Pipeline::with_capacity(nodes.len() + 1);
        pipeline.cmd("SET").arg(own).arg(1).arg("PX").arg(NODE_TTL_MS).arg("GET");
        for node in &nodes {
            pipeline.cmd("EXISTS").arg(self.names.node_key(node));
        }
        let (mut redis, found) = (self.presence.redis.clone(), self.found.clone());
        self.shutdown.spawn(async move {
            let answers: Result<Vec<Option<i64>>, _> = pipeline.query_async(&mut redis).await;
            let look = answers.map(|answers| {
                let alive = answers.iter().skip(1).map(|alive| *alive == Some(1));
                Look {
                    was_known: answers.first().is_some_and(Option::is_some),
                    alive: nodes.into_iter().zip(alive).collect(),
                }
            });
            let _ = found.send(Found::Nodes(look)).await;
        });
    }

    pub(super) fn take_look(&mut self, look: Result<Look, redis::RedisError>) {
        self.presence.is_looking = false;
        let now_ms = self.now_ms();
        let look = match look {
            Ok(look) => look,
            Err(error) => {
                tracing::debug!(%error, "whether the other nodes live can't be asked");
                for absent_since_ms in self.presence.nodes.values_mut() {
                    *absent_since_ms = None;
                }
                self.presence.is_known = false;
                return;
            }
        };
        for (node, is_alive) in look.alive {
            let Some(absent_since_ms) = self.presence.nodes.get_mut(&node) else { continue };
            if is_alive {
                *absent_since_ms = None;
            } else if now_ms - *absent_since_ms.get_or_insert(now_ms) >= GONE_AFTER_MS {
                self.node_gone(&node);
            }
        }
        // The others may have taken this node for dead, or haven't heard what it said.
        let is_unheard = self.presence.whispers.take_losses() || !look.was_known || !self.presence.is_known;
        if is_unheard && !self.presence.is_new {
            for chat_id in self.chats.keys().cloned().collect::<Vec<_>>() {
                if let Some(chat) = self.chats.get_mut(&chat_id) {
                    chat.present.ask();
                }
                self.presence_changed(&chat_id);
            }
        }
        (self.presence.is_known, self.presence.is_new) = (true, false);
    }

    fn node_gone(&mut self, node: &Arc<str>) {
        tracing::warn!(%node, "a gateway node is gone; its people are offline unless they come back elsewhere");
        self.presence.nodes.remove(node);
        let seen_at = Some(clock::now_ms() - (NODE_TTL_MS + GONE_AFTER_MS) as i64);
        let theirs: Vec<Arc<str>> = self
            .chats
            .values_mut()
            .filter_map(|chat| chat.present.node_gone(node, seen_at).then(|| Arc::clone(&chat.id)))
            .collect();
        for chat_id in theirs {
            self.presence_changed(&chat_id);
        }
    }
}
