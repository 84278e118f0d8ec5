//! Giving up a message that can't be published.
//!
//! Under the worker's lease and after fencing, so that nobody streams past the message meanwhile: readers of the tables
//! and of the history must be told the same.

use std::sync::Arc;
use std::time::Duration;

use runtime::{Config, Shutdown};
use serde::Serialize;
use tokio_postgres::Client;

use crate::error::Error;
use crate::failpoint::Failpoints;
use crate::resnapshot::{Report, log, take_lease};
use crate::takeover::Worker;

/// How long a worker that stops is waited for.
const LEASE: Duration = Duration::from_secs(10);

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// Chat.
    pub chat_id: String,
    /// The message's seq.
    pub seq: i64,
    /// It had been decided before.
    pub was_decided: bool,
}

/// A message's sender, and a time for the event in its place that doesn't run backwards in the chat: its own, if it is one,
/// else the one of the event before it.
const MESSAGE: &str = "
    SELECT coalesce(to_jsonb(message) ->> 'sender_id', ''),
           EXISTS (SELECT FROM cdc_withheld WHERE chat_id = $1 AND sequence_number = $2),
           coalesce(CASE WHEN isfinite(message.created_at) THEN message.created_at END,
                    (SELECT occurred_at FROM cdc_withheld WHERE chat_id = $1 AND sequence_number = $2 - 1),
                    (SELECT created_at FROM message WHERE chat_id = $1 AND sequence_number = $2 - 1 AND isfinite(created_at)),
                    (SELECT occurred_at FROM chat_change
                      WHERE chat_id = $1 AND sequence_number = $2 - 1 AND isfinite(occurred_at)),
                    now())
      FROM message WHERE chat_id = $1 AND sequence_number = $2";

/// Records that a message is given up. The worker publishes `withheld` at its seq when it is started again.
pub async fn withhold(config: Arc<Config>, chat_id: &str, seq: i64, shutdown: &Shutdown) -> Result<Decided, Error> {
    let worker = Worker::prepare(config, Failpoints::default()).await?;
    let refused = |reason: &str| Error::NotWithheld { chat_id: chat_id.to_owned(), seq, reason: reason.to_owned() };
    let report = Report::default();
    let lease = tokio::time::timeout(LEASE, take_lease(&worker, &report, shutdown)).await;
    let held = lease
        .map_err(|_| refused("a worker streams the slot, so nothing stops it. Only what stops it is given up"))??;
    let outcome = Box::pin(decide(&worker, chat_id, seq, &refused)).await;
    held.release().await;
    outcome
}

async fn decide(worker: &Worker, chat_id: &str, seq: i64, refused: &impl Fn(&str) -> Error) -> Result<Decided, Error> {
    let client = crate::checks::connect(&worker.config).await?;
    let failed = Error::query("looking for the message");
    let Some(row) = client.query_opt(MESSAGE, &[&chat_id, &seq]).await.map_err(&failed)? else {
        return Err(refused(&not_a_message(&client, chat_id, seq).await?));
    };
    let (actor_id, was_decided): (String, bool) = (row.get(0), row.get(1));
    if !was_decided {
        let _fenced = worker.fence_and_read().await?;
        let log = log::read(worker, &Report::default()).await?;
        if log.chats.get(chat_id).is_some_and(|head| head.seq >= seq) {
            return Err(refused("it is published already, and can't be taken back"));
        }
        let sql = "INSERT INTO cdc_withheld (chat_id, sequence_number, actor_id, occurred_at, decided_at)
                   VALUES ($1, $2, $3, $4, now()) ON CONFLICT DO NOTHING";
        let occurred_at: time::OffsetDateTime = row.get(2);
        client
            .execute(sql, &[&chat_id, &seq, &actor_id, &occurred_at])
            .await
            .map_err(Error::query("writing to cdc_withheld"))?;
    }
    Ok(Decided { chat_id: chat_id.to_owned(), seq, was_decided })
}

async fn not_a_message(client: &Client, chat_id: &str, seq: i64) -> Result<String, Error> {
    let sql = "SELECT event_type FROM chat_change WHERE chat_id = $1 AND sequence_number = $2";
    let row = client.query_opt(sql, &[&chat_id, &seq]).await.map_err(Error::query("looking for the message"))?;
    Ok(match row {
        Some(row) => format!(
            "it is no message but a {}. Without it members would be taken for what they aren't, so its row has to be mended",
            row.get::<_, String>(0)
        ),
        None => "the tables have no such row".into(),
    })
}
