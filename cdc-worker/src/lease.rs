//! The lease: which of several workers streams the slot.
//!
//! A row of an unpublished table, judged by the server's clock alone, written without waiting for the disk. It decides
//! who tries; what makes two holders harmless is the producer's fencing, since a holder that was stopped and goes on may
//! believe in its lease for a moment longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postgres_protocol::escape::escape_literal;
use runtime::{Config, Shutdown};
use tokio::sync::watch;
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

use crate::checks;
use crate::error::Error;
use crate::lsn::Lsn;
use crate::metrics;

/// How long a lease holds without being renewed.
pub const TTL: Duration = Duration::from_millis(1_100);
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(250);
/// How often a standby looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long one statement may take.
const PATIENCE: Duration = Duration::from_millis(800);
/// How often a message goes into the WAL, so that the stream's lag can be measured while nobody writes.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// Prefix of those messages.
pub const HEARTBEAT_PREFIX: &str = "waltalkie.heartbeat";

/// One worker's claim.
pub struct Lease {
    config: Arc<Config>,
    client: Client,
    slot: String,
    holder: String,
}

/// A lease that is held, as long as [`Held::is_held`].
pub struct Held {
    slot: String,
    until: watch::Receiver<Option<Instant>>,
    wal_end: Arc<AtomicU64>,
    unfit: watch::Receiver<Option<String>>,
    keeper: tokio::task::JoinHandle<()>,
    release: Shutdown,
}

/// Where the keeper tells what it sees.
struct Findings {
    until: watch::Sender<Option<Instant>>,
    wal_end: Arc<AtomicU64>,
    unfit: watch::Sender<Option<String>>,
}

impl Lease {
    /// A claim under a new random name, on a connection of its own.
    pub async fn new(config: Arc<Config>) -> Result<Self, Error> {
        let client = connect(&config).await?;
        Ok(Self {
            client,
            config: Arc::clone(&config),
            slot: config.names().slot(),
            holder: Uuid::new_v4().to_string(),
        })
    }

    /// Waits for the lease as a standby; `None` if it is time to stop. `turn` is called at each look.
    pub async fn acquire(mut self, shutdown: &Shutdown, turn: impl Fn()) -> Result<Option<Held>, Error> {
        loop {
            let asked = Instant::now();
            if self.is_free().await?
                && let Some(wal_end) = self.claim().await?
            {
                return Ok(Some(self.hold(asked + TTL, wal_end, shutdown)));
            }
            turn();
            if !shutdown.pause(LOOK_EVERY).await {
                return Ok(None);
            }
        }
    }

    /// Whether claiming has a chance; spares the row a lock a look.
    async fn is_free(&self) -> Result<bool, Error> {
        let row = within(
            self.client
                .query_opt("SELECT expires_at < clock_timestamp() FROM cdc_lease WHERE slot = $1", &[&self.slot]),
        )
        .await?;
        Ok(row.is_none_or(|row| row.get(0)))
    }

    /// Takes or renews the lease; if it is ours now, says where the server's WAL ends.
    async fn claim(&mut self) -> Result<Option<Lsn>, Error> {
        let sql = format!(
            "INSERT INTO cdc_lease AS held (slot, holder, expires_at)
             VALUES ({slot}, {holder}, clock_timestamp() + interval '{ttl} ms')
             ON CONFLICT (slot) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at
              WHERE held.holder = EXCLUDED.holder OR held.expires_at < clock_timestamp()
             RETURNING pg_current_wal_flush_lsn()",
            slot = escape_literal(&self.slot),
            holder = escape_literal(&self.holder),
            ttl = TTL.as_millis(),
        );
        let answers = within(self.client.simple_query(&sql)).await?;
        let row = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(row.map(|row| row.get(0).and_then(|text| text.parse().ok()).unwrap_or(Lsn::ZERO)))
    }

    fn hold(self, until: Instant, wal_end: Lsn, shutdown: &Shutdown) -> Held {
        let (until_sender, until) = watch::channel(Some(until));
        let (unfit_sender, unfit) = watch::channel(None);
        let release = Shutdown::new();
        let wal_end = Arc::new(AtomicU64::new(wal_end.0));
        let findings = Findings { until: until_sender, wal_end: Arc::clone(&wal_end), unfit: unfit_sender };
        let slot = self.slot.clone();
        let keeper = shutdown.spawn(self.keep(findings, release.clone()));
        Held { slot, until, wal_end, unfit, keeper, release }
    }

    /// Renews until released or lost. The time counts from before the question, so that it ends here no later than there.
    async fn keep(mut self, findings: Findings, release: Shutdown) {
        let Findings { until, wal_end, unfit } = findings;
        let mut last_heartbeat: Option<Instant> = None;
        let mut is_looked_at = true;
        while release.pause(RENEW_EVERY).await {
            let asked = Instant::now();
            match self.claim().await {
                Ok(Some(_)) if until.borrow().is_none_or(|until| until <= asked) => {
                    // Somebody else may have had it meanwhile.
                    tracing::warn!(slot = self.slot, "the lease had run out before it was renewed");
                    break;
                }
                Ok(Some(end)) => {
                    until.send_replace(Some(asked + TTL));
                    wal_end.store(end.0, Ordering::Relaxed);
                }
                Ok(None) => {
                    tracing::warn!(slot = self.slot, "another worker holds the lease");
                    break;
                }
                Err(error) if until.borrow().is_none_or(|until| until <= Instant::now()) => {
                    tracing::warn!(slot = self.slot, error = %error.chain(), "the lease can't be renewed and has run out");
                    break;
                }
                Err(error) => {
                    tracing::debug!(error = %error.chain(), "the lease wasn't renewed; asking again");
                    // The lease goes on until it runs out, so that a server that shuts down can be told the last
                    // position, and one connection's end isn't the end of streaming.
                    if self.client.is_closed()
                        && let Ok(Ok(client)) = tokio::time::timeout(PATIENCE, connect(&self.config)).await
                    {
                        self.client = client;
                    }
                }
            }
            if last_heartbeat.is_none_or(|last| last.elapsed() >= HEARTBEAT_EVERY) {
                last_heartbeat = Some(Instant::now());
                self.beat().await;
                is_looked_at = false;
            } else if !is_looked_at {
                // In a turn of its own: the lease has to be renewed between statements.
                is_looked_at = true;
                if let Some(reason) = self.misfit().await {
                    unfit.send_replace(Some(reason));
                }
            }
        }
        until.send_replace(None);
        if release.has_begun() {
            let mine = "DELETE FROM cdc_lease WHERE slot = $1 AND holder = $2";
            // If this fails, the lease runs out by itself.
            let _ = within(self.client.execute(mine, &[&self.slot, &self.holder])).await;
        }
    }

    /// What somebody has changed meanwhile so that rows would be left out. Nothing in the stream tells of that.
    async fn misfit(&self) -> Option<String> {
        match tokio::time::timeout(PATIENCE, checks::publication_is_fit(&self.client, &self.config)).await {
            Ok(Err(Error::Unfit { reason, .. })) => Some(reason),
            _ => None,
        }
    }

    /// A message into the WAL, and a look at how much of it the slot keeps.
    async fn beat(&self) {
        let text = runtime::clock::now_ms().to_string();
        let sql = "SELECT pg_logical_emit_message(false, $1, $2)";
        if let Err(error) = within(self.client.execute(sql, &[&HEARTBEAT_PREFIX, &text])).await {
            tracing::debug!(error = %error.chain(), "no heartbeat was written");
        }
        let sql =
            "SELECT (pg_current_wal_flush_lsn() - restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = $1";
        if let Ok(Some(row)) = within(self.client.query_opt(sql, &[&self.slot])).await {
            ::metrics::gauge!(metrics::RETAINED).set(row.get::<_, Option<i64>>(0).unwrap_or(0) as f64);
        }
    }
}

impl Held {
    /// Whether the lease is held now.
    pub fn is_held(&self) -> bool {
        self.until.borrow().is_some_and(|until| until > Instant::now())
    }

    /// Where the server's WAL ended when the lease was last renewed.
    pub fn wal_end(&self) -> Lsn {
        Lsn(self.wal_end.load(Ordering::Relaxed))
    }

    /// [`Error::Unfit`] once it was seen that the stream can't be trusted any more; looked for after each heartbeat.
    pub fn stream_is_fit(&self) -> Result<(), Error> {
        let reason = self.unfit.borrow().clone();
        reason.map_or(Ok(()), |reason| Err(Error::Unfit { slot: self.slot.clone(), reason }))
    }

    /// Waits until the lease is lost.
    pub async fn lost(&mut self) {
        loop {
            let Some(until) = *self.until.borrow_and_update() else { return };
            tokio::select! {
                biased;
                changed = self.until.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(until.into()) => return,
            }
        }
    }

    /// Gives the lease back, so that a standby needn't wait for it to run out.
    pub async fn release(mut self) {
        self.release.begin();
        // The task ends by itself; its statement has a timeout.
        let _ = (&mut self.keeper).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// A connection whose writes don't wait for the disk: a lease that a crash of the server loses has run out by then.
async fn connect(config: &Config) -> Result<Client, Error> {
    let client = checks::connect(config).await?;
    within(client.batch_execute("SET synchronous_commit = off")).await?;
    Ok(client)
}

async fn within<T>(statement: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(PATIENCE, statement).await {
        Ok(outcome) => outcome.map_err(Error::query("the lease in table cdc_lease")),
        Err(_) => Err(Error::LeaseSilent),
    }
}
