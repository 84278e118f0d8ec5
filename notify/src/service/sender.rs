//! The senders: tasks to providers, several at once, each with its backoff, each provider with its breaker.
//!
//! ```text
//!   notify_task ──claim──▶ ready (reads, decides a last time) ──▶ breaker ──▶ provider ──▶ outcome
//!        ▲                                                          │held back     sent │ gone │ refused │ retry
//!        └──────────────── later ◀──────────────────────────────────┴──────────────────────────────────────┘
//! ```
//!
//! *Progress.* A claim is a lease: due again by itself if this process dies. *Order.* None, except that what is of large chats
//! comes after everything else. *Bounded.* `notify.sends_at_once` calls, at most half of them at one service, so that one which
//! hangs leaves room for the others.
//!
//! *Failure.* A provider that fails is tried again with backoff, never before its `Retry-After`; after the last try the
//! notification goes to the dead letters, and so does what a provider refuses for good. A device that is gone is removed,
//! unless it was registered again since.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Transaction;
use runtime::retry::Backoff;
use runtime::{Shutdown, clock};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Notifier;
use super::error::{Error, chain};
use super::sending::{self, Call, Ready};
use super::tasks::{self, Kind, Task};
use super::{metrics, shown};
use crate::breaker::{self, Breaker};
use crate::provider::Outcome;

const PART: &str = "sender";
/// How often it looks for tasks that nothing in this process tells of.
const EVERY: Duration = Duration::from_millis(500);
/// Beyond a provider's time-out: everything around it.
const LEASE_MARGIN: Duration = Duration::from_secs(15);
/// Breakers that are kept; of more services, closed ones are forgotten.
const MOST_BREAKERS: usize = 1_000;

const REMOVE_DEVICE: &str = "DELETE FROM user_device WHERE user_id = $1 AND device_id = $2 AND updated_at <= $3";

/// A call that came back.
struct Done {
    task: Task,
    call: Box<Call>,
    outcome: Outcome,
}

struct Sender<'a> {
    notifier: &'a Arc<Notifier>,
    shutdown: &'a Shutdown,
    breakers: HashMap<String, Breaker>,
    under_way: HashMap<String, usize>,
    calls: JoinSet<Done>,
}

/// Sends until it is time to stop; what is under way then is waited for.
pub(crate) async fn run(notifier: &Arc<Notifier>, shutdown: &Shutdown) -> Result<(), Error> {
    let mut sender =
        Sender { notifier, shutdown, breakers: HashMap::new(), under_way: HashMap::new(), calls: JoinSet::new() };
    let mut backoff = Backoff::default();
    loop {
        let is_stopping = shutdown.has_begun();
        if is_stopping && sender.calls.is_empty() {
            return Ok(());
        }
        match Box::pin(sender.turn(is_stopping)).await {
            Ok(()) => {
                notifier.board.ready(PART);
                backoff.reset();
            }
            Err(failure) if failure.is_transient() => {
                ::metrics::counter!(metrics::RETRIES, "part" => PART).increment(1);
                tracing::warn!(part = PART, error = %chain(&failure), "trying again");
                notifier.board.not_ready(PART, chain(&failure));
                // Not paused by the shutdown alone: outcomes are still to be written, as long as the drain lasts.
                tokio::time::sleep(backoff.next_pause()).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

impl Sender<'_> {
    async fn turn(&mut self, is_stopping: bool) -> Result<(), Error> {
        let room = self.notifier.config.notify.sends_at_once.saturating_sub(self.calls.len());
        if room > 0 && !is_stopping && self.claim(room).await? {
            return Ok(());
        }
        let woken = tokio::select! {
            biased;
            Some(done) = self.calls.join_next(), if !self.calls.is_empty() => Some(done),
            () = self.shutdown.begun(), if !is_stopping => None,
            () = self.notifier.wake.notified() => None,
            () = tokio::time::sleep(EVERY) => None,
        };
        let mut finished = Vec::new();
        let mut next = woken;
        while let Some(done) = next {
            match done {
                Ok(done) => {
                    if let Some(count) = self.under_way.get_mut(&done.task.service) {
                        *count = count.saturating_sub(1);
                    }
                    finished.push(done);
                }
                Err(error) => tracing::error!(%error, "a call broke off; its task is due again after its lease"),
            }
            next = self.calls.try_join_next();
        }
        self.finish(finished).await
    }

    /// Takes tasks and calls their providers; says whether there were any.
    async fn claim(&mut self, room: usize) -> Result<bool, Error> {
        let now = Instant::now();
        let most = (self.notifier.config.notify.sends_at_once / 2).max(1);
        let held_back = self.breakers.iter().filter(|(_, breaker)| breaker.holds_back(now).is_some());
        let crowded = self.under_way.iter().filter(|(_, count)| **count >= most);
        let without: Vec<String> =
            held_back.map(|(service, _)| service.clone()).chain(crowded.map(|(service, _)| service.clone())).collect();
        let lease = Duration::from_millis(self.notifier.config.notify.timeout_ms) * 2 + LEASE_MARGIN;
        let claimed = {
            let client = self.notifier.read.get().await?;
            tasks::claim(&client, &without, room as i64, lease).await?
        };
        if claimed.is_empty() {
            return Ok(false);
        }
        let mut over = Vec::new();
        for (task, ready) in Box::pin(sending::ready(self.notifier, claimed)).await? {
            match ready {
                Ready::Call(call) => self.call(task, call).await?,
                Ready::Cancelled(reason) => {
                    ::metrics::counter!(metrics::CANCELLED, "reason" => reason).increment(1);
                    over.push(task.task_id);
                }
                Ready::Unfit(reason) => self.bury(&task, &reason).await?,
            }
        }
        if !over.is_empty() {
            let client = self.notifier.read.get().await?;
            tasks::remove(&client, &over).await.map_err(Error::database("removing tasks"))?;
        }
        Ok(true)
    }

    async fn call(&mut self, task: Task, call: Box<Call>) -> Result<(), Error> {
        if self.breakers.len() >= MOST_BREAKERS {
            self.breakers.retain(|_, breaker| !breaker.is_closed());
        }
        let breaker =
            self.breakers.entry(task.service.clone()).or_insert_with(|| Breaker::new(breaker::Policy::default()));
        if let Err(wait) = breaker.admit(Instant::now()) {
            let client = self.notifier.read.get().await?;
            let putting_off = tasks::later(&client, task.task_id, wait, false);
            return putting_off.await.map_err(Error::database("putting a task off"));
        }
        *self.under_way.entry(task.service.clone()).or_default() += 1;
        let notifier = Arc::clone(self.notifier);
        self.calls.spawn(async move {
            let began = Instant::now();
            let outcome = call.make(&notifier.outlets).await;
            let service = metrics::label(&task.service);
            ::metrics::histogram!(metrics::TRY_SECONDS, "service" => service).record(began.elapsed().as_secs_f64());
            ::metrics::counter!(metrics::TRIES, "service" => service, "outcome" => outcome.name()).increment(1);
            if task.attempt == 1 && task.kind == Kind::Push && matches!(outcome, Outcome::Sent { .. }) {
                let took_ms = (clock::now_ms() - task.occurred_at_ms).max(0);
                ::metrics::histogram!(metrics::DELIVERY_SECONDS).record(took_ms as f64 / 1_000.0);
            }
            Done { task, call, outcome }
        });
        Ok(())
    }

    /// Writes what came of calls. Tried until it is written: an outcome that is lost would mean the same again.
    async fn finish(&mut self, finished: Vec<Done>) -> Result<(), Error> {
        if finished.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        for Done { task, outcome, .. } in &finished {
            if let Some(breaker) = self.breakers.get_mut(&task.service) {
                let was_closed = breaker.is_closed();
                breaker.record(outcome, now);
                if was_closed != breaker.is_closed() {
                    let (service, is_closed) = (&task.service, breaker.is_closed());
                    tracing::warn!(service = metrics::label(service), is_closed, "a provider's circuit breaker");
                }
            }
        }
        let open = self.breakers.values().filter(|breaker| !breaker.is_closed()).count();
        ::metrics::gauge!(metrics::OPEN_BREAKERS).set(open as f64);
        let mut backoff = Backoff::default();
        loop {
            match Box::pin(self.write(&finished)).await {
                Ok(()) => return Ok(()),
                Err(failure) if failure.is_transient() => {
                    tracing::warn!(part = PART, error = %chain(&failure), "outcomes can't be written; trying again");
                    self.notifier.board.not_ready(PART, chain(&failure));
                    tokio::time::sleep(backoff.next_pause()).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn write(&self, finished: &[Done]) -> Result<(), Error> {
        // First of all what can't be taken back by a rollback, and may be done twice.
        for Done { task, call, outcome } in finished {
            match outcome {
                Outcome::Gone { since_ms } => self.remove_device(task, call, *since_ms).await?,
                Outcome::Refused { reason } if task.kind != Kind::Clear => self.put_aside(task, reason).await?,
                Outcome::Retry { after, fault } if self.pause(task, *after).is_none() && task.kind != Kind::Clear => {
                    self.put_aside(task, &format!("after {} tries: {fault}", task.attempt)).await?;
                }
                _ => {}
            }
        }
        let mut client = self.notifier.read.get().await?;
        let transaction = client.transaction().await.map_err(Error::database("beginning"))?;
        for Done { task, outcome, .. } in finished {
            self.settle(&transaction, task, outcome).await.map_err(Error::database("writing an outcome"))?;
        }
        transaction.commit().await.map_err(Error::database("committing"))?;
        self.clear_what_was_read(finished).await
    }

    async fn settle(
        &self,
        transaction: &Transaction<'_>,
        task: &Task,
        outcome: &Outcome,
    ) -> Result<(), tokio_postgres::Error> {
        match outcome {
            Outcome::Sent { .. } => {
                if task.kind == Kind::Push {
                    let place = (task.user_id.as_str(), task.chat_id.as_str(), task.device_id.as_str());
                    shown::show(transaction, place, task.seq).await?;
                }
                tasks::remove(transaction, &[task.task_id]).await
            }
            Outcome::Gone { .. } => tasks::remove(transaction, &[task.task_id]).await,
            Outcome::Retry { after, fault } => match self.pause(task, *after) {
                Some(pause) => {
                    tracing::info!(service = metrics::label(&task.service), attempt = task.attempt, error = %fault,
                        pause_ms = pause.as_millis() as u64, "a notification is tried again");
                    tasks::later(transaction, task.task_id, pause, true).await
                }
                None => self.end(transaction, task).await,
            },
            Outcome::Refused { .. } => self.end(transaction, task).await,
        }
    }

    /// Ends a task whose notification is among the dead letters now: from there it may come again.
    async fn end(&self, transaction: &Transaction<'_>, task: &Task) -> Result<(), tokio_postgres::Error> {
        task.free(transaction).await?;
        tasks::remove(transaction, &[task.task_id]).await
    }

    fn pause(&self, task: &Task, after: Option<Duration>) -> Option<Duration> {
        // The same for the same task and try, since it is asked twice.
        let mixed = (task.task_id as u64)
            .wrapping_mul(31)
            .wrapping_add(u64::from(task.attempt))
            .wrapping_add(self.notifier.salt);
        let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (mixed >> 29);
        let random = (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1_u64 << 53) as f64;
        self.notifier.backoff.pause(task.attempt, after, random)
    }

    async fn bury(&self, task: &Task, reason: &str) -> Result<(), Error> {
        self.put_aside(task, reason).await?;
        let mut client = self.notifier.read.get().await?;
        let transaction = client.transaction().await.map_err(Error::database("beginning"))?;
        self.end(&transaction, task).await.map_err(Error::database("ending a task"))?;
        transaction.commit().await.map_err(Error::database("committing"))
    }

    async fn put_aside(&self, task: &Task, reason: &str) -> Result<(), Error> {
        let service = metrics::label(&task.service);
        tracing::error!(service, error = reason, "a notification can't be sent and goes to the dead letters");
        self.notifier.publisher.bury(&task.notification(clock::now_ms()), &format!("{service}: {reason}")).await
    }

    async fn remove_device(&self, task: &Task, call: &Call, since_ms: Option<i64>) -> Result<(), Error> {
        let Some(registered_at) = call.registered_at() else {
            tracing::warn!("a mail address isn't there; its mail is given up");
            return Ok(());
        };
        let until = sending::gone_until(since_ms, registered_at);
        let client = self.notifier.truth.get().await?;
        let removed = client
            .execute(REMOVE_DEVICE, &[&task.user_id, &task.device_id, &until])
            .await
            .map_err(Error::database("removing a device"))?;
        ::metrics::counter!(metrics::DEVICES_GONE).increment(removed);
        Ok(())
    }

    /// What was read while it was on its way is to be taken away at once: its receipt came before it was shown.
    async fn clear_what_was_read(&self, finished: &[Done]) -> Result<(), Error> {
        let sent = finished
            .iter()
            .filter(|done| done.task.kind == Kind::Push && matches!(done.outcome, Outcome::Sent { .. }))
            .map(|done| &done.task);
        let (chats, users): (Vec<&str>, Vec<&str>) =
            sent.clone().map(|task| (task.chat_id.as_str(), task.user_id.as_str())).unzip();
        let cursors = self.notifier.people.cursors(&chats, &users).await?;
        for task in sent {
            let read = cursors.get(&(task.chat_id.clone(), task.user_id.clone())).map_or(0, |(_, read_seq)| *read_seq);
            if read >= task.seq {
                let read = shown::read_of(task.user_id.clone(), task.chat_id.clone(), read, clock::now_ms());
                let mut client = self.notifier.read.get().await?;
                let transaction = client.transaction().await.map_err(Error::database("beginning"))?;
                tasks::add_clears(self.notifier, &transaction, &read).await?;
                transaction.commit().await.map_err(Error::database("committing"))?;
            }
        }
        Ok(())
    }
}
