//! Sessions in Redis: one key a connection, which says that the person is here and on which node.
//!
//! A key lives 10 seconds and is extended every 5 by one pipelined round of the whole node, so that the sessions of a
//! node that died end by themselves. A key that Redis has forgotten (FLUSHALL, a restart) is set again by the same round.
//! Redis that is away closes nobody.
//!
//! Witnesses end sooner than sessions do: they are kept every second, and where one is missing, whoever asks who is online doesn't
//! rely on what Redis says.
//!
//! Beside it a set for each person names their sessions, so that whoever notifies can ask for them without knowing ids. It names
//! them also while their node is cut from Redis and their keys have run out, and may name sessions that are gone, of a node that
//! died, until the set ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Pipeline, RedisError};
use runtime::redis::{Commands, witness};
use runtime::{Config, Names, Shutdown};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::error::Error;
use crate::metrics;

/// Lifetime of a key.
const TTL_MS: u64 = witness::SESSION_TTL.as_millis() as u64;
/// Rounds after which everything is written anew: ten minutes. What Redis has dropped of the sets comes back by it.
const ROUNDS: u32 = 120;
/// Sets live for two of these times, so that those of people who were on a node that died end.
const SET_TTL_S: u64 = 1_200;
/// Commands in one pipeline.
const PIPELINE: usize = 1_000;
/// Sessions that ended while Redis was away and are taken back later. More stay in their sets until these end.
const KEPT_CLOSED: usize = 100_000;

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
    open: HashMap<Arc<Place>, bool>,
    new: Vec<Arc<Place>>,
    closed: Vec<Arc<Place>>,
}

/// Where a session stands in Redis.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    key: String,
    /// Set of all sessions of the person.
    all: String,
    session_id: String,
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
        let names = config.names();
        let keeper = Keeper { connection, node_id, names: names.clone(), state: Arc::clone(&state) };
        let life = shutdown.clone();
        let drain = Duration::from_millis(config.gateway.drain_ms);
        shutdown.spawn(keeper.run(life, drain));
        Ok(Self { names, state })
    }

    /// The person is here from now on, until the session is dropped.
    pub(crate) fn open(&self, user_id: &str, session_id: &str) -> Session {
        let key = Arc::new(Place {
            key: self.names.session_key(user_id, session_id),
            all: self.names.sessions_key(user_id),
            session_id: session_id.to_owned(),
        });
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
    key: Arc<Place>,
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
    names: Names,
    state: Arc<State>,
}

impl Keeper {
    async fn run(mut self, shutdown: Shutdown, drain: Duration) {
        let mut extend = tokio::time::interval(witness::SESSION_ROUND);
        extend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut keep = tokio::time::interval(witness::ROUND);
        keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = 0;
        while !shutdown.has_begun() {
            let outcome = tokio::select! {
                biased;
                () = shutdown.begun() => break,
                _ = extend.tick() => {
                    rounds = (rounds + 1) % ROUNDS;
                    match self.extend(rounds == 0).await {
                        // What couldn't be told when it happened.
                        Ok(()) => self.tell().await,
                        failed => failed,
                    }
                }
                // Behind the sessions: it says that they are there.
                _ = keep.tick() => self.keep_witnesses().await,
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

    /// Keeps the witnesses alive, and writes anew what is missing: first that it is young.
    async fn keep_witnesses(&mut self) -> Result<(), RedisError> {
        let millis = |duration: Duration| duration.as_millis() as u64;
        let count = witness::count(self.connection.masters().await?);
        let mut pipeline = Pipeline::with_capacity(count);
        for number in 0..count {
            pipeline.cmd("PEXPIRE").arg(self.names.witness_key(number)).arg(millis(witness::TTL));
        }
        let kept: Vec<i64> = pipeline.query_async(&mut self.connection).await?;
        let missing: Vec<usize> =
            kept.iter().enumerate().filter(|(_, kept)| **kept == 0).map(|(number, _)| number).collect();
        if missing.is_empty() {
            return Ok(());
        }
        tracing::info!("Redis is new, or has forgotten sessions or let them run out; they are written again");
        let mut pipeline = Pipeline::with_capacity(2 * missing.len());
        for number in missing {
            let young = self.names.young_witness_key(number);
            pipeline.cmd("SET").arg(young).arg(1).arg("PX").arg(millis(witness::UNSURE)).ignore();
            pipeline.cmd("SET").arg(self.names.witness_key(number)).arg(1).arg("PX").arg(millis(witness::TTL)).ignore();
        }
        pipeline.exec_async(&mut self.connection).await
    }

    /// Tells Redis of sessions that came and went. Of those that went and couldn't be told it is told again: their keys end by
    /// themselves, their places in the sets don't. Those that came are set by the round.
    async fn tell(&mut self) -> Result<(), RedisError> {
        let (new, mut closed) = {
            let mut keys = self.state.keys();
            (std::mem::take(&mut keys.new), std::mem::take(&mut keys.closed))
        };
        let outcome = self.tell_of(&new, &mut closed).await;
        if !closed.is_empty() {
            let mut keys = self.state.keys();
            keys.closed.append(&mut closed);
            keys.closed.truncate(KEPT_CLOSED);
        }
        outcome
    }

    /// Leaves in `closed` what wasn't told.
    async fn tell_of(&mut self, new: &[Arc<Place>], closed: &mut Vec<Arc<Place>>) -> Result<(), RedisError> {
        for part in new.chunks(PIPELINE) {
            self.set(part).await?;
        }
        while !closed.is_empty() {
            let from = closed.len().saturating_sub(PIPELINE);
            self.remove(&closed[from..]).await?;
            closed.truncate(from);
        }
        Ok(())
    }

    async fn remove(&mut self, closed: &[Arc<Place>]) -> Result<(), RedisError> {
        let mut pipeline = Pipeline::with_capacity(closed.len());
        for key in closed {
            pipeline.cmd("DEL").arg(&key.key).ignore();
            pipeline.cmd("SREM").arg(&key.all).arg(&key.session_id).ignore();
        }
        pipeline.exec_async(&mut self.connection).await
    }

    /// Writes sessions, if they are still open.
    async fn set(&mut self, new: &[Arc<Place>]) -> Result<(), RedisError> {
        let mut open = Vec::with_capacity(new.len());
        {
            // Before Redis is told, so that a session which ends meanwhile is taken back.
            let mut keys = self.state.keys();
            for key in new {
                if let Some(is_told) = keys.open.get_mut(key) {
                    *is_told = true;
                    open.push(key);
                }
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(open.len());
        for key in open {
            pipeline.cmd("SET").arg(&key.key).arg(&self.node_id).arg("PX").arg(TTL_MS).ignore();
            pipeline.cmd("SADD").arg(&key.all).arg(&key.session_id).ignore();
            pipeline.cmd("EXPIRE").arg(&key.all).arg(SET_TTL_S).ignore();
        }
        pipeline.exec_async(&mut self.connection).await
    }

    /// Extends every key, and sets again what Redis has forgotten, or everything. A part that fails keeps no other from it.
    async fn extend(&mut self, is_anew: bool) -> Result<(), RedisError> {
        let all: Vec<Arc<Place>> = self.state.keys().open.keys().cloned().collect();
        let mut outcome = Ok(());
        for part in all.chunks(PIPELINE) {
            let extended = if is_anew { self.set(part).await } else { self.extend_part(part).await };
            outcome = outcome.and(extended);
        }
        outcome
    }

    async fn extend_part(&mut self, part: &[Arc<Place>]) -> Result<(), RedisError> {
        let mut pipeline = Pipeline::with_capacity(part.len());
        for key in part {
            pipeline.cmd("PEXPIRE").arg(&key.key).arg(TTL_MS);
        }
        let extended: Vec<i64> = pipeline.query_async(&mut self.connection).await?;
        let forgotten: Vec<Arc<Place>> =
            part.iter().zip(extended).filter(|(_, extended)| *extended == 0).map(|(key, _)| key.clone()).collect();
        ::metrics::counter!(metrics::SESSIONS_SET_AGAIN).increment(forgotten.len() as u64);
        self.set(&forgotten).await
    }
}
