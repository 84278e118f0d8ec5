//! The senders: tasks to providers, several at once, each with its backoff, each provider with its breaker.
//!
//! ```text
//!   notify_task ──claim──▶ ready (reads, decides a last time) ──▶ breaker ──begin──▶ provider ──▶ outcome
//!        ▲                                                          │held back          sent │ gone │ refused │ retry
//!        └──────────────── later ◀──────────────────────────────────┴───────────────────────────────────────┘
//! ```
//!
//! *Progress.* A claim is a lease: due again by itself if this process dies. A try begins by counting it, which only who has the
//! task can do, and whose outcome comes after somebody else began another try writes nothing. *Order.* None, except that what is
//! of large chats comes after everything else. *Bounded.* `notify.sends_at_once` calls, at most half of them at one service, so
//! that one which hangs leaves room for the others; and no call outlives its lease.
//!
//! *Failure.* A provider that fails is tried again with backoff, never before its `Retry-After`; after the last try the
//! notification goes to the dead letters, and so does what a provider refuses for good. A device that is gone is removed,
//! unless it was registered again since.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use runtime::retry::Backoff;
use runtime::{Shutdown, clock};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::error::{Error, chain};
use super::outcomes::{self, Came, Done, Registration};
use super::sending::{self, Call, Ready};
use super::tasks::{self, Kind, Task};
use super::{Notifier, mails, metrics};
use crate::breaker::{self, Breaker};
use crate::provider::{Fault, Outcome};

const PART: &str = "sender";
/// How often it looks for tasks that nothing in this process tells of.
const EVERY: Duration = Duration::from_millis(500);
/// From the claim until the try begins.
const CLAIM: Duration = Duration::from_secs(15);
/// What a call may take beyond two of a provider's time-outs: a token first, then the notification.
const CALL_MARGIN: Duration = Duration::from_secs(5);
/// Beyond the call: writing what came of it.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// Breakers that are kept: of more services, those that hold nothing back are forgotten.
const MOST_BREAKERS: usize = 1_000;

struct Sender<'a> {
    notifier: &'a Arc<Notifier>,
    shutdown: &'a Shutdown,
    breakers: HashMap<String, Breaker>,
    under_way: HashMap<String, usize>,
    /// Services, by their labels, that took something from this process.
    worked: HashSet<&'static str>,
    calls: JoinSet<Done>,
}

/// Sends until it is time to stop; what is under way then is waited for.
pub(crate) async fn run(notifier: &Arc<Notifier>, shutdown: &Shutdown) -> Result<(), Error> {
    let mut sender = Sender {
        notifier,
        shutdown,
        breakers: HashMap::new(),
        under_way: HashMap::new(),
        worked: HashSet::new(),
        calls: JoinSet::new(),
    };
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
                    self.is_back(&done.task.service);
                    finished.push(done);
                }
                Err(error) => tracing::error!(%error, "a call broke off; its task is due again after its lease"),
            }
            next = self.calls.try_join_next();
        }
        self.finish(finished).await
    }

    fn is_back(&mut self, service: &str) {
        if let Some(count) = self.under_way.get_mut(service) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.under_way.remove(service);
            }
        }
    }

    /// Takes tasks and calls their providers; says whether there were any.
    async fn claim(&mut self, room: usize) -> Result<bool, Error> {
        let most = (self.notifier.config.notify.sends_at_once / 2).max(1);
        let rooms = self.rooms(most);
        let claimed = {
            let client = self.notifier.read.get().await?;
            tasks::claim(&client, &rooms, most.min(room), room, CLAIM).await?
        };
        if claimed.is_empty() {
            return Ok(false);
        }
        let (mails, pushes): (Vec<Task>, Vec<Task>) = claimed.into_iter().partition(|task| task.kind == Kind::Mail);
        let (mut calls, mut finished) = (Vec::new(), Vec::new());
        for (task, ready) in Box::pin(sending::ready(self.notifier, pushes)).await? {
            let came = match ready {
                Ready::Call { call, refusals } => match self.admit(&task.service) {
                    Ok(()) => {
                        calls.push((task, call, refusals));
                        continue;
                    }
                    Err(wait) => Came::HeldBack(wait),
                },
                Ready::Cancelled(reason) => Came::Cancelled(reason),
                Ready::Unfit(reason) => Came::Unfit(reason),
            };
            finished.push(Done { task, came });
        }
        let begun = {
            let client = self.notifier.read.get().await?;
            let tasks: Vec<&Task> = calls.iter().map(|(task, ..)| task).collect();
            tasks::begin(&client, &tasks, self.lease()).await?
        };
        for (mut task, call, refusals) in calls {
            if begun.contains(&task.task_id) {
                task.attempt += 1;
                self.call(task, call, refusals);
            }
        }
        for task in mails {
            match self.admit(&task.service) {
                Ok(()) => self.mail(task),
                Err(wait) => finished.push(Done { task, came: Came::HeldBack(wait) }),
            }
        }
        self.finish(finished).await?;
        Ok(true)
    }

    /// How many more may go to services that aren't free: none where a breaker holds them back.
    fn rooms(&self, most: usize) -> Vec<(String, usize)> {
        let now = Instant::now();
        let mut rooms: HashMap<&str, usize> =
            self.under_way.iter().map(|(service, count)| (service.as_str(), most.saturating_sub(*count))).collect();
        let held_back = self.breakers.iter().filter(|(_, breaker)| breaker.holds_back(now).is_some());
        let held_back: Vec<&str> = held_back.map(|(service, _)| service.as_str()).collect();
        rooms.extend(held_back.iter().map(|service| (*service, 0)));
        self.notifier.hold_back(&held_back);
        rooms.into_iter().map(|(service, room)| (service.to_owned(), room)).collect()
    }

    fn admit(&mut self, service: &str) -> Result<(), Duration> {
        let now = Instant::now();
        if self.breakers.len() >= MOST_BREAKERS {
            self.breakers.retain(|_, breaker| breaker.holds_back(now).is_some());
        }
        let breaker =
            self.breakers.entry(service.to_owned()).or_insert_with(|| Breaker::new(breaker::Policy::default()));
        breaker.admit(now)
    }

    fn call(&mut self, task: Task, call: Box<Call>, refusals: i32) {
        *self.under_way.entry(task.service.clone()).or_default() += 1;
        let (notifier, most) = (Arc::clone(self.notifier), self.longest());
        self.calls.spawn(async move {
            let outcome = made(&notifier, &task, &call, most).await;
            let device = call.registered_at().map(|at| Registration { at, refusals });
            Done { task, came: Came::Outcome(outcome, device) }
        });
    }

    /// A mail is read together and sent beside everything else: that takes many queries.
    fn mail(&mut self, mut task: Task) {
        *self.under_way.entry(task.service.clone()).or_default() += 1;
        let (notifier, most, lease) = (Arc::clone(self.notifier), self.longest(), self.lease());
        self.calls.spawn(async move {
            let came = match Box::pin(mails::ready(&notifier, &task)).await {
                Ok(Ready::Call { call, .. }) => match begun(&notifier, &task, lease).await {
                    Ok(true) => {
                        task.attempt += 1;
                        Came::Outcome(made(&notifier, &task, &call, most).await, None)
                    }
                    Ok(false) => Came::Lost,
                    Err(error) => Came::Unready(error),
                },
                Ok(Ready::Cancelled(reason)) => Came::Cancelled(reason),
                Ok(Ready::Unfit(reason)) => Came::Unfit(reason),
                Err(error) => Came::Unready(error),
            };
            Done { task, came }
        });
    }

    fn longest(&self) -> Duration {
        Duration::from_millis(self.notifier.config.notify.timeout_ms) * 2 + CALL_MARGIN
    }

    fn lease(&self) -> Duration {
        self.longest() + LEASE_MARGIN
    }

    /// Writes what came of tasks. Tried until it is written: an outcome that is lost would mean the same again.
    async fn finish(&mut self, finished: Vec<Done>) -> Result<(), Error> {
        if finished.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        for Done { task, came } in &finished {
            match came {
                Came::Outcome(outcome, _) => self.record(&task.service, outcome, now),
                Came::Cancelled(reason) => {
                    ::metrics::counter!(metrics::CANCELLED, "reason" => *reason).increment(1);
                }
                _ => {}
            }
        }
        let open = self.breakers.values().filter(|breaker| !breaker.is_closed()).count();
        ::metrics::gauge!(metrics::OPEN_BREAKERS).set(open as f64);
        let (mut backoff, mut is_written) = (Backoff::default(), false);
        loop {
            let writing = async {
                if !is_written {
                    outcomes::write(self.notifier, &finished, &self.worked).await?;
                    is_written = true;
                }
                outcomes::clear_what_was_read(self.notifier, &finished).await
            };
            match Box::pin(writing).await {
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

    fn record(&mut self, service: &str, outcome: &Outcome, now: Instant) {
        if matches!(outcome, Outcome::Sent { .. }) {
            self.worked.insert(metrics::label(service));
        }
        if let Some(breaker) = self.breakers.get_mut(service) {
            let was_closed = breaker.is_closed();
            breaker.record(outcome, now);
            if was_closed != breaker.is_closed() {
                let is_closed = breaker.is_closed();
                tracing::warn!(service = metrics::label(service), is_closed, "a provider's circuit breaker");
            }
        }
    }
}

/// Whether a task is this process's to try; counts the try.
async fn begun(notifier: &Notifier, task: &Task, lease: Duration) -> Result<bool, Error> {
    let client = notifier.read.get().await?;
    Ok(tasks::begin(&client, &[task], lease).await?.contains(&task.task_id))
}

/// Calls a provider once, for `most` at the longest.
async fn made(notifier: &Notifier, task: &Task, call: &Call, most: Duration) -> Outcome {
    let began = Instant::now();
    let outcome = timeout(most, call.make(&notifier.outlets)).await.unwrap_or_else(|_| Outcome::Retry {
        after: None,
        fault: Fault::AnswerLost("it took longer than its lease".into()),
    });
    let service = metrics::label(&task.service);
    ::metrics::histogram!(metrics::TRY_SECONDS, "service" => service).record(began.elapsed().as_secs_f64());
    ::metrics::counter!(metrics::TRIES, "service" => service, "outcome" => outcome.name()).increment(1);
    if task.attempt == 1 && task.kind == Kind::Push && matches!(outcome, Outcome::Sent { .. }) {
        let took_ms = (clock::now_ms() - task.occurred_at_ms).max(0);
        ::metrics::histogram!(metrics::DELIVERY_SECONDS).record(took_ms as f64 / 1_000.0);
    }
    outcome
}
