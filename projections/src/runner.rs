//! The loop of one input of a projection: batch, decode, load, apply, store, commit.
//!
//! ```text
//!   Reader ──▶ hold back ──▶ decode ──▶ ┌ Postgres transaction ─────────────────────────────┐
//!     ▲                                 │ advance offsets ─▶ load ─▶ apply ─▶ store         │
//!     │                                 │            └─▶ publish to Kafka (cursor only)     │──▶ commit
//!     └──── reload ◀── offset moved ────┴────────────────────────────────────────────────────┘
//! ```
//!
//! *Progress.* Offsets are moved first, under a row lock that is held until the commit, so that state can't change
//! between load and store, and whoever comes second finds the offset moved (module `checkpoint`). The rows and the
//! offsets become visible together or not at all.
//!
//! *Failure.* Postgres or the registry being away, or a schema that the registry doesn't know yet, holds the batch and tries
//! it again, with backoff, saying so in the status. If the outcome of a commit is unknown, the next attempt finds the offset moved, and reads again from there.
//! A stopped process can't hold the lock for long: Postgres ends a transaction that does nothing
//! ([`crate::Patience`]). What is no event goes to the dead letters before the offset moves past it. A record that can't be used
//! ends the loop with an error that names its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata as Group;
use runtime::kafka::admin::Admin;
use runtime::kafka::reader::{Reader, Settings};
use runtime::kafka::{self, Batch, Received};
use runtime::retry::Backoff;
use runtime::{Shutdown, clock};
use schemas::registry::Registry;
use schemas::{Decoder, Record};

use crate::checkpoint::{self, Checkpoint, Positions};
use crate::decode::{self, DecodeError, Decoded};
use crate::error::{self, Error};
use crate::metrics;
use crate::piece::Piece;
use crate::projection::{Applied, Fence, Input};
use crate::status::Status;
use crate::wiring::{Patience, Wiring};

/// An idle loop turns at least this often.
const TURN: Duration = Duration::from_secs(1);

/// How long read models may stay behind to be written in larger batches.
const GATHER: Duration = Duration::from_millis(100);

/// Runs one input of a projection until it is time to stop.
pub async fn run<P: Input<R>, R: Record>(
    projection: &P,
    wiring: &Wiring,
    status: &Status,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let Some((decoder, log_id)) = prepare::<P, R>(wiring, status, shutdown).await? else { return Ok(()) };
    let (names, most) = (wiring.config.names(), wiring.config.projector.batch_records.max(1));
    let group_name = names.group(&format!("projection-{}", P::LOOP));
    let settings = Settings {
        client: kafka::client_config(&wiring.config.kafka),
        group: group_name.clone(),
        topics: vec![names.topic(R::TOPIC)],
        batch_records: most,
        gather: GATHER,
        lag_metric: P::LAG_METRIC,
    };
    let checkpoint = checkpoint::<P, R>(wiring, status, &log_id);
    let positions = checkpoint.positions.clone();
    let mut reader = Reader::start(settings, Arc::new(checkpoint), shutdown)?;
    let this = Runner { projection, wiring, status, shutdown, decoder, log_id, positions };
    loop {
        let batch = match tokio::time::timeout(TURN, reader.next()).await {
            Err(_) => {
                status.turn();
                continue;
            }
            Ok(Ok(Some(batch))) => batch,
            Ok(Ok(None)) if shutdown.has_begun() => return Ok(()),
            Ok(Ok(None)) => return Err(Error::Ended(group_name)),
            Ok(Err(error)) => return Err(error.into()),
        };
        // Taken before anything else: the proof must not be newer than the batch.
        let group = reader.group_metadata().map(Arc::new);
        if !this.hold_back(&batch).await {
            return Ok(());
        }
        let (begun, is_full) = (Instant::now(), batch.records.len() >= most);
        let Some(decoded) = this.decode(&batch).await? else { return Ok(()) };
        if !this.bury(&batch, &decoded).await {
            return Ok(());
        }
        match this.apply(&batch, &decoded, group).await? {
            Outcome::Committed => {
                let rest = P::EVERY.saturating_sub(begun.elapsed());
                if !is_full && !rest.is_zero() && !shutdown.pause(rest).await {
                    return Ok(());
                }
            }
            Outcome::ReadAgain => reader.reload(),
            Outcome::Stopping => return Ok(()),
        }
    }
}

/// What the loop needs before it reads, waiting for those who have it; `None` if it is time to stop.
async fn prepare<P: Input<R>, R: Record>(
    wiring: &Wiring,
    status: &Status,
    shutdown: &Shutdown,
) -> Result<Option<(Decoder<R>, Arc<str>)>, Error> {
    let mut backoff = Backoff::default();
    loop {
        let topic = wiring.config.names().topic(R::TOPIC);
        let attempt = async {
            let schema_id = own_schema_id::<R>(&wiring.registry).await?;
            let log_id = Arc::from(Admin::new(&wiring.config.kafka)?.log_id(&topic).await?);
            let checkpoint = checkpoint::<P, R>(wiring, status, &log_id);
            checkpoint.check_version().await?;
            checkpoint.check_log(&topic).await?;
            Ok::<_, Error>((Decoder::new(Arc::clone(&wiring.registry), schema_id), log_id))
        };
        match attempt.await {
            Ok(ready) => return Ok(Some(ready)),
            Err(failure) if failure.is_transient() => {
                tracing::warn!(projection = P::NAME, error = %error::chain(&failure), "not started yet");
                status.not_ready(error::chain(&failure));
                if !shutdown.pause(backoff.next_pause()).await {
                    return Ok(None);
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The id of our own version of a record's schema.
pub(crate) async fn own_schema_id<R: Record>(registry: &Registry) -> Result<u32, Error> {
    registry.id_of::<R>().await.map_err(|failure| {
        if failure.is_not_found() { Error::Unregistered { record: R::NAME } } else { failure.into() }
    })
}

fn checkpoint<P: Input<R>, R: Record>(wiring: &Wiring, status: &Status, log_id: &Arc<str>) -> Checkpoint {
    Checkpoint {
        consumer: P::NAME,
        version: P::VERSION,
        log_id: Arc::clone(log_id),
        pool: wiring.pool.clone(),
        status: status.clone(),
        positions: Positions::default(),
    }
}

enum Outcome {
    Committed,
    ReadAgain,
    Stopping,
}

enum Attempt {
    Committed {
        unknown: u64,
    },
    /// Nothing is written; the first so many records are enough for one transaction.
    TooMuch {
        records: usize,
    },
    AppliedElsewhere,
}

struct Runner<'a, P, R> {
    projection: &'a P,
    wiring: &'a Wiring,
    status: &'a Status,
    shutdown: &'a Shutdown,
    decoder: Decoder<R>,
    log_id: Arc<str>,
    positions: Positions,
}

impl<P: Input<R>, R: Record> Runner<'_, P, R> {
    /// Waits until the batch's newest record is old enough; says whether to go on. Never longer than the delay itself,
    /// so that clocks which disagree can't stop a projection.
    async fn hold_back(&self, batch: &Batch) -> bool {
        let delay_ms = self.projection.stays_behind().as_millis() as i64;
        let newest_ms = newest_ms(&batch.records);
        let mut left_ms = (newest_ms + delay_ms - clock::now_ms()).clamp(0, delay_ms);
        while left_ms > 0 {
            let step_ms = left_ms.min(TURN.as_millis() as i64);
            if !self.shutdown.pause(Duration::from_millis(step_ms as u64)).await {
                return false;
            }
            self.status.turn();
            left_ms -= step_ms;
        }
        true
    }

    /// The batch's records; `None` if it is time to stop.
    async fn decode(&self, batch: &Batch) -> Result<Option<Decoded<R>>, Error> {
        let mut decoded = Decoded::with_room(batch.records.len());
        let mut next = 0;
        let mut backoff = Backoff::default();
        loop {
            match decode::decode(&self.decoder, &batch.records, &mut decoded, P::NAME, &mut next, false).await {
                Ok(()) => return Ok(Some(decoded)),
                Err(DecodeError::Poison(failure)) => return Err(failure),
                Err(DecodeError::Waits(failure)) => {
                    tracing::warn!(projection = P::NAME, error = %error::chain(&failure), "waiting for a schema");
                    self.status.not_ready(error::chain(&failure));
                    if !self.shutdown.pause(backoff.next_pause()).await {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Puts aside what is no event, trying until Kafka has it; says whether to go on.
    async fn bury(&self, batch: &Batch, decoded: &Decoded<R>) -> bool {
        for (place, reason) in &decoded.strange {
            let mut backoff = Backoff::default();
            while let Err(failure) = self.wiring.dead_letters.bury(P::NAME, &batch.records[*place], reason).await {
                tracing::warn!(projection = P::NAME, error = %error::chain(&failure), "trying a dead letter again");
                self.status.not_ready(error::chain(&failure));
                if !self.shutdown.pause(backoff.next_pause()).await {
                    return false;
                }
            }
        }
        true
    }

    /// Brings the batch into the tables, trying until that is decided. One transaction, if it isn't too much for one.
    async fn apply(&self, batch: &Batch, decoded: &Decoded<R>, group: Option<Arc<Group>>) -> Result<Outcome, Error> {
        let (mut from, mut size) = (0, batch.records.len());
        let mut backoff = Backoff::default();
        while from < batch.records.len() {
            let begun = Instant::now();
            let piece = Piece::of(batch, decoded, from..batch.records.len().min(from + size));
            match Box::pin(self.transaction(&piece, group.as_ref())).await {
                Ok(Attempt::Committed { unknown }) => {
                    count(P::NAME, piece.received, unknown, begun);
                    self.status.ready();
                    backoff.reset();
                    from += size;
                }
                Ok(Attempt::TooMuch { records }) => size = records,
                Ok(Attempt::AppliedElsewhere) => {
                    ::metrics::counter!(metrics::MISMATCHES, "projection" => P::NAME).increment(1);
                    tracing::info!(projection = P::NAME, "a batch was applied elsewhere already; reading again");
                    return Ok(Outcome::ReadAgain);
                }
                Err(failure) if failure.is_transient() => {
                    ::metrics::counter!(metrics::RETRIES, "projection" => P::NAME).increment(1);
                    tracing::warn!(projection = P::NAME, error = %error::chain(&failure), "trying a batch again");
                    self.status.not_ready(error::chain(&failure));
                    if !self.shutdown.pause(backoff.next_pause()).await {
                        return Ok(Outcome::Stopping);
                    }
                    // The fence may be what is out of date, and only a new batch has a new one.
                    if matches!(failure, Error::Publish(_)) {
                        return Ok(Outcome::ReadAgain);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(Outcome::Committed)
    }

    /// One attempt at a piece of a batch.
    async fn transaction(&self, piece: &Piece<'_, R>, group: Option<&Arc<Group>>) -> Result<Attempt, Error> {
        let Patience { lock, idle_in_transaction } = self.wiring.patience;
        let limits = format!(
            "SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}",
            lock.as_millis(),
            idle_in_transaction.as_millis()
        );
        let Some(places) = self.positions.stored(&checkpoint::ranges(piece.received)) else {
            return Ok(Attempt::AppliedElsewhere);
        };
        let mut client = self.wiring.pool.get().await?;
        let transaction = client.transaction().await.map_err(Error::database("beginning a transaction"))?;
        let (limited, advanced) = tokio::join!(
            transaction.batch_execute(&limits),
            checkpoint::advance::<P>(&transaction, &self.log_id, &places)
        );
        limited.map_err(Error::database("beginning a transaction"))?;
        if !advanced.map_err(Error::database("moving offsets"))? {
            transaction.rollback().await.map_err(Error::database("rolling back"))?;
            return Ok(Attempt::AppliedElsewhere);
        }
        let mut unknown = 0;
        if !piece.records.is_empty() {
            let mut state = self.projection.state();
            let loading = self.projection.load(&transaction, piece.records, &mut state);
            loading.await.map_err(Error::database("loading rows"))?;
            for (record, place) in piece.records.iter().zip(piece.places) {
                let records = place + 1 - piece.first;
                match P::apply(&mut state, record) {
                    Ok(Applied::Understood) => {}
                    Ok(Applied::UnknownType) => unknown += 1,
                    Err(refusal) => return Err(decode::poison(P::NAME, &piece.received[records - 1], refusal)),
                }
                if P::is_full(&state) && records < piece.received.len() {
                    transaction.rollback().await.map_err(Error::database("rolling back"))?;
                    return Ok(Attempt::TooMuch { records });
                }
            }
            self.projection.store(&transaction, &state).await.map_err(Error::database("storing rows"))?;
            let fence = Arc::new(Fence { group: group.cloned(), offsets: piece.offsets() });
            self.projection.publish(&state, &fence).await?;
        }
        transaction.commit().await.map_err(Error::database("committing"))?;
        self.positions.committed(&places);
        Ok(Attempt::Committed { unknown })
    }
}

fn count(projection: &'static str, received: &[Received], unknown: u64, begun: Instant) {
    ::metrics::counter!(metrics::RECORDS, "projection" => projection).increment(received.len() as u64);
    ::metrics::histogram!(metrics::BATCH, "projection" => projection).record(received.len() as f64);
    ::metrics::histogram!(metrics::TRANSACTION, "projection" => projection).record(begun.elapsed().as_secs_f64());
    let age_ms = (clock::now_ms() - newest_ms(received)).max(0);
    ::metrics::gauge!(metrics::LAG, "projection" => projection).set(age_ms as f64 / 1_000.0);
    if unknown > 0 {
        ::metrics::counter!(metrics::UNKNOWN, "projection" => projection).increment(unknown);
    }
}

fn newest_ms(received: &[Received]) -> i64 {
    received.iter().map(|record| record.timestamp_ms).max().unwrap_or_default()
}
