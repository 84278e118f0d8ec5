//! A person's chats: from the source of truth who is a member and where each chat stands, from the read models the
//! last message and the cursors. Unread is counted on reading, so that no row a member changes with a message.

use std::collections::HashMap;

use schemas::wire::Rejection;
use schemas::wire::json::MessageJson;
use schemas::{MessageState, timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use tokio_postgres::types::Json;
use utoipa::ToSchema;

use super::history::written;
use super::{Gateway, shapes};
use crate::users::{PublicUser, unavailable};

/// Unread messages are counted up to here.
const MOST_UNREAD: i64 = 999;

/// One chat of a person.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Chat)]
pub(crate) struct ChatSummary {
    pub(crate) chat_id: String,
    #[schema(required)]
    pub(crate) name: Option<String>,
    pub(crate) is_group: bool,
    #[schema(required)]
    pub(crate) avatar_url: Option<String>,
    #[schema(required, value_type = Option<shapes::AppData>)]
    pub(crate) app_data: Option<Box<RawValue>>,
    #[schema(value_type = shapes::DeletedShownAs)]
    pub(crate) deleted_shown_as: String,
    pub(crate) history_for_new_members: bool,
    #[schema(value_type = shapes::MemberRole)]
    pub(crate) role: String,
    /// Counted to 1,000.
    pub(crate) member_count: i64,
    /// The other person of a 1:1 chat.
    #[schema(required)]
    pub(crate) peer: Option<PublicUser>,
    pub(crate) head_seq: i64,
    pub(crate) delivered_seq: i64,
    pub(crate) read_seq: i64,
    /// Pairs `[from_seq, to_seq or null]` of what one may see.
    #[schema(value_type = Vec<Vec<Option<i64>>>)]
    pub(crate) visible: Vec<(i64, Option<i64>)>,
    /// Where the present stay's part of it begins.
    #[serde(skip)]
    visible_from_seq: i64,
    /// Others' undeleted messages of the present stay past `read_seq`, to 999.
    pub(crate) unread_count: i64,
    #[schema(required, value_type = Option<shapes::Message>)]
    pub(crate) last_message: Option<Box<RawValue>>,
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) last_activity_at: i64,
}

/// Where a page of chats begins: activity and id of the last one before it.
pub(crate) type After = Option<(i64, String)>;

const CHATS_SQL: &str = "
    SELECT c.id, c.name, c.is_group, c.avatar_url, c.app_data, c.deleted_shown_as, c.history_for_new_members, c.created_at,
           m.role, n.last_seq, n.last_at, m.visible_from_seq,
           (SELECT count(*) FROM (SELECT 1 FROM chat_member x WHERE x.chat_id = c.id AND x.left_seq IS NULL LIMIT 1000) few),
           peer.id, peer.name, peer.avatar_url,
           (SELECT jsonb_agg(jsonb_build_array(lower(seen), upper(seen) - 1) ORDER BY seen)
              FROM (SELECT unnest(range_agg(int8range(s.visible_from_seq, s.left_seq, '[]'))) AS seen
                      FROM chat_member s WHERE s.chat_id = m.chat_id AND s.user_id = m.user_id) stays)
      FROM chat_member m
      JOIN chat c ON c.id = m.chat_id
      JOIN chat_counter n ON n.chat_id = m.chat_id
      LEFT JOIN LATERAL (
           SELECT u.id, u.name, u.avatar_url FROM chat_member x JOIN \"user\" u ON u.id = x.user_id
            WHERE NOT c.is_group AND x.chat_id = c.id AND x.user_id <> m.user_id AND x.left_seq IS NULL LIMIT 1) peer ON true
     WHERE m.user_id = $1 AND m.left_seq IS NULL
       AND ($2::text IS NULL OR m.chat_id = $2)
       AND ($3::timestamptz IS NULL OR (n.last_at, n.chat_id) < ($3, $4))
     ORDER BY n.last_at DESC, n.chat_id DESC LIMIT $5";

impl Gateway {
    /// Chats of a person by latest activity; all, or one.
    pub(crate) async fn chats_of(
        &self,
        user_id: &str,
        only: Option<&str>,
        after: After,
        limit: i64,
    ) -> Result<Vec<ChatSummary>, Rejection> {
        let client = self.chat.pool().get().await.map_err(unavailable)?;
        let (after_at, after_id) = after.map(|(at_us, id)| (from_micros(at_us), id)).unzip();
        let statement = client.prepare_cached(CHATS_SQL).await.map_err(unavailable)?;
        let rows =
            client.query(&statement, &[&user_id, &only, &after_at, &after_id, &limit]).await.map_err(unavailable)?;
        // What follows takes connections of its own: holding this one meanwhile, as many callers as the pool has would wait
        // for each other.
        drop(client);
        let mut chats: Vec<ChatSummary> = rows
            .iter()
            .map(|row| ChatSummary {
                chat_id: row.get(0),
                name: row.get(1),
                is_group: row.get(2),
                avatar_url: row.get(3),
                app_data: row.get::<_, Option<String>>(4).and_then(|text| RawValue::from_string(text).ok()),
                deleted_shown_as: row.get(5),
                history_for_new_members: row.get(6),
                created_at: timestamp::from_offset(row.get(7)),
                role: row.get(8),
                head_seq: row.get(9),
                last_activity_at: timestamp::from_offset(row.get(10)),
                visible_from_seq: row.get(11),
                visible: row.get::<_, Json<Vec<(i64, Option<i64>)>>>(16).0,
                member_count: row.get(12),
                peer: row.get::<_, Option<String>>(13).map(|user_id| PublicUser {
                    user_id,
                    name: row.get(14),
                    avatar_url: row.get(15),
                }),
                delivered_seq: 0,
                read_seq: 0,
                unread_count: 0,
                last_message: None,
            })
            .collect();
        self.add_read_models(user_id, &mut chats).await?;
        self.count_unread(user_id, &mut chats).await?;
        Ok(chats)
    }

    async fn add_read_models(&self, user_id: &str, chats: &mut [ChatSummary]) -> Result<(), Rejection> {
        let client = self.read_pool.get().await.map_err(unavailable)?;
        let ids: Vec<&str> = chats.iter().map(|chat| chat.chat_id.as_str()).collect();
        let sql = "SELECT asked.chat_id, h.message_seq, h.message, c.delivered_seq, c.read_seq
                     FROM unnest($2::text[]) AS asked(chat_id)
                     LEFT JOIN chat_head h ON h.chat_id = asked.chat_id
                     LEFT JOIN chat_cursor c ON c.chat_id = asked.chat_id AND c.user_id = $1";
        let statement = client.prepare_cached(sql).await.map_err(unavailable)?;
        let rows = client.query(&statement, &[&user_id, &ids]).await.map_err(unavailable)?;
        let mut found = HashMap::new();
        for row in &rows {
            found.insert(row.get::<_, String>(0), row);
        }
        for chat in chats {
            let Some(row) = found.get(&chat.chat_id) else { continue };
            chat.delivered_seq = row.get::<_, Option<i64>>(3).unwrap_or_default();
            chat.read_seq = row.get::<_, Option<i64>>(4).unwrap_or_default();
            let message = row.get::<_, Option<Json<MessageState>>>(2).map(|Json(state)| state);
            // Of earlier stays none: what is kept may be an edit from between.
            chat.last_message = message
                .filter(|state| state.message_seq >= chat.visible_from_seq)
                .map(|state| written(&MessageJson::new(&chat.chat_id, state.message_seq, None, &state)));
        }
        Ok(())
    }

    async fn count_unread(&self, user_id: &str, chats: &mut [ChatSummary]) -> Result<(), Rejection> {
        let client = self.chat.pool().get().await.map_err(unavailable)?;
        let ids: Vec<&str> = chats.iter().map(|chat| chat.chat_id.as_str()).collect();
        let from: Vec<i64> = chats.iter().map(|chat| chat.visible_from_seq.max(chat.read_seq + 1)).collect();
        let sql = "SELECT asked.chat_id, (SELECT count(*) FROM (
                          SELECT 1 FROM message m
                           WHERE m.chat_id = asked.chat_id AND m.sequence_number >= asked.from_seq
                             AND m.sender_id <> $1 AND NOT m.is_delete
                             AND NOT EXISTS (SELECT 1 FROM cdc_withheld w
                                              WHERE w.chat_id = m.chat_id AND w.sequence_number = m.sequence_number)
                           LIMIT $4) unread)
                     FROM unnest($2::text[], $3::bigint[]) AS asked(chat_id, from_seq)";
        let statement = client.prepare_cached(sql).await.map_err(unavailable)?;
        let rows = client.query(&statement, &[&user_id, &ids, &from, &MOST_UNREAD]).await.map_err(unavailable)?;
        let counts: HashMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for chat in chats {
            chat.unread_count = counts.get(&chat.chat_id).copied().unwrap_or_default();
        }
        Ok(())
    }
}

fn from_micros(at_us: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_us) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
