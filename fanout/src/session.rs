//! Sessions in Redis: one key a connection, which says that the person is here and on which node.
//!
//! A key lives 10 seconds and is extended every 5 by one pipelined round of the whole node, so that the sessions of a
//! node that died end by themselves. A key that Redis has forgotten (FLUSHALL, a restart) is set again by the same round.
//! Redis that is away closes nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Pipeline, RedisError};
use runtime::redis::Commands;
use runtime::{Config, Names, Shutdown};
use tokio::sync::Notify;

use crate::error::Error;
use crate::metrics;

/// Lifetime of a key.
const TTL_MS: u64 = 10_000;
/// How often keys are extended.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
/// Commands in one pipeline.
const PIPELINE: usize = 1_000;

/// The sessions of this node.
#[derive(Clone)]
pub(crate) struct Sessions {
    names: Names,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    keys: Mutex<Keys>,
    changed: Notify,
}

#[derive(Default)]
struct Keys {
    /// Whether Redis was told of the key.
    open: HashMap<Arc<str>, bool>,
    new: Vec<Arc<str>>,
    closed: Vec<Arc<str>>,
}

impl State {
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    pub(crate) fn start(config: &Config, node_id: String, shutdown: &Shutdown) -> Result<Self, Error> {
        let connection = runtime::redis::commands(&config.redis)?;
        let state = Arc::<State>::default();
        let keeper = Keeper { connection, node_id, state: Arc::clone(&state) };
        let life = shutdown.clone();
        let drain = Duration::from_millis(config.gateway.drain_ms);
        shutdown.spawn(keeper.run(life, drain));
        Ok(Self { names: config.names(), state })
    }

    /// The person is here from now on, until the session is dropped.
    pub(crate) fn open(&self, user_id: &str, session_id: &str) -> Session {
        let key: Arc<str> = self.names.session_key(user_id, session_id).into();
        let mut keys = self.state.keys();
        keys.open.insert(Arc::clone(&key), false);
        keys.new.push(Arc::clone(&key));
        drop(keys);
        self.state.changed.notify_one();
        Session { key, state: Arc::clone(&self.state) }
    }
}

/// An open session.
pub(crate) struct Session {
    key: Arc<str>,
    state: Arc<State>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut keys = self.state.keys();
        if keys.open.remove(&self.key) == Some(true) {
            keys.closed.push(Arc::clone(&self.key));
        }
        drop(keys);
        self.state.changed.notify_one();
    }
}

struct Keeper {
    connection: Commands,
    node_id: String,
    state: Arc<State>,
}

impl Keeper {
    async fn run(mut self, shutdown: Shutdown, drain: Duration) {
        let mut extend = tokio::time::interval(EXTEND_EVERY);
        extend.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !shutdown.has_begun() {
            let outcome = tokio::select! {
                biased;
                () = shutdown.begun() => break,
                _ = extend.tick() => self.extend().await,
                () = self.state.changed.notified() => self.tell().await,
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "sessions can't be written to Redis; they are with the next round");
            }
        }
        // Connections leave during the drain; their keys go with them, so that nobody looks online for longer.
        let leaving = async {
            while !self.state.keys().open.is_empty() {
                self.state.changed.notified().await;
                let _ = self.tell().await;
            }
            let _ = self.tell().await;
        };
        let _ = tokio::time::timeout(drain + Duration::from_secs(1), leaving).await;
    }

    /// Tells Redis of sessions that came and went.
    async fn tell(&mut self) -> Result<(), RedisError> {
        let (mut new, closed) = {
            let mut keys = self.state.keys();
            (std::mem::take(&mut keys.new), std::mem::take(&mut keys.closed))
        };
        new.retain(|key| self.state.keys().open.contains_key(key));
        for part in new.chunks(PIPELINE) {
            self.set(part).await?;
        }
        for part in closed.chunks(PIPELINE) {
            let mut pipeline = Pipeline::with_capacity(part.len());
            for key in part {
                pipeline.cmd("DEL").arg(&**key).ignore();
            }
            pipeline.exec_async(&mut self.connection).await?;
        }
        Ok(())
    }

    async fn set(&mut self, new: &[Arc<str>]) -> Result<(), RedisError> {
        if new.is_empty() {
            return Ok(());
        }
        {
            // Before Redis is told, so that a session which ends meanwhile is taken back.
            let mut keys = self.state.keys();
            for key in new {
                if let Some(is_told) = keys.open.get_mut(key) {
                    *is_told = true;
                }
            }
        }
        let mut pipeline = Pipeline::with_capacity(new.len());
        for key in new {
            pipeline.cmd("SET").arg(&**key).arg(&self.node_id).arg("PX").arg(TTL_MS).ignore();
        }
        pipeline.exec_async(&mut self.connection).await
    }

    /// Extends every key, and sets again what Redis has forgotten. A part that fails keeps no other from it.
    async fn extend(&mut self) -> Result<(), RedisError> {
        let all: Vec<Arc<str>> = self.state.keys().open.keys().cloned().collect();
        let mut outcome = Ok(());
        for part in all.chunks(PIPELINE) {
            outcome = outcome.and(self.extend_part(part).await);
        }
        outcome
    }

    async fn extend_part(&mut self, part: &[Arc<str>]) -> Result<(), RedisError> {
        let mut pipeline = Pipeline::with_capacity(part.len());
        for key in part {
            pipeline.cmd("PEXPIRE").arg(&**key).arg(TTL_MS);
        }
        let extended: Vec<i64> = pipeline.query_async(&mut self.connection).await?;
        let forgotten: Vec<Arc<str>> =
            part.iter().zip(extended).filter(|(_, extended)| *extended == 0).map(|(key, _)| key.clone()).collect();
        ::metrics::counter!(metrics::SESSIONS_SET_AGAIN).increment(forgotten.len() as u64);
        let still_open: Vec<Arc<str>> = {
            let keys = self.state.keys();
            forgotten.into_iter().filter(|key| keys.open.contains_key(key)).collect()
        };
        self.set(&still_open).await
    }
}
