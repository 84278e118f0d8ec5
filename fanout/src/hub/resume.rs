//! Resumes: what a client missed, read from Postgres in pages into its queue, with live events of the chat behind.
//!
//! Never from a cache: a body that was deleted meanwhile isn't in the tables any more, so it can't come back here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use schemas::event_type;
use schemas::wire::{Code, Rejection, server};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

use super::chat::Resumed;
use super::desk::Desk;
use super::entitlement::{Share, Stays};
use super::load;
use super::plan::{Plan, Skipped};
use super::reads::{Events, Reads};
use super::sequence::PAGE;
use super::task::{AskedResume, Found, Stage, Task};
use crate::metrics;
use crate::websocket::Frame;
use crate::writer::cost;

/// Resume frames of one connection that are answered at a time.
const RESUMES_AT_A_TIME: usize = 8;
/// Such frames that may wait for their turn.
const WAITING_RESUMES: usize = 64;
/// Chats in these frames, at most.
const WAITING_CURSORS: usize = 20_000;
/// Times that a page is tried.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a frame with so many chats may wait behind these.
fn has_place(waiting: &VecDeque<AskedResume>, chats: usize) -> bool {
    let before: usize = waiting.iter().map(|(cursors, _)| cursors.len()).sum();
    waiting.len() < WAITING_RESUMES && before + chats <= WAITING_CURSORS
}

/// One chat to resume.
pub(super) struct Job {
    chat_id: Arc<str>,
    from: i64,
    known: Option<(i64, Stays)>,
    is_announced: bool,
}

impl Job {
    /// Of a chat that the connection is attached to: events after `from` up to `to`, which the stays are good for.
    pub(super) fn known(chat_id: &Arc<str>, from: i64, to: i64, stays: Stays, is_announced: bool) -> Self {
        Self { chat_id: Arc::clone(chat_id), from, known: Some((to, stays)), is_announced }
    }
}

impl Task {
    pub(super) fn resume(&mut self, id: u64, cursors: Vec<(String, i64)>, frame_id: Option<Value>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !has_place(&connection.resumes, cursors.len()) {
            let busy = Rejection::new(Code::Overloaded, "Earlier resumes of this connection are still being answered.")
                .retry_after(1_000);
            connection.desk.outgoing.push(server::error(frame_id.as_ref(), &busy, None, None).into());
            return;
        }
        connection.resumes.push_back((cursors, frame_id));
        self.begin_resumes(id);
    }

    /// Begins with what waits, as far as it may be answered now: the connection's chats have to be known.
    pub(super) fn begin_resumes(&mut self, id: u64) {
        while let Some(connection) = self.connections.get_mut(&id)
            && matches!(connection.stage, Stage::Ready)
            && connection.fills < RESUMES_AT_A_TIME
            && let Some((cursors, frame_id)) = connection.resumes.pop_front()
        {
            ::metrics::counter!(metrics::RESUMES).increment(cursors.len() as u64);
            let user_id = Arc::clone(&connection.user_id);
            let jobs: Vec<Job> = cursors
                .into_iter()
                .filter_map(|(chat_id, cursor)| self.resume_chat(&user_id, id, &chat_id, cursor))
                .collect();
            self.fill(id, jobs, frame_id);
        }
        // A connection that rests keeps no room for any.
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.resumes.is_empty()
        {
            connection.resumes = VecDeque::new();
        }
    }

    pub(super) fn fills_ended(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.fills = connection.fills.saturating_sub(1);
            self.begin_resumes(id);
        }
    }

    /// What a cursor is answered by; nothing if a read is under way.
    fn resume_chat(&mut self, user_id: &Arc<str>, id: u64, chat_id: &str, cursor: i64) -> Option<Job> {
        let unknown = || Job { chat_id: Arc::from(chat_id), from: cursor, known: None, is_announced: true };
        let Some(chat) = self.chats.get_mut(chat_id) else { return Some(unknown()) };
        let (last, chat_id) = (chat.last_seq(), Arc::clone(&chat.id));
        let Some(member) = chat.members.get_mut(user_id) else { return Some(unknown()) };
        let Some(link) = member.links.iter_mut().find(|link| link.desk.connection == id) else {
            return Some(unknown());
        };
        let from = cursor.min(last);
        if let Some(held) = &mut link.held {
            held.again_from = Some(from);
            return None;
        }
        link.is_behind = false;
        if from == last {
            let answer: Frame = server::resumed(&chat_id, from, last, true).into();
            if link.desk.outgoing.has_room_for(cost(&answer)) {
                link.desk.outgoing.push(answer);
                return None;
            }
        }
        link.held = Some(Box::default());
        Some(Job::known(&chat_id, from, last, member.stays.clone(), true))
    }

    pub(super) fn fill(&mut self, id: u64, jobs: Vec<Job>, frame_id: Option<Value>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if jobs.is_empty() {
            return;
        }
        connection.fills += 1;
        let filler = Filler {
            connection: id,
            user_id: Arc::clone(&connection.user_id),
            desk: Arc::clone(&connection.desk),
            pool: self.truth.clone(),
            lookups: Arc::clone(&self.lookups),
            reads: self.resumes.clone(),
            found: self.found.clone(),
            most_events: self.resume_events,
        };
        self.shutdown.spawn(async move { filler.run(jobs, frame_id).await });
    }

    pub(super) fn filled(&mut self, id: u64, chat_id: &Arc<str>, done: &Resumed) {
        let now_ms = self.now_ms();
        let Some(user_id) = self.connections.get(&id).map(|connection| Arc::clone(&connection.user_id)) else { return };
        let Some(chat) = self.chats.get_mut(chat_id) else { return };
        let again = chat.finish_resume(&user_id, id, done, now_ms);
        if let Some(from) = again
            && let Some(job) = self.resume_chat(&user_id, id, chat_id, from)
        {
            self.fill(id, vec![job], None);
        }
    }
}

struct Filler {
    connection: u64,
    user_id: Arc<str>,
    desk: Arc<Desk>,
    pool: Pool,
    /// For chats that aren't the connection's: few at a time, since anybody may ask for any number.
    lookups: Arc<Semaphore>,
    reads: Reads,
    found: mpsc::Sender<Found>,
    /// Of one chat.
    most_events: i64,
}

impl Filler {
    async fn run(self, mut jobs: Vec<Job>, frame_id: Option<Value>) {
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
                if self
                    .found
                    .send(Found::Filled { connection: self.connection, chat_id: job.chat_id, done })
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
        let _ = self.found.send(Found::FillsEnded { connection: self.connection }).await;
    }

    /// Answers for chats that the connection isn't attached to: people may see what they could see before they left, and
    /// of chats that never were theirs there is one answer. `false` once the connection has ended.
    async fn look_up(&self, jobs: &mut Vec<Job>, frame_id: Option<&Value>) -> bool {
        let unknown: Vec<Job> = jobs.extract_if(.., |job| job.known.is_none()).collect();
        if unknown.is_empty() {
            return true;
        }
        let chat_ids: Vec<String> = unknown.iter().map(|job| job.chat_id.to_string()).collect();
        let user_ids = vec![self.user_id.to_string(); chat_ids.len()];
        let permit = self.lookups.acquire().await;
        let places = load::places_of_pairs(&self.pool, &user_ids, &chat_ids).await;
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

    async fn refuse(&self, frame_id: Option<&Value>, rejection: &Rejection, chat_id: &str) {
        self.push(server::error(frame_id, rejection, Some(chat_id), None)).await;
    }

    /// Queues what a member may see of `from+1 ..= to`, `skipped` for the rest; returns how far it came.
    async fn fill(&self, chat_id: &Arc<str>, stays: &Stays, from: i64, to: i64) -> i64 {
        let mut plan = Plan::new(stays.visible(), from, to, self.most_events);
        'reading: while let Some((first, last)) = plan.read(PAGE) {
            let Some(events) = self.page(chat_id, first, last).await else { break };
            for item in events.iter() {
                let is_shown = stays.share(&item.event) == Share::Shown;
                let Ok(skipped) = plan.take(item.event.seq, is_shown) else { break };
                if !self.skip(chat_id, skipped).await
                    || is_shown && !self.push(server::event_frame(&item.event, None)).await
                {
                    break 'reading;
                }
            }
        }
        let rest = plan.end();
        self.skip(chat_id, rest).await;
        plan.reached()
    }

    /// Events from `from` on; none if they can't be had now, or the connection has ended.
    async fn page(&self, chat_id: &Arc<str>, from: i64, to: i64) -> Option<Events> {
        for attempt in 0..TRIES {
            if self.desk.outgoing.has_ended() {
                return None;
            }
            if attempt > 0 {
                tokio::time::sleep(PAUSE * attempt).await;
            }
            match self.reads.range(chat_id, from, to).await {
                // The stream can be a moment ahead of what others see in the tables.
                Ok(events) if events.first().is_some_and(|item| item.event.seq == from) => {
                    ::metrics::counter!(metrics::RESUMED_EVENTS).increment(events.len() as u64);
                    let unknown = events.iter().filter(|item| !event_type::is_known(&item.event.event_type)).count();
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

    async fn push(&self, frame: impl Into<Frame>) -> bool {
        self.desk.outgoing.push_with_room(frame.into()).await
    }

    /// `false` once the connection has ended.
    async fn skip(&self, chat_id: &str, skipped: Option<Skipped>) -> bool {
        match skipped {
            Some(Skipped { from, to }) => self.push(server::skipped(chat_id, from, to)).await,
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(frames: usize, chats: usize) -> VecDeque<AskedResume> {
        let cursors: Vec<(String, i64)> = (0..chats).map(|number| (format!("c{number}"), 0)).collect();
        (0..frames).map(|_| (cursors.clone(), None)).collect()
    }

    #[test]
    fn what_waits_is_bounded_by_frames_and_by_chats() {
        assert!(has_place(&waiting(63, 1), 1));
        assert!(!has_place(&waiting(64, 1), 1), "64 frames wait");
        assert!(has_place(&waiting(19, 1_000), 1_000));
        assert!(!has_place(&waiting(19, 1_000), 1_001), "no more than 20,000 chats");
        assert!(!has_place(&waiting(20, 1_000), 1), "20,000 chats wait");
    }
}
