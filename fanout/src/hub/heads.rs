//! What the hub does by the clock: heads, memberships that Pub/Sub may have lost, and chats that nobody needs any more.

use std::sync::Arc;

use super::load::{self, Failure};
use super::task::{Found, Task};
use crate::metrics;

/// People whose memberships are read at a time: those of everybody would be most of a node's memory.
const STAYS_PEOPLE: usize = 200;
/// How often people's memberships are compared with what they are attached to, against a lost join.
const STAYS_EVERY_MS: u64 = 30_000;
/// How often chats and people without connections are looked for.
const SWEEP_EVERY_MS: u64 = 1_000;
/// How long a chat stays followed after its last member has gone, in heartbeats and at most: people reconnect.
const IDLE_HEARTBEATS: u64 = 6;
const IDLE_MS: u64 = 30_000;
/// Pause after a read that failed.
const RETRY_MS: u64 = 250;
/// Chats in one query.
const HEADS_PER_QUERY: usize = 5_000;

impl Task {
    /// The subscription's connection was lost: whatever was published since may be missing.
    pub(super) fn lost(&mut self) {
        ::metrics::counter!(metrics::LOSSES).increment(1);
        for chat in self.chats.values_mut() {
            chat.confirmed = None;
        }
        for user in self.users.values_mut() {
            user.confirmed = None;
        }
        self.to_check.extend(self.chats.keys().cloned());
    }

    /// Asks for heads of chats that were just subscribed anew, else once a heartbeat for all.
    pub(super) fn ask_heads(&mut self, now_ms: u64) {
        if self.heads_asked || now_ms < self.heads_after_ms {
            return;
        }
        let is_late = !self.to_check.is_empty();
        let chat_ids: Vec<String> = if is_late {
            self.to_check.drain().map(|chat_id| chat_id.to_string()).collect()
        } else if now_ms >= self.next_heads_ms {
            self.next_heads_ms = now_ms + self.heartbeat_ms;
            let followed = self.chats.values().filter(|chat| chat.sequence.is_some() && !chat.members.is_empty());
            followed.map(|chat| chat.id.to_string()).collect()
        } else {
            return;
        };
        if chat_ids.is_empty() {
            self.health.ready();
            return;
        }
        self.heads_asked = true;
        let (pool, found) = (self.truth.clone(), self.found.clone());
        self.shutdown.spawn(async move {
            let mut outcome = Ok(Vec::with_capacity(chat_ids.len()));
            for part in chat_ids.chunks(HEADS_PER_QUERY) {
                ::metrics::counter!(metrics::HEADS_QUERIES).increment(1);
                match (&mut outcome, load::heads(&pool, part).await) {
                    (Ok(heads), Ok(more)) => heads.extend(more),
                    (_, Err(error)) => {
                        outcome = Err(error);
                        break;
                    }
                    (Err(_), _) => break,
                }
            }
            let _ = found.send(Found::Heads { is_late, outcome }).await;
        });
    }

    pub(super) fn take_heads(&mut self, is_late: bool, outcome: Result<Vec<(String, i64)>, Failure>) {
        self.heads_asked = false;
        let now_ms = self.now_ms();
        match outcome {
            Ok(heads) => {
                self.health.ready();
                for (chat_id, head) in heads {
                    let Some(chat) = self.chats.get_mut(chat_id.as_str()) else { continue };
                    // Without a subscription no event is on its way.
                    let is_late = is_late || chat.confirmed.is_none();
                    let Some(sequence) = &mut chat.sequence else { continue };
                    if head > sequence.last() {
                        sequence.head(head, is_late, now_ms);
                        let chat_id = Arc::clone(&chat.id);
                        self.settle(&chat_id);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "heads can't be read; asking again");
                self.health.not_ready("Postgres is away");
                self.heads_after_ms = now_ms + RETRY_MS;
                if is_late {
                    self.to_check.extend(self.chats.keys().cloned());
                } else {
                    self.next_heads_ms = self.heads_after_ms;
                }
            }
        }
    }

    /// Asks which chats people are in, of those whose channel was subscribed anew, and of all now and then.
    pub(super) fn ask_open_stays(&mut self, now_ms: u64) {
        if self.stays_asked {
            return;
        }
        let user_ids: Vec<String> = if !self.to_resync.is_empty() {
            self.to_resync.drain().map(|user_id| user_id.to_string()).collect()
        } else if now_ms >= self.next_stays_ms {
            self.next_stays_ms = now_ms + STAYS_EVERY_MS;
            self.users
                .iter()
                .filter(|(_, user)| !user.connections.is_empty())
                .map(|(user_id, _)| user_id.to_string())
                .collect()
        } else {
            return;
        };
        if user_ids.is_empty() {
            return;
        }
        self.stays_asked = true;
        let (pool, found) = (self.truth.clone(), self.found.clone());
        self.shutdown.spawn(async move {
            let mut parts = user_ids.chunks(STAYS_PEOPLE).peekable();
            while let Some(part) = parts.next() {
                let outcome = load::open_stays(&pool, part).await;
                let is_last = outcome.is_err() || parts.peek().is_none();
                let is_heard = found.send(Found::OpenStays { outcome, is_last }).await.is_ok();
                if is_last || !is_heard {
                    return;
                }
            }
        });
    }

    pub(super) fn take_open_stays(&mut self, outcome: Result<Vec<(String, String)>, Failure>, is_last: bool) {
        self.stays_asked = !is_last;
        match outcome {
            Ok(pairs) => {
                for (user_id, chat_id) in pairs {
                    self.want_join(&user_id, &chat_id, 0);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "memberships can't be read; asking again");
                self.next_stays_ms = self.now_ms() + self.heartbeat_ms;
            }
        }
    }

    /// Lets go of chats and people that had no connection for a while.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        if now_ms < self.next_sweep_ms {
            return;
        }
        self.next_sweep_ms = now_ms + SWEEP_EVERY_MS;
        self.health.turn();
        let idle_ms = (IDLE_HEARTBEATS * self.heartbeat_ms).min(IDLE_MS);
        let is_over =
            |since_ms: Option<u64>| since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= idle_ms);
        let chats: Vec<Arc<str>> =
            self.chats.values().filter(|chat| is_over(chat.idle_since_ms)).map(|chat| Arc::clone(&chat.id)).collect();
        for chat_id in chats {
            self.chats.remove(&chat_id);
            self.unsubscribe(self.names.chat_channel(&chat_id));
        }
        let users: Vec<Arc<str>> = self
            .users
            .iter()
            .filter(|(_, user)| user.connections.is_empty() && is_over(user.idle_since_ms))
            .map(|(user_id, _)| Arc::clone(user_id))
            .collect();
        for user_id in users {
            self.users.remove(&user_id);
            self.unsubscribe(self.names.user_channel(&user_id));
        }
        let queued: usize = self.connections.values().map(|connection| connection.desk.outgoing.bytes()).sum();
        ::metrics::gauge!(metrics::QUEUED_BYTES).set(queued as f64);
        ::metrics::gauge!(metrics::CHATS).set(self.chats.len() as f64);
    }
}
