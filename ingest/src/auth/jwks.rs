//! Keys that a URL publishes: fetched ahead of need, kept while the URL is away, and asked for again when a token names
//! one that isn't there.
//!
//! *Bounds.* Tokens can make this node fetch at most once in [`SPACING`], however many there are and whatever they name.
//! An answer is read up to [`MOST_BYTES`] within [`PATIENCE`], and redirects aren't followed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::CACHE_CONTROL;
use reqwest::redirect::Policy;
use runtime::Shutdown;
use runtime::retry::Backoff;
use tokio::time::Instant;

use super::keys::KeySet;
use crate::error::Error;
use crate::metrics;

/// Least time between two fetches.
const SPACING: Duration = Duration::from_secs(5);
/// Time for one fetch.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer.
const MOST_BYTES: usize = 256 << 10;

/// The keys of a URL.
pub(super) struct Jwks {
    url: String,
    refresh: Duration,
    http: reqwest::Client,
    state: Mutex<State>,
    /// Held by whoever fetches.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    set: Option<Arc<KeySet>>,
    tried_at: Option<Instant>,
    /// When to look again, as the last good answer said.
    due_at: Option<Instant>,
}

impl Jwks {
    pub(super) fn new(url: &str, refresh: Duration) -> Result<Arc<Self>, Error> {
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(Policy::none()).build();
        let http = http.map_err(|_| Error::Auth("jwks_url: no HTTP client could be made".into()))?;
        Ok(Arc::new(Self {
            url: url.to_owned(),
            refresh,
            http,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last good set.
    pub(super) fn set(&self) -> Option<Arc<KeySet>> {
        self.state().set.clone()
    }

    /// The set after another look at the URL, for a key that wasn't in the one given; the same one if it is too early.
    pub(super) async fn look_again(&self, seen: Option<&Arc<KeySet>>) -> Option<Arc<KeySet>> {
        // Whoever waits here gets what the one before fetched.
        let fetching = self.fetching.lock().await;
        let (set, is_early) = {
            let state = self.state();
            (state.set.clone(), state.tried_at.is_some_and(|at| at.elapsed() < SPACING))
        };
        let is_new = set.as_ref().is_some_and(|set| seen.is_none_or(|seen| !Arc::ptr_eq(set, seen)));
        if is_new || is_early {
            return set;
        }
        self.fetch().await;
        drop(fetching);
        self.set()
    }

    /// Fetches before the set gets old, until shutdown.
    pub(super) async fn keep_fresh(self: Arc<Self>, shutdown: Shutdown) {
        let mut backoff = Backoff::new(1_000, 30_000);
        loop {
            let fetching = self.fetching.lock().await;
            let due_at = self.state().due_at;
            let is_good = due_at.is_some_and(|due_at| due_at > Instant::now()) || self.fetch().await;
            drop(fetching);
            let pause = if is_good {
                backoff.reset();
                let due_at = self.state().due_at;
                due_at.map_or(self.refresh, |due_at| due_at.saturating_duration_since(Instant::now()))
            } else {
                backoff.next_pause()
            };
            if !shutdown.pause(pause).await {
                return;
            }
        }
    }

    /// One fetch; whether it brought a set. A set that can't be had leaves the one before.
    async fn fetch(&self) -> bool {
        self.state().tried_at = Some(Instant::now());
        let fetched = self.ask().await;
        metrics::jwks_fetched(fetched.is_ok());
        match fetched {
            Ok((set, fresh_for)) => {
                tracing::debug!(keys = set.len(), "keys were fetched from auth.jwks_url");
                let mut state = self.state();
                state.set = Some(Arc::new(set));
                // Looked at again when four fifths of its time have passed.
                state.due_at = Some(Instant::now() + fresh_for.min(self.refresh).max(SPACING).mul_f64(0.8));
                true
            }
            Err(reason) => {
                let is_known = self.state().set.is_some();
                tracing::warn!(
                    reason,
                    is_known,
                    "auth.jwks_url gives no keys; what is known stays, and it is asked again"
                );
                false
            }
        }
    }

    async fn ask(&self) -> Result<(KeySet, Duration), String> {
        let answer = self.http.get(&self.url).send().await.map_err(|error| error.without_url().to_string())?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let max_age = answer.headers().get(CACHE_CONTROL).and_then(|value| value.to_str().ok()).and_then(max_age);
        let mut body = Vec::new();
        let mut parts = answer.bytes_stream();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part.map_err(|error| error.without_url().to_string())?);
            if body.len() > MOST_BYTES {
                return Err(format!("its answer is over {MOST_BYTES} bytes"));
            }
        }
        Ok((KeySet::parse(&body)?, max_age.unwrap_or(self.refresh)))
    }
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let seconds = cache_control.split(',').find_map(|part| part.trim().strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read() {
        assert_eq!(max_age("public, max-age=600"), Some(Duration::from_secs(600)));
        assert_eq!(max_age("no-store"), None);
        assert_eq!(max_age("max-age=soon"), None);
    }
}
