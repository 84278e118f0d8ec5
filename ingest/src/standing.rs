//! Whose tokens count: what this node knows of revocations and removals.
//!
//! ```text
//!   revoke, remove ─▶ user_revocation ◀─ asked each second, and at once when somebody says so ─┐
//!          └────────▶ Redis: "look now" ──────────────────────────────────────────────────────▶ watcher ─▶ sockets
//! ```
//!
//! *Progress.* The table's `position` follows commits, since its counter's row is locked; the watcher asks for rows past
//! the last one that it has seen. *Failure.* Redis carries no more than a hint: without it, a node learns of a revocation
//! within `LOOK_EVERY`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::Pool;
use runtime::redis::Commands;
use runtime::{Config, RoleHealth, Shutdown, postgres};
use schemas::timestamp;
use schemas::wire::{Code, Rejection};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use crate::arrivals::Arrivals;
use crate::error::Error;
use crate::start;
use crate::users::unavailable;

/// How often the table is asked.
const LOOK_EVERY: Duration = Duration::from_millis(900);
/// Rows of one look.
const ROWS: i64 = 1_000;
/// People that are remembered before all are forgotten and asked for again.
const MOST_KNOWN: usize = 100_000;
/// How long what the watcher saw counts for people that aren't remembered: longer than any request or handshake takes,
/// which may have asked the table just before.
const RECENT: Duration = Duration::from_mins(10);
/// How long a hint may take before it is left to the next look.
const HINT: Duration = Duration::from_millis(250);

/// How a token's person stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The token counts.
    Good,
    /// It was issued before the person's tokens were revoked.
    Revoked,
    /// The person was removed.
    Removed,
}

impl Standing {
    /// Refuses whom it isn't good for.
    pub fn check(self) -> Result<(), Rejection> {
        match self {
            Self::Good => Ok(()),
            Self::Revoked => Err(Rejection::new(Code::TokenRevoked, "The token was revoked: get a new one.")),
            Self::Removed => Err(Rejection::new(Code::TokenInvalid, "This person was removed.")),
        }
    }
}

/// What is known of a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) refused_before_ms: i64,
    pub(crate) is_removed: bool,
}

impl Known {
    fn and(self, other: Self) -> Self {
        Self {
            refused_before_ms: self.refused_before_ms.max(other.refused_before_ms),
            is_removed: self.is_removed || other.is_removed,
        }
    }

    fn standing(self, issued_at_ms: i64) -> Standing {
        if self.is_removed {
            Standing::Removed
        } else if issued_at_ms < self.refused_before_ms {
            Standing::Revoked
        } else {
            Standing::Good
        }
    }
}

#[derive(Default)]
struct Memory {
    /// People who exist, with what was read of them.
    known: HashMap<String, Known>,
    /// What the watcher saw lately, of anybody.
    recent: HashMap<String, (Known, Instant)>,
}

/// What this node knows.
pub struct Standings {
    pool: Pool,
    arrivals: Arrivals,
    memory: Mutex<Memory>,
    look: Notify,
}

impl Standings {
    pub(crate) fn new(pool: Pool) -> Arc<Self> {
        Arc::new(Self { arrivals: Arrivals::new(pool.clone()), pool, memory: Mutex::default(), look: Notify::new() })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a person stands who is remembered; `None` if the tables have to be asked.
    pub(crate) fn remembered(&self, user_id: &str, issued_at_ms: i64) -> Option<Standing> {
        let memory = self.memory();
        let known = *memory.known.get(user_id)?;
        Some(known.and(memory.seen(user_id)).standing(issued_at_ms))
    }

    /// How somebody stands who was good when they came in.
    pub fn still(&self, user_id: &str, issued_at_ms: i64) -> Standing {
        let memory = self.memory();
        let known = memory.known.get(user_id).copied().unwrap_or_default();
        known.and(memory.seen(user_id)).standing(issued_at_ms)
    }

    /// How a person stands by the table, whether they exist or not.
    pub(crate) async fn ask(&self, user_id: &str, issued_at_ms: i64) -> Result<Standing, Rejection> {
        Ok(self.read(user_id).await?.and(self.memory().seen(user_id)).standing(issued_at_ms))
    }

    /// Remembers somebody if they exist, together with whoever comes in at the same time; `false` if there is no such person.
    pub(crate) async fn meet(&self, user_id: &str) -> Result<bool, Rejection> {
        let known = self.arrivals.ask(user_id).await?;
        if let Some(known) = known {
            self.keep(user_id, known);
        }
        Ok(known.is_some())
    }

    /// Remembers a person who exists, with what the table has of them.
    pub(crate) async fn remember(&self, user_id: &str) -> Result<(), Rejection> {
        let known = self.read(user_id).await?;
        self.keep(user_id, known);
        Ok(())
    }

    fn keep(&self, user_id: &str, known: Known) {
        let mut memory = self.memory();
        if memory.known.len() >= MOST_KNOWN {
            memory.known.clear();
        }
        memory.known.insert(user_id.to_owned(), known);
    }

    async fn read(&self, user_id: &str) -> Result<Known, Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        let sql = "SELECT refused_before, is_removed FROM user_revocation WHERE user_id = $1";
        let statement = client.prepare_cached(sql).await.map_err(unavailable)?;
        let row = client.query_opt(&statement, &[&user_id]).await.map_err(unavailable)?;
        Ok(row.map_or_else(Known::default, |row| Known {
            refused_before_ms: timestamp::from_offset(row.get(0)),
            is_removed: row.get(1),
        }))
    }

    /// Starts to watch; the ids of people whose standing changes come out. `None` when it is time to stop before Postgres
    /// was there.
    pub async fn watch(
        self: &Arc<Self>,
        config: &Config,
        health: &RoleHealth,
        shutdown: &Shutdown,
    ) -> Result<Option<mpsc::Receiver<String>>, Error> {
        // A connection of its own: a look mustn't queue behind requests.
        let pool = postgres::pool(&config.postgres.truth_url, "postgres.truth_url", 1)?;
        let begin = start::until_there("Postgres", health, shutdown, || async {
            let client = pool.get().await.map_err(|error| error.to_string())?;
            let sql = "SELECT last_position FROM revocation_counter";
            client.query_one(sql, &[]).await.map(|row| row.get::<_, i64>(0)).map_err(|error| error.to_string())
        });
        let Some(position) = begin.await else { return Ok(None) };
        let (subscriptions, mut hearing) = runtime::redis::subscriber(&config.redis, shutdown)?;
        let channel = config.names().standing_channel();
        let (changed, changes) = mpsc::channel(ROWS as usize);
        let (standings, life) = (Arc::clone(self), shutdown.clone());
        shutdown.spawn(async move {
            subscriptions.subscribe(channel).await;
            let mut watcher = Watcher { standings: Arc::clone(&standings), pool, position, changed, is_away: false };
            let mut tick = tokio::time::interval(LOOK_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut is_hearing = true;
            loop {
                tokio::select! {
                    biased;
                    () = life.begun() => return,
                    () = standings.look.notified() => {}
                    heard = hearing.recv(), if is_hearing => is_hearing = heard.is_some(),
                    _ = tick.tick() => {}
                }
                watcher.look().await;
            }
        });
        Ok(Some(changes))
    }

    fn take(&self, user_id: &str, known: Known) {
        let mut memory = self.memory();
        let Memory { known: remembered, recent } = &mut *memory;
        recent.retain(|user_id, (known, seen_at)| {
            let is_recent = seen_at.elapsed() < RECENT;
            if !is_recent && let Some(remembered) = remembered.get_mut(user_id) {
                *remembered = remembered.and(*known);
            }
            is_recent
        });
        let seen = recent.entry(user_id.to_owned()).or_insert((known, Instant::now()));
        *seen = (seen.0.and(known), Instant::now());
    }
}

impl Memory {
    fn seen(&self, user_id: &str) -> Known {
        self.recent.get(user_id).map(|(known, _)| *known).unwrap_or_default()
    }
}

/// Reads what is new in the table.
struct Watcher {
    standings: Arc<Standings>,
    pool: Pool,
    position: i64,
    changed: mpsc::Sender<String>,
    is_away: bool,
}

impl Watcher {
    async fn look(&mut self) {
        loop {
            match self.page().await {
                Ok(count) => {
                    self.is_away = false;
                    if count < ROWS {
                        return;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_away, true) {
                        tracing::warn!(error, "revocations can't be read; asking again each second");
                    }
                    return;
                }
            }
        }
    }

    async fn page(&mut self) -> Result<i64, String> {
        let client = self.pool.get().await.map_err(|error| error.to_string())?;
        let sql = "SELECT user_id, refused_before, is_removed, position FROM user_revocation
                    WHERE position > $1 ORDER BY position LIMIT $2";
        let statement = client.prepare_cached(sql).await.map_err(|error| error.to_string())?;
        let rows = client.query(&statement, &[&self.position, &ROWS]).await.map_err(|error| error.to_string())?;
        for row in &rows {
            let user_id: String = row.get(0);
            let known = Known { refused_before_ms: timestamp::from_offset(row.get(1)), is_removed: row.get(2) };
            self.standings.take(&user_id, known);
            // The receiver ends only with the process.
            let _ = self.changed.send(user_id).await;
            self.position = row.get(3);
        }
        Ok(rows.len() as i64)
    }
}

/// Tells every node to look now.
pub struct Herald {
    redis: Commands,
    channel: String,
}

impl Herald {
    /// On the configured Redis.
    pub fn new(config: &Config) -> Result<Self, Error> {
        Ok(Self { redis: runtime::redis::commands(&config.redis)?, channel: config.names().standing_channel() })
    }

    pub(crate) async fn tell(&self, standings: &Standings) {
        standings.look.notify_one();
        let mut redis = self.redis.clone();
        let mut hint = redis::cmd("SPUBLISH");
        hint.arg(&self.channel).arg("look");
        let told = tokio::time::timeout(HINT, hint.exec_async(&mut redis)).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!("Redis took no hint of a revocation; nodes see it with their next look");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_issued_before_is_refused_and_what_comes_after_is_not() {
        let known = Known { refused_before_ms: 5_000, is_removed: false };
        assert_eq!(known.standing(4_999), Standing::Revoked);
        assert_eq!(known.standing(0), Standing::Revoked);
        assert_eq!(known.standing(5_000), Standing::Good);
        assert_eq!(Known::default().standing(0), Standing::Good);
        let removed = known.and(Known { refused_before_ms: 1, is_removed: true });
        assert_eq!((removed.refused_before_ms, removed.standing(9_000)), (5_000, Standing::Removed));
    }
}
