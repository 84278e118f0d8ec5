//! Answers of the persister: sent on the Redis channel of the node that waits, and waited for there.
//!
//! An answer may be lost: Redis keeps nothing. After a second of silence the tables are asked ([`crate::silence`]), where the
//! same transaction left the result.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtime::redis::{Commands, Heard};
use runtime::{Config, Names, Shutdown};
use schemas::ChatCommand;
use schemas::wire::Answer;
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::silence::{Patience, Question};

/// Lists of answers that wait for Redis before new ones are dropped: the tables have them.
const QUEUED: usize = 1_024;

/// The persister's end.
pub(crate) struct Sender {
    queue: mpsc::Sender<(String, Vec<Answer>)>,
}

impl Sender {
    pub(crate) fn start(config: &Config, names: Names, shutdown: &Shutdown) -> Result<Self, Error> {
        let redis = runtime::redis::commands(&config.redis)?;
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

async fn send_all(mut redis: Commands, names: Names, mut queued: mpsc::Receiver<(String, Vec<Answer>)>) {
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
    question: Question,
    patience: Patience,
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
    /// Its place: an answer found twice is taken once.
    command_id: String,
    waiting: Waiting,
}

impl Listener {
    /// Starts to listen on this node's channel.
    pub(crate) fn start(config: &Config, names: &Names, node_id: &str, shutdown: &Shutdown) -> Result<Self, Error> {
        let (subscriptions, hearing) = runtime::redis::subscriber(&config.redis, shutdown)?;
        let listener = Self { waiting: Arc::default() };
        let hears = listener.clone();
        let channel = names.node_channel(node_id);
        shutdown.spawn(async move {
            subscriptions.subscribe(channel).await;
            hear_all(hearing, &hears).await;
            drop(subscriptions);
        });
        Ok(listener)
    }

    /// Expects the answer to a command; ask before the command is sent.
    pub(crate) fn expect(&self, command: &ChatCommand) -> Expected {
        let (sender, answer) = oneshot::channel();
        let since = Instant::now();
        let (question, patience) = (Question::of(command), Patience::new(since));
        let undecided = Undecided { since, question, patience, answer: sender };
        let command_id = command.command_id.clone();
        self.lock().insert(command_id.clone(), undecided);
        Expected { answer, command_id, waiting: Arc::clone(&self.waiting) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Undecided>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that have to be asked for now, the oldest first, at most so many; they count as asked.
    pub(crate) fn overdue(&self, now: Instant, most: usize) -> Vec<Question> {
        let mut waiting = self.lock();
        let overdue = waiting
            .values_mut()
            .filter_map(|undecided| undecided.patience.is_over(now).then(|| undecided.question.clone()));
        overdue.take(most).collect()
    }

    /// An answer has come. `true` if somebody waited for it.
    pub(crate) fn answer(&self, answer: Answer) -> bool {
        let undecided = self.lock().remove(&answer.command_id);
        // Whoever waited may have gone; the answer is in the tables.
        undecided.is_some_and(|undecided| undecided.answer.send(answer).is_ok())
    }

    /// How many wait, and for how long the oldest.
    pub(crate) fn undecided(&self) -> (usize, Duration) {
        let waiting = self.lock();
        let oldest = waiting.first_key_value().map(|(_, undecided)| undecided.since.elapsed());
        (waiting.len(), oldest.unwrap_or_default())
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.command_id);
    }
}

async fn hear_all(mut hearing: mpsc::Receiver<Heard>, listener: &Listener) {
    while let Some(heard) = hearing.recv().await {
        let Heard::Message { payload, .. } = heard else { continue };
        let Ok(answers) = serde_json::from_slice::<Vec<Answer>>(&payload) else {
            tracing::warn!("something that is no answer came on this node's channel");
            continue;
        };
        for answer in answers {
            listener.answer(answer);
        }
    }
}
