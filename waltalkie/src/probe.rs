//! `waltalkie probe`: what people feel. A canary says something every few seconds in a chat of its own, and it is measured when
//! that is accepted, persisted and seen on its socket.
//!
//! Open loop: a message is due when it is due, whatever became of the one before, and times count from then. One that isn't
//! seen in time is missed, also if it comes later, and counts in the times with as long as it was waited for. The client is the
//! one that others use: it reconnects and resumes, so that a message is missed only where a person would have missed it. It also
//! keeps what it couldn't send: while some of that waits, a message that is due is missed without being sent, so that an outage
//! of hours doesn't end in a burst.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::routing::get;
use clap::Args;
use ingest::auth;
use reqwest::Method;
use runtime::Config;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use uuid::Uuid;
use waltalkie_client::api::{Api, NewChat};
use waltalkie_client::{Command, Observation, Observed, Options, connect};

use crate::metrics;
use crate::stop_signal::StopSignal;

/// How long a development token of the probe's own is valid: it makes the next one in time.
const TOKEN_TTL_S: i64 = 600;
/// Missed messages that may wait in the client before it gets no more of them.
const STUCK_AT_MOST: usize = 3;
/// Refusal of a chat that is there already.
const IS_THERE: &str = "chat_exists";

/// Arguments of `probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// The gateway, or the load balancer before it
    #[arg(default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The canary
    #[arg(long, value_name = "ID", default_value = "canary")]
    user: String,
    /// A file with the canary's token, read again at each connect; without it, a development token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How often it says something
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..))]
    every_ms: u64,
    /// After so long a message is missed
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    patience_ms: u64,
    /// Stops after so many messages; fails if one was missed
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// Serves /metrics here
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// One JSON object a message
    #[arg(long)]
    json: bool,
}

impl ProbeArgs {
    /// Whether a token was given.
    pub(crate) fn has_token(&self) -> bool {
        self.token_file.is_some()
    }
}

pub(crate) async fn run(config: Config, args: ProbeArgs) -> Result<ExitCode> {
    let token = token_source(config, &args)?;
    let mut serving = JoinSet::new();
    if let Some(address) = args.listen {
        serving.spawn(serve_metrics(address).await?);
    }
    let chat_id: Arc<str> = format!("probe-{}", args.user).into();
    make_chat(&args.url, &token(), &chat_id).await?;
    let options = Options { token, ..Options::new(&args.url, &args.user, "") };
    let (client, mut seen) = connect(options);
    let mut stop = StopSignal::listen()?;
    let mut due = tokio::time::interval(Duration::from_millis(args.every_ms));
    let mut look = tokio::time::interval(Duration::from_millis(args.patience_ms.min(args.every_ms).div_ceil(4)));
    let mut canary = Canary { patience: Duration::from_millis(args.patience_ms), ..Canary::default() };
    while args.count.is_none_or(|count| canary.done < count) {
        tokio::select! {
            biased;
            () = stop.told() => break,
            Some(_) = serving.join_next() => bail!("metrics can't be served any more"),
            observed = seen.recv() => canary.take(&observed.context("the client ended")?),
            at = due.tick(), if args.count.is_none_or(|count| canary.sent < count) => {
                let command = Command::send(&chat_id, format!("probe {}", canary.sent + 1));
                if canary.begin(command.op_id, at.into_std()) {
                    client.command(command).await;
                }
            }
            _ = look.tick() => canary.lose_patience(Instant::now()),
        }
        for probed in canary.take_done() {
            println!("{}", if args.json { probed.as_json() } else { probed.as_text() });
        }
    }
    client.close().await;
    let is_failed = args.count.is_some() && canary.missed > 0;
    Ok(if is_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

type TokenSource = Arc<dyn Fn() -> String + Send + Sync>;

/// Fails at once where there is no token now; later, the server's refusal says it.
fn token_source(config: Config, args: &ProbeArgs) -> Result<TokenSource> {
    let user = args.user.clone();
    let Some(file) = args.token_file.clone() else {
        let make = move || auth::development_token(&config, &user, Some("Canary"), TOKEN_TTL_S).map(|(token, _)| token);
        make().context("a token for the canary; --token-file names one that your application made")?;
        return Ok(Arc::new(move || make().unwrap_or_default()));
    };
    let read = move || std::fs::read_to_string(&file).map(|token| token.trim().to_owned());
    ensure!(!read().context("--token-file can't be read")?.is_empty(), "--token-file is empty");
    Ok(Arc::new(move || read().unwrap_or_default()))
}

/// Makes the probe's chat, unless it is there: while nothing is persisted, a probe that is started has to say so.
async fn make_chat(url: &str, token: &str, chat_id: &str) -> Result<()> {
    let api = Api::new(url);
    let path = format!("/v1/chats/{chat_id}");
    if api.request::<Value>(Method::GET, &path, token, None).await.is_ok() {
        return Ok(());
    }
    let chat = NewChat { chat_id: Some(chat_id), name: Some("Probe"), is_group: true, ..NewChat::default() };
    match api.create_chat(token, &chat).await {
        Err(error) if error.code() != IS_THERE => Err(error).context("the probe's chat can't be made"),
        _ => Ok(()),
    }
}

/// Listens; the future serves, and ends only if that fails.
async fn serve_metrics(address: SocketAddr) -> Result<impl Future<Output = ()>> {
    let handle = runtime::telemetry::metrics();
    let listener = TcpListener::bind(address).await.with_context(|| format!("--listen {address} can't be had"))?;
    println!("metrics on http://{}/metrics", listener.local_addr()?);
    let router = Router::new().route("/metrics", get(move || async move { handle.render() }));
    Ok(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics can't be served");
        }
    })
}

/// What is said and waited for. Pure: times are given to it.
#[derive(Default)]
struct Canary {
    patience: Duration,
    sent: u64,
    done: u64,
    missed: u64,
    waiting: HashMap<Uuid, Probe>,
    /// Missed, and still in the client's hands: it sends them once it can.
    stuck: HashSet<Uuid>,
    told: Vec<Probe>,
}

/// One message.
#[derive(Debug, Clone)]
struct Probe {
    number: u64,
    due: Instant,
    is_sent: bool,
    accepted: Option<Duration>,
    persisted: Option<Duration>,
    seen: Option<Duration>,
}

impl Canary {
    /// Says whether it has to be sent.
    fn begin(&mut self, id: Uuid, due: Instant) -> bool {
        self.sent += 1;
        ::metrics::counter!(metrics::PROBES).increment(1);
        let is_sent = self.stuck.len() < STUCK_AT_MOST;
        self.waiting.insert(id, Probe { number: self.sent, due, is_sent, accepted: None, persisted: None, seen: None });
        is_sent
    }

    fn take(&mut self, Observed { at, what }: &Observed) {
        let (id, field): (Uuid, fn(&mut Probe) -> &mut Option<Duration>) = match what {
            Observation::Accepted { op_id } => (*op_id, |probe| &mut probe.accepted),
            Observation::Persisted { op_id, .. } => {
                self.stuck.remove(op_id);
                (*op_id, |probe| &mut probe.persisted)
            }
            Observation::Refused { op_id, .. } => {
                self.stuck.remove(op_id);
                return;
            }
            Observation::Event(event) => match event.message_id {
                Some(id) => (id, |probe| &mut probe.seen),
                None => return,
            },
            _ => return,
        };
        let Some(probe) = self.waiting.get_mut(&id) else { return };
        let took = at.saturating_duration_since(probe.due);
        field(probe).get_or_insert(took);
        // `accepted` may be overtaken, the other two are what a person waits for.
        if probe.persisted.is_some() && probe.seen.is_some() {
            self.end(id);
        }
    }

    fn lose_patience(&mut self, now: Instant) {
        let late = |probe: &Probe| now.saturating_duration_since(probe.due) > self.patience;
        let ids: Vec<Uuid> = self.waiting.iter().filter(|(_, probe)| late(probe)).map(|(id, _)| *id).collect();
        for id in ids {
            self.missed += 1;
            ::metrics::counter!(metrics::MISSED).increment(1);
            if self.waiting.get(&id).is_some_and(|probe| probe.is_sent && probe.persisted.is_none()) {
                self.stuck.insert(id);
            }
            self.end(id);
        }
    }

    fn end(&mut self, id: Uuid) {
        let Some(probe) = self.waiting.remove(&id) else { return };
        for (name, took) in
            [(metrics::ACCEPTED, probe.accepted), (metrics::PERSISTED, probe.persisted), (metrics::SEEN, probe.seen)]
        {
            // What didn't come took at least as long as it was waited for: without that, the worst would be in no quantile.
            if let Some(took) = took.or(probe.is_missed().then_some(self.patience)) {
                ::metrics::histogram!(name).record(took.as_secs_f64());
            }
        }
        self.done += 1;
        self.told.push(probe);
    }

    fn take_done(&mut self) -> Vec<Probe> {
        std::mem::take(&mut self.told)
    }
}

impl Probe {
    /// `accepted` may have been overtaken.
    fn is_missed(&self) -> bool {
        self.persisted.is_none() || self.seen.is_none()
    }

    fn as_json(&self) -> String {
        let ms = |took: Option<Duration>| took.map(|took| took.as_secs_f64() * 1_000.0);
        json!({
            "number": self.number,
            "is_missed": self.is_missed(),
            "accepted_ms": ms(self.accepted),
            "persisted_ms": ms(self.persisted),
            "seen_ms": ms(self.seen),
        })
        .to_string()
    }

    fn as_text(&self) -> String {
        let ms = |took: Option<Duration>| {
            took.map_or_else(|| "   never".to_owned(), |took| format!("{:>5.1} ms", took.as_secs_f64() * 1_000.0))
        };
        format!(
            "{:>5}   accepted {}   persisted {}   seen {}",
            self.number,
            ms(self.accepted),
            ms(self.persisted),
            ms(self.seen)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_done_when_it_is_persisted_and_seen_and_missed_after_a_while() {
        let (began, ms) = (Instant::now(), Duration::from_millis);
        let mut canary = Canary { patience: ms(100), ..Canary::default() };
        let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
        canary.begin(first, began);
        canary.begin(second, began);
        canary.take(&Observed { at: began + ms(5), what: Observation::Persisted { op_id: first, seq: Some(2) } });
        canary.take(&Observed { at: began + ms(9), what: Observation::Accepted { op_id: second } });
        assert!(canary.take_done().is_empty());
        let event = waltalkie_client::Event {
            chat_id: "probe".into(),
            seq: 2,
            kind: "message".into(),
            message_id: Some(first),
            message_seq: Some(2),
            sender_id: None,
            actor_id: None,
            content: None,
            attachments: Vec::new(),
            memberships: Vec::new(),
            via: waltalkie_client::Via::Live,
        };
        canary.take(&Observed { at: began + ms(7), what: Observation::Event(event) });
        let done = canary.take_done();
        assert_eq!((done[0].number, done[0].persisted, done[0].seen), (1, Some(ms(5)), Some(ms(7))));
        canary.lose_patience(began + ms(100));
        assert!(canary.take_done().is_empty(), "in time yet");
        canary.lose_patience(began + ms(101));
        let missed = canary.take_done();
        assert_eq!((missed[0].number, missed[0].accepted, canary.missed), (2, Some(ms(9)), 1));
        assert!(missed[0].as_text().contains("never") && missed[0].as_json().contains("\"is_missed\":true"));
    }

    #[test]
    fn an_outage_leaves_a_few_messages_to_be_sent_and_misses_the_rest() {
        let (began, ms) = (Instant::now(), Duration::from_millis);
        let mut canary = Canary { patience: ms(100), ..Canary::default() };
        let ids: Vec<Uuid> = (0..10).map(|_| Uuid::now_v7()).collect();
        let mut sent = Vec::new();
        for (id, at) in ids.iter().zip(0..) {
            canary.lose_patience(began + ms(200 * at));
            sent.push(canary.begin(*id, began + ms(200 * at)));
        }
        assert_eq!(sent.iter().filter(|is_sent| **is_sent).count(), STUCK_AT_MOST);
        canary.lose_patience(began + ms(10_000));
        assert_eq!((canary.missed, canary.done), (10, 10), "each of them is missed");
        let what = Observation::Persisted { op_id: ids[0], seq: Some(9) };
        canary.take(&Observed { at: began + ms(10_001), what });
        assert!(canary.begin(Uuid::now_v7(), began + ms(10_002)), "what was stuck has gone out");
    }
}
