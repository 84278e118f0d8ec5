//! What devices show of each chat, so that it can be taken away once the chat is read elsewhere.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use schemas::{Notification, notification_type};

use super::error::Error;

const SHOW: &str = "
    INSERT INTO notify_shown (user_id, chat_id, device_id, first_seq, last_seq, shown_at)
    VALUES ($1, $2, $3, $4, $4, clock_timestamp())
    ON CONFLICT (user_id, chat_id, device_id) DO UPDATE
       SET first_seq = least(notify_shown.first_seq, $4), last_seq = greatest(notify_shown.last_seq, $4),
           shown_at = clock_timestamp()";
const READ: &str = "
    SELECT DISTINCT s.user_id, s.chat_id, k.read_seq FROM notify_shown s
      JOIN unnest($1::text[], $2::text[], $3::bigint[]) AS k (user_id, chat_id, read_seq)
        ON s.user_id = k.user_id AND s.chat_id = k.chat_id AND s.first_seq <= k.read_seq";

/// A device shows a message.
pub(crate) async fn show(
    transaction: &Transaction<'_>,
    (user_id, chat_id, device_id): (&str, &str, &str),
    seq: i64,
) -> Result<(), tokio_postgres::Error> {
    let statement = transaction.prepare_cached(SHOW).await?;
    transaction.execute(&statement, &[&user_id, &chat_id, &device_id, &seq]).await.map(drop)
}

/// Which of what was read devices still show: a notification for each person and chat.
pub(crate) async fn read(
    transaction: &Transaction<'_>,
    read: &BTreeMap<(String, String), i64>,
    now_ms: i64,
) -> Result<Vec<Notification>, Error> {
    let users: Vec<&str> = read.keys().map(|(user_id, _)| user_id.as_str()).collect();
    let chats: Vec<&str> = read.keys().map(|(_, chat_id)| chat_id.as_str()).collect();
    let seqs: Vec<i64> = read.values().copied().collect();
    let reading = async {
        let statement = transaction.prepare_cached(READ).await?;
        transaction.query(&statement, &[&users, &chats, &seqs]).await
    };
    let rows = reading.await.map_err(Error::database("reading what devices show"))?;
    Ok(rows.iter().map(|row| read_of(row.get(0), row.get(1), row.get(2), now_ms)).collect())
}

/// A chat was read up to a place.
pub(crate) fn read_of(user_id: String, chat_id: String, read_seq: i64, now_ms: i64) -> Notification {
    Notification {
        notification_id: format!("{user_id}/{chat_id}/{read_seq}/read"),
        notification_type: notification_type::READ.into(),
        user_id: Some(user_id),
        chat_id: Some(chat_id),
        seq: Some(read_seq),
        occurred_at: now_ms,
        decided_at: now_ms,
        ..Notification::default()
    }
}
