//! The stream itself: `CopyData` messages that hold WAL data and keepalives, and the reports that go back.

use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use postgres_protocol::message::backend;
use tokio::io::AsyncWriteExt;

use super::connect::Channel;
use super::error::{GOING_ON, ReplicationError, ServerError};
use crate::lsn::Lsn;

/// Room for one read; a busy stream fills it.
const READ_BYTES: usize = 256 << 10;
/// A reader that gets less at a time is quicker than the server.
const SMALL_BYTES: usize = 64 << 10;
/// How long such a reader sleeps while the server is known to have more.
const GATHER: Duration = Duration::from_micros(200);
/// Longest message; a row can't be larger.
const MOST_BYTES: usize = 1 << 30;
/// Longest that the server leaves a report unread.
const PATIENCE: Duration = Duration::from_secs(10);
/// Start of the protocol's clock, 2000-01-01, in milliseconds since 1970.
const POSTGRES_EPOCH_MS: i64 = 946_684_800_000;

const COPY_DATA: u8 = b'd';
const COPY_DONE: u8 = b'c';
const COMMAND_COMPLETE: u8 = b'C';
const ERROR: u8 = b'E';
const NOTICE: u8 = b'N';
const PARAMETER: u8 = b'S';

/// One message of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A message of the output plugin.
    Data {
        /// Where it stands in the WAL.
        wal_start: Lsn,
        /// The plugin's bytes.
        payload: &'a [u8],
    },
    /// The server is alive.
    Keepalive {
        /// Everything before was sent.
        wal_end: Lsn,
        /// The server wants a report.
        asks_reply: bool,
    },
}

/// A slot's running stream.
pub struct ReplicationStream {
    channel: Channel,
    /// Bytes at the buffer's front that belong to the message handed out last.
    taken: usize,
    /// Bytes that the last read brought.
    last_read: usize,
}

impl ReplicationStream {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, taken: 0, last_read: 0 }
    }

    /// The next message that is here already; it stays valid until the next call.
    pub fn next_message(&mut self) -> Result<Option<Incoming<'_>>, ReplicationError> {
        self.channel.buffer.advance(std::mem::take(&mut self.taken));
        loop {
            let buffer = &self.channel.buffer;
            let Some((tag, length)) = frame(buffer)? else { return Ok(None) };
            match tag {
                COPY_DATA => {
                    self.taken = length;
                    return incoming(&self.channel.buffer[5..length]).map(Some);
                }
                NOTICE | PARAMETER => self.channel.buffer.advance(length),
                // A server that shuts down says only the latter.
                COPY_DONE | COMMAND_COMPLETE => return Err(ReplicationError::Ended),
                ERROR => return Err(self.server_error()),
                other => return Err(ReplicationError::Protocol(format!("message {other:#04x} in the stream"))),
            }
        }
    }

    /// Whether another whole message is here already, behind the one handed out last.
    pub fn has_more(&self) -> bool {
        self.channel.buffer.get(self.taken..).is_some_and(|rest| matches!(frame(rest), Ok(Some(_))))
    }

    /// Reads more. Nothing is lost if this is dropped before it is done.
    ///
    /// `is_behind` says that the server is known to have much more. It sends it message by message, and a quick reader that
    /// waits for each is woken for each, which costs both sides more than the message. Such a reader sleeps for a
    /// moment first, and its thread with it, since a runtime that waits on the socket would be woken as well: call
    /// this on a [`dedicated`](runtime::dedicated) thread.
    pub async fn fill(&mut self, is_behind: bool) -> Result<(), ReplicationError> {
        if is_behind && self.last_read < SMALL_BYTES {
            sleep_over();
        }
        self.channel.buffer.advance(std::mem::take(&mut self.taken));
        let buffer = &mut self.channel.buffer;
        if buffer.is_empty() && buffer.capacity() > 16 * READ_BYTES {
            // A huge row has passed; its room is given back.
            *buffer = BytesMut::new();
        }
        let missing = frame_length(buffer)?.map_or(0, |length| length.saturating_sub(buffer.len()));
        // Moves what is left to the front instead of growing, where that makes room enough.
        buffer.reserve(missing.max(READ_BYTES));
        let before = buffer.len();
        self.channel.fill().await?;
        self.last_read = self.channel.buffer.len() - before;
        Ok(())
    }

    /// Tells the server how far we are.
    pub async fn report(&mut self, written: Lsn, flushed: Lsn) -> Result<(), ReplicationError> {
        let now_us = (runtime::clock::now_ms() - POSTGRES_EPOCH_MS) * 1_000;
        let message = status_update(written, flushed, now_us);
        let sent = tokio::time::timeout(PATIENCE, self.channel.send(&message)).await;
        sent.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
    }

    /// Says goodbye, so that the server frees the slot at once.
    pub async fn close(mut self) {
        let mut goodbye = BytesMut::new();
        postgres_protocol::message::frontend::copy_done(&mut goodbye);
        postgres_protocol::message::frontend::terminate(&mut goodbye);
        let farewell = async {
            self.channel.send(&goodbye).await?;
            self.channel.transport.shutdown().await?;
            Ok::<_, ReplicationError>(())
        };
        // The server frees it anyway once it notices that we have gone.
        let _ = tokio::time::timeout(Duration::from_secs(1), farewell).await;
    }

    fn server_error(&mut self) -> ReplicationError {
        match backend::Message::parse(&mut self.channel.buffer) {
            Ok(Some(backend::Message::ErrorResponse(body))) => {
                ReplicationError::Server { what: GOING_ON, source: ServerError::read(&body) }
            }
            _ => ReplicationError::Protocol("an error that can't be read".into()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "see `fill`: the thread itself has to sleep, and it is short")]
fn sleep_over() {
    std::thread::sleep(GATHER);
}

/// Length of the frame at the buffer's front with its header, once the header is there.
fn frame_length(buffer: &[u8]) -> Result<Option<usize>, ReplicationError> {
    let Some(header) = backend::Header::parse(buffer)? else { return Ok(None) };
    let length = header.len() as usize + 1;
    if length > MOST_BYTES {
        return Err(ReplicationError::Protocol(format!("a message of {length} bytes")));
    }
    Ok(Some(length))
}

/// Tag and length of the frame at the buffer's front, once it is whole.
fn frame(buffer: &[u8]) -> Result<Option<(u8, usize)>, ReplicationError> {
    Ok(frame_length(buffer)?.filter(|&length| buffer.len() >= length).map(|length| (buffer[0], length)))
}

fn incoming(body: &[u8]) -> Result<Incoming<'_>, ReplicationError> {
    let lsn_at = |at: usize| {
        body.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| Lsn(u64::from_be_bytes(*bytes))).ok_or_else(short)
    };
    match body.first() {
        Some(b'w') => Ok(Incoming::Data { wal_start: lsn_at(1)?, payload: body.get(25..).ok_or_else(short)? }),
        Some(b'k') => {
            Ok(Incoming::Keepalive { wal_end: lsn_at(1)?, asks_reply: *body.get(17).ok_or_else(short)? != 0 })
        }
        other => Err(ReplicationError::Protocol(format!("data of kind {other:?} in the stream"))),
    }
}

fn short() -> ReplicationError {
    ReplicationError::Protocol("a message that ends too early".into())
}

/// A standby status update. `applied` is told as flushed: what is in Kafka needs nothing more from us.
fn status_update(written: Lsn, flushed: Lsn, now_us: i64) -> BytesMut {
    const BODY: usize = 34;
    let mut message = BytesMut::with_capacity(BODY + 5);
    message.put_u8(COPY_DATA);
    message.put_i32(BODY as i32 + 4);
    message.put_u8(b'r');
    for lsn in [written, flushed, flushed] {
        message.put_u64(lsn.0);
    }
    message.put_i64(now_us);
    message.put_u8(0);
    message
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
