//! How people and chats come to the hub: subscribe, then read, then attach.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use runtime::clock;

use super::chat::{Chat, Link};
use super::desk::Desk;
use super::load::{self, Cursors, Failure, Place};
use super::task::{Connection, Found, Stage, Task};
use crate::frames::{self, ChatEntry};

/// Connections whose chats are read by one query.
const LOAD_BATCH: usize = 200;
/// Such queries at a time.
const LOADS: usize = 2;

impl Task {
    pub(super) fn connect(&mut self, user_id: Arc<str>, desk: Arc<Desk>) {
        let id = desk.connection;
        let until_ms = Self::patience(self.now_ms());
        let channel = (!self.users.contains_key(&user_id)).then(|| self.names.user_channel(&user_id));
        let user = self.users.entry(Arc::clone(&user_id)).or_default();
        user.connections.push(id);
        user.idle_since_ms = None;
        let stage = if user.confirmed.is_some() {
            self.to_load.push(id);
            Stage::Loading { is_patient: true }
        } else {
            self.subscribing.insert(id);
            Stage::Subscribing { missing: 1, until_ms }
        };
        let connection = Connection { user_id, desk, stage, resumes: VecDeque::new(), joins: Vec::new(), fills: 0 };
        self.connections.insert(id, connection);
        if let Some(channel) = channel {
            self.subscribe(channel);
        }
    }

    pub(super) fn disconnect(&mut self, id: u64) {
        let now_ms = self.now_ms();
        let Some(connection) = self.connections.remove(&id) else { return };
        self.subscribing.remove(&id);
        for chat_id in connection.desk.take_chats() {
            if let Some(chat) = self.chats.get_mut(&chat_id)
                && chat.unlink(&connection.user_id, id, now_ms)
                && self.presence.is_on()
            {
                chat.present.left(&connection.user_id, now_ms, clock::now_ms());
            }
            self.presence_changed(&chat_id);
        }
        if let Some(user) = self.users.get_mut(&connection.user_id) {
            user.connections.retain(|other| *other != id);
            if user.connections.is_empty() {
                user.idle_since_ms = Some(now_ms);
            }
        }
    }

    /// A channel is subscribed from here on.
    pub(super) fn confirmed(&mut self, channel: &str) {
        let moment = self.next_moment();
        let waiting = if let Some(chat_id) = self.names.chat_of_channel(channel) {
            let Some(chat) = self.chats.get_mut(chat_id) else { return };
            chat.confirmed = Some(moment);
            chat.present.ask();
            if chat.sequence.is_some() {
                self.to_check.insert(Arc::clone(&chat.id));
            }
            let (chat_id, waiting) = (Arc::clone(&chat.id), std::mem::take(&mut chat.waiting));
            self.presence_changed(&chat_id);
            waiting
        } else if let Some(user_id) = self.names.user_of_channel(channel) {
            let Some((user_id, user)) =
                self.users.get_key_value(user_id).map(|(id, _)| Arc::clone(id)).and_then(|id| {
                    let user = self.users.get_mut(&id)?;
                    Some((id, user))
                })
            else {
                return;
            };
            user.confirmed = Some(moment);
            let connections = user.connections.clone();
            if connections
                .iter()
                .any(|id| matches!(self.connections.get(id), Some(Connection { stage: Stage::Ready, .. })))
            {
                self.to_resync.insert(user_id);
            }
            connections
        } else {
            return;
        };
        for id in waiting {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let Stage::Subscribing { missing, .. } = &mut connection.stage else { continue };
            *missing = missing.saturating_sub(1);
            if *missing == 0 {
                connection.stage = Stage::Loading { is_patient: true };
                self.subscribing.remove(&id);
                self.to_load.push(id);
            }
        }
    }

    /// Goes on without confirmations that take too long.
    pub(super) fn lose_patience(&mut self, now_ms: u64) {
        let late: Vec<u64> = self
            .subscribing
            .iter()
            .copied()
            .filter(|id| {
                self.connections.get(id).is_none_or(|connection| match connection.stage {
                    Stage::Subscribing { until_ms, .. } => now_ms >= until_ms,
                    _ => true,
                })
            })
            .collect();
        for id in late {
            self.subscribing.remove(&id);
            if let Some(connection) = self.connections.get_mut(&id)
                && matches!(connection.stage, Stage::Subscribing { .. })
            {
                connection.stage = Stage::Loading { is_patient: false };
                self.to_load.push(id);
            }
        }
    }

    /// Starts the reads that connections and joins wait for.
    pub(super) fn load_and_join(&mut self) {
        let now_ms = self.now_ms();
        while !self.to_load.is_empty() && self.loads < LOADS && now_ms >= self.load_after_ms {
            let count = self.to_load.len().min(LOAD_BATCH);
            let ids: Vec<u64> = self.to_load.drain(..count).collect();
            self.load(ids);
        }
        if !self.joins.is_empty() {
            self.look_up_joins(now_ms);
        }
    }

    fn load(&mut self, connections: Vec<u64>) {
        let mut user_ids: Vec<String> = connections
            .iter()
            .filter_map(|id| self.connections.get(id))
            .map(|connection| connection.user_id.to_string())
            .collect();
        user_ids.sort_unstable();
        user_ids.dedup();
        if user_ids.is_empty() {
            return;
        }
        self.loads += 1;
        let moment = self.next_moment();
        let (truth, read, found) = (self.truth.clone(), self.read.clone(), self.found.clone());
        self.shutdown.spawn(async move {
            let outcome = async {
                let places = load::places_of_users(&truth, &user_ids).await?;
                let (users, chats): (Vec<String>, Vec<String>) =
                    places.iter().map(|place| (place.user_id.clone(), place.chat_id.clone())).unzip();
                // Read models that are away keep nobody from messages: cursors then start at nothing.
                let cursors = load::cursors(&read, &users, &chats).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "cursors can't be read; clients are told none");
                    Cursors::new()
                });
                Ok((places, cursors))
            };
            let outcome = outcome.await;
            let _ = found.send(Found::Loaded { connections, moment, outcome }).await;
        });
    }

    pub(super) fn loaded(&mut self, ids: Vec<u64>, moment: u64, outcome: Result<(Vec<Place>, Cursors), Failure>) {
        self.loads -= 1;
        let (places, cursors) = match outcome {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::warn!(%error, "chats of connecting people can't be read; trying again");
                self.health.not_ready("Postgres is away");
                self.load_after_ms = self.now_ms() + 250;
                self.to_load.extend(ids);
                return;
            }
        };
        let mut by_user: HashMap<String, Vec<Place>> = HashMap::new();
        for place in places {
            by_user.entry(place.user_id.clone()).or_default().push(place);
        }
        for id in ids {
            let Some(connection) = self.connections.get(&id) else { continue };
            let Stage::Loading { is_patient } = connection.stage else { continue };
            let places = by_user.get(&*connection.user_id).map_or(&[][..], Vec::as_slice);
            if self.prepare(id, places, moment, is_patient) {
                self.attach(id, places, &cursors);
            }
        }
    }

    /// Follows what isn't followed yet. `true` if everything was subscribed before the chats were read.
    fn prepare(&mut self, id: u64, places: &[Place], moment: u64, is_patient: bool) -> bool {
        let until_ms = Self::patience(self.now_ms());
        let mut missing = 0;
        let mut is_stale = false;
        for place in places.iter().filter(|place| place.stays.open_since().is_some()) {
            let chat = self.follow(&place.chat_id);
            match chat.confirmed {
                None if is_patient => {
                    chat.waiting.push(id);
                    missing += 1;
                }
                Some(confirmed) if confirmed > moment => is_stale = true,
                _ => {}
            }
            let mut stays = place.stays.clone();
            is_stale |= !chat.bring_up(&place.user_id, &mut stays, place.head);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        if missing > 0 {
            connection.stage = Stage::Subscribing { missing, until_ms };
            self.subscribing.insert(id);
        } else if is_stale {
            self.to_load.push(id);
        }
        missing == 0 && !is_stale
    }

    pub(super) fn follow(&mut self, chat_id: &str) -> &mut Chat {
        let now_ms = self.now_ms();
        if !self.chats.contains_key(chat_id) {
            self.subscribe(self.names.chat_channel(chat_id));
        }
        let id: Arc<str> = Arc::from(chat_id);
        let chat = self.chats.entry(Arc::clone(&id)).or_insert_with(|| Box::new(Chat::new(id, now_ms)));
        if chat.idle_since_ms.is_some() {
            // Somebody is on the way to it.
            chat.idle_since_ms = Some(now_ms);
        }
        chat
    }

    /// Attaches a connection to its chats and tells it where each stands.
    fn attach(&mut self, id: u64, places: &[Place], cursors: &Cursors) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (user_id, desk) = (Arc::clone(&connection.user_id), Arc::clone(&connection.desk));
        let mut entries = Vec::with_capacity(places.len());
        let mut attached = Vec::new();
        let now_ms = self.now_ms();
        desk.expect(places.len());
        for place in places {
            let mut stays = place.stays.clone();
            let mut head = place.head;
            if stays.open_since().is_some() {
                let chat = self.follow(&place.chat_id);
                chat.activate(place.head, now_ms);
                chat.bring_up(&user_id, &mut stays, place.head);
                head = chat.last_seq();
                if stays.open_since().is_some() {
                    chat.link(&user_id, &stays, place.head, Link::new(Arc::clone(&desk)), head);
                    attached.push(Arc::clone(&chat.id));
                }
            }
            let (delivered_seq, read_seq) =
                cursors.get(&(place.user_id.clone(), place.chat_id.clone())).copied().unwrap_or_default();
            entries.push(ChatEntry {
                chat_id: place.chat_id.clone(),
                // Who has left learns nothing of what came after.
                head_seq: stays.ended_at().map_or(head, |end| end.min(head)),
                delivered_seq,
                read_seq,
                visible: stays.visible(),
            });
        }
        desk.outgoing.greet(frames::chats(&entries));
        for chat_id in attached {
            self.settle(&chat_id);
            self.presence_changed(&chat_id);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.stage = Stage::Ready;
        for (chat_id, seq) in std::mem::take(&mut connection.joins) {
            self.want_join(&user_id, &chat_id, seq);
        }
        self.begin_resumes(id);
    }
}
