//! Tasks as rows: claimed, tried, removed, put off.
//!
//! *At least once.* Whoever works on a task moves `due_at` into the future first, so that the task of a worker that died comes back
//! by itself. *By one at a time.* A try counts itself as it begins, and what came of it is written only while no other has begun.
//!
//! Times are the database's, so that processes whose clocks differ agree.

use std::collections::HashSet;
use std::time::Duration;

use deadpool_postgres::{Client, GenericClient, Transaction};
use schemas::{Notification, timestamp};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql};

use super::error::Error;

/// Services one after another by the index, then of each what is due, up to its room.
const CLAIM: &str = "
    WITH RECURSIVE service AS (
         (SELECT t.service AS name FROM notify_task t WHERE t.kind <> 'group' ORDER BY t.service LIMIT 1)
         UNION ALL
         SELECT (SELECT t.service FROM notify_task t WHERE t.kind <> 'group' AND t.service > s.name ORDER BY t.service LIMIT 1)
           FROM service s WHERE s.name IS NOT NULL),
    few AS MATERIALIZED (
         SELECT t.task_id, t.is_bulk, t.due_at FROM service s
           LEFT JOIN unnest($1::text[], $2::bigint[]) AS busy (service, room) ON busy.service = s.name
          CROSS JOIN LATERAL (
                SELECT n.task_id, n.is_bulk, n.due_at FROM notify_task n
                 WHERE n.kind <> 'group' AND n.service = s.name AND n.due_at <= now()
                 ORDER BY n.is_bulk, n.due_at LIMIT coalesce(busy.room, $3) FOR UPDATE SKIP LOCKED) t
          WHERE s.name IS NOT NULL)
    UPDATE notify_task SET due_at = clock_timestamp() + $5::bigint * interval '1 millisecond'
     WHERE task_id IN (SELECT task_id FROM few ORDER BY is_bulk, due_at LIMIT $4)
    RETURNING task_id, kind, is_bulk, service, user_id, device_id, chat_id, seq, message_id, cause, occurred_at, payload, attempt";
/// A task is one's own as long as nobody has begun another try of it, and nothing more was added to it.
const BEGIN: &str = "
    UPDATE notify_task t SET attempt = t.attempt + 1, due_at = clock_timestamp() + $4::bigint * interval '1 millisecond'
      FROM unnest($1::bigint[], $2::int[], $3::bigint[]) AS own (task_id, attempt, seq)
     WHERE t.task_id = own.task_id AND t.attempt = own.attempt AND t.seq = own.seq RETURNING t.task_id";
const REMOVE: &str = "DELETE FROM notify_task WHERE task_id = $1 AND attempt = $2 AND seq = $3";
const LATER: &str = "
    UPDATE notify_task SET due_at = clock_timestamp() + $4::bigint * interval '1 millisecond'
     WHERE task_id = $1 AND attempt = $2 AND seq = $3";
const FREE: &str = "DELETE FROM notify_sent WHERE user_id = $1 AND message_id = $2 AND channel = $3";

/// What a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message to a device.
    Push,
    /// A chat was read elsewhere.
    Clear,
    /// A mail.
    Mail,
}

/// A task that was claimed.
#[derive(Debug, Clone)]
#[allow(clippy::struct_field_names, reason = "the column of the table")]
pub(crate) struct Task {
    pub(crate) task_id: i64,
    pub(crate) kind: Kind,
    pub(crate) service: String,
    pub(crate) user_id: String,
    pub(crate) device_id: String,
    pub(crate) chat_id: String,
    pub(crate) seq: i64,
    pub(crate) message_id: String,
    pub(crate) cause: String,
    pub(crate) occurred_at_ms: i64,
    pub(crate) payload: Option<Value>,
    /// Tries that have begun.
    pub(crate) attempt: u32,
}

/// Takes up to `limit` tasks for `lease`, those of large chats last; of each service `most`, or as many as `rooms` says.
pub(crate) async fn claim(
    client: &Client,
    rooms: &[(String, usize)],
    most: usize,
    limit: usize,
    lease: Duration,
) -> Result<Vec<Task>, Error> {
    let (services, few): (Vec<&str>, Vec<i64>) =
        rooms.iter().map(|(service, room)| (service.as_str(), *room as i64)).unzip();
    let values: [&(dyn ToSql + Sync); 5] = [&services, &few, &(most as i64), &(limit as i64), &millis(lease)];
    let claiming = async {
        let statement = client.prepare_cached(CLAIM).await?;
        client.query(&statement, &values).await
    };
    Ok(claiming.await.map_err(Error::database("claiming tasks"))?.iter().filter_map(task_of).collect())
}

/// Begins a try of each: counts it and holds the task for `lease`. Gives those that are still one's own.
pub(crate) async fn begin(client: &Client, tasks: &[&Task], lease: Duration) -> Result<HashSet<i64>, Error> {
    if tasks.is_empty() {
        return Ok(HashSet::new());
    }
    // In one order for all.
    let mut tasks = tasks.to_vec();
    tasks.sort_unstable_by_key(|task| task.task_id);
    let ids: Vec<i64> = tasks.iter().map(|task| task.task_id).collect();
    let attempts: Vec<i32> = tasks.iter().map(|task| task.attempt as i32).collect();
    let seqs: Vec<i64> = tasks.iter().map(|task| task.seq).collect();
    let beginning = async {
        let statement = client.prepare_cached(BEGIN).await?;
        client.query(&statement, &[&ids, &attempts, &seqs, &millis(lease)]).await
    };
    let rows = beginning.await.map_err(Error::database("beginning tries"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn task_of(row: &Row) -> Option<Task> {
    let kind = match row.get::<_, &str>(1) {
        "push" => Kind::Push,
        "clear" => Kind::Clear,
        "mail" => Kind::Mail,
        _ => return None,
    };
    Some(Task {
        task_id: row.get(0),
        kind,
        service: row.get(3),
        user_id: row.get(4),
        device_id: row.get(5),
        chat_id: row.get(6),
        seq: row.get(7),
        message_id: row.get(8),
        cause: row.get(9),
        occurred_at_ms: timestamp::from_offset(row.get(10)),
        payload: row.get::<_, Option<Json<Value>>>(11).map(|Json(payload)| payload),
        attempt: u32::try_from(row.get::<_, i32>(12)).unwrap_or_default(),
    })
}

/// A task is over; says whether it was one's own.
pub(crate) async fn remove(transaction: &Transaction<'_>, task: &Task) -> Result<bool, tokio_postgres::Error> {
    let statement = transaction.prepare_cached(REMOVE).await?;
    let removed = transaction.execute(&statement, &[&task.task_id, &(task.attempt as i32), &task.seq]).await?;
    Ok(removed > 0)
}

/// A task is to be tried again later.
pub(crate) async fn later(
    transaction: &Transaction<'_>,
    task: &Task,
    pause: Duration,
) -> Result<(), tokio_postgres::Error> {
    let statement = transaction.prepare_cached(LATER).await?;
    let values: [&(dyn ToSql + Sync); 4] = [&task.task_id, &(task.attempt as i32), &task.seq, &millis(pause)];
    transaction.execute(&statement, &values).await.map(drop)
}

impl Task {
    /// The notification that the task is of, for the dead letters.
    pub(crate) fn notification(&self, now_ms: i64) -> Notification {
        if let Some(mail) = self.payload.clone().and_then(|payload| serde_json::from_value(payload).ok()) {
            return mail;
        }
        Notification {
            notification_id: format!("{}/{}/{}", self.user_id, self.chat_id, self.seq),
            notification_type: schemas::notification_type::MESSAGE.into(),
            user_id: Some(self.user_id.clone()),
            chat_id: Some(self.chat_id.clone()),
            seq: Some(self.seq),
            message_id: Some(self.message_id.clone()),
            told_because: Some(self.cause.clone()),
            device_id: Some(self.device_id.clone()),
            occurred_at: self.occurred_at_ms,
            decided_at: now_ms,
            ..Notification::default()
        }
    }

    /// Lets the same notification be taken up again, as from the dead letters.
    pub(crate) async fn free(&self, client: &impl GenericClient) -> Result<(), tokio_postgres::Error> {
        let channel = match self.kind {
            Kind::Mail => "mail".to_owned(),
            _ => format!("push/{}", self.device_id),
        };
        client.execute(FREE, &[&self.user_id, &self.message_id, &channel]).await.map(drop)
    }
}
