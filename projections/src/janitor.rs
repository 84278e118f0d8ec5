//! The janitor: sets `is_delivered` where a mark was missed, removes what is delivered, old results of commands, answers
//! that were kept for repeated requests, and files that nobody needs.
//!
//! ```text
//!   inbox × inbox_cursor ──▶ sweep (a page at a time) ──▶ is_delivered ──▶ remove (a batch at a time)
//!   command_result ──▶ remove what is older than janitor.result_retention_ms
//!   idempotent_answer ──▶ remove what is older than a day
//!   media, and what is left in its store ──▶ see `janitor/media.rs`
//! ```
//!
//! *Progress.* Every statement takes at most `janitor.batch_rows` rows and is a transaction of its own; rows that
//! somebody else has locked are left for the next turn. The sweep goes through the whole inbox, but a turn takes a
//! bounded number of pages and the next goes on from there: people who never come back must not make it dear. Several
//! janitors at once do no harm.
//!
//! *Failure.* A turn that fails is counted and tried again at the next one; nothing depends on when it succeeds.

mod media;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{GenericClient, Pool};
use runtime::{Config, RoleHealth, Shutdown, postgres};

use self::media::MediaJanitor;
use crate::error::{self, Error};
use crate::metrics;

/// Pages of the sweep, and batches of each removal, in one turn.
const ROUNDS_A_TURN: usize = 100;
/// Connections of its own to each database: it does one thing at a time.
const CONNECTIONS: usize = 1;

const SWEEP: &str = "
    WITH page AS MATERIALIZED (
        SELECT user_id, chat_id, sequence_number FROM inbox
         WHERE (user_id, chat_id, sequence_number) > ($1, $2, $3)
         ORDER BY user_id, chat_id, sequence_number LIMIT $4
    ), reached AS (
        SELECT i.user_id, i.chat_id, i.sequence_number
          FROM page p
          JOIN inbox_cursor c ON c.chat_id = p.chat_id AND c.user_id = p.user_id
                             AND c.delivered_seq >= p.sequence_number
          JOIN inbox i ON i.user_id = p.user_id AND i.chat_id = p.chat_id AND i.sequence_number = p.sequence_number
         WHERE NOT i.is_delivered
           FOR UPDATE OF i SKIP LOCKED
    ), swept AS (
        UPDATE inbox i SET is_delivered = true FROM reached r
         WHERE i.user_id = r.user_id AND i.chat_id = r.chat_id AND i.sequence_number = r.sequence_number
        RETURNING 1
    )
    SELECT last.user_id, last.chat_id, last.sequence_number, (SELECT count(*) FROM page), (SELECT count(*) FROM swept)
      FROM (SELECT * FROM page ORDER BY user_id DESC, chat_id DESC, sequence_number DESC LIMIT 1) AS last";
const REMOVE_DELIVERED: &str = "
    DELETE FROM inbox WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM inbox WHERE is_delivered LIMIT $1 FOR UPDATE SKIP LOCKED))";
const REMOVE_RESULTS: &str = "
    DELETE FROM command_result WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM command_result WHERE decided_at < now() - make_interval(secs => $1)
         ORDER BY decided_at LIMIT $2 FOR UPDATE SKIP LOCKED))";
const REMOVE_ANSWERS: &str = "
    DELETE FROM idempotent_answer WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM idempotent_answer WHERE claimed_at < now() - interval '1 day'
         ORDER BY claimed_at LIMIT $1 FOR UPDATE SKIP LOCKED))";

/// Cleans up until it is time to stop.
pub async fn run(config: Arc<Config>, health: RoleHealth, shutdown: Shutdown) -> Result<(), Error> {
    let mut janitor = Janitor::new(&config)?;
    let interval = Duration::from_millis(config.janitor.interval_ms);
    loop {
        match janitor.turn(&health, &shutdown).await {
            Ok(()) => health.ready(),
            Err(failure) if failure.is_transient() => {
                ::metrics::counter!(metrics::FAILURES).increment(1);
                tracing::warn!(error = %error::chain(&failure), "cleaning up failed; the next turn tries again");
                health.not_ready(error::chain(&failure));
            }
            Err(failure) => return Err(failure),
        }
        if !rest(interval, &health, &shutdown).await {
            return Ok(());
        }
    }
}

/// Waits for the next turn, telling the health meanwhile; says whether to go on.
async fn rest(interval: Duration, health: &RoleHealth, shutdown: &Shutdown) -> bool {
    const STEP: Duration = Duration::from_secs(5);
    let mut left = interval;
    while left > STEP {
        if !shutdown.pause(STEP).await {
            return false;
        }
        health.turn();
        left -= STEP;
    }
    shutdown.pause(left).await
}

struct Janitor {
    read: Pool,
    truth: Pool,
    media: Option<MediaJanitor>,
    batch_rows: i64,
    result_retention_s: f64,
    /// Last row of the sweep's page before.
    swept_to: (String, String, i64),
}

impl Janitor {
    fn new(config: &Config) -> Result<Self, Error> {
        let truth = postgres::pool(&config.postgres.truth_url, "postgres.truth_url", CONNECTIONS)?;
        Ok(Self {
            read: postgres::pool(&config.postgres.read_url, "postgres.read_url", CONNECTIONS)?,
            media: MediaJanitor::new(config, truth.clone())?,
            truth,
            batch_rows: i64::from(config.janitor.batch_rows.max(1)),
            result_retention_s: config.janitor.result_retention_ms as f64 / 1_000.0,
            swept_to: Self::beginning(),
        })
    }

    fn beginning() -> (String, String, i64) {
        (String::new(), String::new(), 0)
    }

    /// Sweeps, then removes. One server being away doesn't keep the others from being cleaned.
    async fn turn(&mut self, health: &RoleHealth, shutdown: &Shutdown) -> Result<(), Error> {
        let inbox = self.inbox(health, shutdown).await;
        let results = self.results(health, shutdown).await;
        let answers = self.answers(health, shutdown).await;
        let media = match &self.media {
            // Whoever only chats doesn't miss the store: its absence is no reason to take no more connections.
            Some(media) => match media.turn(health, shutdown).await {
                Err(failure @ Error::Store(_)) => {
                    ::metrics::counter!(metrics::FAILURES).increment(1);
                    tracing::warn!(error = %error::chain(&failure), "removing files failed; the next turn tries again");
                    Ok(())
                }
                other => other,
            },
            None => Ok(()),
        };
        inbox.and(results).and(answers).and(media)
    }

    async fn inbox(&mut self, health: &RoleHealth, shutdown: &Shutdown) -> Result<(), Error> {
        let client = self.read.get().await?;
        for _ in 0..ROUNDS_A_TURN {
            let (user, chat, seq) = &self.swept_to;
            let statement = client.prepare_cached(SWEEP).await.map_err(Error::database("sweeping the inbox"))?;
            let page = client
                .query_opt(&statement, &[user, chat, seq, &self.batch_rows])
                .await
                .map_err(Error::database("sweeping the inbox"))?;
            let Some(page) = page else {
                self.swept_to = Self::beginning();
                break;
            };
            ::metrics::counter!(metrics::SWEPT).increment(page.get::<_, i64>(4) as u64);
            let is_last = page.get::<_, i64>(3) < self.batch_rows;
            self.swept_to = if is_last { Self::beginning() } else { (page.get(0), page.get(1), page.get(2)) };
            health.turn();
            if is_last || shutdown.has_begun() {
                break;
            }
        }
        let statement = client.prepare_cached(REMOVE_DELIVERED).await.map_err(Error::database("emptying the inbox"))?;
        for _ in 0..ROUNDS_A_TURN {
            let removed =
                client.execute(&statement, &[&self.batch_rows]).await.map_err(Error::database("emptying the inbox"))?;
            ::metrics::counter!(metrics::REMOVED).increment(removed);
            health.turn();
            if (removed as i64) < self.batch_rows || shutdown.has_begun() {
                break;
            }
        }
        Ok(())
    }

    async fn results(&self, health: &RoleHealth, shutdown: &Shutdown) -> Result<(), Error> {
        let client = self.truth.get().await?;
        let statement = client.prepare_cached(REMOVE_RESULTS).await.map_err(Error::database("removing old results"))?;
        for _ in 0..ROUNDS_A_TURN {
            let removed = client
                .execute(&statement, &[&self.result_retention_s, &self.batch_rows])
                .await
                .map_err(Error::database("removing old results"))?;
            ::metrics::counter!(metrics::REMOVED_RESULTS).increment(removed);
            health.turn();
            if (removed as i64) < self.batch_rows || shutdown.has_begun() {
                break;
            }
        }
        Ok(())
    }

    async fn answers(&self, health: &RoleHealth, shutdown: &Shutdown) -> Result<(), Error> {
        let client = self.truth.get().await?;
        let statement =
            client.prepare_cached(REMOVE_ANSWERS).await.map_err(Error::database("removing kept answers"))?;
        for _ in 0..ROUNDS_A_TURN {
            let removed = client
                .execute(&statement, &[&self.batch_rows])
                .await
                .map_err(Error::database("removing kept answers"))?;
            ::metrics::counter!(metrics::REMOVED_ANSWERS).increment(removed);
            health.turn();
            if (removed as i64) < self.batch_rows || shutdown.has_begun() {
                break;
            }
        }
        Ok(())
    }
}
