//! What tables, read models and log hold, as the checker's evidence.

use anyhow::Result;
use schemas::MessageState;
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Row};

use super::{Installation, read_events};
use crate::checker::{Evidence, Head, Observer, Pending, ReadModels, Stay};

/// Events that are read at once.
const PAGE: i64 = 5_000;

/// Everything but what clients saw, with that added.
pub async fn evidence_of(installation: &Installation, observers: Vec<Observer>) -> Result<Evidence> {
    let (truth, read) = (installation.truth().await?, installation.read().await?);
    let mut evidence = Evidence { observers, ..Evidence::default() };
    for (chat_id, last_seq) in chats(&truth).await? {
        let mut from = 1;
        while from <= last_seq {
            let page = schemas::history::read_range(&truth, &chat_id, from, last_seq, PAGE).await?;
            let Some(last) = page.last() else { break };
            from = last.seq + 1;
            evidence.truth.extend(page);
        }
    }
    let sql = "SELECT chat_id, user_id, joined_seq, left_seq, visible_from_seq FROM chat_member";
    evidence.stays = truth.query(sql, &[]).await?.iter().map(stay).collect();
    evidence.log = read_events(&installation.config()?).await?.into_iter().map(|(event, _)| event).collect();
    evidence.read = read_models(&read).await?;
    Ok(evidence)
}

/// Every chat with its last `seq`.
pub async fn chats(truth: &Client) -> Result<Vec<(String, i64)>> {
    let sql = "SELECT chat_id, last_seq FROM chat_counter WHERE last_seq > 0 ORDER BY chat_id";
    Ok(truth.query(sql, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Rows that some input could have made or changed, as one number each: equal if nothing happened.
pub async fn fingerprint(truth: &Client) -> Result<Vec<i64>> {
    let mut counts = Vec::new();
    for sql in [
        "SELECT count(*) FROM message",
        "SELECT count(*) FROM chat_change",
        "SELECT count(*) FROM chat",
        "SELECT count(*) FROM chat_member",
        "SELECT count(*) FROM message_key",
        "SELECT coalesce(sum(last_seq), 0)::bigint FROM chat_counter",
        "SELECT coalesce(sum(hashtext(content)::bigint), 0)::bigint FROM message",
    ] {
        counts.push(truth.query_one(sql, &[]).await?.get(0));
    }
    Ok(counts)
}

fn stay(row: &Row) -> Stay {
    Stay {
        chat_id: row.get(0),
        user_id: row.get(1),
        joined_seq: row.get(2),
        left_seq: row.get(3),
        visible_from_seq: row.get(4),
    }
}

async fn read_models(read: &Client) -> Result<ReadModels> {
    let membership = "SELECT chat_id, user_id, joined_seq, left_seq, visible_from_seq FROM membership";
    let heads = "SELECT chat_id, head_seq, message_seq, message FROM chat_head";
    let pending = "SELECT chat_id, sequence_number, user_id FROM inbox WHERE NOT is_delivered";
    let delivered = "SELECT chat_id, user_id, delivered_seq FROM chat_cursor";
    Ok(ReadModels {
        membership: read.query(membership, &[]).await?.iter().map(stay).collect(),
        heads: read
            .query(heads, &[])
            .await?
            .iter()
            .map(|row| Head {
                chat_id: row.get(0),
                head_seq: row.get(1),
                message_seq: row.get(2),
                content: row.get::<_, Option<Json<MessageState>>>(3).and_then(|Json(message)| message.content),
            })
            .collect(),
        pending: read
            .query(pending, &[])
            .await?
            .iter()
            .map(|row| Pending { chat_id: row.get(0), seq: row.get(1), user_id: row.get(2) })
            .collect(),
        delivered: read.query(delivered, &[]).await?.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect(),
    })
}
