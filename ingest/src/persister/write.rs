//! Writes a batch's decisions: keys first, rows in `seq` order, then state, results and offsets, all in the
//! transaction that holds the locks.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use runtime::kafka::reader::Place;
use schemas::timestamp;
use time::OffsetDateTime;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::book::Book;
use super::sequencer::{Decisions, NewChange, NewMessage};
use super::state::State;

/// Name of this consumer in `consumer_offset`.
pub(crate) const CONSUMER: &str = "persister";

/// Why a batch's transaction must be rolled back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Another persister used one of the batch's UUIDs in another chat at the same moment: read again and decide anew.
    #[error("a message_id of the batch was used elsewhere at the same moment")]
    KeyRace,
    /// Another persister has these partitions now.
    #[error("the stored offsets are not where this batch begins: another persister has the partitions")]
    Superseded,
    #[error("no connection")]
    Pool(#[from] deadpool_postgres::PoolError),
    #[error("a statement failed")]
    Database(#[from] tokio_postgres::Error),
}

/// Everything but the commit.
pub(crate) async fn write(
    transaction: &Transaction<'_>,
    book: &Book,
    decisions: &Decisions,
    offsets: &HashMap<Place, (i64, i64)>,
    log_id: &str,
) -> Result<(), WriteError> {
    let rows = async {
        for round in &decisions.rounds {
            insert_messages(transaction, &round.messages).await?;
            insert_changes(transaction, &round.changes).await?;
        }
        Ok(State::of(&decisions.effects).write(transaction).await?)
    };
    // Sent together, answered together: one round trip for most batches. Whatever fails rolls all of it back.
    let (keys, rows, counters, results, offsets) = tokio::join!(
        insert_keys(transaction, decisions),
        rows,
        update_counters(transaction, book, decisions),
        insert_results(transaction, book.now_ms, decisions),
        advance_offsets(transaction, offsets, log_id),
    );
    let failures: Vec<WriteError> =
        [keys, rows, counters, results, offsets].into_iter().filter_map(Result::err).collect();
    // After one statement has failed, the others fail for that alone.
    let is_cause = |failure: &WriteError| match failure {
        WriteError::Database(error) => error.code() != Some(&SqlState::IN_FAILED_SQL_TRANSACTION),
        _ => true,
    };
    let cause = failures.iter().position(is_cause).unwrap_or(0);
    failures.into_iter().nth(cause).map_or(Ok(()), Err)
}

async fn insert_keys(transaction: &Transaction<'_>, decisions: &Decisions) -> Result<(), WriteError> {
    let mut messages: Vec<&NewMessage> = decisions.rounds.iter().flat_map(|round| &round.messages).collect();
    if messages.is_empty() {
        return Ok(());
    }
    // One order for all persisters: two batches with the same UUIDs can't lock each other.
    messages.sort_unstable_by_key(|message| message.message_id);
    let ids: Vec<Uuid> = messages.iter().map(|message| message.message_id).collect();
    let chats: Vec<&str> = messages.iter().map(|message| message.chat_id.as_str()).collect();
    let senders: Vec<&str> = messages.iter().map(|message| message.sender_id.as_str()).collect();
    let seqs: Vec<i64> = messages.iter().map(|message| message.seq).collect();
    let hashes: Vec<&[u8]> = messages.iter().map(|message| message.body_hash.as_slice()).collect();
    let sql = "INSERT INTO message_key (message_id, chat_id, sender_id, sequence_number, body_hash)
               SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bytea[]) ON CONFLICT DO NOTHING";
    let statement = transaction.prepare_cached(sql).await?;
    let inserted = transaction.execute(&statement, &[&ids, &chats, &senders, &seqs, &hashes]).await?;
    if inserted == ids.len() as u64 { Ok(()) } else { Err(WriteError::KeyRace) }
}

async fn insert_messages(transaction: &Transaction<'_>, messages: &[NewMessage]) -> Result<(), WriteError> {
    if messages.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = messages.iter().map(|message| message.message_id).collect();
    let chats: Vec<&str> = messages.iter().map(|message| message.chat_id.as_str()).collect();
    let senders: Vec<&str> = messages.iter().map(|message| message.sender_id.as_str()).collect();
    let contents: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
    let parents: Vec<Option<Uuid>> = messages.iter().map(|message| message.parent_message_id).collect();
    let parent_seqs: Vec<Option<i64>> = messages.iter().map(|message| message.parent_seq).collect();
    let seqs: Vec<i64> = messages.iter().map(|message| message.seq).collect();
    let app_data: Vec<Option<&str>> = messages.iter().map(|message| message.app_data.as_deref()).collect();
    let times: Vec<OffsetDateTime> =
        messages.iter().map(|message| timestamp::to_offset(message.created_at_ms)).collect();
    let attachments: Vec<_> = messages.iter().map(|message| message.attachments.as_ref().map(Json)).collect();
    let file_urls: Vec<Option<String>> = messages.iter().map(file_url).collect();
    let sql = "INSERT INTO message (message_id, chat_id, sender_id, content, parent_message_id, parent_seq,
                                    sequence_number, app_data, created_at, attachments, file_url)
               SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::bigint[],
                                    $7::bigint[], $8::text[], $9::timestamptz[], $10::jsonb[], $11::text[])";
    let statement = transaction.prepare_cached(sql).await?;
    transaction
        .execute(
            &statement,
            &[
                &ids,
                &chats,
                &senders,
                &contents,
                &parents,
                &parent_seqs,
                &seqs,
                &app_data,
                &times,
                &attachments,
                &file_urls,
            ],
        )
        .await?;
    Ok(())
}

/// Where the first file of a message is asked for.
fn file_url(message: &NewMessage) -> Option<String> {
    message.attachments.as_ref()?.first().map(|first| format!("/v1/media/{}", first.media_id))
}

async fn insert_changes(transaction: &Transaction<'_>, changes: &[NewChange]) -> Result<(), WriteError> {
    if changes.is_empty() {
        return Ok(());
    }
    let chats: Vec<&str> = changes.iter().map(|change| change.chat_id.as_str()).collect();
    let seqs: Vec<i64> = changes.iter().map(|change| change.seq).collect();
    let types: Vec<&str> = changes.iter().map(|change| change.event_type).collect();
    let actors: Vec<&str> = changes.iter().map(|change| change.actor_id.as_str()).collect();
    let times: Vec<OffsetDateTime> = changes.iter().map(|change| timestamp::to_offset(change.occurred_at_ms)).collect();
    let message_seqs: Vec<Option<i64>> = changes.iter().map(|change| change.message_seq).collect();
    let contents: Vec<Option<&str>> = changes.iter().map(|change| change.content.as_deref()).collect();
    let messages: Vec<_> = changes.iter().map(|change| change.message.as_ref().map(Json)).collect();
    let memberships: Vec<_> = changes.iter().map(|change| change.memberships.as_ref().map(Json)).collect();
    let settings: Vec<_> = changes.iter().map(|change| change.chat.as_ref().map(Json)).collect();
    let sql = "INSERT INTO chat_change (chat_id, sequence_number, event_type, actor_id, occurred_at, message_seq,
                                        content, message, memberships, chat)
               SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[],
                                    $7::text[], $8::jsonb[], $9::jsonb[], $10::jsonb[])";
    let statement = transaction.prepare_cached(sql).await?;
    transaction
        .execute(
            &statement,
            &[&chats, &seqs, &types, &actors, &times, &message_seqs, &contents, &messages, &memberships, &settings],
        )
        .await?;
    Ok(())
}

async fn update_counters(transaction: &Transaction<'_>, book: &Book, decisions: &Decisions) -> Result<(), WriteError> {
    let rows = decisions.rounds.iter().flat_map(|round| {
        let messages = round.messages.iter().map(|message| message.chat_id.as_str());
        messages.chain(round.changes.iter().map(|change| change.chat_id.as_str()))
    });
    let mut chats: Vec<&str> = rows.collect();
    chats.sort_unstable();
    chats.dedup();
    if chats.is_empty() {
        return Ok(());
    }
    let (seqs, times): (Vec<i64>, Vec<OffsetDateTime>) = chats
        .iter()
        .filter_map(|chat| book.chats.get(*chat))
        .map(|chat| (chat.last_seq, timestamp::to_offset(chat.last_at_ms)))
        .unzip();
    let sql = "UPDATE chat_counter c SET last_seq = n.seq, last_at = n.at
                 FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) AS n(chat_id, seq, at) WHERE c.chat_id = n.chat_id";
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&chats, &seqs, &times]).await?;
    Ok(())
}

async fn insert_results(transaction: &Transaction<'_>, now_ms: i64, decisions: &Decisions) -> Result<(), WriteError> {
    let kept = decisions.answers.iter().filter(|(_, is_kept)| *is_kept);
    let (ids, answers): (Vec<Uuid>, Vec<_>) =
        kept.filter_map(|(answer, _)| Some((Uuid::try_parse(&answer.command_id).ok()?, Json(answer)))).unzip();
    if ids.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO command_result (command_id, answer, decided_at)
               SELECT id, answer, $3 FROM unnest($1::uuid[], $2::jsonb[]) AS n(id, answer) ON CONFLICT DO NOTHING";
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&ids, &answers, &timestamp::to_offset(now_ms)]).await?;
    Ok(())
}

/// Compare-and-set: each partition must stand at or before this batch's first record and not past it. A persister's
/// batches of a partition follow one another from the stored offset, so only one who lost it can find another there.
async fn advance_offsets(
    transaction: &Transaction<'_>,
    offsets: &HashMap<Place, (i64, i64)>,
    log_id: &str,
) -> Result<(), WriteError> {
    let mut places: Vec<(&Place, &(i64, i64))> = offsets.iter().collect();
    places.sort_unstable();
    let topics: Vec<&str> = places.iter().map(|((topic, _), _)| topic.as_str()).collect();
    let partitions: Vec<i32> = places.iter().map(|((_, partition), _)| *partition).collect();
    let (firsts, nexts): (Vec<i64>, Vec<i64>) = places.iter().map(|(_, range)| **range).unzip();
    let sql = "INSERT INTO consumer_offset AS stored (consumer, topic, partition, next_offset, log_id)
               SELECT $1, n.topic, n.partition, n.next, $6
                 FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS n(topic, partition, first, next)
               ON CONFLICT (consumer, topic, partition) DO UPDATE SET next_offset = excluded.next_offset
                WHERE stored.log_id = excluded.log_id AND stored.next_offset <=
                      (SELECT n.first FROM unnest($2::text[], $3::int[], $4::bigint[]) AS n(topic, partition, first)
                        WHERE n.topic = stored.topic AND n.partition = stored.partition)";
    let statement = transaction.prepare_cached(sql).await?;
    let moved = transaction.execute(&statement, &[&CONSUMER, &topics, &partitions, &firsts, &nexts, &log_id]).await?;
    if moved == places.len() as u64 { Ok(()) } else { Err(WriteError::Superseded) }
}
