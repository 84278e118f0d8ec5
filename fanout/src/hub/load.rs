//! What the hub reads from Postgres but events: stays, heads, cursors. Each is one query for many chats.

use std::collections::HashMap;

use deadpool_postgres::Pool;

use super::entitlement::{Stay, Stays};

/// Why a read failed, for people; it is tried again.
pub(crate) type Failure = String;

/// A person's place in one chat, as of one snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) user_id: String,
    pub(crate) chat_id: String,
    pub(crate) stays: Stays,
    /// The chat's head in the same snapshot.
    pub(crate) head: i64,
}

/// Delivered and read `seq` by user and chat.
pub(crate) type Cursors = HashMap<(String, String), (i64, i64)>;

pub(super) async fn client(pool: &Pool) -> Result<deadpool_postgres::Object, Failure> {
    pool.get().await.map_err(|error| format!("no connection to Postgres: {error}"))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn failure(error: tokio_postgres::Error) -> Failure {
    format!("a read from Postgres failed: {error}")
}

const PLACES_OF_USERS: &str = "
    SELECT m.user_id, m.chat_id, c.last_seq, m.joined_seq, m.left_seq, m.visible_from_seq
      FROM chat_member m JOIN chat_counter c ON c.chat_id = m.chat_id
     WHERE m.user_id = ANY($1)
     ORDER BY m.user_id, c.last_at DESC, m.chat_id, m.joined_seq";

const PLACES_OF_PAIRS: &str = "
    SELECT m.user_id, m.chat_id, c.last_seq, m.joined_seq, m.left_seq, m.visible_from_seq
      FROM unnest($1::text[], $2::text[]) AS wanted (user_id, chat_id)
      JOIN chat_member m ON m.user_id = wanted.user_id AND m.chat_id = wanted.chat_id
      JOIN chat_counter c ON c.chat_id = m.chat_id
     ORDER BY m.user_id, m.chat_id, m.joined_seq";

/// All places of these people, each person's by latest activity.
pub(crate) async fn places_of_users(pool: &Pool, user_ids: &[String]) -> Result<Vec<Place>, Failure> {
    let client = client(pool).await?;
    let statement = client.prepare_cached(PLACES_OF_USERS).await.map_err(failure)?;
    Ok(places(&client.query(&statement, &[&user_ids]).await.map_err(failure)?))
}

/// Places of people in chats, for those pairs that have any.
pub(crate) async fn places_of_pairs(
    pool: &Pool,
    user_ids: &[String],
    chat_ids: &[String],
) -> Result<Vec<Place>, Failure> {
    let client = client(pool).await?;
    let statement = client.prepare_cached(PLACES_OF_PAIRS).await.map_err(failure)?;
    Ok(places(&client.query(&statement, &[&user_ids, &chat_ids]).await.map_err(failure)?))
}

fn places(rows: &[tokio_postgres::Row]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for row in rows {
        let (user_id, chat_id): (&str, &str) = (row.get(0), row.get(1));
        let stay = Stay::new(row.get(3), row.get(4), row.get(5));
        match places.last_mut() {
            Some(last) if last.user_id == user_id && last.chat_id == chat_id => last.stays.push(stay),
            _ => {
                let mut stays = Stays::default();
                stays.push(stay);
                places.push(Place {
                    user_id: user_id.to_owned(),
                    chat_id: chat_id.to_owned(),
                    stays,
                    head: row.get(2),
                });
            }
        }
    }
    places
}

/// Chats that these people are in, as pairs of user and chat.
pub(crate) async fn open_stays(pool: &Pool, user_ids: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let client = client(pool).await?;
    let rows = client
        .query("SELECT user_id, chat_id FROM chat_member WHERE user_id = ANY($1) AND left_seq IS NULL", &[&user_ids])
        .await
        .map_err(failure)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Heads of chats.
pub(crate) async fn heads(pool: &Pool, chat_ids: &[String]) -> Result<Vec<(String, i64)>, Failure> {
    let client = client(pool).await?;
    let statement = client
        .prepare_cached("SELECT chat_id, last_seq FROM chat_counter WHERE chat_id = ANY($1)")
        .await
        .map_err(failure)?;
    let rows = client.query(&statement, &[&chat_ids]).await.map_err(failure)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

const CURSORS: &str = "
    SELECT c.user_id, c.chat_id, c.delivered_seq, c.read_seq
      FROM unnest($1::text[], $2::text[]) AS wanted (user_id, chat_id)
      JOIN chat_cursor c ON c.user_id = wanted.user_id AND c.chat_id = wanted.chat_id";

/// Cursors of people in chats, from the read models.
pub(crate) async fn cursors(read: &Pool, user_ids: &[String], chat_ids: &[String]) -> Result<Cursors, Failure> {
    let client = client(read).await?;
    let statement = client.prepare_cached(CURSORS).await.map_err(failure)?;
    let rows = client.query(&statement, &[&user_ids, &chat_ids]).await.map_err(failure)?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3)))).collect())
}
