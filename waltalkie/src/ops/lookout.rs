//! What this process and its peers say of themselves, gathered for the pipeline page, so that the page asks one server only.
//!
//! However many pages are open, peers are asked at most once a second, each with a time-out, and no more is read of an answer than
//! there is room for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::body::Bytes;
use futures_util::future::join_all;
use metrics_exporter_prometheus::PrometheusHandle;
use reqwest::redirect::Policy;
use runtime::{Health, clock, telemetry};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::models::Models;

/// Header that tells processes apart, however they are reached.
pub(super) const PROCESS: &str = "waltalkie-process";

const EVERY: Duration = Duration::from_secs(1);
/// How long a peer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most bytes of one answer.
const LIMIT: usize = 2 << 20;

/// Looks after the processes of the installation.
pub(super) struct Lookout {
    own: String,
    process: String,
    peers: Vec<String>,
    health: Health,
    models: Models,
    metrics: &'static PrometheusHandle,
    http: reqwest::Client,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    last: Option<(Instant, Bytes)>,
    /// The last `/readyz` of each peer: which roles are gone with one that doesn't answer any more.
    readyz: HashMap<String, Value>,
}

enum Said {
    /// This very process, by an address that others use.
    Own,
    All {
        metrics: String,
        readyz: Value,
    },
    Nothing(String),
}

struct Text {
    process: Option<String>,
    body: String,
}

impl Lookout {
    /// `own` is where this process is reached, at least from its own machine.
    pub(super) fn new(own: String, peers: &[String], health: Health, models: Models) -> Result<Self> {
        runtime::tls::install_provider();
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(Policy::none()).no_proxy().build()?;
        Ok(Self {
            own,
            process: Uuid::new_v4().to_string(),
            peers: peers.iter().map(|peer| peer.trim_end_matches('/').to_owned()).collect(),
            health,
            models,
            metrics: telemetry::metrics(),
            http,
            seen: Mutex::default(),
        })
    }

    pub(super) fn process(&self) -> &str {
        &self.process
    }

    pub(super) fn metrics(&self) -> String {
        self.metrics.render()
    }

    /// The last look as JSON, or a new one if that is a second old.
    pub(super) async fn look(&self) -> Bytes {
        // Held all the while: who asks meanwhile gets this look.
        let mut seen = self.seen.lock().await;
        if let Some((at, body)) = &seen.last
            && at.elapsed() < EVERY
        {
            return body.clone();
        }
        let asked = join_all(self.peers.iter().map(|peer| self.ask(peer)));
        let (answers, models) = tokio::join!(asked, self.models.look());
        let mut own = self.own.as_str();
        let mut others = Vec::new();
        for (peer, said) in self.peers.iter().zip(answers) {
            match said {
                Said::Own => own = peer,
                Said::All { metrics, readyz } => {
                    others.push(json!({ "address": peer, "metrics": metrics, "readyz": readyz }));
                    seen.readyz.insert(peer.clone(), readyz);
                }
                Said::Nothing(problem) => {
                    others.push(json!({ "address": peer, "problem": problem, "readyz": seen.readyz.get(peer) }));
                }
            }
        }
        let readyz = json!({ "roles": self.health.statuses() });
        let mut processes = vec![json!({ "address": own, "metrics": self.metrics(), "readyz": readyz })];
        processes.append(&mut others);
        let body =
            Bytes::from(json!({ "at_ms": clock::now_ms(), "processes": processes, "models": models }).to_string());
        seen.last = Some((Instant::now(), body.clone()));
        body
    }

    async fn ask(&self, peer: &str) -> Said {
        let both = async { tokio::try_join!(self.get(peer, "/metrics"), self.get(peer, "/readyz")) };
        match tokio::time::timeout(PATIENCE, both).await {
            Ok(Ok((metrics, _))) if metrics.process.as_deref() == Some(self.process.as_str()) => Said::Own,
            Ok(Ok((metrics, readyz))) => match serde_json::from_str(&readyz.body) {
                Ok(readyz) => Said::All { metrics: metrics.body, readyz },
                Err(_) => Said::Nothing("/readyz doesn't answer as Waltalkie does".into()),
            },
            Ok(Err(problem)) => Said::Nothing(problem),
            Err(_) => Said::Nothing(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn get(&self, peer: &str, path: &str) -> Result<Text, String> {
        let mut response = self.http.get(format!("{peer}{path}")).send().await.map_err(|error| described(&error))?;
        let status = response.status();
        // A process that isn't ready says so, with what is in the way.
        if !status.is_success() && status.as_u16() != 503 {
            return Err(format!("{path} answers {status}"));
        }
        let process = response.headers().get(PROCESS).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| described(&error))? {
            if body.len() + piece.len() > LIMIT {
                return Err(format!("{path} is longer than {LIMIT} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        let body = String::from_utf8(body).map_err(|_| format!("{path} isn't UTF-8"))?;
        Ok(Text { process, body })
    }
}

fn described(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", PATIENCE.as_secs());
    }
    if error.is_connect() { "nobody listens there".into() } else { "the connection broke".into() }
}

#[cfg(test)]
#[path = "lookout_tests.rs"]
mod tests;
