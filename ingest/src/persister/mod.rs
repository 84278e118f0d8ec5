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
mod load;
mod offsets;
mod open_letters;
pub(crate) mod roles;
mod sequencer;
mod state;
mod traces;
mod write;

use std::collections::{HashMap, HashSet};
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
use self::sequencer::Candidate;
use self::write::WriteError;
use crate::body_hash::BodyHasher;
use crate::error::Error;
use crate::{answers, metrics, start};

pub(crate) use sequencer::MAX_MEMBERS;

/// Commands from which on a batch is worth two transactions.
const LARGE: usize = 200;

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

/// A record and the command in it, if it holds one.
struct Entry {
    record: Received,
    candidate: Option<Candidate>,
}

impl Persister {
    /// Persists a batch whole, or leaves it to whoever has the partitions now.
    async fn persist(&self, decoded: Decoded) -> Result<(), Error> {
        if !self.assignment.is_present(&decoded.batch) {
            return Ok(());
        }
        let [one, other] = lanes(decoded.entries);
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
                    let problem = describe(&error);
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
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let candidates: Vec<&Candidate> = part.iter().filter_map(|entry| entry.candidate.as_ref()).collect();
        let mut book = load::load(&transaction, &candidates).await?;
        let decisions = sequencer::decide(&mut book, &candidates);
        traces::write(&transaction, &candidates, &decisions).await?;
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

/// Splits a large batch into two of about the same size by partition, so that Postgres works on both at once. No chat is
/// in both, and each partition's commands keep their order.
fn lanes(entries: Vec<Entry>) -> [Vec<Entry>; 2] {
    let mut counts: HashMap<i32, usize> = HashMap::new();
    for entry in &entries {
        *counts.entry(entry.record.partition).or_default() += 1;
    }
    if entries.len() < LARGE || counts.len() == 1 {
        return [entries, Vec::new()];
    }
    let mut by_size: Vec<(usize, i32)> = counts.into_iter().map(|(partition, count)| (count, partition)).collect();
    by_size.sort_unstable_by(|one, other| other.cmp(one));
    let (mut loads, mut second) = ([0, 0], HashSet::new());
    for (count, partition) in by_size {
        let lighter = usize::from(loads[1] < loads[0]);
        loads[lighter] += count;
        if lighter == 1 {
            second.insert(partition);
        }
    }
    let (other, one) = entries.into_iter().partition(|entry| second.contains(&entry.record.partition));
    [one, other]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(partition: i32, offset: i64) -> Entry {
        let record = Received {
            topic: "t".into(),
            partition,
            offset,
            timestamp_ms: 0,
            key: None,
            value: None,
            event_type: None,
            trace: None,
        };
        Entry { record, candidate: None }
    }

    fn places(lane: &[Entry]) -> Vec<(i32, i64)> {
        lane.iter().map(|entry| (entry.record.partition, entry.record.offset)).collect()
    }

    #[test]
    fn lanes_share_no_partition_and_keep_each_partitions_order() {
        let entries: Vec<Entry> = (0..900).map(|number| entry(number % 3, i64::from(number / 3))).collect();
        let [one, other] = lanes(entries);
        assert_eq!((one.len(), other.len()), (600, 300));
        let partitions = |lane: &[Entry]| lane.iter().map(|entry| entry.record.partition).collect::<HashSet<_>>();
        assert!(partitions(&one).is_disjoint(&partitions(&other)));
        for lane in [one, other] {
            for partition in partitions(&lane) {
                let offsets: Vec<i64> =
                    places(&lane).into_iter().filter(|place| place.0 == partition).map(|place| place.1).collect();
                assert_eq!(offsets, (0..300).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn small_batches_and_those_of_one_partition_stay_one() {
        let [one, other] = lanes((0..100).map(|number| entry(number % 2, i64::from(number))).collect());
        assert_eq!((one.len(), other.len()), (100, 0));
        let [one, other] = lanes((0..500).map(|number| entry(0, i64::from(number))).collect());
        assert_eq!((one.len(), other.len()), (500, 0));
    }
}
