//! What came of tasks, written down: removed, tried again later, or among the dead letters.
//!
//! *Order.* First what no rollback takes back and may be done twice: devices, dead letters. Then the rows, in one transaction,
//! each only if the task is still this process's. Then what was read while it was on its way is cleared.

use std::collections::HashSet;
use std::time::Duration;

use deadpool_postgres::Transaction;
use runtime::clock;
use time::OffsetDateTime;

use super::Notifier;
use super::error::{Error, chain};
use super::sending;
use super::tasks::{self, Kind, Task};
use super::transaction::begin;
use super::{adding, metrics, shown};
use crate::provider::Outcome;

/// Refusals in a row after which a device is given up, where its service takes what goes to others.
const MOST_REFUSALS: i32 = 5;
/// Before a task is looked at again that couldn't be made ready.
const UNREADY: Duration = Duration::from_secs(5);

const REMOVE_DEVICE: &str = "DELETE FROM user_device WHERE user_id = $1 AND device_id = $2 AND updated_at <= $3";
const COUNT_REFUSAL: &str = "
    UPDATE user_device SET refusals = refusals + 1 WHERE user_id = $1 AND device_id = $2 AND updated_at <= $3
    RETURNING refusals";
const FORGIVE: &str = "UPDATE user_device SET refusals = 0 WHERE user_id = $1 AND device_id = $2 AND refusals > 0";

/// A device as it was when it was called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registration {
    pub(crate) at: OffsetDateTime,
    pub(crate) refusals: i32,
}

/// What came of a task.
pub(crate) enum Came {
    /// The provider was called.
    Outcome(Outcome, Option<Registration>),
    /// It isn't wanted any more; why.
    Cancelled(&'static str),
    /// It can't be sent at all; why.
    Unfit(String),
    /// Its provider's breaker holds it back for so long.
    HeldBack(Duration),
    /// What is needed for it can't be read just now.
    Unready(Error),
    /// Somebody else has it by now.
    Lost,
}

/// A task, and what came of it.
pub(crate) struct Done {
    pub(crate) task: Task,
    pub(crate) came: Came,
}

impl Done {
    fn is_shown(&self) -> bool {
        self.task.kind == Kind::Push && matches!(self.came, Came::Outcome(Outcome::Sent { .. }, _))
    }
}

/// Writes all of it; may be done again as a whole. `worked` are the services that took something from this process: only their
/// refusals speak against a device, since others may refuse everything for a setting of ours.
pub(crate) async fn write(notifier: &Notifier, finished: &[Done], worked: &HashSet<&str>) -> Result<(), Error> {
    for Done { task, came } in finished {
        match came {
            Came::Outcome(Outcome::Gone { since_ms }, device) => {
                remove_device(notifier, task, *device, *since_ms).await?;
            }
            Came::Outcome(Outcome::Refused { reason }, device) if task.kind != Kind::Clear => {
                put_aside(notifier, task, reason).await?;
                if let Some(device) = device.filter(|_| worked.contains(metrics::label(&task.service))) {
                    count_refusal(notifier, task, device).await?;
                }
            }
            Came::Outcome(Outcome::Retry { after, fault }, _)
                if task.kind != Kind::Clear && pause(notifier, task, *after).is_none() =>
            {
                put_aside(notifier, task, &format!("after {} tries: {fault}", task.attempt)).await?;
            }
            Came::Outcome(Outcome::Sent { .. }, Some(device)) if device.refusals > 0 => forgive(notifier, task).await?,
            Came::Unfit(reason) => put_aside(notifier, task, reason).await?,
            _ => {}
        }
    }
    let mut client = notifier.read.get().await?;
    let transaction = begin(&mut client).await?;
    for done in finished {
        settle(notifier, &transaction, done).await.map_err(Error::database("writing an outcome"))?;
    }
    transaction.commit().await.map_err(Error::database("committing"))
}

async fn settle(notifier: &Notifier, transaction: &Transaction<'_>, done: &Done) -> Result<(), tokio_postgres::Error> {
    let task = &done.task;
    match &done.came {
        Came::Outcome(Outcome::Sent { .. }, _) => {
            if done.is_shown() {
                let place = (task.user_id.as_str(), task.chat_id.as_str(), task.device_id.as_str());
                shown::show(transaction, place, task.seq).await?;
            }
            tasks::remove(transaction, task).await.map(drop)
        }
        Came::Outcome(Outcome::Gone { .. }, _) | Came::Cancelled(_) => tasks::remove(transaction, task).await.map(drop),
        Came::Outcome(Outcome::Retry { after, fault }, _) => match pause(notifier, task, *after) {
            Some(pause) => {
                tracing::info!(service = metrics::label(&task.service), attempt = task.attempt, error = %fault,
                    pause_ms = pause.as_millis() as u64, "a notification is tried again");
                tasks::later(transaction, task, pause).await
            }
            None => end(transaction, task).await,
        },
        Came::Outcome(Outcome::Refused { .. }, _) | Came::Unfit(_) => end(transaction, task).await,
        Came::HeldBack(wait) => tasks::later(transaction, task, *wait).await,
        Came::Unready(error) => {
            tracing::warn!(error = %chain(error), "a notification can't be made ready; it is tried again");
            tasks::later(transaction, task, UNREADY).await
        }
        Came::Lost => Ok(()),
    }
}

/// Ends a task whose notification is among the dead letters now: from there it may come again.
async fn end(transaction: &Transaction<'_>, task: &Task) -> Result<(), tokio_postgres::Error> {
    if tasks::remove(transaction, task).await? {
        task.free(transaction).await?;
    }
    Ok(())
}

fn pause(notifier: &Notifier, task: &Task, after: Option<Duration>) -> Option<Duration> {
    // The same for the same task and try, since it is asked twice.
    let mixed =
        (task.task_id as u64).wrapping_mul(31).wrapping_add(u64::from(task.attempt)).wrapping_add(notifier.salt);
    let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (mixed >> 29);
    let random = (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1_u64 << 53) as f64;
    notifier.backoff.pause(task.attempt, after, random)
}

async fn put_aside(notifier: &Notifier, task: &Task, reason: &str) -> Result<(), Error> {
    let service = metrics::label(&task.service);
    tracing::error!(service, error = reason, "a notification can't be sent and goes to the dead letters");
    notifier.publisher.bury(&task.notification(clock::now_ms()), &format!("{service}: {reason}")).await
}

async fn remove_device(
    notifier: &Notifier,
    task: &Task,
    device: Option<Registration>,
    since_ms: Option<i64>,
) -> Result<(), Error> {
    let Some(device) = device else {
        tracing::warn!("a mail address isn't there; its mail is given up");
        return Ok(());
    };
    let until = sending::gone_until(since_ms, device.at);
    let client = notifier.truth.get().await?;
    let removed = client
        .execute(REMOVE_DEVICE, &[&task.user_id, &task.device_id, &until])
        .await
        .map_err(Error::database("removing a device"))?;
    ::metrics::counter!(metrics::DEVICES_GONE).increment(removed);
    Ok(())
}

/// A device whose service refuses what goes to it, again and again, would make dead letters for ever.
async fn count_refusal(notifier: &Notifier, task: &Task, device: Registration) -> Result<(), Error> {
    let client = notifier.truth.get().await?;
    let counted = client.query_opt(COUNT_REFUSAL, &[&task.user_id, &task.device_id, &device.at]).await;
    let counted = counted.map_err(Error::database("counting refusals of a device"))?;
    drop(client);
    if counted.is_some_and(|row| row.get::<_, i32>(0) >= MOST_REFUSALS) {
        tracing::warn!(
            service = metrics::label(&task.service),
            "a device is removed: its service refuses it again and again"
        );
        remove_device(notifier, task, Some(device), None).await?;
    }
    Ok(())
}

async fn forgive(notifier: &Notifier, task: &Task) -> Result<(), Error> {
    let client = notifier.truth.get().await?;
    let forgiven = client.execute(FORGIVE, &[&task.user_id, &task.device_id]).await;
    forgiven.map(drop).map_err(Error::database("forgetting refusals of a device"))
}

/// What was read while it was on its way is to be taken away at once: its receipt came before it was shown.
pub(crate) async fn clear_what_was_read(notifier: &Notifier, finished: &[Done]) -> Result<(), Error> {
    let sent = finished.iter().filter(|done| done.is_shown()).map(|done| &done.task);
    let (chats, users): (Vec<&str>, Vec<&str>) =
        sent.clone().map(|task| (task.chat_id.as_str(), task.user_id.as_str())).unzip();
    let cursors = notifier.people.cursors(&chats, &users).await?;
    for task in sent {
        let read = cursors.get(&(task.chat_id.clone(), task.user_id.clone())).map_or(0, |(_, read_seq)| *read_seq);
        if read >= task.seq {
            let read = shown::read_of(task.user_id.clone(), task.chat_id.clone(), read, clock::now_ms());
            let mut client = notifier.read.get().await?;
            let transaction = begin(&mut client).await?;
            adding::add_clears(notifier, &transaction, &read).await?;
            transaction.commit().await.map_err(Error::database("committing"))?;
        }
    }
    Ok(())
}
