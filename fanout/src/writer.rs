//! What waits for one socket, and the loop that writes it.
//!
//! The queue is bounded in bytes: whoever fills it up is too slow and is told to go (4008). Its greeting alone doesn't count,
//! since somebody in very many chats would be told to go each time they come. Frames are shared with every
//! other connection that gets them, so a place in the queue costs a pointer, and several frames leave in one write.
//! A ping is answered before frames that wait; only the last one is (RFC 6455, section 5.5.3).

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
/// How much is gathered before it is written.
const GATHER_BYTES: usize = 16_384;
/// The longest that a gathered frame waits for the next ones.
pub(crate) const GATHER: Duration = Duration::from_millis(50);
/// The longest that `hello` waits for the chats, which are there within milliseconds but in a crowd.
const GREETING: Duration = Duration::from_millis(200);
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
    /// The writer has been woken for what waits.
    is_woken: bool,
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
        self.wake(queue);
    }

    /// Queues a frame. Over the limit the queue is given up and the connection ends.
    pub(crate) fn push(&self, frame: Frame) {
        self.queue_up(frame, 0);
    }

    /// Queues a frame that others follow at once: it is written with them. Whoever calls this pushes or calls [`Outgoing::flush`]
    /// soon, as a rule within [`GATHER`].
    pub(crate) fn gather(&self, frame: Frame) {
        self.queue_up(frame, GATHER_BYTES.min(self.limit_bytes / 4));
    }

    /// Has the writer write what was gathered.
    pub(crate) fn flush(&self) {
        let queue = self.queue();
        if !queue.frames.is_empty() {
            self.wake(queue);
        }
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if !std::mem::replace(&mut queue.is_woken, true) {
            drop(queue);
            self.filled.notify_one();
        }
    }

    /// The writer is woken if more than `rests_bytes` wait.
    fn queue_up(&self, frame: Frame, rests_bytes: usize) {
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
        if queue.bytes > rests_bytes {
            self.wake(queue);
        }
    }

    /// Gathers a frame once less than half of the limit waits, for what can be read again at leisure; `false` once the
    /// connection has ended. So much isn't gathered without waking the writer.
    pub(crate) async fn gather_with_room(&self, frame: Frame) -> bool {
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
        self.gather(frame);
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
        queue.is_woken = false;
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
        (queue.bytes, queue.greeting_bytes, queue.is_woken) = (0, 0, false);
        queue.frames.drain(..).collect()
    }

    /// Writes what is queued until the socket fails.
    pub(crate) async fn write<W>(&self, io: &mut W, writing: &mut Writing, is_deflated: bool) -> io::Error
    where
        W: AsyncWrite + Unpin,
    {
        // `hello` goes with the chats, if they are known soon.
        let _ = tokio::time::timeout(GREETING, self.filled.notified()).await;
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
#[path = "writer_tests.rs"]
mod tests;
