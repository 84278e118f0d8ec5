//! What the tables hold that the history lacks.
//!
//! Every look is a statement of its own, with a snapshot of its own: none lasts long enough to keep the server from
//! pruning. That is sound because rows of the event tables are only added, each chat's in the order of `seq`, and a
//! later snapshot shows all that an earlier one did.

use std::collections::HashMap;

use runtime::Config;
use schemas::history::Range;
use schemas::{User, timestamp};
use tokio_postgres::{Client, Row};

use super::Fault;
use super::log::Log;
use super::report::{Report, Step};
use crate::checks::{self, Difference, Head};
use crate::error::Error;
use crate::mapping::Change;

/// Chats in one look.
const CHATS: usize = 500;
/// People in one look.
const USERS: i64 = 1_000;

/// All of these are lookups, also where the planner knows too little of a table that was just filled.
const LOOKUPS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off";

/// The next chats after one, by name, each found by one step in an index, and how far each goes.
const NEXT_CHATS: &str = "
    WITH RECURSIVE chats (chat_id, number) AS (
        SELECT least((SELECT min(chat_id) FROM message WHERE chat_id > $1),
                     (SELECT min(chat_id) FROM chat_change WHERE chat_id > $1)), 1
        UNION ALL
        SELECT least((SELECT min(message.chat_id) FROM message WHERE message.chat_id > chats.chat_id),
                     (SELECT min(chat_change.chat_id) FROM chat_change WHERE chat_change.chat_id > chats.chat_id)),
               number + 1
          FROM chats WHERE chat_id IS NOT NULL AND number < $2)
    SELECT chat_id, greatest((SELECT max(sequence_number) FROM message WHERE message.chat_id = chats.chat_id),
                             (SELECT max(sequence_number) FROM chat_change WHERE chat_change.chat_id = chats.chat_id))
      FROM chats WHERE chat_id IS NOT NULL ORDER BY number";

/// Last versions of people.
const LAST_VERSIONS: &str = "
    SELECT heads.user_id, (SELECT max(version) FROM user_change WHERE user_change.user_id = heads.user_id)
      FROM unnest($1::text[]) AS heads (user_id)";

/// The next people after one, each with the last change.
const NEXT_USERS: &str = "
    SELECT DISTINCT ON (user_id) user_id, version, name, avatar_url, is_removed, changed_at
      FROM user_change WHERE user_id > $1 ORDER BY user_id, version DESC LIMIT $2";

/// A connection for lookups.
pub(super) async fn connect(config: &Config) -> Result<Client, Error> {
    let client = checks::connect(config).await?;
    client.batch_execute(LOOKUPS).await.map_err(Error::query("preparing a connection"))?;
    Ok(client)
}

/// Whether the history is the beginning of what the tables hold; an error names what isn't.
pub(super) async fn is_prefix(client: &Client, log: &Log) -> Result<(), Error> {
    let failed = Error::query("comparing the history with the tables");
    let heads: Vec<(&str, &Head)> = log.chats.iter().map(|(chat_id, head)| (chat_id.as_str(), head)).collect();
    if let Some(Difference { place, problem }) = checks::first_difference(client, &heads).await? {
        return Err(Fault::NotAPrefix { place, problem }.into());
    }
    let statement = client.prepare(LAST_VERSIONS).await.map_err(&failed)?;
    let users: Vec<&str> = log.users.keys().map(String::as_str).collect();
    for some in users.chunks(CHATS) {
        for row in client.query(&statement, &[&some]).await.map_err(&failed)? {
            let (user_id, table): (&str, Option<i64>) = (row.get(0), row.get(1));
            let version = log.users.get(user_id).copied().unwrap_or_default();
            if table.is_none_or(|table| table < version) {
                let problem = format!("chat.users has version {version}, the table {}", table.unwrap_or_default());
                return Err(Fault::NotAPrefix { place: format!("user {user_id}"), problem }.into());
            }
        }
    }
    Ok(())
}

/// What is missing of each chat, by name.
pub(super) async fn missing_of_chats(client: &Client, log: &Log, report: &Report) -> Result<Vec<Range>, Error> {
    let failed = Error::query("looking for chats in message and chat_change");
    let statement = client.prepare(NEXT_CHATS).await.map_err(&failed)?;
    let (mut missing, mut looked, mut after) = (Vec::new(), 0, String::new());
    loop {
        let rows = client.query(&statement, &[&after, &(CHATS as i32)]).await.map_err(&failed)?;
        looked += rows.len() as u64;
        report.tell(Step::Comparing { chats: looked });
        for row in &rows {
            let (chat_id, to_seq): (String, i64) = (row.get(0), row.get(1));
            let from_seq = log.chats.get(&chat_id).map_or(0, |head| head.seq) + 1;
            after.clone_from(&chat_id);
            if to_seq >= from_seq {
                missing.push(Range { chat_id, from_seq, to_seq });
            }
        }
        if rows.len() < CHATS {
            return Ok(missing);
        }
    }
}

/// The last change of a person that chat.users lacks.
pub(super) struct MissingUser {
    pub(super) version: i64,
    pub(super) change: Change<'static>,
}

/// The next people after one whose last change is missing; `after` moves on. `None` at the end.
///
/// Only the last: the topic is compacted and promises no more. Somebody who was removed and isn't on it needs nothing:
/// compaction drops the tombstone at last, and what stood before it at once.
pub(super) async fn missing_users(
    client: &Client,
    known: &HashMap<String, i64>,
    after: &mut String,
) -> Result<Option<Vec<MissingUser>>, Error> {
    let rows =
        client.query(NEXT_USERS, &[after, &USERS]).await.map_err(Error::query("looking for people in user_change"))?;
    let Some(last) = rows.last() else { return Ok(None) };
    *after = last.get(0);
    let unreadable = Error::query("reading a row of user_change");
    let missing = rows.iter().filter_map(|row| missing_user(row, known).transpose());
    Ok(Some(missing.collect::<Result<_, _>>().map_err(unreadable)?))
}

fn missing_user(row: &Row, known: &HashMap<String, i64>) -> Result<Option<MissingUser>, tokio_postgres::Error> {
    let (user_id, version, is_removed): (String, i64, bool) = (row.get(0), row.get(1), row.get(4));
    let changed_at_ms = timestamp::from_offset(row.try_get(5)?);
    match known.get(&user_id) {
        Some(head) if *head >= version => return Ok(None),
        None if is_removed => return Ok(None),
        _ => {}
    }
    let profile = (!is_removed).then(|| User {
        user_id: user_id.clone(),
        display_name: row.get(2),
        avatar_url: row.get(3),
        email: None,
        updated_at: changed_at_ms,
    });
    Ok(Some(MissingUser { version, change: Change::User { user_id, version, changed_at_ms, profile } }))
}
