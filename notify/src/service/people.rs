//! Who is in a chat and how each wants to be told: from the source of truth, which is never behind an event, and holds
//! intervals, so that being ahead doesn't matter. How far each has come: from the read models.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool_postgres::Pool;
use schemas::Membership;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::error::Error;
use crate::settings::Settings;

const COLUMNS: &str = "
    m.chat_id, m.user_id, m.role, m.joined_seq, m.visible_from_seq, u.name, coalesce(u.email, '') <> '', s.settings,
    EXISTS (SELECT 1 FROM user_device d WHERE d.user_id = m.user_id AND d.platform = ANY($1::text[]))
      FROM chat_member m
      LEFT JOIN \"user\" u ON u.id = m.user_id
      LEFT JOIN user_settings s ON s.user_id = m.user_id";
const SIZES: &str = "
    SELECT asked.chat_id, (SELECT count(*) FROM (
           SELECT 1 FROM chat_member x WHERE x.chat_id = asked.chat_id AND x.left_seq IS NULL LIMIT $2) few)
      FROM unnest($1::text[]) AS asked (chat_id)";
const ROLES: &str = "
    SELECT m.chat_id, m.user_id, m.role FROM chat_member m
      JOIN unnest($1::text[], $2::text[]) AS k (chat_id, user_id) ON m.chat_id = k.chat_id AND m.user_id = k.user_id
     WHERE m.left_seq IS NULL";
const CURSORS: &str = "
    SELECT c.chat_id, c.user_id, c.delivered_seq, c.read_seq FROM chat_cursor c
      JOIN unnest($1::text[], $2::text[]) AS k (chat_id, user_id) ON c.chat_id = k.chat_id AND c.user_id = k.user_id";

/// One member of a chat.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) stay: Membership,
    pub(crate) name: Option<String>,
    pub(crate) settings: Settings,
    pub(crate) has_device: bool,
    pub(crate) has_address: bool,
}

/// Delivered and read up to, by chat and person.
pub(crate) type Cursors = HashMap<(String, String), (i64, i64)>;

/// Asks for people.
pub(crate) struct People {
    pub(crate) truth: Pool,
    pub(crate) read: Pool,
    /// Platforms that can be reached.
    pub(crate) platforms: Vec<&'static str>,
}

impl People {
    /// How many members these chats have, counted to `most`.
    pub(crate) async fn sizes(&self, chat_ids: &[&str], most: i64) -> Result<HashMap<String, i64>, Error> {
        let client = self.truth.get().await?;
        let asking = async {
            let statement = client.prepare_cached(SIZES).await?;
            client.query(&statement, &[&chat_ids, &most]).await
        };
        let rows = asking.await.map_err(Error::database("counting members"))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Everybody in these chats, by chat.
    pub(crate) async fn members(&self, chat_ids: &[&str]) -> Result<HashMap<String, Vec<Member>>, Error> {
        let sql = format!("SELECT {COLUMNS} WHERE m.chat_id = ANY($2) AND m.left_seq IS NULL");
        let client = self.truth.get().await?;
        let asking = async {
            let statement = client.prepare_cached(&sql).await?;
            client.query(&statement, &[&self.platforms, &chat_ids]).await
        };
        Ok(by_chat(&asking.await.map_err(Error::database("reading members"))?))
    }

    /// These people of these chats, by chat.
    pub(crate) async fn some(
        &self,
        chat_ids: &[&str],
        user_ids: &[&str],
    ) -> Result<HashMap<String, Vec<Member>>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} JOIN unnest($2::text[], $3::text[]) AS k (chat_id, user_id)
                 ON m.chat_id = k.chat_id AND m.user_id = k.user_id WHERE m.left_seq IS NULL"
        );
        let client = self.truth.get().await?;
        let asking = async {
            let statement = client.prepare_cached(&sql).await?;
            client.query(&statement, &[&self.platforms, &chat_ids, &user_ids]).await
        };
        Ok(by_chat(&asking.await.map_err(Error::database("reading members"))?))
    }

    /// The next page of a chat's members, by id.
    pub(crate) async fn page(&self, chat_id: &str, after: &str, limit: i64) -> Result<Vec<Member>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} WHERE m.chat_id = $2 AND m.user_id > $3 AND m.left_seq IS NULL ORDER BY m.user_id LIMIT $4"
        );
        let client = self.truth.get().await?;
        let asking = async {
            let statement = client.prepare_cached(&sql).await?;
            client.query(&statement, &[&self.platforms, &chat_id, &after, &limit]).await
        };
        Ok(asking.await.map_err(Error::database("reading a page of members"))?.iter().map(member_of).collect())
    }

    /// Present roles of these people in these chats.
    pub(crate) async fn roles(
        &self,
        chat_ids: &[&str],
        user_ids: &[&str],
    ) -> Result<HashMap<(String, String), String>, Error> {
        let client = self.truth.get().await?;
        let asking = async {
            let statement = client.prepare_cached(ROLES).await?;
            client.query(&statement, &[&chat_ids, &user_ids]).await
        };
        let rows = asking.await.map_err(Error::database("reading roles"))?;
        Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
    }

    /// How far these have come.
    pub(crate) async fn cursors(&self, chat_ids: &[&str], user_ids: &[&str]) -> Result<Cursors, Error> {
        if chat_ids.is_empty() {
            return Ok(Cursors::new());
        }
        let client = self.read.get().await?;
        let asking = async {
            let statement = client.prepare_cached(CURSORS).await?;
            client.query(&statement, &[&chat_ids, &user_ids]).await
        };
        let rows = asking.await.map_err(Error::database("reading cursors"))?;
        Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3)))).collect())
    }
}

fn by_chat(rows: &[Row]) -> HashMap<String, Vec<Member>> {
    let mut members: HashMap<String, Vec<Member>> = HashMap::new();
    for row in rows {
        members.entry(row.get(0)).or_default().push(member_of(row));
    }
    members
}

fn member_of(row: &Row) -> Member {
    Member {
        stay: Membership {
            user_id: row.get(1),
            member_role: row.get(2),
            joined_seq: row.get(3),
            left_seq: None,
            visible_from_seq: row.get(4),
        },
        name: row.get(5),
        has_address: row.get(6),
        settings: settings_of(row.get(7)),
        has_device: row.get(8),
    }
}

/// Settings as they are kept; the defaults for who has none.
pub(crate) fn settings_of(kept: Option<Json<Value>>) -> Settings {
    static IS_SAID: AtomicBool = AtomicBool::new(false);
    let Some(Json(kept)) = kept else { return Settings::default() };
    let (settings, unread) = Settings::read(&kept);
    // Read with every message: once is enough.
    if !unread.is_empty() && !IS_SAID.swap(true, Ordering::Relaxed) {
        tracing::warn!(fields = unread.join(", "), "a person's settings can't be read in part; this isn't said again");
    }
    settings
}
