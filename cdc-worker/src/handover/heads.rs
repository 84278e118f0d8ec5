//! Whether tables and history end at the same place: each chat, each person.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::Offset;
use rdkafka::message::{BorrowedMessage, Message};
use runtime::Config;
use schemas::registry::Registry;
use schemas::{ChatEvent, Decoder, FrameError, Record, User};
use tokio_postgres::Client;

use crate::checks;
use crate::error::Error;
use crate::position::{looker, visit};
use crate::record::Topics;

/// Differences that are named.
const NAMED: usize = 5;

/// Where chats and people stand.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heads {
    /// Last `seq` by chat.
    chats: BTreeMap<String, i64>,
    /// When they last changed, by person; people who were removed are left out.
    people: BTreeMap<String, i64>,
}

/// Numbers of chats and people if they stand the same, else what differs. Reads the whole history.
pub(super) async fn are_equal(
    config: &Arc<Config>,
    registry: &Arc<Registry>,
    topics: &Topics,
    slot: &str,
    client: &Client,
) -> Result<Result<(usize, usize), String>, Error> {
    let tables = match of_tables(client).await? {
        Ok(heads) => heads,
        Err(hole) => return Ok(Err(hole)),
    };
    let log = of_log(config, registry, topics, slot).await?;
    let differences = differences(&tables, &log);
    Ok(if differences.is_empty() {
        Ok((tables.chats.len(), tables.people.len()))
    } else {
        Err(format!(
            "the tables aren't what was published: {}{}. Copy them again while writing is paused",
            differences[..differences.len().min(NAMED)].join("; "),
            if differences.len() > NAMED { format!("; and {} more", differences.len() - NAMED) } else { String::new() }
        ))
    })
}

fn differences(tables: &Heads, log: &Heads) -> Vec<String> {
    let mut found = Vec::new();
    for (chat, head) in &tables.chats {
        let published = log.chats.get(chat).copied().unwrap_or(0);
        if published != *head {
            found.push(format!("chat {chat} ends at {head} in the tables and at {published} in the history"));
        }
    }
    for (chat, published) in log.chats.iter().filter(|(chat, _)| !tables.chats.contains_key(*chat)) {
        found.push(format!("chat {chat} isn't in the tables and ends at {published} in the history"));
    }
    for (person, changed_at) in &tables.people {
        if log.people.get(person) != Some(changed_at) {
            found.push(format!("the latest change of person {person} isn't in the history"));
        }
    }
    for (person, _) in log.people.iter().filter(|(person, _)| !tables.people.contains_key(*person)) {
        found.push(format!("person {person} is in the history and not in the tables"));
    }
    found
}

async fn of_tables(client: &Client) -> Result<Result<Heads, String>, Error> {
    let chats = client
        .query(
            "SELECT chat_id, max(seq), count(*)
               FROM (SELECT chat_id, sequence_number AS seq FROM message
                     UNION ALL SELECT chat_id, sequence_number FROM chat_change) AS events GROUP BY chat_id",
            &[],
        )
        .await
        .map_err(Error::query("reading the heads of the chats"))?;
    let people = client
        .query(
            "SELECT user_id, changed_ms FROM (
                 SELECT DISTINCT ON (user_id) user_id, is_removed,
                        floor(extract(epoch FROM changed_at) * 1000)::bigint AS changed_ms
                   FROM user_change ORDER BY user_id, version DESC) AS latest
              WHERE NOT is_removed",
            &[],
        )
        .await
        .map_err(Error::query("reading the latest changes of people"))?;
    let mut heads = Heads::default();
    for row in &chats {
        let (chat, head, rows): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        if head != rows {
            return Ok(Err(format!(
                "chat {chat} ends at {head} and has {rows} rows: some are missing; copy the tables again"
            )));
        }
        heads.chats.insert(chat, head);
    }
    heads.people = people.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(Ok(heads))
}

async fn of_log(config: &Arc<Config>, registry: &Arc<Registry>, topics: &Topics, slot: &str) -> Result<Heads, Error> {
    let events = Decoder::<ChatEvent>::new(Arc::clone(registry), id_of::<ChatEvent>(registry).await?);
    let users = Decoder::<User>::new(Arc::clone(registry), id_of::<User>(registry).await?);
    let (config, topics, slot) = (Arc::clone(config), topics.clone(), slot.to_owned());
    let handle = tokio::runtime::Handle::current();
    let read = move || {
        let consumer = looker(&config)?;
        let mut heads = Heads::default();
        let unreadable = |message: &BorrowedMessage<'_>, error: FrameError| {
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            checks::unreadable(&slot, &format!("the record of {topic}/{partition} at offset {offset}"), error)
        };
        let mut outcome: Result<(), Error> = Ok(());
        visit(&consumer, &checks::partitions(&consumer, &topics.events)?, Offset::Beginning, |message| {
            match handle.block_on(events.decode(message.payload().unwrap_or_default())) {
                Ok(event) => {
                    heads
                        .chats
                        .entry(event.chat_id)
                        .and_modify(|head| *head = event.seq.max(*head))
                        .or_insert(event.seq);
                }
                Err(error) => outcome = Err(unreadable(message, error)),
            }
            outcome.is_ok()
        })?;
        outcome?;
        let mut outcome: Result<(), Error> = Ok(());
        visit(&consumer, &checks::partitions(&consumer, &topics.users)?, Offset::Beginning, |message| {
            let person = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
            match message.payload().map(|value| handle.block_on(users.decode(value))) {
                Some(Ok(user)) => {
                    heads.people.insert(person, user.updated_at);
                }
                Some(Err(error)) => outcome = Err(unreadable(message, error)),
                None => {
                    heads.people.remove(&person);
                }
            }
            outcome.is_ok()
        })?;
        outcome?;
        Ok(heads)
    };
    tokio::task::spawn_blocking(read).await.unwrap_or(Err(Error::PublisherGone))
}

async fn id_of<R: Record>(registry: &Registry) -> Result<u32, Error> {
    registry.id_of::<R>().await.map_err(|source| Error::Schema { record: R::NAME, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(chats: &[(&str, i64)], people: &[(&str, i64)]) -> Heads {
        let owned = |pairs: &[(&str, i64)]| pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        Heads { chats: owned(chats), people: owned(people) }
    }

    #[test]
    fn every_difference_is_found_in_both_directions() {
        let same = heads(&[("a", 3)], &[("u", 7)]);
        assert!(differences(&same, &heads(&[("a", 3)], &[("u", 7)])).is_empty());
        for other in [
            heads(&[("a", 2)], &[("u", 7)]),
            heads(&[("a", 4)], &[("u", 7)]),
            heads(&[], &[("u", 7)]),
            heads(&[("a", 3), ("b", 1)], &[("u", 7)]),
            heads(&[("a", 3)], &[("u", 8)]),
            heads(&[("a", 3)], &[]),
            heads(&[("a", 3)], &[("u", 7), ("v", 1)]),
        ] {
            assert_eq!(differences(&same, &other).len(), 1, "{other:?}");
        }
    }
}
