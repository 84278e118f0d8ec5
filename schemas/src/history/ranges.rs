//! Events of many chats in one query.

use tokio_postgres::{GenericClient, Row, RowStream, Statement};

use super::{HistoryError, event_of};
use crate::event::ChatEvent;

/// Events of one chat, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in an event")]
pub struct Range {
    pub chat_id: String,
    pub from_seq: i64,
    pub to_seq: i64,
}

impl Range {
    /// How many events it holds, where none is missing.
    pub const fn len(&self) -> i64 {
        self.to_seq - self.from_seq + 1
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.to_seq < self.from_seq
    }
}

/// What [`read_ranges`] asks.
pub const RANGES_SQL: &str = "
    SELECT ranges.number - 1 AS place, ranges.chat_id, events.*
      FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS ranges (chat_id, from_seq, to_seq, number)
     CROSS JOIN LATERAL (
        SELECT sequence_number, message_id, sender_id, content, parent_message_id, parent_seq, app_data,
               attachments::text AS attachments, created_at, deleted_at,
               NULL::text AS event_type, NULL::text AS message, NULL::text AS memberships, NULL::text AS chat,
               (SELECT occurred_at FROM cdc_withheld AS given_up WHERE given_up.chat_id = message.chat_id
                   AND given_up.sequence_number = message.sequence_number) AS withheld_at
          FROM message
         WHERE chat_id = ranges.chat_id AND sequence_number BETWEEN ranges.from_seq AND ranges.to_seq
        UNION ALL
        SELECT sequence_number, NULL, actor_id, content, NULL, NULL, NULL, NULL, occurred_at, NULL,
               event_type, message::text, memberships::text, chat::text, NULL
          FROM chat_change
         WHERE chat_id = ranges.chat_id AND sequence_number BETWEEN ranges.from_seq AND ranges.to_seq) AS events
     ORDER BY ranges.number, events.sequence_number";

/// Rows of the ranges, in the order of the ranges and by `seq` in each, as they are now: one statement, one snapshot.
/// The statement is [`RANGES_SQL`], prepared.
pub async fn read_ranges(
    client: &impl GenericClient,
    statement: &Statement,
    ranges: &[Range],
) -> Result<RowStream, HistoryError> {
    let chats: Vec<&str> = ranges.iter().map(|range| range.chat_id.as_str()).collect();
    let from: Vec<i64> = ranges.iter().map(|range| range.from_seq).collect();
    let to: Vec<i64> = ranges.iter().map(|range| range.to_seq).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&chats, &from, &to];
    Ok(client.query_raw(statement, parameters).await?)
}

/// Of a row of [`read_ranges`], which of the ranges it is in, from 0, and its event. The event's `origin` is zero: it isn't kept
/// in the tables.
pub fn event_in(row: &Row) -> Result<(usize, ChatEvent), HistoryError> {
    let place: i64 = row.try_get("place")?;
    Ok((place as usize, event_of(row.try_get("chat_id")?, row)?))
}
