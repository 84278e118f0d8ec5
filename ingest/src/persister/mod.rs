//! Commands into Postgres: the order of each chat is made here.
//!
//! ```text
//!   chat.commands ──▶ Reader ──▶ decode ──▶ ┌ one transaction ───────────────────────────────┐ ──▶ answers
//!                                  │        │ lock counters · read · decide · write · offsets │     (Redis, the
//!                                  ▼        └─────────────────────────────────────────────────┘      node's channel)
//!                          chat.commands.dlq
//! ```
//!
//! *Progress.* A batch's rows, results and Kafka offsets are one transaction; the offset moves by compare-and-set, so a
//! command is decided once, by whoever holds the partition.
//!
//! *Failure.* Lost connections and serialization failures retry the same batch. A batch that fails for good is split
//! to single commands; a single one that fails is a poison: it goes to the dead-letter topic with the reason and its
//! partition goes on. A persister whose partition was taken rolls back and asks where to go on. Answers are sent after
//! the commit and may be lost: gateways read the tables after a second of silence.

mod book;
mod dead_letter;
mod load;
mod offsets;
pub(crate) mod roles;
mod sequencer;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Pool;
use runtime::kafka::reader::{Place, Settings};
use runtime::kafka::{Batch, Reader, Received};
use runtime::retry::Backoff;
use runtime::{Config, RoleHealth, Shutdown, kafka, postgres};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::wire::{Answer, Code, Rejection};
use schemas::{ChatCommand, Decoder};

use self::dead_letter::DeadLetters;
use self::sequencer::Candidate;
use self::write::WriteError;
use crate::body_hash::BodyHasher;
use crate::error::Error;
use crate::{answers, metrics, start};

pub(crate) use sequencer::MAX_MEMBERS;

/// Runs the persister until it is time to stop.
pub async fn run(config: Arc<Config>, health: RoleHealth, shutdown: Shutdown) -> Result<(), Error> {
    let names = config.names();
    let Some(ground) = start::ground(&config, &health, &shutdown).await? else { return Ok(()) };
    let registry = Arc::new(Registry::new(config.registry.url.expose(), names.prefix())?);
    let Some(schema_id) = start::schema_id::<ChatCommand>(&registry, &health, &shutdown).await else { return Ok(()) };
    let store = offsets::Offsets { pool: ground.pool.clone(), log_id: ground.log_id.clone() };
    let settings = Settings {
        client: kafka::client_config(&config.kafka),
        group: names.group("persister"),
        topics: vec![names.topic(Topic::ChatCommands)],
        batch_records: config.persister.batch_commands,
        gather: Duration::ZERO,
        lag_metric: metrics::PERSISTER_LAG,
    };
    let mut reader = Reader::start(settings, Arc::new(store), &shutdown)?;
    let persister = Persister {
        pool: ground.pool,
        log_id: ground.log_id,
        hasher: BodyHasher::new(ground.installation.body_hash_key),
        decoder: Decoder::new(registry, schema_id),
        dead_letters: DeadLetters::new(&config.kafka, &names)?,
        answers: answers::Sender::start(&config, names, &shutdown)?,
        shutdown: shutdown.clone(),
    };
    let mut still = tokio::time::interval(Duration::from_secs(2));
    loop {
        let batch = tokio::select! {
            biased;
            () = shutdown.begun() => return Ok(()),
            batch = reader.next() => match batch? {
                Some(batch) => batch,
                None => return Ok(()),
            },
            _ = still.tick() => {
                health.ready();
                continue;
            }
        };
        persister.persist(batch, &reader, &health).await?;
        health.ready();
    }
}

struct Persister {
    pool: Pool,
    log_id: String,
    hasher: BodyHasher,
    decoder: Decoder<ChatCommand>,
    dead_letters: DeadLetters,
    answers: answers::Sender,
    shutdown: Shutdown,
}

/// A record and the command in it, if it holds one.
struct Entry {
    record: Received,
    candidate: Option<Candidate>,
}

impl Persister {
    /// Persists a batch whole, or leaves it to whoever has the partition now.
    async fn persist(&self, batch: Batch, reader: &Reader, health: &RoleHealth) -> Result<(), Error> {
        let mut entries = Vec::with_capacity(batch.records.len());
        for record in batch.records {
            let Some(candidate) = self.decode(&record, health).await? else { return Ok(()) };
            entries.push(Entry { record, candidate: candidate.ok() });
        }
        let mut backoff = Backoff::default();
        let mut waiting = vec![entries];
        while let Some(part) = waiting.pop() {
            let began = Instant::now();
            match self.transact(&part).await {
                Ok(answers) => {
                    backoff.reset();
                    metrics::batch_persisted(answers.len(), began.elapsed());
                    self.send_answers(&part, answers).await;
                }
                Err(WriteError::Superseded) => {
                    tracing::warn!("another persister has the partitions; asking where to go on");
                    metrics::batch_superseded();
                    reader.reload();
                    return Ok(());
                }
                Err(error) if is_transient(&error) => {
                    let problem = describe(&error);
                    tracing::warn!(error = %problem, "a batch could not be persisted and is tried again");
                    metrics::batch_retried();
                    health.not_ready(format!("Postgres: {problem}"));
                    waiting.push(part);
                    if !self.shutdown.pause(backoff.next_pause()).await {
                        return Ok(());
                    }
                }
                Err(error) if part.len() > 1 => {
                    tracing::warn!(error = %error, commands = part.len(), "a batch failed and is split");
                    waiting.extend(part.into_iter().rev().map(|entry| vec![entry]));
                }
                Err(error) => waiting.push(self.give_up(part, &error).await?),
            }
        }
        Ok(())
    }

    /// The command in a record: `None` when it is time to stop, an error inside when it is poison, which is then in
    /// the dead-letter topic already.
    async fn decode(&self, record: &Received, health: &RoleHealth) -> Result<Option<Result<Candidate, ()>>, Error> {
        let mut backoff = Backoff::default();
        loop {
            match self.decoder.decode(record.value.as_deref().unwrap_or_default()).await {
                Ok(command) if record.key.as_deref() == Some(command.chat_id.as_bytes()) => {
                    let body_hash =
                        self.hasher.hash(command.content.as_deref().unwrap_or_default(), &command.media_ids);
                    return Ok(Some(Ok(Candidate { command, body_hash })));
                }
                // A key that isn't the chat could be in another chat's partition: there is no order to decide it in.
                Ok(_) => {
                    self.dead_letters.bury(record, "the key isn't the command's chat_id").await?;
                    return Ok(Some(Err(())));
                }
                Err(error) if error.is_transient() => {
                    health.not_ready(format!("a new schema of chat.commands can't be read: {error}"));
                    if !self.shutdown.pause(backoff.next_pause()).await {
                        return Ok(None);
                    }
                }
                Err(error) => {
                    self.dead_letters.bury(record, &describe(&error)).await?;
                    return Ok(Some(Err(())));
                }
            }
        }
    }

    async fn transact(&self, part: &[Entry]) -> Result<Vec<Answer>, WriteError> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let candidates: Vec<&Candidate> = part.iter().filter_map(|entry| entry.candidate.as_ref()).collect();
        let mut book = load::load(&transaction, &candidates).await?;
        let decisions = sequencer::decide(&mut book, &candidates);
        write::write(&transaction, &book, &decisions, &offsets_of(part), &self.log_id).await?;
        transaction.commit().await?;
        Ok(decisions.answers.into_iter().map(|(answer, _)| answer).collect())
    }

    /// A command that no transaction takes: into the dead-letter topic, and on without it.
    async fn give_up(&self, mut part: Vec<Entry>, error: &WriteError) -> Result<Vec<Entry>, Error> {
        for entry in &mut part {
            let Some(candidate) = entry.candidate.take() else {
                // Nothing but the offset was left to write, so it isn't the command's fault.
                return Err(Error::Persister(describe(error)));
            };
            self.dead_letters.bury(&entry.record, &describe(error)).await?;
            let rejection =
                Rejection::new(Code::Internal, "The command could not be carried out; operators were told.");
            let command_id = candidate.command.command_id;
            let answer = Answer { command_id, seq: None, rejection: Some(rejection) };
            self.answers.send(candidate.command.node_id, vec![answer]).await;
        }
        Ok(part)
    }

    async fn send_answers(&self, part: &[Entry], answers: Vec<Answer>) {
        let mut by_node: HashMap<&str, Vec<Answer>> = HashMap::new();
        let commands = part.iter().filter_map(|entry| entry.candidate.as_ref());
        for (candidate, answer) in commands.zip(answers) {
            by_node.entry(&candidate.command.node_id).or_default().push(answer);
        }
        for (node_id, answers) in by_node {
            self.answers.send(node_id.to_owned(), answers).await;
        }
    }
}

fn offsets_of(part: &[Entry]) -> HashMap<Place, (i64, i64)> {
    let mut offsets: HashMap<Place, (i64, i64)> = HashMap::new();
    for Entry { record, .. } in part {
        offsets
            .entry((record.topic.to_string(), record.partition))
            .and_modify(|(_, next)| *next = record.offset + 1)
            .or_insert((record.offset, record.offset + 1));
    }
    offsets
}

fn is_transient(error: &WriteError) -> bool {
    match error {
        WriteError::KeyRace => true,
        WriteError::Superseded => false,
        WriteError::Pool(error) => postgres::is_pool_error_transient(error),
        WriteError::Database(error) => postgres::is_transient(error),
    }
}

/// An error with its causes, without values: constraint and column names, never a body.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
