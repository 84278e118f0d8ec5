//! Commands into Postgres: the order of each chat is made here.
//!
//! ```text
//!   chat.commands ──▶ Reader ──▶ decode ──▶ ┌ one transaction, or two side by side ──────────┐ ──▶ answers
//!                       (intake)   │        │ lock counters · read · decide · write · offsets │     (Redis, the
//!                                  ▼        └─────────────────────────────────────────────────┘      node's channel)
//!                          chat.commands.dlq
//! ```
//!
//! *Progress.* A batch's rows, results and Kafka offsets are one transaction; the offset moves by compare-and-set, so a
//! command is decided once, by whoever holds the partition. A large batch is two transactions of different partitions,
//! hence of different chats; the next batch is decoded meanwhile.
//!
//! *Failure.* Lost connections and serialization failures retry the same batch. A batch that fails for good is split
//! to single commands; a single one that fails is a poison: it goes to the dead-letter topic with the reason and its
//! partition goes on. A persister whose partition was taken rolls back and asks where to go on. Answers are sent after
//! the commit and may be lost: gateways read the tables after a second of silence.

mod book;
mod chat_limit;
mod dead_letter;
mod intake;
mod lanes;
mod load;
mod offsets;
mod open_letters;
mod phases;
pub(crate) mod roles;
mod sequencer;
mod state;
mod traces;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Pool;
use runtime::kafka::reader::{Place, Settings};
use runtime::kafka::{Assignment, Reader, Received};
use runtime::retry::Backoff;
use runtime::{Config, RoleHealth, Shutdown, Tracer, kafka, postgres};
use schemas::topics::Topic;
use schemas::wire::{Answer, Code, Rejection};
use schemas::{ChatCommand, Decoder};

use self::chat_limit::ChatLimit;
use self::dead_letter::DeadLetters;
use self::intake::{Decoded, Decoding, Intake};
use self::phases::{Phase, Stopwatch};
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
    let registry = Arc::new(config.registry_client()?);
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
    let health = Arc::new(health);
    let reader = Reader::start(settings, Arc::new(store), &shutdown)?;
    let dead_letters = Arc::new(DeadLetters::new(&config.kafka, &names)?);
    shutdown.spawn(open_letters::watch(Arc::clone(&config), ground.pool.clone(), shutdown.clone()));
    let persister = Persister {
        pool: ground.pool,
        log_id: ground.log_id,
        assignment: reader.assignment(),
        dead_letters: Arc::clone(&dead_letters),
        answers: answers::Sender::start(&config, names, &shutdown)?,
        shutdown: shutdown.clone(),
        health: Arc::clone(&health),
    };
    let decoding = Decoding {
        hasher: BodyHasher::new(ground.installation.body_hash_key),
        decoder: Decoder::new(registry, schema_id),
        chat_limit: ChatLimit::new(&config.limits),
        dead_letters,
        health: Arc::clone(&health),
        is_waiting: Arc::default(),
        tracer: Tracer::start(&config.trace, "persister", &shutdown),
        shutdown: shutdown.clone(),
    };
    let mut intake = Intake::start(reader, decoding);
    let mut still = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            biased;
            () = shutdown.begun() => return Ok(()),
            next = intake.next() => match next? {
                Some(decoded) => Box::pin(persister.persist(decoded)).await?,
                None => return Ok(()),
            },
            _ = still.tick() => {}
        }
        if !intake.is_waiting() {
            health.ready();
        }
    }
}

struct Persister {
    pool: Pool,
    log_id: String,
    assignment: Assignment,
    dead_letters: Arc<DeadLetters>,
    answers: answers::Sender,
    shutdown: Shutdown,
    health: Arc<RoleHealth>,
}

/// A record and the command in it, if it holds one that can be carried out.
struct Entry {
    record: Received,
    candidate: Option<Candidate>,
    /// Of a command that can't be: what its sender is told. It is kept where answers are looked for.
    refusal: Option<Answer>,
}

impl Persister {
    /// Persists a batch whole, or leaves it to whoever has the partitions now.
    async fn persist(&self, decoded: Decoded) -> Result<(), Error> {
        if !self.assignment.is_present(&decoded.batch) {
            return Ok(());
        }
        let [one, other] = lanes::split(decoded.entries);
        tokio::try_join!(self.persist_lane(one), self.persist_lane(other)).map(drop)
    }

    async fn persist_lane(&self, entries: Vec<Entry>) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut backoff = Backoff::default();
        let mut waiting = vec![entries];
        while let Some(mut part) = waiting.pop() {
            let began = Instant::now();
            match self.transact(&part).await {
                Ok(answers) => {
                    backoff.reset();
                    traces::end(&mut part, &answers);
                    metrics::batch_persisted(answers.len(), began.elapsed());
                    self.send_answers(&part, answers).await;
                }
                Err(WriteError::Superseded) => {
                    tracing::warn!("another persister has the partitions; asking where to go on");
                    metrics::batch_superseded();
                    self.assignment.reload();
                    return Ok(());
                }
                Err(error) if is_transient(&error) => {
                    let problem = runtime::chain(&error);
                    tracing::warn!(error = %problem, "a batch could not be persisted and is tried again");
                    metrics::batch_retried();
                    self.health.not_ready(format!("Postgres: {problem}"));
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

    async fn transact(&self, part: &[Entry]) -> Result<Vec<Answer>, WriteError> {
        let mut stopwatch = Stopwatch::start();
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let candidates: Vec<&Candidate> = part.iter().filter_map(|entry| entry.candidate.as_ref()).collect();
        let asked = load::questions(&candidates);
        stopwatch.end(Phase::Begin);
        let mut book = load::read(&transaction, &asked, &mut stopwatch).await?;
        stopwatch.end(Phase::LookUp);
        let mut decisions = sequencer::decide(&mut book, &candidates);
        decisions.answers.extend(part.iter().filter_map(|entry| Some((entry.refusal.clone()?, true))));
        stopwatch.end(Phase::Decide);
        traces::write(&transaction, &candidates, &decisions).await?;
        write::write(&transaction, &book, &decisions, &offsets_of(part), &self.log_id).await?;
        stopwatch.end(Phase::Insert);
        transaction.commit().await?;
        stopwatch.end(Phase::Commit);
        Ok(decisions.answers.into_iter().map(|(answer, _)| answer).collect())
    }

    /// A command that no transaction takes: into the dead-letter topic, and on without it.
    async fn give_up(&self, mut part: Vec<Entry>, error: &WriteError) -> Result<Vec<Entry>, Error> {
        for entry in &mut part {
            let Some(candidate) = entry.candidate.take() else {
                // Nothing but the offset was left to write, so it isn't the command's fault.
                return Err(Error::Persister(runtime::chain(error)));
            };
            self.dead_letters.bury(&entry.record, &runtime::chain(error)).await?;
            let rejection =
                Rejection::new(Code::Internal, "The command could not be carried out; operators were told.");
            let command_id = candidate.command.command_id;
            let answer = Answer { command_id, seq: None, rejection: Some(rejection) };
            entry.refusal = Some(answer.clone());
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
