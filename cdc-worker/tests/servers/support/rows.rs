//! Rows as the persister writes them.

use anyhow::Result;
use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::Stack;

const MESSAGE: &str = "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
                       VALUES ($1, $2, 'alice', $3, $4, now())";

impl Stack {
    /// One message in a transaction of its own.
    pub async fn send(&self, chat: &str, seq: i64, content: &str) -> Result<()> {
        insert(&self.sql, chat, seq, content).await
    }

    /// Messages `from..=to` of one chat in one transaction.
    pub async fn send_many(&self, chat: &str, from: i64, to: i64) -> Result<()> {
        self.sql
            .execute(
                "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
                 SELECT gen_random_uuid(), $1, 'alice', 'message ' || seq, seq, now() FROM generate_series($2::bigint, $3) seq",
                &[&chat, &from, &to],
            )
            .await?;
        Ok(())
    }

    /// A person's change.
    pub async fn change_user(&self, user: &str, version: i64, name: &str, is_removed: bool) -> Result<()> {
        self.sql
            .execute(
                "INSERT INTO user_change (user_id, version, name, email, is_removed, changed_at)
                 VALUES ($1, $2, $3, 'secret@example.com', $4, now())",
                &[&user, &version, &name, &is_removed],
            )
            .await?;
        Ok(())
    }
}

pub async fn insert(client: &impl GenericClient, chat: &str, seq: i64, content: &str) -> Result<()> {
    client.execute(MESSAGE, &[&Uuid::new_v4(), &chat, &content, &seq]).await?;
    Ok(())
}
