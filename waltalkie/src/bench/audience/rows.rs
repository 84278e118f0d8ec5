//! The audience in the tables, written by a few statements instead of by the roles: people, chats, stays, and messages as the
//! persister writes them.
//!
//! Messages are there before they are published, since a bench has to know them; a chat's counter isn't: it is moved once
//! they have been published. Heads, which nodes read from counters, therefore never run ahead of what was published, and
//! what Pub/Sub loses can be read again from the rows.

use anyhow::Result;
use tokio_postgres::Client;

use super::{Audience, FIRST_SEQ, SAID_AT_MS};

/// Statements on the source of truth.
pub(crate) struct Tables<'a> {
    pub(crate) client: &'a Client,
    pub(crate) audience: &'a Audience,
}

impl Tables<'_> {
    /// People, chats and stays.
    pub(crate) async fn write(&self) -> Result<()> {
        let Audience { name, people, chats, members, .. } = self.audience;
        let (people, chats, members) = (*people as i64, *chats as i64, *members as i64);
        let sql = "INSERT INTO \"user\" (id, created_at, updated_at)
                   SELECT $1::text || '-p' || lpad(n::text, 6, '0'), now(), now()
                     FROM generate_series(0, $2::bigint - 1) n";
        self.client.execute(sql, &[name, &people]).await?;
        let sql = "INSERT INTO chat (id, is_group, created_at, deleted_shown_as, history_for_new_members, changed_seq,
                                     changed_session)
                   SELECT $1::text || '-c' || lpad(n::text, 6, '0'), true, now(), 'tombstone', true, $3::bigint, ''
                     FROM generate_series(0, $2::bigint - 1) n";
        self.client.execute(sql, &[name, &chats, &FIRST_SEQ]).await?;
        let sql = "INSERT INTO chat_counter (chat_id, last_seq, last_at)
                   SELECT $1::text || '-c' || lpad(n::text, 6, '0'), $3::bigint, now()
                     FROM generate_series(0, $2::bigint - 1) n";
        self.client.execute(sql, &[name, &chats, &FIRST_SEQ]).await?;
        let sql =
            "INSERT INTO chat_member (chat_id, user_id, joined_at, role, joined_seq, visible_from_seq, changed_seq,
                                            changed_session)
                   SELECT $1::text || '-c' || lpad(c::text, 6, '0'),
                          $1::text || '-p' || lpad(((c * $3::bigint + place) % $4::bigint)::text, 6, '0'),
                          now(), 'member', $5::bigint, $5::bigint, $5::bigint, ''
                     FROM generate_series(0, $2::bigint - 1) c, generate_series(0, $3::bigint - 1) place";
        self.client.execute(sql, &[name, &chats, &members, &people, &FIRST_SEQ]).await?;
        self.client.batch_execute("ANALYZE").await?;
        Ok(())
    }

    /// Messages of the first `chats` chats after `base`, `each` of them a chat, with no counter moved.
    pub(crate) async fn write_messages(&self, chats: usize, base: i64, each: i64) -> Result<()> {
        let Audience { name, people, members, filler, .. } = self.audience;
        let (people, members) = (*people as i64, *members as i64);
        let sql = "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
                   SELECT (lpad(to_hex(c), 16, '0') || lpad(to_hex(seq), 16, '0'))::uuid,
                          $1::text || '-c' || lpad(c::text, 6, '0'),
                          $1::text || '-p' || lpad(((c * $3::bigint + seq % $3::bigint) % $4::bigint)::text, 6, '0'),
                          left(c || ' ' || seq || ' ' || $5::text, length($5::text)), seq,
                          to_timestamp($8::bigint / 1000.0)
                     FROM generate_series(0, $2::bigint - 1) c,
                          generate_series($6::bigint + 1, $6::bigint + $7::bigint) seq";
        let (chats, at_ms) = (chats as i64, SAID_AT_MS);
        self.client.execute(sql, &[name, &chats, &members, &people, filler, &base, &each, &at_ms]).await?;
        // What was just written has to reach the disk some time: now, rather than while something is measured. Where the
        // role may not ask for it, the server decides.
        let _ = self.client.batch_execute("CHECKPOINT").await;
        Ok(())
    }

    /// The first `chats` chats have come to `head`.
    pub(crate) async fn move_counters(&self, chats: usize, head: i64) -> Result<()> {
        let sql = "UPDATE chat_counter SET last_seq = $3, last_at = now() WHERE chat_id IN
                     (SELECT $1::text || '-c' || lpad(n::text, 6, '0') FROM generate_series(0, $2::bigint - 1) n)";
        self.client.execute(sql, &[&self.audience.name, &(chats as i64), &head]).await?;
        Ok(())
    }
}
