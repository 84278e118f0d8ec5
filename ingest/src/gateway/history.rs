//! Pages of a chat's messages as they are now: with their latest edit, without the bodies of deleted ones, without what was
//! withheld, and only from the intervals in which the reader was a member. The system sender may read everything; only
//! services with a scope for it get so far.

use schemas::wire::Rejection;
use schemas::wire::json::MessageJson;
use schemas::{MessageState, timestamp};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Gateway;
use crate::users::unavailable;

/// Where a page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The newest.
    Latest,
    /// The newest before a seq.
    Before(i64),
    /// The oldest after a seq.
    After(i64),
}

// Of the edits, the latest one whose own seq is visible is shown: a body never comes from outside the reader's intervals.
const MESSAGE_SQL: &str = "
    SELECT m.message_id, m.sequence_number, m.sender_id,
           CASE WHEN e.sequence_number IS NULL THEN m.content ELSE e.content END,
           m.parent_message_id, m.parent_seq, m.created_at, e.occurred_at, m.deleted_at, m.app_data, m.attachments::text
      FROM message m
      LEFT JOIN LATERAL (
           SELECT c.sequence_number, c.content, c.occurred_at FROM chat_change c
            WHERE m.edited_seq IS NOT NULL AND c.chat_id = m.chat_id AND c.message_seq = m.sequence_number
              AND c.event_type = 'message.edited'
              AND EXISTS (SELECT 1 FROM chat_member s WHERE s.chat_id = $1 AND s.user_id = $2
                             AND c.sequence_number >= s.visible_from_seq
                             AND c.sequence_number <= coalesce(s.left_seq, c.sequence_number))
            ORDER BY c.sequence_number DESC LIMIT 1) e ON true
     WHERE m.chat_id = $1
       AND NOT EXISTS (SELECT 1 FROM cdc_withheld w WHERE w.chat_id = $1 AND w.sequence_number = m.sequence_number)
       AND ($2 = 'waltalkie:system' OR EXISTS (SELECT 1 FROM chat_member s WHERE s.chat_id = $1 AND s.user_id = $2
                      AND m.sequence_number >= s.visible_from_seq AND m.sequence_number <= coalesce(s.left_seq, m.sequence_number)))";

impl Gateway {
    /// At most `limit` messages of a place, oldest first, as frames show them. The reader's membership was checked.
    pub(crate) async fn page(
        &self,
        user_id: &str,
        chat_id: &str,
        place: Place,
        limit: i64,
    ) -> Result<Vec<Box<RawValue>>, Rejection> {
        let client = self.chat.pool().get().await.map_err(unavailable)?;
        let (condition, order, bound) = match place {
            Place::Latest => ("m.sequence_number > $3", "DESC", 0),
            Place::Before(seq) => ("m.sequence_number < $3", "DESC", seq),
            Place::After(seq) => ("m.sequence_number > $3", "ASC", seq),
        };
        let sql = format!("{MESSAGE_SQL} AND {condition} ORDER BY m.sequence_number {order} LIMIT $4");
        let statement = client.prepare_cached(&sql).await.map_err(unavailable)?;
        let parameters: [&(dyn ToSql + Sync); 4] = [&chat_id, &user_id, &bound, &limit];
        let mut rows = client.query(&statement, &parameters).await.map_err(unavailable)?;
        if order == "DESC" {
            rows.reverse();
        }
        Ok(rows.iter().map(|row| json_of(chat_id, row)).collect())
    }

    /// One message that the reader may see.
    pub(crate) async fn one_message(
        &self,
        user_id: &str,
        chat_id: &str,
        message_id: Uuid,
    ) -> Result<Box<RawValue>, Rejection> {
        let client = self.chat.pool().get().await.map_err(unavailable)?;
        let sql = format!(
            "{MESSAGE_SQL} AND m.sequence_number = (SELECT sequence_number FROM message_key WHERE message_id = $3 AND chat_id = $1)"
        );
        let statement = client.prepare_cached(&sql).await.map_err(unavailable)?;
        let row = client.query_opt(&statement, &[&chat_id, &user_id, &message_id]).await.map_err(unavailable)?;
        row.map(|row| json_of(chat_id, &row)).ok_or_else(Rejection::message_not_found)
    }
}

fn json_of(chat_id: &str, row: &Row) -> Box<RawValue> {
    let time = |column: usize| row.get::<_, Option<OffsetDateTime>>(column).map(timestamp::from_offset);
    let deleted_at = time(8);
    let attachments =
        row.get::<_, Option<String>>(10).and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    let state = MessageState {
        message_id: row.get::<_, Uuid>(0).to_string(),
        message_seq: row.get(1),
        sender_id: row.get(2),
        content: row.get::<_, Option<String>>(3).filter(|_| deleted_at.is_none()),
        parent_message_id: row.get::<_, Option<Uuid>>(4).map(|id| id.to_string()),
        parent_seq: row.get(5),
        created_at: time(6).unwrap_or_default(),
        edited_at: time(7),
        deleted_at,
        app_data: row.get(9),
        attachments,
    };
    written(&MessageJson::new(chat_id, state.message_seq, None, &state))
}

/// An answer as text at once. By way of a `Value` the numbers in `app_data` would lose digits.
pub(crate) fn written(answer: &impl Serialize) -> Box<RawValue> {
    to_raw_value(answer).unwrap_or_default()
}
