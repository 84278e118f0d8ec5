//! Answers of the persister: sent on the Redis channel of the node that waits, and waited for there.
//!
//! An answer may be lost: Redis keeps nothing. Whoever waits reads the tables after a second of silence, where the same
//! transaction left the result.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::ConnectionManager;
use runtime::redis::Heard;
use runtime::{Config, Names, Shutdown};
use schemas::wire::Answer;
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;

/// Lists of answers that wait for Redis before new ones are dropped: the tables have them.
const QUEUED: usize = 1_024;

/// The persister's end.
pub(crate) struct Sender {
    queue: mpsc::Sender<(String, Vec<Answer>)>,
}

impl Sender {
    pub(crate) fn start(config: &Config, names: Names, shutdown: &Shutdown) -> Result<Self, Error> {
        let redis = runtime::redis::manager(&config.redis.url)?;
        let (queue, queued) = mpsc::channel(QUEUED);
        shutdown.spawn(send_all(redis, names, queued));
        Ok(Self { queue })
    }

    /// Sends answers to a node. Never waits: commands must not queue behind Redis.
    #[allow(clippy::unused_async, reason = "callers treat it like any other send")]
    pub(crate) async fn send(&self, node_id: String, answers: Vec<Answer>) {
        if self.queue.try_send((node_id, answers)).is_err() {
            tracing::debug!("answers are dropped while Redis is slow; gateways read the tables");
        }
    }
}

async fn send_all(mut redis: ConnectionManager, names: Names, mut queued: mpsc::Receiver<(String, Vec<Answer>)>) {
    let mut waiting = Vec::new();
    while queued.recv_many(&mut waiting, 64).await > 0 {
        let mut pipeline = redis::pipe();
        for (node_id, answers) in waiting.drain(..) {
            let Ok(json) = serde_json::to_vec(&answers) else { continue };
            pipeline.cmd("SPUBLISH").arg(names.node_channel(&node_id)).arg(json).ignore();
        }
        if let Err(error) = pipeline.exec_async(&mut redis).await {
            tracing::warn!(error = %error, "answers could not be sent; gateways read the tables");
        }
    }
}

/// Those that wait, oldest first: ids are version 7 UUIDs, which begin with their time.
type Waiting = Arc<Mutex<BTreeMap<String, Undecided>>>;

struct Undecided {
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

/// The gateway's end.
#[derive(Clone)]
pub(crate) struct Listener {
    waiting: Waiting,
}

/// One command's place in the list of those that wait; leaves it when dropped.
pub(crate) struct Expected {
    pub(crate) answer: oneshot::Receiver<Answer>,
    command_id: String,
    waiting: Waiting,
}

impl Listener {
    /// Starts to listen on this node's channel.
    pub(crate) fn start(config: &Config, names: &Names, node_id: &str, shutdown: &Shutdown) -> Result<Self, Error> {
        let client = runtime::redis::client(&config.redis.url)?;
        let (subscriptions, hearing) = runtime::redis::subscriber(client, shutdown);
        let listener = Self { waiting: Arc::default() };
        let waiting = Arc::clone(&listener.waiting);
        let channel = names.node_channel(node_id);
        shutdown.spawn(async move {
            subscriptions.subscribe(channel).await;
            hear_all(hearing, waiting).await;
            drop(subscriptions);
        });
        Ok(listener)
    }

    /// Expects the answer to a command; ask before the command is sent.
    pub(crate) fn expect(&self, command_id: &str) -> Expected {
        let (sender, answer) = oneshot::channel();
        let undecided = Undecided { since: Instant::now(), answer: sender };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(command_id.to_owned(), undecided);
        Expected { answer, command_id: command_id.to_owned(), waiting: Arc::clone(&self.waiting) }
    }

    /// How many wait, and for how long the oldest.
    pub(crate) fn undecided(&self) -> (usize, Duration) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = waiting.first_key_value().map(|(_, undecided)| undecided.since.elapsed());
        (waiting.len(), oldest.unwrap_or_default())
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.command_id);
    }
}

async fn hear_all(mut hearing: mpsc::Receiver<Heard>, waiting: Waiting) {
    while let Some(heard) = hearing.recv().await {
        let Heard::Message { payload, .. } = heard else { continue };
        let Ok(answers) = serde_json::from_slice::<Vec<Answer>>(&payload) else {
            tracing::warn!("something that is no answer came on this node's channel");
            continue;
        };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for answer in answers {
            if let Some(undecided) = waiting.remove(&answer.command_id) {
                // Whoever waited may have gone; the answer is in the tables.
                let _ = undecided.answer.send(answer);
            }
        }
    }
}
