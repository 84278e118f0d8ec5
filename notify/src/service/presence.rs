//! Who has a connection and is at it, asked of Redis: a set of each person's sessions, whose names say of which nobody is.
//!
//! *A flush or restart of Redis, or a cut from it, makes nobody offline.* Gateways write what Redis has forgotten or let run out
//! with their next round, and keep witnesses of it, enough of them that each master of a cluster has one: keys that end sooner than
//! sessions do. They are asked for before and after each question. Where one is missing, or was written anew within 10 s, this
//! process doesn't rely on what Redis says; nor for 10 s after Redis didn't answer it, or another process than before answers: a
//! restart may be so quick that no witness ends and no question fails, with data from before somebody came. No clocks are compared:
//! what is new is a key that ends by itself.
//!
//! *Nor does the cut of one gateway*, of which no witness tells, since the others keep them. Its sessions stay in people's sets, where
//! it can't take them out, though their own keys run out: so those aren't asked for. Sessions of a gateway that died stay there too
//! until the set ends; its people are looked at again, as everybody who looks online.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::{Pipeline, RedisError};
use runtime::redis::{Commands, witness};
use runtime::{Config, Names, clock};
use tokio::time::Instant;

use crate::decide::Presence;

/// People in one pipeline.
const PIPELINE: usize = 1_000;

/// Asks who is online.
pub(crate) struct Presences {
    redis: Commands,
    names: Names,
    /// Until when this process relies on nothing, since Redis failed it.
    failed_until: Mutex<Option<Instant>>,
    /// `run_id` of the server that answered last.
    run_id: Mutex<Option<String>>,
}

impl Presences {
    pub(crate) fn new(config: &Config) -> Result<Self, RedisError> {
        let (redis, names) = (runtime::redis::commands(&config.redis)?, config.names());
        Ok(Self { redis, names, failed_until: Mutex::default(), run_id: Mutex::default() })
    }

    /// Whether Redis answers, for the role's health.
    pub(crate) async fn check(&self) -> Result<(), RedisError> {
        // Whoever asks next may not notice that it was away.
        self.unsure().await.map(drop).inspect_err(|_| self.failed())
    }

    fn failed(&self) {
        let until = Instant::now() + witness::UNSURE;
        *self.failed_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Presence of each of these people. Redis being away isn't an error: it is [`Presence::NotKnown`].
    pub(crate) async fn of(&self, user_ids: &[&str]) -> HashMap<String, Presence> {
        if user_ids.is_empty() {
            return HashMap::new();
        }
        let unsure = match self.sure(user_ids).await {
            Ok(Ok(found)) => return found,
            Ok(Err(unsure)) => unsure,
            Err(error) => {
                tracing::warn!(%error, "Redis doesn't say who is online; it is asked again");
                self.failed();
                witness::UNSURE
            }
        };
        let until_ms = clock::now_ms() + unsure.as_millis() as i64;
        user_ids.iter().map(|&user_id| (user_id.to_owned(), Presence::NotKnown { until_ms })).collect()
    }

    /// The answer if it can be relied on, else for how long not.
    async fn sure(&self, user_ids: &[&str]) -> Result<Result<HashMap<String, Presence>, Duration>, RedisError> {
        let failed_until = *self.failed_until.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = failed_until.map(|until| until.saturating_duration_since(Instant::now()));
        // Before the question: a flush behind it leaves the answer true.
        if let Some(unsure) = failed.filter(|left| !left.is_zero()).or(self.unsure().await?) {
            return Ok(Err(unsure));
        }
        let found = self.ask(user_ids).await?;
        // After it too: a flush between the two would make everybody look offline.
        Ok(self.unsure().await?.map_or(Ok(found), Err))
    }

    async fn ask(&self, user_ids: &[&str]) -> Result<HashMap<String, Presence>, RedisError> {
        let mut redis = self.redis.clone();
        let mut found = HashMap::with_capacity(user_ids.len());
        for part in user_ids.chunks(PIPELINE) {
            let mut pipeline = Pipeline::with_capacity(part.len());
            for user_id in part {
                pipeline.cmd("SMEMBERS").arg(self.names.sessions_key(user_id));
            }
            let mut sessions: Vec<Vec<String>> = pipeline.query_async(&mut redis).await?;
            self.leave_out_dead(part, &mut sessions).await?;
            found.extend(part.iter().zip(sessions).map(|(&user_id, of_one)| (user_id.to_owned(), presence(&of_one))));
        }
        Ok(found)
    }

    /// Of people with sessions of both kinds: a session whose gateway was killed stays in the set as long as any other keeps it, and
    /// would count more than those that live.
    async fn leave_out_dead(&self, user_ids: &[&str], sessions: &mut [Vec<String>]) -> Result<(), RedisError> {
        let is_idle = |session: &String| session.starts_with(Names::IDLE);
        let mut asked = Vec::new();
        for (person, of_one) in sessions.iter().enumerate().filter(|(_, of_one)| of_one.iter().any(is_idle)) {
            asked.extend(of_one.iter().filter(|session| !is_idle(session)).map(|session| (person, session.clone())));
        }
        if asked.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(asked.len());
        for (person, session) in &asked {
            pipeline.cmd("EXISTS").arg(self.names.session_key(user_ids[*person], session));
        }
        let live: Vec<bool> = pipeline.query_async(&mut self.redis.clone()).await?;
        for ((person, dead), _) in asked.into_iter().zip(live).filter(|(_, is_live)| !is_live) {
            sessions[person].retain(|session| *session != dead);
        }
        Ok(())
    }

    /// For how long Redis can't be relied on, if it can't now.
    async fn unsure(&self) -> Result<Option<Duration>, RedisError> {
        let mut redis = self.redis.clone();
        let masters = redis.masters().await?;
        // Of a cluster only some master would answer; there a replica takes over anyway.
        if masters == 1 && self.is_another().await {
            tracing::info!("Redis was restarted; it isn't relied on for a moment");
            self.failed();
            return Ok(Some(witness::UNSURE));
        }
        let count = witness::count(masters);
        let mut pipeline = Pipeline::with_capacity(2 * count);
        for number in 0..count {
            pipeline.cmd("EXISTS").arg(self.names.witness_key(number));
            pipeline.cmd("PTTL").arg(self.names.young_witness_key(number));
        }
        let answers: Vec<i64> = pipeline.query_async(&mut redis).await?;
        Ok(unsure(&answers))
    }

    /// Whether another process answers than before. Where we may not ask for that, it can't be known.
    async fn is_another(&self) -> bool {
        let mut redis = self.redis.clone();
        let told: Result<String, RedisError> = redis::cmd("INFO").arg("server").query_async(&mut redis).await;
        let mut known = self.run_id.lock().unwrap_or_else(PoisonError::into_inner);
        told.is_ok_and(|told| is_another(&mut known, &told))
    }
}

/// Takes note of who answers; says whether it was another one before.
fn is_another(known: &mut Option<String>, told: &str) -> bool {
    let Some(run_id) = told.lines().find_map(|line| line.strip_prefix("run_id:")) else { return false };
    known.replace(run_id.to_owned()).is_some_and(|before| before != run_id)
}

/// Presence of a person with these sessions.
fn presence(sessions: &[String]) -> Presence {
    if sessions.is_empty() {
        Presence::Offline
    } else if sessions.iter().all(|session| session.starts_with(Names::IDLE)) {
        Presence::Idle
    } else {
        Presence::Online
    }
}

/// Of each witness whether it is there, and how long it still counts as young; negative if it doesn't.
fn unsure(answers: &[i64]) -> Option<Duration> {
    let of_one = |pair: &[i64]| match pair {
        [0, _] => Some(witness::UNSURE),
        [_, young_ms] => u64::try_from(*young_ms).ok().map(Duration::from_millis),
        _ => None,
    };
    answers.chunks(2).filter_map(of_one).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_session_that_somebody_is_at_is_enough() {
        let of = |sessions: &[&str]| presence(&sessions.iter().map(|&session| session.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), Presence::Offline);
        assert_eq!(of(&["a", "idle.b.2"]), Presence::Online);
        assert_eq!(of(&["idle.a.2", "idle.b.4"]), Presence::Idle);
    }

    #[test]
    fn a_server_that_was_restarted_is_another_one_once() {
        let mut known = None;
        let told = |run_id: &str| format!("# Server\r\nredis_version:7.4.0\r\nrun_id:{run_id}\r\ntcp_port:6379\r\n");
        assert!(!is_another(&mut known, &told("8f3a")), "nobody answered before");
        assert!(!is_another(&mut known, &told("8f3a")));
        assert!(is_another(&mut known, &told("91c0")));
        assert!(!is_another(&mut known, &told("91c0")));
        // What doesn't say who it is proves nothing.
        assert!(!is_another(&mut known, "# Server\r\n"));
        assert!(is_another(&mut known, &told("8f3a")));
    }

    #[test]
    fn a_witness_that_is_missing_or_young_makes_unsure() {
        let ms = Duration::from_millis;
        assert_eq!(unsure(&[1, -2]), None);
        assert_eq!(unsure(&[1, 700]), Some(ms(700)));
        assert_eq!(unsure(&[0, -2]), Some(witness::UNSURE));
        // The youngest of a cluster counts.
        assert_eq!(unsure(&[1, -2, 1, 300, 1, 900, 1, -2]), Some(ms(900)));
        assert_eq!(unsure(&[1, 300, 0, -2]), Some(witness::UNSURE));
    }
}
