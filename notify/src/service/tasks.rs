//! What is to be sent, as rows: one a person, message and device, one a mail, one a large chat.
//!
//! *At most once.* A task is made only by who writes `notify_sent` first, in the same statement. *At least once.* Whoever works
//! on a task moves `due_at` into the future first, so that the task of a worker that died comes back by itself. Between the
//! two: where a worker died, or an answer was lost, the same goes out again with the same collapse key.
//!
//! Times are the database's, so that processes whose clocks differ agree.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::{GenericClient, Transaction};
use schemas::{Notification, timestamp};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql};

use super::Notifier;
use super::error::Error;
use super::outlets::{ANDROID, IOS};

const DEVICES: &str = "
    SELECT user_id, device_id, platform, address FROM user_device
     WHERE user_id = ANY($1) AND platform = ANY($2::text[]) ORDER BY user_id, device_id";
const ADD_PUSHES: &str = "
    WITH wanted AS (
         SELECT DISTINCT ON (user_id, message_id, device_id) *
           FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::timestamptz[])
                AS w (user_id, device_id, service, chat_id, seq, message_id, cause, occurred_at)
          ORDER BY user_id, message_id, device_id),
    taken AS (
         INSERT INTO notify_sent (user_id, message_id, channel, taken_at)
         SELECT user_id, message_id, 'push/' || device_id, clock_timestamp() FROM wanted
         ON CONFLICT DO NOTHING RETURNING user_id, message_id, channel)
    INSERT INTO notify_task (kind, is_bulk, service, user_id, device_id, chat_id, seq, message_id, cause, occurred_at, due_at)
    SELECT 'push', $9, w.service, w.user_id, w.device_id, w.chat_id, w.seq, w.message_id, w.cause, w.occurred_at,
           clock_timestamp()
      FROM wanted w
      JOIN taken t ON t.user_id = w.user_id AND t.message_id = w.message_id AND t.channel = 'push/' || w.device_id";
const ADD_OTHER: &str = "
    WITH taken AS (
         INSERT INTO notify_sent (user_id, message_id, channel, taken_at) VALUES ($1, $2, $3, clock_timestamp())
         ON CONFLICT DO NOTHING RETURNING user_id)
    INSERT INTO notify_task (kind, is_bulk, service, user_id, device_id, chat_id, seq, message_id, cause, occurred_at, payload,
                             due_at)
    SELECT $3, $4, $5, $1, '', $6, $7, $2, '', $8, $9, clock_timestamp() FROM taken";
const CLEAR: &str = "
    WITH shown AS (
         SELECT user_id, chat_id, device_id, last_seq FROM notify_shown
          WHERE user_id = $1 AND chat_id = $2 AND first_seq <= $3 FOR UPDATE),
    gone AS (
         DELETE FROM notify_shown n USING shown s
          WHERE n.user_id = s.user_id AND n.chat_id = s.chat_id AND n.device_id = s.device_id AND s.last_seq <= $3),
    kept AS (
         UPDATE notify_shown n SET first_seq = $3 + 1 FROM shown s
          WHERE n.user_id = s.user_id AND n.chat_id = s.chat_id AND n.device_id = s.device_id AND s.last_seq > $3)
    SELECT device_id FROM shown";
const ADD_CLEAR: &str = "
    INSERT INTO notify_task (kind, is_bulk, service, user_id, device_id, chat_id, seq, message_id, cause, occurred_at, due_at)
    VALUES ('clear', false, $1, $2, $3, $4, $5, '', '', clock_timestamp(), clock_timestamp())
    ON CONFLICT (user_id, device_id, chat_id) WHERE kind = 'clear'
    DO UPDATE SET seq = greatest(notify_task.seq, excluded.seq)";
const CLAIM: &str = "
    UPDATE notify_task SET attempt = attempt + 1, due_at = clock_timestamp() + $3::bigint * interval '1 millisecond'
     WHERE task_id IN (
           SELECT task_id FROM notify_task
            WHERE due_at <= clock_timestamp() AND kind <> 'group' AND NOT service = ANY($1::text[])
            ORDER BY is_bulk, due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING task_id, kind, is_bulk, service, user_id, device_id, chat_id, seq, message_id, cause, occurred_at, payload, attempt";
const LATER: &str = "
    UPDATE notify_task SET due_at = clock_timestamp() + $2::bigint * interval '1 millisecond', attempt = attempt - $3
     WHERE task_id = $1";
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
    /// Which try this is, from 1.
    pub(crate) attempt: u32,
}

/// A device that can be reached.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) user_id: String,
    pub(crate) device_id: String,
    pub(crate) service: String,
}

/// What reaches a device of a platform; each has a circuit breaker of its own.
pub(crate) fn service_of(platform: &str, address: &str) -> String {
    match platform {
        IOS => "apns".into(),
        ANDROID => "fcm".into(),
        _ => {
            let host =
                address.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
            format!("web/{}", host.to_ascii_lowercase())
        }
    }
}

/// Devices of people that can be reached.
pub(crate) async fn devices(notifier: &Notifier, user_ids: &[&str]) -> Result<Vec<Target>, Error> {
    let client = notifier.truth.get().await?;
    let asking = async {
        let statement = client.prepare_cached(DEVICES).await?;
        client.query(&statement, &[&user_ids, &notifier.people.platforms]).await
    };
    let rows = asking.await.map_err(Error::database("reading devices"))?;
    let target =
        |row: &Row| Target { user_id: row.get(0), device_id: row.get(1), service: service_of(row.get(2), row.get(3)) };
    Ok(rows.iter().map(target).collect())
}

/// Makes tasks of messages to people, one a device. A message that was taken up before makes none.
pub(crate) async fn add_messages(
    notifier: &Notifier,
    transaction: &Transaction<'_>,
    messages: &[Notification],
    is_bulk: bool,
) -> Result<(), Error> {
    let users: Vec<&str> = messages.iter().filter_map(|message| message.user_id.as_deref()).collect();
    if users.is_empty() {
        return Ok(());
    }
    let mut targets: HashMap<String, Vec<Target>> = HashMap::new();
    for target in devices(notifier, &users).await? {
        targets.entry(target.user_id.clone()).or_default().push(target);
    }
    let mut pairs: Vec<(&Target, &Notification)> = Vec::with_capacity(messages.len());
    for message in messages {
        let of_person = message.user_id.as_ref().and_then(|user_id| targets.get(user_id));
        let is_meant = |target: &&Target| message.device_id.as_ref().is_none_or(|only| *only == target.device_id);
        pairs.extend(of_person.into_iter().flatten().filter(is_meant).map(|target| (target, message)));
    }
    let text = |of: fn(&Notification) -> Option<&str>| -> Vec<&str> {
        pairs.iter().map(|(_, message)| of(message).unwrap_or_default()).collect()
    };
    let user_ids: Vec<&str> = pairs.iter().map(|(target, _)| target.user_id.as_str()).collect();
    let device_ids: Vec<&str> = pairs.iter().map(|(target, _)| target.device_id.as_str()).collect();
    let services: Vec<&str> = pairs.iter().map(|(target, _)| target.service.as_str()).collect();
    let chat_ids = text(|message| message.chat_id.as_deref());
    let message_ids = text(|message| message.message_id.as_deref());
    let causes = text(|message| message.told_because.as_deref());
    let seqs: Vec<i64> = pairs.iter().map(|(_, message)| message.seq.unwrap_or_default()).collect();
    let times: Vec<_> = pairs.iter().map(|(_, message)| timestamp::to_offset(message.occurred_at)).collect();
    let values: [&(dyn ToSql + Sync); 9] =
        [&user_ids, &device_ids, &services, &chat_ids, &seqs, &message_ids, &causes, &times, &is_bulk];
    let adding = async {
        let statement = transaction.prepare_cached(ADD_PUSHES).await?;
        transaction.execute(&statement, &values).await
    };
    adding.await.map(drop).map_err(Error::database("making tasks"))
}

/// Makes the task of a mail.
pub(crate) async fn add_mail(transaction: &Transaction<'_>, digest: &Notification) -> Result<(), Error> {
    let payload = Some(Json(json!(digest)));
    let (user_id, digest_id) = (digest.user_id.as_deref().unwrap_or_default(), digest.digest_id.as_deref());
    let occurred_at = timestamp::to_offset(digest.occurred_at);
    let values: [&(dyn ToSql + Sync); 9] =
        [&user_id, &digest_id.unwrap_or_default(), &"mail", &false, &"smtp", &"", &0_i64, &occurred_at, &payload];
    transaction.execute(ADD_OTHER, &values).await.map(drop).map_err(Error::database("making the task of a mail"))
}

/// Makes the task of a large chat's message.
pub(crate) async fn add_group(transaction: &Transaction<'_>, group: &Notification) -> Result<(), Error> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (chat_id, message_id) = (text(&group.chat_id), text(&group.message_id));
    let payload = Some(Json(json!({ "after": "" })));
    let occurred_at = timestamp::to_offset(group.occurred_at);
    let seq = group.seq.unwrap_or_default();
    let values: [&(dyn ToSql + Sync); 9] =
        [&"", &message_id, &"group", &true, &"", &chat_id, &seq, &occurred_at, &payload];
    transaction.execute(ADD_OTHER, &values).await.map(drop).map_err(Error::database("making the task of a large chat"))
}

/// Makes tasks that take away what devices show of a chat up to a place. Browsers can't: each push must show something.
pub(crate) async fn add_clears(
    notifier: &Notifier,
    transaction: &Transaction<'_>,
    read: &Notification,
) -> Result<(), Error> {
    let (Some(user_id), Some(chat_id), Some(seq)) = (&read.user_id, &read.chat_id, read.seq) else { return Ok(()) };
    let failed = || Error::database("making tasks of what was read");
    let rows = transaction.query(CLEAR, &[user_id, chat_id, &seq]).await.map_err(failed())?;
    if rows.is_empty() {
        return Ok(());
    }
    let showing: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for target in devices(notifier, &[user_id]).await? {
        if showing.contains(&target.device_id) && !target.service.starts_with("web/") {
            let values: [&(dyn ToSql + Sync); 5] = [&target.service, user_id, &target.device_id, chat_id, &seq];
            transaction.execute(ADD_CLEAR, &values).await.map_err(failed())?;
        }
    }
    Ok(())
}

/// Takes up to `limit` tasks for `lease`, those of large chats last, none of the services named.
pub(crate) async fn claim(
    client: &impl GenericClient,
    without: &[String],
    limit: i64,
    lease: Duration,
) -> Result<Vec<Task>, Error> {
    let lease_ms = lease.as_millis() as i64;
    let rows = client.query(CLAIM, &[&without, &limit, &lease_ms]).await.map_err(Error::database("claiming tasks"))?;
    Ok(rows.iter().filter_map(task_of).collect())
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

/// These tasks are over.
pub(crate) async fn remove(client: &impl GenericClient, task_ids: &[i64]) -> Result<(), tokio_postgres::Error> {
    client.execute("DELETE FROM notify_task WHERE task_id = ANY($1)", &[&task_ids]).await.map(drop)
}

/// A task is to be tried again later. What a breaker held back was no try.
pub(crate) async fn later(
    client: &impl GenericClient,
    task_id: i64,
    pause: Duration,
    was_try: bool,
) -> Result<(), tokio_postgres::Error> {
    let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    client.execute(LATER, &[&task_id, &pause_ms, &i32::from(!was_try)]).await.map(drop)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_push_service_has_a_name_of_its_own() {
        for (platform, address, service) in [
            ("ios", "abc", "apns"),
            ("android", "abc", "fcm"),
            ("web", "https://Push.Example/wpush/1", "web/push.example"),
            ("web", "https://localhost:8443/push/1?x#y", "web/localhost:8443"),
        ] {
            assert_eq!(service_of(platform, address), service);
        }
    }
}
