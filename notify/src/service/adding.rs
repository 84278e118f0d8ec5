//! Making tasks: one a person, message and device, one a mail, one a large chat.
//!
//! *At most once.* A task is made only by who writes `notify_sent` first, in the same transaction. Where a worker died, or an
//! answer was lost, the same goes out again with the same collapse key.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::Transaction;
use schemas::{Notification, timestamp};
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql};

use super::Notifier;
use super::error::Error;
use super::outlets::{ANDROID, IOS};

const DEVICES: &str = "
    SELECT user_id, device_id, platform, address FROM user_device
     WHERE user_id = ANY($1) AND platform = ANY($2::text[]) ORDER BY user_id, device_id";
/// Two statements of one transaction instead of one with a join: plans of these pools join by nested loops alone, which of many
/// devices would compare each with each.
const TAKE: &str = "
    INSERT INTO notify_sent (user_id, message_id, channel, taken_at)
    SELECT user_id, message_id, 'push/' || device_id, clock_timestamp()
      FROM unnest($1::text[], $2::text[], $3::text[]) AS w (user_id, message_id, device_id)
     ORDER BY user_id, message_id, device_id
    ON CONFLICT DO NOTHING RETURNING user_id, message_id, channel";
const ADD_PUSHES: &str = "
    INSERT INTO notify_task (kind, is_bulk, service, user_id, device_id, chat_id, seq, message_id, cause, occurred_at, due_at)
    SELECT 'push', $9, w.service, w.user_id, w.device_id, w.chat_id, w.seq, w.message_id, w.cause, w.occurred_at,
           clock_timestamp()
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::timestamptz[])
           AS w (user_id, device_id, service, chat_id, seq, message_id, cause, occurred_at)";
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
    DO UPDATE SET seq = greatest(notify_task.seq, excluded.seq), due_at = least(notify_task.due_at, excluded.due_at)
     WHERE notify_task.seq < excluded.seq";

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
    // The same message twice in a batch is one.
    let mut seen = HashSet::new();
    pairs.retain(|(target, message)| seen.insert((&target.user_id, message.message_id.as_deref(), &target.device_id)));
    let column = |of: fn(&Target) -> &str| -> Vec<&str> { pairs.iter().map(|(target, _)| of(target)).collect() };
    let (user_ids, device_ids) = (column(|target| target.user_id.as_str()), column(|target| target.device_id.as_str()));
    let message_ids: Vec<&str> =
        pairs.iter().map(|(_, message)| message.message_id.as_deref().unwrap_or_default()).collect();
    let failed = || Error::database("making tasks");
    let taking = async {
        let statement = transaction.prepare_cached(TAKE).await?;
        transaction.query(&statement, &[&user_ids, &message_ids, &device_ids]).await
    };
    let taken: HashSet<(String, String, String)> =
        taking.await.map_err(failed())?.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    pairs.retain(|(target, message)| {
        let message_id = message.message_id.clone().unwrap_or_default();
        taken.contains(&(target.user_id.clone(), message_id, format!("push/{}", target.device_id)))
    });
    add_pushes(transaction, &pairs, is_bulk).await.map_err(failed())
}

async fn add_pushes(
    transaction: &Transaction<'_>,
    pairs: &[(&Target, &Notification)],
    is_bulk: bool,
) -> Result<(), tokio_postgres::Error> {
    if pairs.is_empty() {
        return Ok(());
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
    let statement = transaction.prepare_cached(ADD_PUSHES).await?;
    transaction.execute(&statement, &values).await.map(drop)
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
