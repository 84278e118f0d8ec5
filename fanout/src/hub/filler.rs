//! Reads what one `resume` asks for into its connection's queue, chat after chat.
//!
//! A write costs more than what it writes here, so what is read at once is written at once: the events of several chats, and
//! the `resumed` of each, gather until much of it waits, or the first of it has waited for [`GATHER`].

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use schemas::event_type;
use schemas::wire::{Rejection, server};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::chat::Resumed;
use super::desk::Desk;
use super::entitlement::{Share, Stays};
use super::load;
use super::plan::{Plan, Skipped};
use super::reads::{Answer, Events, Reads};
use super::sequence::PAGE;
use super::task::Found;
use crate::metrics;
use crate::websocket::Frame;
use crate::writer::GATHER;

/// Times that a page is tried.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);
/// Chats that the hub is told of at once.
const DONE_CHATS: usize = 32;

/// A chat that was read as far as it goes.
pub(super) type Done = (Arc<str>, Resumed);

/// One chat to resume.
pub(super) struct Job {
    pub(super) chat_id: Arc<str>,
    pub(super) from: i64,
    /// Where to, and what the person may see of it; none of a chat that the connection isn't attached to.
    pub(super) known: Option<(i64, Stays)>,
    /// The client asked, and waits for `resumed`.
    pub(super) is_announced: bool,
}

impl Job {
    /// Of a chat that the connection is attached to: events after `from` up to `to`, which the stays are good for.
    pub(super) fn known(chat_id: &Arc<str>, from: i64, to: i64, stays: Stays, is_announced: bool) -> Self {
        Self { chat_id: Arc::clone(chat_id), from, known: Some((to, stays)), is_announced }
    }
}

/// What is read with.
pub(super) struct Sources {
    pub(super) pool: Pool,
    /// For chats that aren't the connection's: few at a time, since anybody may ask for any number.
    pub(super) lookups: Arc<Semaphore>,
    pub(super) reads: Reads,
    /// Of one chat.
    pub(super) most_events: i64,
}

pub(super) struct Filler {
    connection: u64,
    user_id: Arc<str>,
    desk: Arc<Desk>,
    sources: Sources,
    found: mpsc::Sender<Found>,
    /// Chats that the hub hasn't been told of.
    done: Vec<Done>,
    /// Since when something has been gathered, or is done, that isn't on its way.
    since: Option<Instant>,
}

impl Filler {
    pub(super) fn new(user_id: Arc<str>, desk: Arc<Desk>, sources: Sources, found: mpsc::Sender<Found>) -> Self {
        Self { connection: desk.connection, user_id, desk, sources, found, done: Vec::new(), since: None }
    }

    pub(super) async fn run(mut self, mut jobs: Vec<Job>, frame_id: Option<Value>) {
        if self.look_up(&mut jobs, frame_id.as_ref()).await {
            for job in jobs {
                let Some((to, stays)) = job.known else { continue };
                let lacks_nothing = job.from == to;
                if lacks_nothing {
                    // Of very many chats where nothing is missing the answers are many: they wait for room as well.
                    self.push(server::resumed(&job.chat_id, to, to, true)).await;
                }
                let reached = self.fill(&job.chat_id, &stays, job.from, to).await;
                let done = Resumed {
                    from_seq: job.from,
                    to_seq: reached,
                    is_complete: reached >= to,
                    is_announced: job.is_announced && !lacks_nothing,
                };
                self.done.push((job.chat_id, done));
                self.since.get_or_insert_with(Instant::now);
                if self.done.len() >= DONE_CHATS {
                    self.hand_over().await;
                }
            }
        }
        self.tell(true).await;
    }

    /// Has what was gathered written, and `resumed` said of the chats that are done.
    async fn hand_over(&mut self) {
        self.since = None;
        self.desk.outgoing.flush();
        if !self.done.is_empty() {
            self.tell(false).await;
        }
    }

    async fn tell(&mut self, is_last: bool) {
        let done = std::mem::take(&mut self.done);
        // Without a hub the process ends.
        let _ = self.found.send(Found::Filled { connection: self.connection, done, is_last }).await;
    }

    /// Waits for a read, but not with what was gathered before.
    async fn answer(&mut self, chat_id: &Arc<str>, from: i64, to: i64) -> Answer {
        let reads = self.sources.reads.clone();
        let mut answer = pin!(reads.range(chat_id, from, to));
        if let Some(since) = self.since {
            match tokio::time::timeout_at(since + GATHER, answer.as_mut()).await {
                Ok(answer) => return answer,
                Err(_) => self.hand_over().await,
            }
        }
        answer.await
    }

    /// Answers for chats that the connection isn't attached to: people may see what they could see before they left, and
    /// of chats that never were theirs there is one answer. `false` once the connection has ended.
    async fn look_up(&mut self, jobs: &mut Vec<Job>, frame_id: Option<&Value>) -> bool {
        let unknown: Vec<Job> = jobs.extract_if(.., |job| job.known.is_none()).collect();
        if unknown.is_empty() {
            return true;
        }
        let chat_ids: Vec<String> = unknown.iter().map(|job| job.chat_id.to_string()).collect();
        let user_ids = vec![self.user_id.to_string(); chat_ids.len()];
        let permit = self.sources.lookups.acquire().await;
        let places = load::places_of_pairs(&self.sources.pool, &user_ids, &chat_ids).await;
        drop(permit);
        let places = match places {
            Ok(places) => places,
            Err(error) => {
                tracing::warn!(%error, "a resume can't be answered now");
                for job in unknown {
                    self.refuse(frame_id, &Rejection::unavailable(), &job.chat_id).await;
                }
                return !self.desk.outgoing.has_ended();
            }
        };
        for job in unknown {
            let Some(place) = places.iter().find(|place| place.chat_id == *job.chat_id) else {
                self.refuse(frame_id, &Rejection::chat_not_found(), &job.chat_id).await;
                continue;
            };
            let to = place.stays.ended_at().map_or(place.head, |end| end.min(place.head));
            let from = job.from.min(to);
            let reached = self.fill(&job.chat_id, &place.stays, from, to).await;
            if !self.push(server::resumed(&job.chat_id, from, reached, reached >= to)).await {
                return false;
            }
        }
        true
    }

    async fn refuse(&mut self, frame_id: Option<&Value>, rejection: &Rejection, chat_id: &str) {
        self.push(server::error(frame_id, rejection, Some(chat_id), None)).await;
    }

    /// Queues what a member may see of `from+1 ..= to`, `skipped` for the rest; returns how far it came.
    async fn fill(&mut self, chat_id: &Arc<str>, stays: &Stays, from: i64, to: i64) -> i64 {
        let mut plan = Plan::new(stays.visible(), from, to, self.sources.most_events);
        'reading: while let Some((first, last)) = plan.read(PAGE) {
            let Some(events) = self.page(chat_id, first, last).await else { break };
            for read in events.iter() {
                let is_shown = stays.share(read.event()) == Share::Shown;
                let Ok(skipped) = plan.take(read.event().seq, is_shown) else { break };
                if !self.skip(chat_id, skipped).await || is_shown && !self.push(read.frame()).await {
                    break 'reading;
                }
            }
        }
        let rest = plan.end();
        self.skip(chat_id, rest).await;
        plan.reached()
    }

    /// Events from `from` on; none if they can't be had now, or the connection has ended.
    async fn page(&mut self, chat_id: &Arc<str>, from: i64, to: i64) -> Option<Events> {
        for attempt in 0..TRIES {
            if self.desk.outgoing.has_ended() {
                return None;
            }
            if attempt > 0 {
                self.hand_over().await;
                tokio::time::sleep(PAUSE * attempt).await;
            }
            match self.answer(chat_id, from, to).await {
                // The stream can be a moment ahead of what others see in the tables.
                Ok(events) if events.first().is_some_and(|read| read.event().seq == from) => {
                    ::metrics::counter!(metrics::RESUMED_EVENTS).increment(events.len() as u64);
                    let unknown = events.iter().filter(|read| !event_type::is_known(&read.event().event_type)).count();
                    if unknown > 0 {
                        ::metrics::counter!(metrics::UNKNOWN).increment(unknown as u64);
                    }
                    return Some(events);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "events to resume can't be read; trying again"),
            }
        }
        None
    }

    async fn push(&mut self, frame: impl Into<Frame>) -> bool {
        if !self.desk.outgoing.has_room() {
            // Chats that are done don't wait for a slow client to take the others.
            self.hand_over().await;
        }
        self.since.get_or_insert_with(Instant::now);
        self.desk.outgoing.gather_with_room(frame.into()).await
    }

    /// `false` once the connection has ended.
    async fn skip(&mut self, chat_id: &str, skipped: Option<Skipped>) -> bool {
        match skipped {
            Some(Skipped { from, to }) => self.push(server::skipped(chat_id, from, to)).await,
            None => true,
        }
    }
}
