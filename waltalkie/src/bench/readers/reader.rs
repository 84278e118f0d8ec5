//! One reader: over one connection after another, in step with its chats, as the contract asks of clients.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use runtime::retry::Backoff;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;

use super::Shared;
use super::dial::dial;
use super::frames::{self, Cut, cut};
use super::scan::{Scanned, scan};
use super::seen::Seen;
use super::told::{Chats, Refusal, Resumed, payload_of};
use crate::bench::audience::Audience;
use crate::bench::schedule::now_us;

/// Room for what is read at once, one for all readers of a thread.
const SCRATCH_BYTES: usize = 262_144;
/// Chats in one `resume`.
const CHATS_PER_FRAME: usize = 1_000;
/// First and longest pause between tries to connect, as the client has them.
const BACKOFF_MS: (u64, u64) = (200, 10_000);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

pub(super) struct Reader {
    shared: Arc<Shared>,
    number: usize,
    token: String,
    /// Where to, and where to once a connection has ended.
    urls: [Arc<str>; 2],
    /// Reads nothing more once it is in step, though its heartbeats go on.
    stalls: bool,
    seen: Seen,
    /// The beginning of a frame whose rest hasn't come.
    rest: Vec<u8>,
    /// Frames to be sent.
    out: Vec<u8>,
    /// Chats behind, with their cursors, until all chats are known.
    behind: Vec<(String, i64)>,
    knows_chats: bool,
    /// Chats whose `resumed` is waited for.
    resuming: usize,
    is_standing: bool,
    has_lost: bool,
}

impl Reader {
    pub(super) fn new(shared: &Arc<Shared>, number: usize, token: String, urls: [Arc<str>; 2], stalls: bool) -> Self {
        Self {
            shared: Arc::clone(shared),
            number,
            token,
            urls,
            stalls,
            seen: Seen::default(),
            rest: Vec::new(),
            out: Vec::new(),
            behind: Vec::new(),
            knows_chats: false,
            resuming: 0,
            is_standing: false,
            has_lost: false,
        }
    }

    /// Lives as long as its process.
    pub(super) async fn live(mut self) {
        let mut backoff = Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1);
        loop {
            let url = Arc::clone(&self.urls[usize::from(self.has_lost)]);
            let mut pause = Duration::ZERO;
            match dial(&url, &self.token, self.number).await {
                Ok((stream, early)) => {
                    let stream = Arc::new(stream);
                    self.shared.hold(self.number, Some(Arc::clone(&stream)));
                    // It always ends with an error: there is nothing to be done at the end of a connection but to go on.
                    let _ = self.read(&stream, &early).await;
                    self.shared.hold(self.number, None);
                    if self.is_standing {
                        backoff.reset();
                    }
                    self.shared.tally().closed(self.is_standing);
                    (self.is_standing, self.knows_chats, self.resuming) = (false, false, 0);
                    self.has_lost = true;
                    self.out.clear();
                    self.behind.clear();
                }
                Err(refused) => {
                    pause = refused.retry_after;
                    self.shared.tally().refused(refused.reason);
                }
            }
            tokio::time::sleep(backoff.next_pause().max(pause)).await;
        }
    }

    async fn read(&mut self, stream: &TcpStream, early: &[u8]) -> io::Result<()> {
        let used = self.digest(early)?;
        self.rest = early[used..].to_vec();
        loop {
            self.say(stream).await?;
            if self.stalls && self.is_standing {
                std::future::pending::<()>().await;
            }
            stream.readable().await?;
            match SCRATCH.with_borrow_mut(|scratch| self.take(stream, scratch)) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }

    fn take(&mut self, stream: &TcpStream, scratch: &mut [u8]) -> io::Result<()> {
        let held = self.rest.len();
        scratch[..held].copy_from_slice(&self.rest);
        let count = stream.try_read(&mut scratch[held..])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = &scratch[..held + count];
        let used = self.digest(bytes)?;
        if bytes.len() - used == scratch.len() {
            return Err(io::Error::other("a frame that is larger than any the server sends"));
        }
        self.rest.clear();
        self.rest.extend_from_slice(&bytes[used..]);
        Ok(())
    }

    /// Takes whole frames; how many bytes they were.
    fn digest(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at_us = now_us();
        let shared = Arc::clone(&self.shared);
        let mut tally = shared.tally();
        let mut used = 0;
        loop {
            let (opcode, payload) = match cut(&bytes[used..]) {
                Cut::Whole { opcode, payload, length } => {
                    used += length;
                    (opcode, payload)
                }
                Cut::Part => return Ok(used),
                Cut::Wrong => return Err(io::ErrorKind::InvalidData.into()),
            };
            match opcode {
                frames::TEXT => match scan(payload) {
                    Scanned::Message { chat, seq } => {
                        let noted = self.seen.note(chat, seq);
                        tally.message((chat, seq), noted, payload.len(), at_us);
                    }
                    Scanned::Other(b"error") => {
                        tally.refused(reason_of(payload));
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    Scanned::Other(event) => {
                        if self.take_event(event, payload) {
                            tally.stands(at_us, self.has_lost);
                        }
                    }
                },
                frames::PING => frames::put(frames::PONG, payload, &mut self.out),
                frames::CLOSE => return Err(io::ErrorKind::ConnectionReset.into()),
                _ => {}
            }
        }
    }

    /// Takes an event that isn't a message; `true` if the reader is in step from here on.
    fn take_event(&mut self, event: &[u8], payload: &[u8]) -> bool {
        match event {
            b"chats" => self.take_chats(payload),
            b"resumed" => self.take_resumed(payload),
            _ => return false,
        }
        let stands = self.knows_chats && self.resuming == 0 && !self.is_standing;
        self.is_standing |= stands;
        stands
    }

    fn take_chats(&mut self, payload: &[u8]) {
        let Some(chats) = payload_of::<Chats<'_>>(payload) else { return };
        for entry in &chats.chats {
            let Some(chat) = Audience::number(entry.chat_id.as_bytes()) else { continue };
            if let Some(cursor) = self.seen.head(chat, entry.head_seq) {
                self.behind.push((entry.chat_id.clone().into_owned(), cursor));
            }
        }
        if chats.complete {
            self.knows_chats = true;
            self.resuming += self.behind.len();
            for part in std::mem::take(&mut self.behind).chunks(CHATS_PER_FRAME) {
                self.resume(part);
            }
        }
    }

    fn take_resumed(&mut self, payload: &[u8]) {
        let Some(resumed) = payload_of::<Resumed<'_>>(payload) else { return };
        if resumed.complete {
            if let Some(chat) = Audience::number(resumed.chat_id.as_bytes()) {
                self.seen.resumed(chat);
            }
            self.resuming = self.resuming.saturating_sub(1);
        } else {
            self.resume(&[(resumed.chat_id.into_owned(), resumed.to_seq)]);
        }
    }

    fn resume(&mut self, behind: &[(String, i64)]) {
        let cursors: Map<String, Value> = behind.iter().map(|(chat, cursor)| (chat.clone(), json!(cursor))).collect();
        let frame = json!({ "event": "resume", "payload": { "cursors": cursors } }).to_string();
        frames::put(frames::TEXT, frame.as_bytes(), &mut self.out);
    }

    async fn say(&mut self, stream: &TcpStream) -> io::Result<()> {
        let mut said = 0;
        while said < self.out.len() {
            stream.writable().await?;
            match stream.try_write(&self.out[said..]) {
                Ok(count) => said += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        Ok(())
    }
}

fn reason_of(frame: &[u8]) -> String {
    payload_of::<Refusal<'_>>(frame).map_or_else(String::new, |refusal| refusal.code.into_owned())
}
