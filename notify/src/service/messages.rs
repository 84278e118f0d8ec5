//! What is told of: messages as they are now, and how much waits for each person.
//!
//! Read when something is sent, not when it was decided: what was deleted meanwhile isn't sent, and what was edited is sent as
//! it reads now.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::Pool;
use schemas::{Attachment, timestamp};
use tokio_postgres::Row;
use uuid::Uuid;

use super::error::Error;
use super::people::People;

/// Of each person's chats, those with the latest activity count towards the badge.
const MOST_CHATS: i64 = 200;
/// Unread messages are counted up to here, over all chats of a person: a badge shows no more, and counting costs.
const MOST_UNREAD: i64 = 999;

const BODY: &str = "
    CASE WHEN m.edited_seq IS NULL THEN m.content ELSE (
         SELECT e.content FROM chat_change e WHERE e.chat_id = m.chat_id AND e.sequence_number = m.edited_seq) END";
const THERE: &str = "
    NOT m.is_delete AND NOT EXISTS (
        SELECT 1 FROM cdc_withheld w WHERE w.chat_id = m.chat_id AND w.sequence_number = m.sequence_number)";
const BADGE_CHATS: &str = "
    SELECT asked.user_id, few.chat_id, few.visible_from_seq FROM unnest($1::text[]) AS asked (user_id)
      CROSS JOIN LATERAL (
           SELECT m.chat_id, m.visible_from_seq FROM chat_member m JOIN chat_counter n ON n.chat_id = m.chat_id
            WHERE m.user_id = asked.user_id AND m.left_seq IS NULL ORDER BY n.last_at DESC LIMIT $2) few
     ORDER BY asked.user_id";

/// A message to be shown.
#[derive(Debug, Clone)]
#[allow(clippy::struct_field_names, reason = "the moment at which it was sent, as everywhere else")]
pub(crate) struct Sent {
    pub(crate) seq: i64,
    pub(crate) message_id: String,
    pub(crate) sender_id: String,
    pub(crate) sender_name: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) sent_at_ms: i64,
    /// Of a group with a name.
    pub(crate) group_name: Option<String>,
}

impl Sent {
    /// What its sender is called.
    pub(crate) fn sender(&self) -> &str {
        self.sender_name.as_deref().filter(|name| !name.trim().is_empty()).unwrap_or(&self.sender_id)
    }
}

/// Reads messages.
pub(crate) struct Messages {
    pub(crate) truth: Pool,
}

impl Messages {
    /// One that is there.
    pub(crate) async fn one(&self, chat_id: &str, seq: i64) -> Result<Option<Sent>, Error> {
        Ok(self.all(&[chat_id], &[seq]).await?.remove(&(chat_id.to_owned(), seq)))
    }

    /// Those that are there, by chat and place.
    pub(crate) async fn all(&self, chat_ids: &[&str], seqs: &[i64]) -> Result<HashMap<(String, i64), Sent>, Error> {
        let sql = format!(
            "SELECT m.chat_id, m.sequence_number, m.message_id, m.sender_id, u.name, {BODY}, m.attachments::text, m.created_at,
                    CASE WHEN c.is_group THEN nullif(trim(c.name), '') END
               FROM unnest($1::text[], $2::bigint[]) AS asked (chat_id, seq)
               JOIN message m ON m.chat_id = asked.chat_id AND m.sequence_number = asked.seq
               JOIN chat c ON c.id = m.chat_id
               LEFT JOIN \"user\" u ON u.id = m.sender_id
              WHERE {THERE}"
        );
        let client = self.truth.get().await?;
        let asking = async {
            let statement = client.prepare_cached(&sql).await?;
            client.query(&statement, &[&chat_ids, &seqs]).await
        };
        let rows = asking.await.map_err(Error::database("reading messages"))?;
        Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), sent_of(row))).collect())
    }

    /// Which of these places of a chat still hold a message.
    pub(crate) async fn there(&self, chat_id: &str, seqs: &[i64]) -> Result<Vec<i64>, Error> {
        let sql = format!(
            "SELECT m.sequence_number FROM message m
              WHERE m.chat_id = $1 AND m.sequence_number = ANY($2) AND {THERE} ORDER BY m.sequence_number"
        );
        let client = self.truth.get().await?;
        let rows = client.query(&sql, &[&chat_id, &seqs]).await.map_err(Error::database("reading messages"))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Unread messages of these people in all their chats, 999 at most.
    pub(crate) async fn badges(&self, people: &People, user_ids: &[&str]) -> Result<HashMap<String, u64>, Error> {
        let users: HashSet<&str> = user_ids.iter().copied().collect();
        let users: Vec<&str> = users.into_iter().collect();
        let client = self.truth.get().await?;
        let failed = || Error::database("counting what is unread");
        let asking = async {
            let statement = client.prepare_cached(BADGE_CHATS).await?;
            client.query(&statement, &[&users, &MOST_CHATS]).await
        };
        let rows = asking.await.map_err(failed())?;
        let owners: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        let chats: Vec<&str> = rows.iter().map(|row| row.get(1)).collect();
        let cursors = people.cursors(&chats, &owners).await?;
        let from: Vec<i64> = rows
            .iter()
            .map(|row| {
                let read = cursors.get(&(row.get(1), row.get(0))).map_or(0, |(_, read_seq)| *read_seq);
                row.get::<_, i64>(2).max(read + 1)
            })
            .collect();
        let (people, first, last) = slices(&owners);
        let sql = format!(
            "SELECT p.user_id, (SELECT count(*) FROM (
                    SELECT 1 FROM unnest(($4::text[])[p.first:p.last], ($5::bigint[])[p.first:p.last]) AS asked (chat_id, from_seq)
                     CROSS JOIN LATERAL (
                           SELECT 1 FROM message m
                            WHERE m.chat_id = asked.chat_id AND m.sequence_number >= asked.from_seq AND m.sender_id <> p.user_id
                              AND {THERE} LIMIT $6) unread LIMIT $6) few)
               FROM unnest($1::text[], $2::int[], $3::int[]) AS p (user_id, first, last)"
        );
        let counting = async {
            let statement = client.prepare_cached(&sql).await?;
            client.query(&statement, &[&people, &first, &last, &chats, &from, &MOST_UNREAD]).await
        };
        let rows = counting.await.map_err(failed())?;
        Ok(rows.iter().map(|row| (row.get(0), row.get::<_, i64>(1).max(0) as u64)).collect())
    }
}

/// Of neighbours that are the same: each once, with the first and the last place, from 1.
fn slices<'a>(owners: &[&'a str]) -> (Vec<&'a str>, Vec<i32>, Vec<i32>) {
    let (mut people, mut first, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for (place, &owner) in (1_i32..).zip(owners) {
        if people.last() == Some(&owner) {
            last.pop();
        } else {
            people.push(owner);
            first.push(place);
        }
        last.push(place);
    }
    (people, first, last)
}

fn sent_of(row: &Row) -> Sent {
    let attachments = row.get::<_, Option<String>>(6).and_then(|json| serde_json::from_str(&json).ok());
    Sent {
        seq: row.get(1),
        message_id: row.get::<_, Uuid>(2).to_string(),
        sender_id: row.get(3),
        sender_name: row.get(4),
        text: row.get(5),
        attachments: attachments.unwrap_or_default(),
        sent_at_ms: timestamp::from_offset(row.get(7)),
        group_name: row.get(8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_from_first_to_last() {
        assert_eq!(slices(&["a", "a", "b", "c", "c"]), (vec!["a", "b", "c"], vec![1, 3, 4], vec![2, 3, 5]));
        assert_eq!(slices(&[]), (vec![], vec![], vec![]));
    }
}
