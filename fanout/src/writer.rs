//! What waits for one socket, and the loop that writes it.
//!
//! The queue is bounded in bytes: whoever fills it up is too slow and is told to go (4008). Its greeting alone doesn't count,
//! since somebody in very many chats would be told to go each time they come. Frames are shared with every
//! other connection that gets them, so a place in the queue costs a pointer, and several frames leave in one write.
//! A ping is answered before frames that wait; only the last one is (RFC 6455, section 5.5.3).

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use schemas::wire::CloseCode;
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use crate::inbound::Standing;
use crate::metrics;
use crate::websocket::{Frame, Writing};

/// What a frame costs in the queue beside its text.
const FRAME_OVERHEAD_BYTES: usize = 48;
/// Most frames that are handed to the socket before the queue is looked at again.
const BATCH_FRAMES: usize = 64;
/// Places in a queue that rests. A burst makes room for more, which isn't kept.
const RESTING_FRAMES: usize = 4;

/// What a frame takes of the queue's limit.
pub(crate) fn cost(frame: &Frame) -> usize {
    frame.len() + FRAME_OVERHEAD_BYTES
}

/// Why and how a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: CloseCode,
    pub(crate) reason: &'static str,
}

impl Close {
    pub(crate) const PROTOCOL: Self = Self { code: CloseCode::Protocol, reason: "not a WebSocket frame" };
    pub(crate) const BINARY: Self = Self { code: CloseCode::Binary, reason: "binary frames aren't taken" };
    pub(crate) const NOT_UTF8: Self = Self { code: CloseCode::NotUtf8, reason: "text isn't UTF-8" };
    pub(crate) const TOO_BIG: Self = Self { code: CloseCode::TooBig, reason: "frame over limits.frame_bytes" };
    pub(crate) const DRAINING: Self = Self { code: CloseCode::GoingAway, reason: "draining: connect again" };
    pub(crate) const SLOW: Self = Self { code: CloseCode::Slow, reason: "too slow: connect again and resume" };
    pub(crate) const SILENT: Self = Self { code: CloseCode::Silent, reason: "no heartbeat" };
    pub(crate) const TOKEN_EXPIRED: Self = Self { code: CloseCode::Token, reason: "token expired" };
    pub(crate) const TOKEN_REVOKED: Self = Self { code: CloseCode::Token, reason: "token revoked" };
    pub(crate) const REMOVED: Self = Self { code: CloseCode::Removed, reason: "this person was removed" };
    pub(crate) const TOO_MANY_ERRORS: Self = Self { code: CloseCode::TooManyErrors, reason: "too many refused frames" };

    /// For a token that doesn't count any more.
    pub(crate) const fn of(standing: Standing) -> Option<Self> {
        match standing {
            Standing::Good => None,
            Standing::Revoked => Some(Self::TOKEN_REVOKED),
            Standing::Removed => Some(Self::REMOVED),
        }
    }
}

/// The queue of one connection. The hub, resumes and the connection itself put frames in; the writer takes them out.
pub(crate) struct Outgoing {
    queue: Mutex<Queue>,
    limit_bytes: usize,
    filled: Notify,
    emptied: Notify,
    ended: Notify,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Of these, the ones up to the end of the greeting.
    greeting_bytes: usize,
    ping: bool,
    pong: Option<Frame>,
    close: Option<Close>,
}

impl Outgoing {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            queue: Mutex::default(),
            limit_bytes,
            filled: Notify::new(),
            emptied: Notify::new(),
            ended: Notify::new(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most bytes that may wait.
    pub(crate) const fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Whether less than half of what may wait does.
    pub(crate) fn has_room(&self) -> bool {
        self.queue().bytes < self.limit_bytes / 2
    }

    /// Whether so much more can be queued at once, and a quarter of the limit is left for what comes meanwhile.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.queue().bytes + bytes <= self.limit_bytes / 4 * 3
    }

    /// Queues what a connection begins with, however long: as much as the person has chats, once, and before anything can be
    /// asked for.
    pub(crate) fn greet(&self, pages: Vec<Frame>) {
        let mut queue = self.queue();
        if queue.close.is_some() {
            return;
        }
        queue.bytes += pages.iter().map(cost).sum::<usize>();
        queue.greeting_bytes = queue.bytes;
        queue.frames.extend(pages);
        drop(queue);
        self.filled.notify_one();
    }

    /// Queues a frame. Over the limit the queue is given up and the connection ends.
    pub(crate) fn push(&self, frame: Frame) {
        let mut queue = self.queue();
        if queue.close.is_some() {
            return;
        }
        queue.bytes += cost(&frame);
        if queue.bytes - queue.greeting_bytes > self.limit_bytes {
            queue.frames = VecDeque::new();
            (queue.bytes, queue.greeting_bytes) = (0, 0);
            queue.close = Some(Close::SLOW);
            drop(queue);
            ::metrics::counter!(metrics::SLOW).increment(1);
            self.ended.notify_one();
            self.emptied.notify_waiters();
            return;
        }
        queue.frames.push_back(frame);
        let was_empty = queue.frames.len() == 1;
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Queues a frame once less than half of the limit waits, for what can be read again at leisure; `false` once the
    /// connection has ended.
    pub(crate) async fn push_with_room(&self, frame: Frame) -> bool {
        loop {
            let emptied = self.emptied.notified();
            {
                let queue = self.queue();
                if queue.close.is_some() {
                    return false;
                }
                if queue.bytes < self.limit_bytes / 2 {
                    break;
                }
            }
            emptied.await;
        }
        self.push(frame);
        true
    }

    /// Asks the writer for a ping.
    pub(crate) fn ping(&self) {
        self.queue().ping = true;
        self.filled.notify_one();
    }

    /// Answers a ping.
    pub(crate) fn pong(&self, payload: &[u8]) {
        self.queue().pong = Some(Frame::pong(payload));
        self.filled.notify_one();
    }

    /// Nothing is queued from here on.
    pub(crate) fn end(&self, close: Close) {
        self.queue().close.get_or_insert(close);
        self.ended.notify_one();
        self.emptied.notify_waiters();
    }

    /// Waits until somebody else ended the connection; for the connection alone.
    pub(crate) async fn ended(&self) -> Close {
        loop {
            let ended = self.ended.notified();
            if let Some(close) = self.queue().close {
                return close;
            }
            ended.await;
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.queue().close.is_some()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.queue().bytes
    }

    /// Moves what goes next into the batch.
    fn take(&self, batch: &mut Vec<Frame>) {
        let mut queue = self.queue();
        batch.extend(queue.pong.take());
        let controls = batch.len();
        let count = queue.frames.len().min(BATCH_FRAMES);
        batch.extend(queue.frames.drain(..count));
        if queue.frames.is_empty() {
            (queue.bytes, queue.greeting_bytes) = (0, 0);
            queue.frames.shrink_to(RESTING_FRAMES);
        } else {
            let taken: usize = batch[controls..].iter().map(cost).sum();
            queue.bytes = queue.bytes.saturating_sub(taken);
            queue.greeting_bytes = queue.greeting_bytes.saturating_sub(taken);
        }
        if std::mem::take(&mut queue.ping) {
            batch.push(Frame::ping());
        }
    }

    /// Everything that waits; for tests without a socket.
    #[cfg(test)]
    pub(crate) fn take_all(&self) -> Vec<Frame> {
        let mut queue = self.queue();
        (queue.bytes, queue.greeting_bytes) = (0, 0);
        queue.frames.drain(..).collect()
    }

    /// Writes what is queued until the socket fails.
    pub(crate) async fn write<W>(&self, io: &mut W, writing: &mut Writing, is_deflated: bool) -> io::Error
    where
        W: AsyncWrite + Unpin,
    {
        loop {
            let filled = self.filled.notified();
            self.take(writing.frames());
            if writing.frames().is_empty() {
                filled.await;
                continue;
            }
            self.emptied.notify_waiters();
            if let Err(error) = writing.write(io, is_deflated, RESTING_FRAMES).await {
                return error;
            }
        }
    }

    /// Writes what is still queued, and then one more frame: for a connection that is told why it ends. To whom everything
    /// is too much, only the frame that is begun.
    pub(crate) async fn write_rest<W>(
        &self,
        io: &mut W,
        writing: &mut Writing,
        is_deflated: bool,
        last: Frame,
    ) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        if self.queue().close == Some(Close::SLOW) {
            writing.forget_rest();
        }
        writing.write(io, is_deflated, RESTING_FRAMES).await?;
        loop {
            self.take(writing.frames());
            if writing.frames().is_empty() {
                break;
            }
            writing.write(io, is_deflated, RESTING_FRAMES).await?;
        }
        writing.frames().push(last);
        writing.write(io, is_deflated, 0).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Frame {
        text.to_owned().into()
    }

    #[tokio::test]
    async fn a_full_queue_ends_the_connection_and_lets_go_of_its_frames() {
        let outgoing = Outgoing::new(1_000);
        for _ in 0..10 {
            outgoing.push(frame("0123456789"));
        }
        assert!(!outgoing.has_ended());
        for _ in 0..10 {
            outgoing.push(frame("0123456789"));
        }
        assert_eq!(outgoing.ended().await, Close::SLOW);
        assert_eq!(outgoing.bytes(), 0);
        assert!(!outgoing.push_with_room(frame("late")).await);
    }

    #[tokio::test]
    async fn a_greeting_may_be_longer_than_the_limit_and_what_follows_may_not() {
        let outgoing = Outgoing::new(1_000);
        outgoing.push(frame("hello"));
        let pages = BATCH_FRAMES + 20;
        outgoing.greet(vec![frame("0123456789"); pages]);
        assert!(!outgoing.has_ended() && !outgoing.has_room() && !outgoing.has_room_for(1));
        for _ in 0..10 {
            outgoing.push(frame("0123456789"));
        }
        assert!(!outgoing.has_ended());
        let mut batch = Vec::new();
        outgoing.take(&mut batch);
        assert_eq!(batch.len(), BATCH_FRAMES);
        // What has left makes no room for others: it never counted.
        for _ in 0..10 {
            outgoing.push(frame("0123456789"));
        }
        assert_eq!(outgoing.ended().await, Close::SLOW);
    }

    #[test]
    fn bytes_are_counted_down_by_batches() {
        let outgoing = Outgoing::new(1 << 20);
        for _ in 0..=BATCH_FRAMES {
            outgoing.push(frame("0123456789"));
        }
        let mut batch = Vec::new();
        outgoing.take(&mut batch);
        assert_eq!((batch.len(), outgoing.bytes()), (BATCH_FRAMES, 12 + FRAME_OVERHEAD_BYTES));
    }
}
