//! Joining on a live socket: somebody who is added to a chat gets it without connecting again.

use std::sync::Arc;

use super::chat::{Chat, Link};
use super::filler::Job;
use super::load::{self, Failure, Place};
use super::task::{Found, Join, Stage, Task};
use crate::frames::{self, ChatEntry};

/// Joins read by one query.
const JOIN_BATCH: usize = 500;
/// Joins that one connection may have waiting while its chats are read.
const EARLY_JOINS: usize = 256;
/// Times that a join is looked for in Postgres, which may show a commit later than the stream.
const JOIN_TRIES: u32 = 10;
const JOIN_PAUSE_MS: u64 = 25;

impl Task {
    /// Somebody is in a chat since `seq` (0: for some time): attaches those of their connections that aren't.
    pub(super) fn want_join(&mut self, user_id: &str, chat_id: &str, seq: i64) {
        let now_ms = self.now_ms();
        let Some((user_id, connections)) =
            self.users.get_key_value(user_id).map(|(user_id, user)| (Arc::clone(user_id), user.connections.clone()))
        else {
            return;
        };
        let chat_id: Arc<str> = Arc::from(chat_id);
        let mut is_missing = false;
        for id in connections {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if !matches!(connection.stage, Stage::Ready) {
                if seq > 0 && connection.joins.len() < EARLY_JOINS {
                    connection.joins.push((Arc::clone(&chat_id), seq));
                }
            } else if !is_linked(self.chats.get_mut(&chat_id).map(Box::as_mut), &user_id, id) {
                is_missing = true;
            }
        }
        if is_missing {
            self.follow(&chat_id);
            let join = self.joins.entry((user_id, chat_id)).or_insert(Join {
                seq,
                tries: 0,
                due_ms: now_ms,
                patience_ms: Self::patience(now_ms),
                is_asked: false,
            });
            join.seq = join.seq.max(seq);
        }
    }

    pub(super) fn look_up_joins(&mut self, now_ms: u64) {
        let mut pairs = Vec::new();
        for (pair, join) in &mut self.joins {
            let is_confirmed = self.chats.get(&pair.1).is_some_and(|chat| chat.confirmed.is_some());
            if !join.is_asked && now_ms >= join.due_ms && (is_confirmed || now_ms >= join.patience_ms) {
                join.is_asked = true;
                pairs.push(pair.clone());
                if pairs.len() == JOIN_BATCH {
                    break;
                }
            }
        }
        if pairs.is_empty() {
            return;
        }
        let (users, chats): (Vec<String>, Vec<String>) =
            pairs.iter().map(|(user_id, chat_id)| (user_id.to_string(), chat_id.to_string())).unzip();
        let (pool, found) = (self.truth.clone(), self.found.clone());
        self.shutdown.spawn(async move {
            let outcome = load::places_of_pairs(&pool, &users, &chats).await;
            let _ = found.send(Found::Joined { pairs, outcome }).await;
        });
    }

    pub(super) fn joined(&mut self, pairs: &[(Arc<str>, Arc<str>)], outcome: Result<Vec<Place>, Failure>) {
        let now_ms = self.now_ms();
        let places = outcome.unwrap_or_else(|error| {
            tracing::warn!(%error, "joins can't be read; trying again");
            Vec::new()
        });
        for pair in pairs {
            let Some(mut join) = self.joins.remove(pair) else { continue };
            let place = places.iter().find(|place| place.user_id == *pair.0 && place.chat_id == *pair.1);
            let is_done = place.is_some_and(|place| place.head >= join.seq && self.attach_joined(&pair.0, place));
            if !is_done && join.tries < JOIN_TRIES {
                join.tries += 1;
                join.is_asked = false;
                join.due_ms = now_ms + (JOIN_PAUSE_MS << join.tries.min(6));
                self.joins.insert(pair.clone(), join);
            }
        }
    }

    /// Attaches whatever connections of a person aren't in the chat yet, from their join on.
    fn attach_joined(&mut self, user_id: &Arc<str>, place: &Place) -> bool {
        let mut stays = place.stays.clone();
        let ids = self.users.get(user_id).map(|user| user.connections.clone()).unwrap_or_default();
        let now_ms = self.now_ms();
        let Some(chat) = self.chats.get_mut(place.chat_id.as_str()) else { return true };
        chat.activate(place.head, now_ms);
        if !chat.bring_up(user_id, &mut stays, place.head) {
            return false;
        }
        // Gone again, or not visible yet; the caller looks once more.
        let Some(joined_seq) = stays.open_since() else { return false };
        let last = chat.last_seq();
        let from = (joined_seq - 1).min(last);
        let chat_id = Arc::clone(&chat.id);
        for id in ids {
            let Some(connection) = self.connections.get(&id) else { continue };
            let Some(chat) = self.chats.get_mut(&chat_id) else { return true };
            if !matches!(connection.stage, Stage::Ready) || chat.link_of(user_id, id).is_some() {
                continue;
            }
            let desk = Arc::clone(&connection.desk);
            let entry = ChatEntry {
                chat_id: chat_id.to_string(),
                head_seq: from,
                delivered_seq: 0,
                read_seq: 0,
                visible: stays.visible(),
            };
            for page in frames::chats(&[entry]) {
                desk.outgoing.push(page);
            }
            let held = (from < last).then(Box::default);
            chat.link(user_id, &stays, place.head, Link { held, ..Link::new(desk) }, from);
            if from < last {
                let job = Job::known(&chat_id, from, last, stays.clone(), false);
                self.fill(id, vec![job], None);
            }
        }
        self.settle(&chat_id);
        self.presence_changed(&chat_id);
        true
    }
}

fn is_linked(chat: Option<&mut Chat>, user_id: &str, connection: u64) -> bool {
    chat.is_some_and(|chat| chat.link_of(user_id, connection).is_some())
}
