//! The notifier role: from events to people who aren't looking.
//!
//! ```text
//!   chat.events ──▶ decider ──▶ chat.notifications ──▶ intake ──▶ notify_task ──▶ sender ──▶ APNs, FCM, Web Push, SMTP
//!   chat.cursors ─▶   │  ▲                                            ▲   ▲          │
//!                     ▼  └── looks                                    │   └─ groups  └──▶ chat.notifications.dlq
//!              notify_look, notify_digest ──▶ digests ────────────────┘
//! ```
//!
//! *Progress.* Offsets and state are rows of the read database and move together; what is written to Kafka is there before
//! that, and comes twice after a crash in between, with the same identity. *Nothing is lost*: from the event on there is
//! always a row or a record. *Nothing twice*: `notify_sent` takes up a person, message and device once; only where an answer
//! of a provider was lost, or the process died while one was under way, the same goes out again with the same collapse key.
//!
//! *Failure.* Each part tries again by itself what may pass, and says so in the role's health; anything else ends the role with
//! the reason. A provider that is away is no failure of the role.

mod adding;
mod board;
mod consume;
mod decider;
mod digests;
mod error;
mod groups;
mod intake;
mod looks;
mod mails;
mod marks;
mod messages;
pub mod metrics;
mod outcomes;
mod outlets;
mod people;
mod presence;
mod publish;
mod sender;
mod sending;
mod shown;
mod tasks;
mod templates;
mod transaction;
pub mod trial;
mod verdict;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::Pool;
use futures_util::future::BoxFuture;
use rand::Rng;
use runtime::retry::Backoff as Pauses;
use runtime::{Config, RoleHealth, Shutdown, postgres};
use schemas::registry::Registry;
use schemas::{ChatEvent, Cursor, Notification};
use tokio::sync::Notify;
use tokio::task::JoinSet;

pub use error::Error;
pub use outlets::{Outlets, mailer, reach, unsubscribe, web_push_public_key};
pub use templates::languages;

use self::board::Board;
use self::error::chain;
use self::marks::Marks;
use self::messages::Messages;
use self::people::People;
use self::presence::Presences;
use self::publish::{Publisher, own_schema_id};
use crate::backoff::Backoff;
use crate::{decide, digest};

/// How often the parts' states are gathered into the role's health.
const GATHER_EVERY: Duration = Duration::from_millis(250);
/// Connections to each database, at the least: two for each part.
const LEAST_CONNECTIONS: usize = 14;
/// How often old rows are removed, and waiting ones counted.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// Longer than `chat.notifications` keeps a record that could come again.
const TIDY: [&str; 2] = [
    "DELETE FROM notify_sent WHERE ctid = ANY (ARRAY(
         SELECT ctid FROM notify_sent WHERE taken_at < clock_timestamp() - interval '8 days' LIMIT 5000))",
    "DELETE FROM notify_shown WHERE ctid = ANY (ARRAY(
         SELECT ctid FROM notify_shown WHERE shown_at < clock_timestamp() - interval '30 days' LIMIT 5000))",
];

/// One turn of a part; says whether there is more to do at once.
pub(crate) type Turn = fn(Arc<Notifier>) -> BoxFuture<'static, Result<bool, Error>>;

/// What the parts share.
pub(crate) struct Notifier {
    pub(crate) config: Arc<Config>,
    pub(crate) truth: Pool,
    pub(crate) read: Pool,
    pub(crate) registry: Arc<Registry>,
    pub(crate) outlets: Outlets,
    pub(crate) people: People,
    pub(crate) messages: Messages,
    pub(crate) presences: Presences,
    pub(crate) marks: Marks,
    pub(crate) publisher: Publisher,
    pub(crate) policy: decide::Policy,
    pub(crate) digest_policy: digest::Policy,
    pub(crate) backoff: Backoff,
    pub(crate) board: Board,
    /// There may be tasks.
    pub(crate) wake: Notify,
    /// Services to which nothing goes at the moment.
    held_back: Mutex<Vec<String>>,
    /// Keeps processes' pauses apart.
    pub(crate) salt: u64,
}

impl Notifier {
    /// Clients of what the configuration names; nothing is connected yet.
    pub(crate) fn new(config: &Arc<Config>) -> Result<Self, Error> {
        // Some parts hold a connection while they ask over another one: of too few, all could be held by who waits.
        let size = config.postgres.pool_size.max(LEAST_CONNECTIONS);
        let (truth_url, read_url) = (&config.postgres.truth_url, &config.postgres.read_url);
        let truth = postgres::pool(truth_url, "postgres.truth_url", size)?;
        let read = postgres::pool(read_url, "postgres.read_url", size)?;
        let registry = Arc::new(config.registry_client()?);
        let outlets = Outlets::new(config)?;
        Ok(Self {
            people: People { truth: truth.clone(), read: read.clone(), platforms: outlets.platforms() },
            messages: Messages { truth: truth.clone() },
            presences: Presences::new(config)?,
            marks: Marks::new(config)?,
            publisher: Publisher::new(config, Arc::clone(&registry))?,
            policy: outlets::decide_policy(&config.notify),
            digest_policy: outlets::digest_policy(&config.notify),
            backoff: outlets::backoff(&config.notify),
            board: Board::default(),
            wake: Notify::new(),
            held_back: Mutex::default(),
            salt: rand::rng().random(),
            config: Arc::clone(config),
            outlets,
            registry,
            truth,
            read,
        })
    }

    /// Notes to which services nothing goes at the moment.
    pub(crate) fn hold_back(&self, services: &[&str]) {
        *self.held_back.lock().unwrap_or_else(PoisonError::into_inner) =
            services.iter().map(|&service| service.to_owned()).collect();
    }

    /// Services to which nothing goes at the moment.
    pub(crate) fn held_back(&self) -> Vec<String> {
        self.held_back.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Turns again and again until it is time to stop: at once while there is more, else after `every`. What may pass is tried
    /// again with backoff.
    pub(crate) async fn repeat(
        self: &Arc<Self>,
        part: &'static str,
        every: Duration,
        shutdown: &Shutdown,
        turn: Turn,
    ) -> Result<(), Error> {
        let mut pauses = Pauses::default();
        while !shutdown.has_begun() {
            let pause = match turn(Arc::clone(self)).await {
                Ok(is_more) => {
                    self.board.ready(part);
                    pauses.reset();
                    if is_more { Duration::ZERO } else { every }
                }
                Err(failure) if failure.is_transient() => {
                    ::metrics::counter!(metrics::RETRIES, "part" => part).increment(1);
                    tracing::warn!(part, error = %chain(&failure), "trying again");
                    self.board.not_ready(part, chain(&failure));
                    pauses.next_pause()
                }
                Err(failure) => return Err(failure),
            };
            if !pause.is_zero() && !shutdown.pause(pause).await {
                break;
            }
        }
        Ok(())
    }
}

/// Runs the role until it is time to stop. With nothing configured it has nothing to do, and is ready.
pub async fn run(config: Arc<Config>, health: RoleHealth, shutdown: Shutdown) -> Result<(), Error> {
    if !config.notify.is_on() {
        loop {
            health.ready();
            if !shutdown.pause(Duration::from_secs(2)).await {
                return Ok(());
            }
        }
    }
    let notifier = Arc::new(Notifier::new(&config)?);
    let Some(ids) = ids(&notifier, &health, &shutdown).await? else { return Ok(()) };
    let life = shutdown.child();
    let mut parts: JoinSet<Result<(), Error>> = JoinSet::new();
    for part in ["notifier", "notifier-senders", "sender"] {
        notifier.board.not_ready(part, "starting");
    }
    let decider = decider::Decider::new(&notifier, ids.0, ids.1);
    let intake = intake::Intake::new(&notifier, ids.2);
    let (context, end) = (Arc::clone(&notifier), life.clone());
    parts.spawn(async move { Box::pin(consume::run(&decider, &context, &end)).await });
    let (context, end) = (Arc::clone(&notifier), life.clone());
    parts.spawn(async move { Box::pin(consume::run(&intake, &context, &end)).await });
    let (context, end) = (Arc::clone(&notifier), life.clone());
    parts.spawn(async move { Box::pin(looks::run(&context, &end)).await });
    let (context, end) = (Arc::clone(&notifier), life.clone());
    parts.spawn(async move { Box::pin(marks::run(&context, &end)).await });
    let (context, end) = (Arc::clone(&notifier), life.clone());
    parts.spawn(async move { Box::pin(digests::run(&context, &end)).await });
    let (context, end) = (Arc::clone(&notifier), life.clone());
    parts.spawn(async move { Box::pin(groups::run(&context, &end)).await });
    let (context, end) = (Arc::clone(&notifier), life.clone());
    parts.spawn(async move { Box::pin(sender::run(&context, &end)).await });
    let (context, end) = (Arc::clone(&notifier), life.clone());
    parts.spawn(async move { Box::pin(watch::run(&context, &end)).await });
    let (context, end) = (Arc::clone(&notifier), life.clone());
    parts.spawn(async move {
        let turn: Turn = |context| Box::pin(async move { tidy(&context).await });
        context.repeat("tidying", TIDY_EVERY, &end, turn).await
    });

    let mut failure = None;
    loop {
        match tokio::time::timeout(GATHER_EVERY, parts.join_next()).await {
            Err(_) => notifier.board.report(&health),
            Ok(Some(Ok(Ok(())))) => {}
            Ok(Some(Ok(Err(error)))) => {
                tracing::error!(error = %chain(&error), "the notifier can't go on");
                failure = failure.or(Some(error));
                life.begin();
            }
            Ok(Some(Err(error))) => {
                failure = failure.or(Some(Error::Ended(error.to_string())));
                life.begin();
            }
            Ok(None) => return failure.map_or(Ok(()), Err),
        }
    }
}

/// Ids of our schemas, waited for; `None` if it is time to stop.
async fn ids(notifier: &Notifier, health: &RoleHealth, shutdown: &Shutdown) -> Result<Option<(u32, u32, u32)>, Error> {
    let mut pauses = Pauses::default();
    loop {
        let asking = async {
            let registry = &notifier.registry;
            let (event, cursor) =
                (own_schema_id::<ChatEvent>(registry).await?, own_schema_id::<Cursor>(registry).await?);
            Ok((event, cursor, own_schema_id::<Notification>(registry).await?))
        };
        match asking.await {
            Ok(ids) => return Ok(Some(ids)),
            Err(failure) if Error::is_transient(&failure) => {
                health.not_ready(chain(&failure));
                if !shutdown.pause(pauses.next_pause()).await {
                    return Ok(None);
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

async fn tidy(notifier: &Notifier) -> Result<bool, Error> {
    let client = notifier.read.get().await?;
    for sql in TIDY {
        client.execute(sql, &[]).await.map_err(Error::database("removing old rows"))?;
    }
    let counting = client.query_one("SELECT count(*) FROM (SELECT 1 FROM notify_task LIMIT 100000) few", &[]);
    let waiting: i64 = counting.await.map_err(Error::database("counting tasks"))?.get(0);
    ::metrics::gauge!(metrics::WAITING).set(waiting as f64);
    Ok(false)
}
