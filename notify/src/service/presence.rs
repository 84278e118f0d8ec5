//! Who has a connection, asked of Redis: a set of each person's sessions, and a key for each that is alive.
//!
//! *A flush or restart of Redis makes nobody offline.* Gateways write their sessions again within 5 s of it. Witnesses tell of
//! one: keys without an end, enough of them that each master of a cluster has one. They are asked for in front of each
//! question. Where one is missing, it is written with the time, and whoever finds that time too young, in this process or
//! another, doesn't rely on what Redis says. The same if Redis doesn't answer at all.

use std::collections::HashMap;

use redis::{Pipeline, RedisError};
use runtime::redis::Commands;
use runtime::{Config, Names, clock};

use crate::decide::Presence;

/// How long after a restart or flush nothing is relied on: two rounds of the gateways.
const UNSURE_MS: i64 = 10_000;
/// With so many keys, spread by their hash, no master of a cluster is left without one.
const WITNESSES: usize = 256;
/// People in one pipeline.
const PIPELINE: usize = 1_000;

/// Asks who is online.
pub(crate) struct Presences {
    redis: Commands,
    names: Names,
}

impl Presences {
    pub(crate) fn new(config: &Config) -> Result<Self, RedisError> {
        Ok(Self { redis: runtime::redis::commands(&config.redis)?, names: config.names() })
    }

    /// Whether Redis answers, for the role's health.
    pub(crate) async fn check(&self) -> Result<(), RedisError> {
        self.unsure_until(clock::now_ms()).await.map(drop)
    }

    /// Presence of each of these people. Redis being away isn't an error: it is [`Presence::NotKnown`].
    pub(crate) async fn of(&self, user_ids: &[&str]) -> HashMap<String, Presence> {
        if user_ids.is_empty() {
            return HashMap::new();
        }
        let now_ms = clock::now_ms();
        let not_known =
            |until_ms| user_ids.iter().map(|&user_id| (user_id.to_owned(), Presence::NotKnown { until_ms })).collect();
        // Before the question: a flush behind it leaves the answer true.
        let asked = match self.unsure_until(now_ms).await {
            Ok(Some(until_ms)) => return not_known(until_ms),
            Ok(None) => self.ask(user_ids).await,
            Err(error) => Err(error),
        };
        // After it too: a flush between the two would make everybody look offline.
        let sure = match (asked, self.unsure_until(now_ms).await) {
            (Ok(found), Ok(None)) => Ok(found),
            (Ok(_), Ok(Some(until_ms))) => return not_known(until_ms),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        sure.unwrap_or_else(|error: RedisError| {
            tracing::warn!(%error, "Redis doesn't say who is online; it is asked again");
            not_known(now_ms + UNSURE_MS)
        })
    }

    async fn ask(&self, user_ids: &[&str]) -> Result<HashMap<String, Presence>, RedisError> {
        let mut redis = self.redis.clone();
        let mut found: HashMap<String, Presence> =
            user_ids.iter().map(|&user_id| (user_id.to_owned(), Presence::Offline)).collect();
        for part in user_ids.chunks(PIPELINE) {
            let mut pipeline = Pipeline::with_capacity(part.len());
            for user_id in part {
                pipeline.cmd("SMEMBERS").arg(self.names.sessions_key(user_id));
            }
            let sessions: Vec<Vec<String>> = pipeline.query_async(&mut redis).await?;
            let claimed: Vec<(&str, &String)> = part
                .iter()
                .zip(&sessions)
                .flat_map(|(&user_id, sessions)| sessions.iter().map(move |session_id| (user_id, session_id)))
                .collect();
            for part in claimed.chunks(PIPELINE) {
                let mut pipeline = Pipeline::with_capacity(part.len());
                for (user_id, session_id) in part {
                    pipeline.cmd("EXISTS").arg(self.names.session_key(user_id, session_id));
                }
                let alive: Vec<bool> = pipeline.query_async(&mut redis).await?;
                for ((user_id, _), _) in part.iter().zip(alive).filter(|(_, is_alive)| *is_alive) {
                    found.insert((*user_id).to_owned(), Presence::Online);
                }
            }
        }
        Ok(found)
    }

    /// Until when Redis can't be relied on, if it can't now.
    async fn unsure_until(&self, now_ms: i64) -> Result<Option<i64>, RedisError> {
        let mut redis = self.redis.clone();
        let count = if redis.masters().await? > 1 { WITNESSES } else { 1 };
        let mut pipeline = Pipeline::with_capacity(count);
        for number in 0..count {
            pipeline.cmd("GET").arg(self.names.witness_key(number));
        }
        let witnesses: Vec<Option<i64>> = pipeline.query_async(&mut redis).await?;
        let missing: Vec<usize> =
            witnesses.iter().enumerate().filter_map(|(number, since)| since.is_none().then_some(number)).collect();
        if !missing.is_empty() {
            tracing::info!("Redis was flushed, restarted or is new; for 10 s nobody counts as offline");
            let mut pipeline = Pipeline::with_capacity(missing.len());
            for number in missing {
                pipeline.cmd("SET").arg(self.names.witness_key(number)).arg(now_ms).arg("NX").ignore();
            }
            pipeline.exec_async(&mut redis).await?;
            return Ok(Some(now_ms + UNSURE_MS));
        }
        // A clock that was ahead must not keep us unsure for longer than the rule.
        let youngest = witnesses.into_iter().flatten().filter(|since| *since <= now_ms).max();
        Ok(youngest.map(|since| since + UNSURE_MS).filter(|until_ms| *until_ms > now_ms))
    }
}
