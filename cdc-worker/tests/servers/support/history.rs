//! The history against the tables, and rows of every kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use cdc_worker::publisher::Fenced;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use runtime::kafka::admin::Admin;
use schemas::registry::Registry;
use schemas::{ChatEvent, Encoder, Origin, Position};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Stack, eventually, insert, read_events, read_users};

/// The history equals the tables: each chat's events dense from 1, each one its row, none twice, places rising; the last
/// profile of everybody is their last change.
pub async fn check(stack: &Stack) -> Result<()> {
    let mut chats: BTreeMap<String, Vec<ChatEvent>> = BTreeMap::new();
    for logged in read_events(&stack.config).await? {
        ensure!(logged.key == logged.event.chat_id);
        chats.entry(logged.key).or_default().push(logged.event);
    }
    let named = "SELECT chat_id FROM message UNION SELECT chat_id FROM chat_change";
    for row in stack.sql.query(named, &[]).await? {
        let chat: String = row.get(0);
        let rows = schemas::history::read_range(&stack.sql, &chat, 1, i64::MAX, i64::MAX).await?;
        let events = chats.remove(&chat).unwrap_or_default();
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        ensure!(seqs == (1..=rows.len() as i64).collect::<Vec<_>>(), "{chat}: {} rows, {seqs:?}", rows.len());
        let places: Vec<_> = events.iter().map(|event| (event.origin.commit_lsn, event.origin.ordinal)).collect();
        ensure!(places.is_sorted_by(|a, b| a < b), "{chat}: {places:?}");
        for (event, row) in events.into_iter().zip(rows) {
            let (event, row) = (as_a_row(event, &row), row);
            ensure!(event == row, "{event:?} is not {row:?}");
        }
    }
    ensure!(chats.is_empty(), "chats without rows: {:?}", chats.keys());
    let users = read_users(&stack.config).await?;
    let last = "SELECT DISTINCT ON (user_id) user_id, name, is_removed FROM user_change ORDER BY user_id, version DESC";
    for row in stack.sql.query(last, &[]).await? {
        let (user_id, name, is_removed): (&str, Option<&str>, bool) = (row.get(0), row.get(1), row.get(2));
        let found = users.iter().rfind(|(user, _)| user == user_id).and_then(|(_, user)| user.as_ref());
        ensure!(found.is_none() == is_removed, "{user_id}: {found:?}");
        ensure!(found.is_none_or(|user| user.display_name.as_deref() == name), "{user_id}: {found:?}");
    }
    Ok(())
}

/// The same, once everything has arrived.
pub async fn check_when_arrived(stack: &Stack) -> Result<()> {
    eventually("everything arrives", async || {
        let count = "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM chat_change),
                            (SELECT count(DISTINCT user_id) FROM user_change)";
        let row = stack.sql.query_one(count, &[]).await?;
        Ok(read_events(&stack.config).await?.len() as i64 >= row.get::<_, i64>(0) && check(stack).await.is_ok()
            || read_events(&stack.config).await?.len() as i64 > row.get::<_, i64>(0))
    })
    .await?;
    check(stack).await
}

/// The event as its row would give it now: without place, and without a body that was deleted since.
fn as_a_row(mut event: ChatEvent, row: &ChatEvent) -> ChatEvent {
    event.origin = Origin::default();
    if let (Some(message), Some(now)) = (&mut event.message, &row.message) {
        if now.content.is_none() {
            message.content = None;
        }
        message.deleted_at = now.deleted_at;
    }
    event
}

impl Stack {
    /// Events `from + 1..=to` of a chat: a beginning, sends, edits, joins and deletes, each row in a transaction.
    pub async fn busy_chat(&self, chat: &str, from: i64, to: i64) -> Result<()> {
        for seq in from + 1..=to {
            match seq {
                1 => self.change(chat, seq, "chat.created", None).await?,
                seq if seq % 10 == 4 => self.change(chat, seq, "message.edited", Some(seq - 1)).await?,
                seq if seq % 10 == 7 => self.change(chat, seq, "member.joined", None).await?,
                seq if seq % 10 == 0 => self.delete_message(chat, seq - 1, seq - 7).await?,
                _ => self.send(chat, seq, &format!("said at {seq}")).await?,
            }
        }
        Ok(())
    }

    async fn change(&self, chat: &str, seq: i64, kind: &str, message_seq: Option<i64>) -> Result<()> {
        let message = "(SELECT jsonb_build_object('message_id', message_id, 'message_seq', sequence_number,
                                                  'sender_id', sender_id, 'created_at', 1)
                          FROM message WHERE chat_id = $1 AND sequence_number = $4)";
        self.sql
            .execute(
                &format!(
                    "INSERT INTO chat_change (chat_id, sequence_number, event_type, actor_id, occurred_at, message_seq,
                                              content, message, memberships)
                     VALUES ($1, $2::bigint, $3::text, 'alice', now(), $4::bigint, CASE WHEN $3 = 'message.edited' THEN 'edited' END, {message},
                             CASE WHEN $4::bigint IS NULL THEN jsonb_build_array(jsonb_build_object(
                                 'user_id', 'bob', 'member_role', 'member', 'joined_seq', $2::bigint, 'visible_from_seq', 1)) END)"
                ),
                &[&chat, &seq, &kind, &message_seq],
            )
            .await?;
        Ok(())
    }

    /// Deletes a message as event `after + 1`, with its body and those of its edits.
    pub async fn delete_message(&self, chat: &str, after: i64, message_seq: i64) -> Result<()> {
        self.change(chat, after + 1, "message.deleted", Some(message_seq)).await?;
        for table in [
            "message SET content = NULL, is_delete = true, deleted_at = now() WHERE sequence_number = $2",
            "chat_change SET content = NULL WHERE message_seq = $2",
        ] {
            self.sql.execute(&format!("UPDATE {table} AND chat_id = $1"), &[&chat, &message_seq]).await?;
        }
        Ok(())
    }

    /// The topics empty, as if made for the first time.
    pub async fn forget_topics(&self) -> Result<()> {
        let admin = Admin::new(&self.config.kafka)?;
        admin.delete_topics(&self.config.names()).await?;
        eventually("the topics are made again", async || {
            Ok(admin.make_topics(&self.config.kafka, &self.config.names()).await.is_ok_and(|made| made.len() > 1))
        })
        .await
    }

    /// Adds partitions to a topic, as somebody may.
    pub async fn add_partitions(&self, topic: &str, count: usize) -> Result<()> {
        let client: AdminClient<DefaultClientContext> = runtime::kafka::client_config(&self.config.kafka).create()?;
        for added in client.create_partitions([&NewPartitions::new(topic, count)], &AdminOptions::new()).await? {
            added.map_err(|(topic, code)| anyhow!("{topic}: {code}"))?;
        }
        let admin = Admin::new(&self.config.kafka)?;
        eventually("it has them", async || Ok(admin.topic_facts(topic).await?.partitions == count)).await
    }

    /// A position by hand.
    pub async fn write_position(&self, position: Position) -> Result<()> {
        let registry = Registry::new(self.config.registry.url.expose(), self.config.names().prefix())?;
        let encoder = Encoder::new(registry.id_of::<Position>().await?);
        let config = Arc::clone(&self.config);
        tokio::task::spawn_blocking(move || {
            Fenced::take_over(&config, &position.slot)?.publish_position(&position, &encoder)
        })
        .await??;
        Ok(())
    }
}

/// One message at the chat's next place, which the counter's lock gives.
pub async fn write_under_lock(client: &mut Client, chat: &str) -> Result<()> {
    let transaction = client.transaction().await?;
    let seq: i64 = transaction
        .query_one(
            "INSERT INTO chat_counter AS counter (chat_id, last_seq, last_at)
             VALUES ($1, 1 + greatest((SELECT max(sequence_number) FROM message WHERE chat_id = $1),
                                      (SELECT max(sequence_number) FROM chat_change WHERE chat_id = $1), 0), now())
             ON CONFLICT (chat_id) DO UPDATE SET last_seq = counter.last_seq + 1 RETURNING last_seq",
            &[&chat],
        )
        .await?
        .get(0);
    insert(&transaction, chat, seq, &format!("said meanwhile at {seq} {}", Uuid::new_v4())).await?;
    transaction.commit().await?;
    Ok(())
}
