//! The loop: batch, decode, and a transaction for each partition in it.
//!
//! ```text
//!   Reader ──▶ decode ──▶ by partition ──▶ transform ──▶ Kafka transaction (module `partition`)
//!     ▲                                                      │
//!     └────────────── reload: fence, read the changelog ◀────┘ failed
//! ```
//!
//! *Progress.* The offset to go on from is in the changelog, in the same transaction as the rows and windows that follow from
//! what was read. The group's offset is sent along for those who look at the group, and nobody begins there; a membership that
//! is out of date makes the transaction fail, which is a second fence behind the transactional id.
//!
//! *Failure.* Whatever becomes of a transaction, the state in memory is thrown away unless it was committed: partitions are
//! taken over anew (module `ownership`), which ends what is undecided, and read from where the changelog stands. A registry
//! that is away, or doesn't know an id, is waited for. A record that is no event goes to the dead-letter topic in the same transaction.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use runtime::kafka::reader::Settings;
use runtime::kafka::{self, Assignment, Batch, Reader, Received};
use runtime::retry::Backoff;
use runtime::{RoleHealth, Shutdown, clock};
use schemas::FrameError;
use schemas::topics::Topic;

use crate::error::{self, Error};
use crate::metrics;
use crate::ownership::Ownership;
use crate::partition::{Done, Item};
use crate::rules::Kind;
use crate::watch::Watch;
use crate::wiring::Wiring;

/// An idle loop turns at least this often.
const TURN: Duration = Duration::from_secs(1);

/// Runs until it is time to stop.
pub(crate) async fn run(
    wiring: Arc<Wiring>,
    watch: &Watch,
    health: &RoleHealth,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let ownership = Arc::new(Ownership::new(Arc::clone(&wiring)));
    let outcome = Box::pin(turn(wiring, &ownership, watch, health, shutdown)).await;
    ownership.let_go().await;
    outcome
}

async fn turn(
    wiring: Arc<Wiring>,
    ownership: &Arc<Ownership>,
    watch: &Watch,
    health: &RoleHealth,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let group = wiring.names.group("operators");
    let most = wiring.config.operators.batch_records.max(1);
    let gather = Duration::from_millis(wiring.config.operators.gather_ms);
    let settings = Settings {
        client: kafka::client_config(&wiring.config.kafka),
        group: group.clone(),
        topics: vec![wiring.names.topic(Topic::ChatEvents)],
        batch_records: most,
        gather,
        lag_metric: metrics::LAG_RECORDS,
    };
    let store: Arc<Ownership> = Arc::clone(ownership);
    let mut reader = Reader::start(settings, store, shutdown)?;
    let this = Runner { wiring, ownership, health, shutdown, assignment: reader.assignment() };
    let mut backoff = Backoff::default();
    loop {
        let received = tokio::time::timeout(TURN, reader.next()).await;
        if let Some(refusal) = this.ownership.take_refusal() {
            return Err(refusal);
        }
        let batch = match received {
            Err(_) => {
                this.idle(watch);
                continue;
            }
            Ok(Ok(Some(batch))) => batch,
            Ok(Ok(None)) if shutdown.has_begun() => return Ok(()),
            Ok(Ok(None)) => return Err(Error::Ended(group)),
            Ok(Err(error)) => return Err(error.into()),
        };
        // Before it is looked whether the batch is of the present assignment: the proof must not be newer than the batch.
        let group = reader.group_metadata().map(Arc::new);
        let (began, is_full) = (Instant::now(), batch.records.len() >= most);
        match this.batch(batch, group).await {
            Ok(()) => backoff.reset(),
            Err(failure) if failure.is_transient() => {
                ::metrics::counter!(metrics::FAILED).increment(1);
                tracing::warn!(error = %error::chain(&failure), "a transaction failed; its partitions are taken over anew");
                health.not_ready(error::chain(&failure));
                if !shutdown.pause(backoff.next_pause()).await {
                    return Ok(());
                }
                reader.reload();
            }
            Err(failure) => return Err(failure),
        }
        // A transaction a partition costs the brokers the same however little is in it: more comes together meanwhile.
        let rest = gather.saturating_sub(began.elapsed());
        if !is_full && !rest.is_zero() && !shutdown.pause(rest).await {
            return Ok(());
        }
    }
}

struct Runner<'a> {
    wiring: Arc<Wiring>,
    ownership: &'a Ownership,
    health: &'a RoleHealth,
    shutdown: &'a Shutdown,
    assignment: Assignment,
}

impl Runner<'_> {
    fn idle(&self, watch: &Watch) {
        // One that is being written to waits for its own end.
        for owned in self.ownership.all() {
            if let Ok(partition) = owned.try_lock() {
                partition.serve();
            }
        }
        match self.ownership.problem().or_else(|| watch.problem()) {
            Some(problem) => self.health.not_ready(problem),
            None => self.health.ready(),
        }
    }

    /// Brings a batch in, partition by partition; ends early if the batch is of an earlier assignment, or it is time to stop.
    async fn batch(&self, mut batch: Batch, group: Option<Arc<ConsumerGroupMetadata>>) -> Result<(), Error> {
        let mut by_partition: BTreeMap<i32, Vec<Received>> = BTreeMap::new();
        for record in std::mem::take(&mut batch.records) {
            by_partition.entry(record.partition).or_default().push(record);
        }
        for (number, records) in by_partition {
            let begun = Instant::now();
            let newest_ms = records.iter().map(|record| record.timestamp_ms).max().unwrap_or_default();
            let Some(items) = self.decode(records).await? else { return Ok(()) };
            let Some(owned) = self.ownership.get(number) else { return Ok(()) };
            // In this order: whoever takes partitions over raises the assignment's generation first.
            if !self.assignment.is_present(&batch) {
                return Ok(());
            }
            let (wiring, group) = (Arc::clone(&self.wiring), group.clone());
            let taken_in = tokio::task::spawn_blocking(move || {
                let mut partition = owned.lock().unwrap_or_else(PoisonError::into_inner);
                partition.take_in(items, group.as_ref(), &wiring)
            });
            match taken_in.await.map_err(|_| Error::BrokeOff { partition: number }).flatten() {
                Ok(done) => tell(number, &done, newest_ms, begun),
                // Somebody else has it by now, and this was refused for that reason.
                Err(failure) if failure.is_transient() && !self.assignment.is_present(&batch) => {
                    ::metrics::counter!(metrics::FAILED).increment(1);
                    tracing::info!(error = %error::chain(&failure), "a transaction failed while partitions moved");
                    return Ok(());
                }
                Err(failure) => return Err(failure),
            }
        }
        self.health.ready();
        Ok(())
    }

    /// What the records say; `None` if it is time to stop.
    async fn decode(&self, records: Vec<Received>) -> Result<Option<Vec<Item>>, Error> {
        let mut items = Vec::with_capacity(records.len());
        let mut backoff = Backoff::default();
        for received in records {
            let item = loop {
                match self.read(&received).await {
                    Ok(item) => break item,
                    Err(failure) => {
                        let failure = Error::Schema(failure);
                        tracing::warn!(error = %error::chain(&failure), "waiting for a schema");
                        self.health.not_ready(error::chain(&failure));
                        if !self.shutdown.pause(backoff.next_pause()).await {
                            return Ok(None);
                        }
                    }
                }
            };
            items.push(item.unwrap_or_else(|reason| Item::Unreadable(received, reason)));
        }
        Ok(Some(items))
    }

    /// An event, or why it is none; an error if the registry has to be waited for.
    async fn read(&self, received: &Received) -> Result<Result<Item, String>, FrameError> {
        let Some(value) = &received.value else { return Ok(Err("it has no value".to_owned())) };
        match self.wiring.events.decode(value).await {
            Ok(event) if received.key.as_deref() != Some(event.chat_id.as_bytes()) => {
                Ok(Err("the key isn't the event's chat_id".to_owned()))
            }
            Ok(event) => Ok(Ok(Item::Event(received.offset, Box::new(event)))),
            // Also an id that the registry doesn't know yet: what is buried must not depend on when it is asked.
            Err(failure @ FrameError::Schema { .. }) => Err(failure),
            Err(failure) => Ok(Err(error::chain(&failure))),
        }
    }
}

fn tell(number: i32, done: &Done, newest_ms: i64, begun: Instant) {
    ::metrics::counter!(metrics::TRANSACTIONS).increment(1);
    ::metrics::histogram!(metrics::TRANSACTION).record(begun.elapsed().as_secs_f64());
    ::metrics::counter!(metrics::EVENTS).increment(done.events);
    ::metrics::counter!(metrics::ROWS, "topic" => Topic::ChatActivity.base_name()).increment(done.activity);
    ::metrics::counter!(metrics::ROWS, "topic" => Topic::ChatAbuse.base_name()).increment(done.abuse);
    ::metrics::counter!(metrics::UNKNOWN).increment(done.tally.unknown);
    ::metrics::gauge!(metrics::LAG).set((clock::now_ms() - newest_ms).max(0) as f64 / 1_000.0);
    for ((kind, late), open) in Kind::ALL.into_iter().zip(done.tally.late).zip(done.windows) {
        let window = kind.name();
        ::metrics::counter!(metrics::LATE, "window" => window, "outcome" => "counted").increment(late.counted);
        ::metrics::counter!(metrics::LATE, "window" => window, "outcome" => "dropped").increment(late.dropped);
        ::metrics::gauge!(metrics::OPEN_WINDOWS, "window" => window, "partition" => number.to_string())
            .set(open as f64);
    }
    if done.tally.pushed > 0 {
        ::metrics::counter!(metrics::PUSHED).increment(done.tally.pushed);
        tracing::warn!(partition = number, "too many windows were open; the oldest were closed before their time");
    }
    if done.dead_letters > 0 {
        ::metrics::counter!(metrics::DEAD_LETTERS).increment(done.dead_letters);
        ::metrics::gauge!(metrics::DEAD_LETTER_AT).set(clock::now_ms() as f64 / 1_000.0);
        tracing::error!(
            partition = number,
            records = done.dead_letters,
            "records of chat.events can't be read and went to the dead-letter topic"
        );
    }
}
