//! From a row of the source of truth to the event that it is.
//!
//! Two tables hold everything that has a `seq`: `message` (a send) and `chat_change` (all else). The CDC worker sees
//! their rows in the replication stream, a gateway reads them again to close a gap; both make the event here, so that
//! the two can't differ. Pure except for [`read_range`] and [`read_ranges`], each one query. Sends, of which a history
//! mostly consists, also have a way straight to their bytes (`encode`), tested to be the same.

mod encode;
mod ranges;

use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

pub use ranges::{RANGES_SQL, Range, event_in, read_ranges};

use crate::event::{Attachment, ChatEvent, ChatState, Membership, MessageState, Origin, event_type};
use crate::timestamp;

/// A row of `message`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of the table")]
pub struct MessageRow<'a> {
    pub chat_id: &'a str,
    pub sequence_number: i64,
    pub message_id: Uuid,
    pub sender_id: &'a str,
    pub content: Option<&'a str>,
    pub parent_message_id: Option<Uuid>,
    pub parent_seq: Option<i64>,
    pub app_data: Option<&'a str>,
    /// JSON array of [`Attachment`].
    pub attachments: Option<&'a str>,
    pub created_at_ms: i64,
    pub deleted_at_ms: Option<i64>,
}

/// A row of `chat_change`. The three JSON texts have the shape of the event's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of the table")]
pub struct ChangeRow<'a> {
    pub chat_id: &'a str,
    pub sequence_number: i64,
    pub event_type: &'a str,
    pub actor_id: &'a str,
    pub occurred_at_ms: i64,
    pub content: Option<&'a str>,
    pub message: Option<&'a str>,
    pub memberships: Option<&'a str>,
    pub chat: Option<&'a str>,
}

/// A row whose JSON isn't what the persister writes.
#[derive(Debug, thiserror::Error)]
#[error("{chat_id}/{seq}: column {column} doesn't hold what it should")]
pub struct RowError {
    chat_id: String,
    seq: i64,
    column: &'static str,
    #[source]
    source: serde_json::Error,
}

fn parse<T: serde::de::DeserializeOwned>(
    json: Option<&str>,
    place: (&str, i64),
    column: &'static str,
) -> Result<Option<T>, RowError> {
    json.map(serde_json::from_str).transpose().map_err(|source| RowError {
        chat_id: place.0.to_owned(),
        seq: place.1,
        column,
        source,
    })
}

impl MessageRow<'_> {
    /// The `message.persisted` event of this row; without body if the message was deleted since.
    pub fn into_event(self, origin: Origin) -> Result<ChatEvent, RowError> {
        let place = (self.chat_id, self.sequence_number);
        let deleted = self.deleted_at_ms.is_some();
        let attachments: Option<Vec<Attachment>> = parse(self.attachments, place, "attachments")?;
        Ok(ChatEvent {
            event_id: ChatEvent::id_of(self.chat_id, self.sequence_number),
            event_type: event_type::MESSAGE_PERSISTED.to_owned(),
            seq: self.sequence_number,
            actor_id: self.sender_id.to_owned(),
            occurred_at: self.created_at_ms,
            origin,
            message: Some(MessageState {
                message_id: self.message_id.to_string(),
                message_seq: self.sequence_number,
                sender_id: self.sender_id.to_owned(),
                content: self.content.filter(|_| !deleted).map(str::to_owned),
                parent_message_id: self.parent_message_id.map(|id| id.to_string()),
                parent_seq: self.parent_seq,
                created_at: self.created_at_ms,
                edited_at: None,
                deleted_at: self.deleted_at_ms,
                app_data: self.app_data.filter(|_| !deleted).map(str::to_owned),
                attachments: attachments.filter(|_| !deleted).unwrap_or_default(),
            }),
            memberships: Vec::new(),
            chat: None,
            chat_id: self.chat_id.to_owned(),
        })
    }
}

impl ChangeRow<'_> {
    /// The event of this row, of whichever type it names.
    pub fn into_event(self, origin: Origin) -> Result<ChatEvent, RowError> {
        let place = (self.chat_id, self.sequence_number);
        let mut message: Option<MessageState> = parse(self.message, place, "message")?;
        if let Some(message) = &mut message {
            message.content = self.content.map(str::to_owned);
        }
        let memberships: Option<Vec<Membership>> = parse(self.memberships, place, "memberships")?;
        let chat: Option<ChatState> = parse(self.chat, place, "chat")?;
        Ok(ChatEvent {
            event_id: ChatEvent::id_of(self.chat_id, self.sequence_number),
            event_type: self.event_type.to_owned(),
            seq: self.sequence_number,
            actor_id: self.actor_id.to_owned(),
            occurred_at: self.occurred_at_ms,
            origin,
            message,
            memberships: memberships.unwrap_or_default(),
            chat,
            chat_id: self.chat_id.to_owned(),
        })
    }
}

/// What can go wrong when events are read from the tables.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The database.
    #[error("reading events of a chat from Postgres")]
    Database(#[from] tokio_postgres::Error),
    /// A row.
    #[error(transparent)]
    Row(#[from] RowError),
}

const RANGE_SQL: &str = "
    (SELECT sequence_number, message_id, sender_id, content, parent_message_id, parent_seq, app_data,
            attachments::text AS attachments, created_at, deleted_at,
            NULL::text AS event_type, NULL::text AS message, NULL::text AS memberships, NULL::text AS chat,
            (SELECT occurred_at FROM cdc_withheld AS given_up WHERE given_up.chat_id = message.chat_id
                AND given_up.sequence_number = message.sequence_number) AS withheld_at
       FROM message WHERE chat_id = $1 AND sequence_number BETWEEN $2 AND $3
      ORDER BY sequence_number LIMIT $4)
    UNION ALL
    (SELECT sequence_number, NULL, actor_id, content, NULL, NULL, NULL, NULL, occurred_at, NULL,
            event_type, message::text, memberships::text, chat::text, NULL
       FROM chat_change WHERE chat_id = $1 AND sequence_number BETWEEN $2 AND $3
      ORDER BY sequence_number LIMIT $4)
    ORDER BY 1 LIMIT $4";

/// Events of one chat with `from_seq <= seq <= to_seq`, in order, at most `limit`, bodies as they are now.
///
/// Their `origin` is zero: it isn't kept in the tables.
pub async fn read_range(
    client: &impl GenericClient,
    chat_id: &str,
    from_seq: i64,
    to_seq: i64,
    limit: i64,
) -> Result<Vec<ChatEvent>, HistoryError> {
    let rows = client.query(RANGE_SQL, &[&chat_id, &from_seq, &to_seq, &limit]).await?;
    rows.iter().map(|row| event_of(chat_id, row)).collect()
}

fn event_of(chat_id: &str, row: &Row) -> Result<ChatEvent, HistoryError> {
    let time = |column| row.try_get::<_, Option<time::OffsetDateTime>>(column).map(|at| at.map(timestamp::from_offset));
    if let Some(withheld_at_ms) = time("withheld_at")? {
        let (seq, actor_id) = (row.try_get("sequence_number")?, row.try_get("sender_id")?);
        return Ok(ChatEvent::withheld(chat_id, seq, actor_id, withheld_at_ms, Origin::default()));
    }
    let occurred_at_ms = time("created_at")?.unwrap_or_default();
    let event_type: Option<&str> = row.try_get("event_type")?;
    let event = match event_type {
        None => MessageRow {
            chat_id,
            sequence_number: row.try_get("sequence_number")?,
            message_id: row.try_get("message_id")?,
            sender_id: row.try_get("sender_id")?,
            content: row.try_get("content")?,
            parent_message_id: row.try_get("parent_message_id")?,
            parent_seq: row.try_get("parent_seq")?,
            app_data: row.try_get("app_data")?,
            attachments: row.try_get("attachments")?,
            created_at_ms: occurred_at_ms,
            deleted_at_ms: time("deleted_at")?,
        }
        .into_event(Origin::default())?,
        Some(event_type) => ChangeRow {
            chat_id,
            sequence_number: row.try_get("sequence_number")?,
            event_type,
            actor_id: row.try_get("sender_id")?,
            occurred_at_ms,
            content: row.try_get("content")?,
            message: row.try_get("message")?,
            memberships: row.try_get("memberships")?,
            chat: row.try_get("chat")?,
        }
        .into_event(Origin::default())?,
    };
    Ok(event)
}
