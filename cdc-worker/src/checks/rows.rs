//! Whether what was published last are rows of the tables. A database that came back from a backup or a snapshot lacks the
//! last of them, also where its WAL has grown past all that was published since: its new commits stand where others stood.

use std::collections::HashMap;
use std::time::Duration;

use schemas::{ChatEvent, event_type, timestamp};
use time::OffsetDateTime;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::{KafkaFacts, first_other_change};
use crate::error::Error;

/// Chats in one look.
const CHATS: usize = 500;
/// Between two looks at what ends by itself.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Rows that the last events of chats must be.
const LAST_ROWS: &str = "
    SELECT heads.chat_id, message.message_id, message.created_at,
           chat_change.event_type, chat_change.message ->> 'message_id', chat_change.occurred_at,
           greatest((SELECT max(sequence_number) FROM message WHERE chat_id = heads.chat_id),
                    (SELECT max(sequence_number) FROM chat_change WHERE chat_id = heads.chat_id))
      FROM unnest($1::text[], $2::bigint[]) AS heads (chat_id, seq)
      LEFT JOIN message ON message.chat_id = heads.chat_id AND message.sequence_number = heads.seq
      LEFT JOIN chat_change ON chat_change.chat_id = heads.chat_id AND chat_change.sequence_number = heads.seq";

/// The last event of a chat, as far as it has to equal a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) seq: i64,
    pub(crate) event_type: String,
    pub(crate) message_id: Option<Uuid>,
    pub(crate) occurred_at_ms: i64,
}

/// Something published that isn't the row that it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Chat or person.
    pub(crate) place: String,
    pub(crate) problem: String,
}

impl Head {
    /// Of an event that is its chat's last.
    pub(crate) fn of(event: &ChatEvent) -> Self {
        let message_id = event.message.as_ref().and_then(|message| Uuid::try_parse(&message.message_id).ok());
        Self { seq: event.seq, event_type: event.event_type.clone(), message_id, occurred_at_ms: event.occurred_at }
    }
}

/// The first of some chats' last events that isn't its row.
pub(crate) async fn first_difference(client: &Client, heads: &[(&str, &Head)]) -> Result<Option<Difference>, Error> {
    let failed = Error::query("comparing the history with the tables");
    let statement = client.prepare(LAST_ROWS).await.map_err(&failed)?;
    for some in heads.chunks(CHATS) {
        let by_chat: HashMap<&str, &Head> = some.iter().copied().collect();
        let chats: Vec<&str> = some.iter().map(|(chat, _)| *chat).collect();
        let seqs: Vec<i64> = some.iter().map(|(_, head)| head.seq).collect();
        for row in client.query(&statement, &[&chats, &seqs]).await.map_err(&failed)? {
            let chat_id: &str = row.get(0);
            if let Some(problem) = by_chat.get(chat_id).and_then(|head| difference(head, &row)) {
                return Ok(Some(Difference { place: format!("chat {chat_id}"), problem }));
            }
        }
    }
    Ok(None)
}

/// How the last event of a chat differs from its row. Bodies aren't compared: a delete empties them.
fn difference(head: &Head, row: &Row) -> Option<String> {
    let message_id: Option<Uuid> = row.get(1);
    let changed: Option<&str> = row.get(3);
    let last: i64 = row.get::<_, Option<i64>>(6).unwrap_or_default();
    let seq = head.seq;
    if last < seq {
        return Some(format!("the history goes to seq {seq}, the tables to {last}"));
    }
    // A time that was never one was never published either.
    let time = |column: usize| row.try_get::<_, Option<OffsetDateTime>>(column).ok().flatten();
    let (kind, message_id, at) = match (message_id, changed) {
        // What it was isn't said.
        (Some(_), _) if head.event_type == event_type::WITHHELD => return None,
        (Some(message_id), _) => (event_type::MESSAGE_PERSISTED, Some(message_id), time(2)),
        (None, Some(kind)) => (kind, row.get::<_, Option<&str>>(4).and_then(|id| Uuid::try_parse(id).ok()), time(5)),
        (None, None) => return Some(format!("the tables have no row of seq {seq}")),
    };
    let differs = |what: &str| Some(format!("the event of seq {seq} has another {what} than its row"));
    if kind != head.event_type {
        differs("type")
    } else if message_id != head.message_id {
        differs("message_id")
    } else if at.map(timestamp::from_offset) != Some(head.occurred_at_ms) {
        differs("time")
    } else {
        None
    }
}

/// Why these tables aren't the ones that were published from; `None` if they hold the last record of each partition.
///
/// That is enough: whatever came back older than the topics lacks the last thing that was published. A row is in the WAL,
/// and so perhaps published, before others can see it; so what seems to be missing is looked for again once every
/// transaction of then has ended.
pub(crate) async fn restored(client: &Client, kafka: &KafkaFacts, within: Duration) -> Result<Option<String>, Error> {
    match first_other(client, kafka).await {
        Ok(None) => return Ok(None),
        // The tables have been altered since. The stream tells so, at the first row that can't be an event.
        Err(error) if is_altered(&error) => return Ok(None),
        Err(error) => return Err(error),
        Ok(Some(_)) => {}
    }
    let visible = tokio::time::timeout(within, all_is_visible(client)).await;
    let Some(Difference { place, problem }) = first_other(client, kafka).await? else { return Ok(None) };
    // Neither to be started over nor to be refused.
    visible.map_err(|_| Error::Unseen { place: place.clone() })??;
    Ok(Some(format!(
        "the tables aren't the ones that were published from: {place}: {problem}. The database came back from a backup or a \
         snapshot that is older than what was published, and new commits stand where published ones stood. Point \
         postgres.truth_url at the server that was published from, or bring its data back; else docs/operators.md, \"A new \
         generation of the history\", says how to go on without what was lost"
    )))
}

/// The first of the last records that isn't its row.
async fn first_other(client: &Client, kafka: &KafkaFacts) -> Result<Option<Difference>, Error> {
    let heads: Vec<(&str, &Head)> = kafka.last_events.iter().map(|last| (last.chat_id.as_str(), &last.head)).collect();
    let found = first_difference(client, &heads).await?;
    if found.is_some() { Ok(found) } else { first_other_change(client, &kafka.last_changes).await }
}

/// Whether a table or a column isn't there by its name.
fn is_altered(error: &Error) -> bool {
    let altered = [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_TABLE];
    matches!(error, Error::Query { source, .. } if source.code().is_some_and(|code| altered.contains(code)))
}

/// Waits until everything that is committed in the WAL by now can be read by others.
///
/// A transaction is in the WAL a little earlier than it is visible, and much earlier where it waits for a standby. A number
/// that is given now is higher than those of all of them; nothing is written for it.
pub(crate) async fn all_is_visible(client: &Client) -> Result<(), Error> {
    let failed = Error::query("waiting for transactions that were open");
    let next: String = client.query_one("SELECT pg_current_xact_id()::text", &[]).await.map_err(&failed)?.get(0);
    let ended = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8";
    while !client.query_one(ended, &[&next]).await.map_err(&failed)?.get::<_, bool>(0) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
