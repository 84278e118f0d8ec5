//! Reads and decodes commands ahead: the next batch while the present one is being committed.
//!
//! One batch at most waits decoded. A batch that was read under an earlier assignment is dropped by whoever takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runtime::kafka::{Batch, Reader, Received};
use runtime::retry::Backoff;
use runtime::{RoleHealth, Shutdown, Tracer, clock};
use schemas::{ChatCommand, Decoder};
use tokio::sync::mpsc;

use super::Entry;
use super::chat_limit::ChatLimit;
use super::dead_letter::DeadLetters;
use super::phases::{Phase, Stopwatch};
use super::sequencer::Candidate;
use crate::body_hash::BodyHasher;
use crate::error::Error;

/// Batches that wait decoded.
const AHEAD: usize = 1;

/// A batch whose commands are decoded.
pub(super) struct Decoded {
    /// Tells the assignment; its records are the entries'.
    pub(super) batch: Batch,
    pub(super) entries: Vec<Entry>,
}

/// The loop's end.
pub(super) struct Intake {
    decoded: mpsc::Receiver<Result<Decoded, Error>>,
    is_waiting: Arc<AtomicBool>,
}

impl Intake {
    pub(super) fn start(reader: Reader, work: Decoding) -> Self {
        let (sender, decoded) = mpsc::channel(AHEAD);
        let is_waiting = Arc::clone(&work.is_waiting);
        work.shutdown.clone().spawn(read_ahead(reader, work, sender));
        Self { decoded, is_waiting }
    }

    /// The next batch; `None` when it is time to stop.
    pub(super) async fn next(&mut self) -> Result<Option<Decoded>, Error> {
        self.decoded.recv().await.transpose()
    }

    /// Whether commands can't be decoded for now, of which the role's health tells.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Acquire)
    }
}

/// What decoding needs.
pub(super) struct Decoding {
    pub(super) hasher: BodyHasher,
    pub(super) decoder: Decoder<ChatCommand>,
    pub(super) chat_limit: ChatLimit,
    pub(super) dead_letters: Arc<DeadLetters>,
    pub(super) health: Arc<RoleHealth>,
    pub(super) is_waiting: Arc<AtomicBool>,
    pub(super) tracer: Tracer,
    pub(super) shutdown: Shutdown,
}

async fn read_ahead(mut reader: Reader, mut work: Decoding, decoded: mpsc::Sender<Result<Decoded, Error>>) {
    loop {
        let next = tokio::select! {
            biased;
            () = work.shutdown.begun() => return,
            batch = reader.next() => match batch {
                Ok(Some(batch)) => work.decode(batch).await,
                Ok(None) => return,
                Err(error) => Err(error.into()),
            },
        };
        let Some(next) = next.transpose() else { return };
        let is_end = next.is_err();
        if decoded.send(next).await.is_err() || is_end {
            return;
        }
    }
}

impl Decoding {
    /// `None` when it is time to stop.
    async fn decode(&mut self, mut batch: Batch) -> Result<Option<Decoded>, Error> {
        let mut stopwatch = Stopwatch::start();
        let mut entries = Vec::with_capacity(batch.records.len());
        for record in std::mem::take(&mut batch.records) {
            let Some(candidate) = self.decode_one(&record).await? else { return Ok(None) };
            entries.push(Entry { record, candidate: candidate.ok(), refusal: None });
        }
        stopwatch.end(Phase::Decode);
        Ok(Some(Decoded { batch, entries }))
    }

    /// The command in a record: `None` when it is time to stop, an error inside when it is poison, which is then in
    /// the dead-letter topic already.
    async fn decode_one(&mut self, record: &Received) -> Result<Option<Result<Candidate, ()>>, Error> {
        let mut backoff = Backoff::default();
        loop {
            match self.decoder.decode(record.value.as_deref().unwrap_or_default()).await {
                Ok(command) if record.key.as_deref() == Some(command.chat_id.as_bytes()) => {
                    self.is_waiting.store(false, Ordering::Release);
                    let body_hash =
                        self.hasher.hash(command.content.as_deref().unwrap_or_default(), &command.media_ids);
                    let refusal = self.chat_limit.take(&command, clock::now_ms());
                    let span = self.tracer.follow("persister", record.trace);
                    return Ok(Some(Ok(Candidate { command, body_hash, refusal, span })));
                }
                // A key that isn't the chat could be in another chat's partition: there is no order to decide it in.
                Ok(_) => {
                    self.dead_letters.bury(record, "the key isn't the command's chat_id").await?;
                    return Ok(Some(Err(())));
                }
                Err(error) if error.is_transient() => {
                    self.is_waiting.store(true, Ordering::Release);
                    self.health.not_ready(format!("a new schema of chat.commands can't be read: {error}"));
                    if !self.shutdown.pause(backoff.next_pause()).await {
                        return Ok(None);
                    }
                }
                Err(error) => {
                    self.dead_letters.bury(record, &runtime::chain(&error)).await?;
                    return Ok(Some(Err(())));
                }
            }
        }
    }
}
