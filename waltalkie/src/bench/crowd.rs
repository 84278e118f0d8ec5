//! The people of a bench: a client each, connected at a pace, put into their chats.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::ledger::Ledger;
use waltalkie_client::api::{Api, NewChat};
use waltalkie_client::{Client, Observation, Observed, Options, Receipts, Sink, TokenSource};

/// How long the last of a step may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// Chats that are made at a time.
const MAKING: usize = 8;
/// Times that a chat is tried whose making was refused for now.
const TRIES: u32 = 60;

/// What the clients tell of themselves while they come in.
#[derive(Default)]
pub(crate) struct Arrivals {
    in_step: AtomicUsize,
    chats: AtomicUsize,
    refused: AtomicU64,
    last_refusal: Mutex<Option<(Option<u16>, String)>>,
}

/// Everybody's clients, by the plan's numbers.
pub(crate) struct Crowd {
    pub(crate) clients: Vec<Client>,
    arrivals: Arc<Arrivals>,
}

/// Gives the tokens of a person.
pub(crate) type TokensOf<'a> = &'a (dyn Fn(&str) -> TokenSource + Sync);

impl Crowd {
    /// Connects everybody, `ramp_per_s` a second, and waits until all are in step.
    pub(crate) async fn connect(
        url: &str,
        ledger: &Arc<Ledger>,
        tokens: TokensOf<'_>,
        receipts: Receipts,
        ramp_per_s: f64,
        progress: &ProgressBar,
    ) -> Result<Self> {
        let plan = Arc::clone(&ledger.plan);
        let arrivals = Arc::<Arrivals>::default();
        let chats: Arc<HashSet<Arc<str>>> = Arc::new(plan.chat_ids.iter().cloned().collect());
        let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / ramp_per_s));
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut clients = Vec::with_capacity(plan.people.len());
        progress.set_length(plan.people.len() as u64);
        for (person, user_id) in plan.people.iter().enumerate() {
            pace.tick().await;
            let options = Options { token: tokens(user_id), receipts, ..Options::new(url, user_id, "") };
            let watcher = Watcher {
                person: person as u32,
                ledger: Arc::clone(ledger),
                arrivals: Arc::clone(&arrivals),
                chats: Arc::clone(&chats),
                announced: Vec::new(),
                has_come: false,
            };
            clients.push(waltalkie_client::spawn(options, watcher));
            progress.set_position(arrivals.in_step.load(Relaxed) as u64);
        }
        let crowd = Self { clients, arrivals };
        let all = plan.people.len();
        crowd.wait(progress, all, "connections", |arrivals| arrivals.in_step.load(Relaxed)).await?;
        Ok(crowd)
    }

    /// Makes the plan's chats, each by its first member, and waits until every member's client knows of them.
    pub(crate) async fn make_chats(
        &self,
        url: &str,
        ledger: &Ledger,
        tokens: TokensOf<'_>,
        progress: &ProgressBar,
    ) -> Result<()> {
        let (api, plan) = (Api::new(url), &ledger.plan);
        progress.set_position(0);
        progress.set_length(plan.chat_ids.len() as u64);
        stream::iter(plan.chat_ids.iter().zip(&plan.members))
            .map(Ok)
            .try_for_each_concurrent(MAKING, |(chat_id, members)| {
                let api = &api;
                async move {
                    let people: Vec<&str> =
                        members.iter().map(|person| plan.people[*person as usize].as_str()).collect();
                    let token = tokens(people[0]);
                    let chat = NewChat {
                        chat_id: Some(chat_id),
                        name: Some("bench"),
                        member_ids: people[1..].to_vec(),
                        is_group: true,
                        ..NewChat::default()
                    };
                    make_chat(api, &token(), &chat).await?;
                    progress.inc(1);
                    anyhow::Ok(())
                }
            })
            .await?;
        let places = plan.members.iter().map(Vec::len).sum();
        self.wait(progress, places, "chats announced", |arrivals| arrivals.chats.load(Relaxed)).await
    }

    /// Waits for the chats that a server announces by itself.
    pub(crate) async fn wait_for_chats(&self, ledger: &Ledger, progress: &ProgressBar) -> Result<()> {
        let places = ledger.plan.members.iter().map(Vec::len).sum();
        self.wait(progress, places, "chats announced", |arrivals| arrivals.chats.load(Relaxed)).await
    }

    async fn wait(
        &self,
        progress: &ProgressBar,
        all: usize,
        what: &str,
        count: impl Fn(&Arrivals) -> usize,
    ) -> Result<()> {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        let (mut moved_at, mut before) = (Instant::now(), 0);
        progress.set_length(all as u64);
        loop {
            look.tick().await;
            let now = count(&self.arrivals);
            progress.set_position(now as u64);
            if now >= all {
                return Ok(());
            }
            if now > before {
                (moved_at, before) = (Instant::now(), now);
            } else if moved_at.elapsed() > PATIENCE {
                let refusal = self.arrivals.last_refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let why = match refusal {
                    Some((Some(429), _)) => "the gateway refuses handshakes: lower --ramp-per-s, or raise \
                        limits.requests_per_s and limits.requests_burst there (WALTALKIE_LIMITS__REQUESTS_PER_S, …)"
                        .to_owned(),
                    Some((status, reason)) => format!("the last refusal: {} {reason}", status.unwrap_or_default()),
                    None => "no client tells why".to_owned(),
                };
                bail!("only {now} of {all} {what} after {} s without progress; {why}", PATIENCE.as_secs());
            }
        }
    }

    /// Handshakes that were refused or failed.
    pub(crate) fn refused_handshakes(&self) -> u64 {
        self.arrivals.refused.load(Relaxed)
    }

    /// Everybody leaves.
    pub(crate) async fn leave(self) {
        stream::iter(self.clients).for_each_concurrent(64, Client::close).await;
    }
}

async fn make_chat(api: &Api, token: &str, chat: &NewChat<'_>) -> Result<()> {
    for attempt in 1.. {
        let Err(error) = api.create_chat(token, chat).await else { return Ok(()) };
        match error.retry_after() {
            Some(wait) if attempt < TRIES => tokio::time::sleep(wait).await,
            Some(_) if error.code() == "rate_limited" => {
                return Err(error).context(
                    "the gateway's limits are in the way: raise limits.requests_per_s, limits.requests_burst and \
                     limits.commands_per_s there (WALTALKIE_LIMITS__REQUESTS_PER_S, …)",
                );
            }
            // An earlier try that was answered with an error can have made it.
            None if attempt > 1 && error.code() == "chat_exists" => return Ok(()),
            _ => return Err(error).context("a chat can't be made"),
        }
    }
    Ok(())
}

/// One client's eye on the ledger.
struct Watcher {
    person: u32,
    ledger: Arc<Ledger>,
    arrivals: Arc<Arrivals>,
    chats: Arc<HashSet<Arc<str>>>,
    announced: Vec<Arc<str>>,
    has_come: bool,
}

impl Watcher {
    fn number(&self, id: Uuid) -> Option<usize> {
        self.ledger.plan.number_of(id)
    }
}

impl Sink for Watcher {
    async fn observe(&mut self, observed: Observed) {
        let (ledger, at) = (&self.ledger, observed.at);
        match observed.what {
            Observation::Event(event) => {
                if let Some(number) = event.message_id.and_then(|id| self.number(id)) {
                    ledger.shown(self.person, number, &event, at);
                }
            }
            Observation::Accepted { op_id } => {
                if let Some(number) = self.number(op_id) {
                    ledger.accepted(number, at);
                }
            }
            Observation::Persisted { op_id, seq } => {
                if let Some(number) = self.number(op_id) {
                    // Where the first ack was overtaken by a reconnect, the second one says both.
                    ledger.accepted(number, at);
                    ledger.persisted(number, seq, at);
                }
            }
            Observation::Refused { op_id, code } => {
                if let Some(number) = self.number(op_id) {
                    tracing::warn!(code, "a send was refused");
                    ledger.refused(number);
                }
            }
            Observation::Postponed { .. } => {
                if let Some(run) = ledger.current() {
                    run.postponed_count.fetch_add(1, Relaxed);
                }
            }
            Observation::Anomaly { kind, .. } => ledger.anomaly(kind),
            Observation::InStep if !self.has_come => {
                self.has_come = true;
                self.arrivals.in_step.fetch_add(1, Relaxed);
            }
            // A chat is announced again after each reconnect.
            Observation::Chat { chat_id, .. }
                if self.chats.contains(&chat_id) && !self.announced.contains(&chat_id) =>
            {
                self.announced.push(chat_id);
                self.arrivals.chats.fetch_add(1, Relaxed);
            }
            Observation::Closed { .. } => {
                if let Some(run) = ledger.current() {
                    run.closed_count.fetch_add(1, Relaxed);
                }
            }
            Observation::ConnectFailed { status, reason } => {
                self.arrivals.refused.fetch_add(1, Relaxed);
                let mut last = self.arrivals.last_refusal.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some((status, reason));
            }
            _ => {}
        }
    }
}
