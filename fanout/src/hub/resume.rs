//! Resumes: what a client missed, read from Postgres in pages into its queue, with live events of the chat behind.
//!
//! Never from a cache: a body that was deleted meanwhile isn't in the tables any more, so it can't come back here.

use std::collections::VecDeque;
use std::sync::Arc;

use schemas::wire::{Code, Rejection, server};
use serde_json::Value;

use super::filler::{Done, Filler, Job, Sources};
use super::task::{AskedResume, Stage, Task};
use crate::metrics;
use crate::websocket::Frame;
use crate::writer::cost;

/// Resume frames of one connection that are answered at a time.
const RESUMES_AT_A_TIME: usize = 8;
/// Such frames that may wait for their turn.
const WAITING_RESUMES: usize = 64;
/// Chats in these frames, at most.
const WAITING_CURSORS: usize = 20_000;

/// Whether a frame with so many chats may wait behind these.
fn has_place(waiting: &VecDeque<AskedResume>, chats: usize) -> bool {
    let before: usize = waiting.iter().map(|(cursors, _)| cursors.len()).sum();
    waiting.len() < WAITING_RESUMES && before + chats <= WAITING_CURSORS
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

    fn fill_ended(&mut self, id: u64) {
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
        let sources = Sources {
            pool: self.truth.clone(),
            lookups: Arc::clone(&self.lookups),
            reads: self.resumes.clone(),
            most_events: self.resume_events,
        };
        let (user_id, desk) = (Arc::clone(&connection.user_id), Arc::clone(&connection.desk));
        let filler = Filler::new(user_id, desk, sources, self.found.clone());
        self.shutdown.spawn(async move { filler.run(jobs, frame_id).await });
    }

    /// Chats were read as far as they go; `is_last` once the whole frame is answered, if with none any more.
    pub(super) fn filled(&mut self, id: u64, done: &[Done], is_last: bool) {
        let now_ms = self.now_ms();
        let Some(connection) = self.connections.get(&id) else { return };
        let (user_id, desk) = (Arc::clone(&connection.user_id), Arc::clone(&connection.desk));
        let mut again = Vec::new();
        for (chat_id, resumed) in done {
            let Some(chat) = self.chats.get_mut(chat_id) else { continue };
            if let Some(from) = chat.finish_resume(&user_id, id, resumed, now_ms) {
                again.extend(self.resume_chat(&user_id, id, chat_id, from));
            }
        }
        desk.outgoing.flush();
        self.fill(id, again, None);
        if is_last {
            self.fill_ended(id);
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
