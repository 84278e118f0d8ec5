//! People in 1:1 chats, each with a browser of the push service in this process, written by a few statements.

use anyhow::{Context, Result};
use notify::fakes::{Browser, PushServiceFake};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::Json;

/// The seq of the event that made each chat; messages follow.
pub(super) const FIRST_SEQ: i64 = 1;

/// Id of a chat, and of its sender and reader.
pub(super) fn ids(chat: u64) -> (String, String, String) {
    (format!("bench-{chat}"), format!("sender-{chat}"), format!("reader-{chat}"))
}

/// Writes `chats` chats, and a device for each reader.
pub(super) async fn write(client: &Client, chats: u64, service: &PushServiceFake, public_key: &str) -> Result<()> {
    let count = chats as i64;
    for kind in ["sender", "reader"] {
        let sql = "INSERT INTO \"user\" (id, name, created_at, updated_at)
                   SELECT $1::text || '-' || n, $1, now(), now() FROM generate_series(0, $2::bigint - 1) n";
        client.execute(sql, &[&kind, &count]).await?;
    }
    let sql = "INSERT INTO chat (id, is_group, created_at, deleted_shown_as, history_for_new_members, changed_seq, changed_session)
               SELECT 'bench-' || n, false, now(), 'tombstone', true, $2::bigint, '' FROM generate_series(0, $1::bigint - 1) n";
    client.execute(sql, &[&count, &FIRST_SEQ]).await?;
    let sql = "INSERT INTO chat_counter (chat_id, last_seq, last_at)
               SELECT 'bench-' || n, $2::bigint, now() FROM generate_series(0, $1::bigint - 1) n";
    client.execute(sql, &[&count, &FIRST_SEQ]).await?;
    let sql = "INSERT INTO chat_member (chat_id, user_id, joined_at, role, joined_seq, visible_from_seq, changed_seq, changed_session)
               SELECT 'bench-' || n, who || '-' || n, now(), 'member', $2::bigint, $2::bigint, $2::bigint, ''
                 FROM generate_series(0, $1::bigint - 1) n, unnest(ARRAY['sender', 'reader']) who";
    client.execute(sql, &[&count, &FIRST_SEQ]).await?;
    let browsers: Vec<Browser> = (0..chats).map(|_| service.subscribe(Some(public_key))).collect();
    let users: Vec<String> = (0..chats).map(|chat| ids(chat).2).collect();
    let addresses: Vec<&str> = browsers.iter().map(|browser| browser.endpoint.as_str()).collect();
    let keys: Vec<Json<Value>> =
        browsers.iter().map(|browser| Json(json!({ "p256dh": browser.p256dh, "auth": browser.auth }))).collect();
    let sql = "INSERT INTO user_device (user_id, device_id, platform, address, keys, created_at, updated_at)
               SELECT d.user_id, 'browser', 'web', d.address, d.keys, now(), now()
                 FROM unnest($1::text[], $2::text[], $3::jsonb[]) AS d (user_id, address, keys)";
    client.execute(sql, &[&users, &addresses, &keys]).await?;
    client.batch_execute("ANALYZE").await.context("ANALYZE")
}

/// Writes a message, so that it is there when it is sent.
pub(super) async fn say(client: &Client, chat: u64, seq: i64, message_id: uuid::Uuid) -> Result<()> {
    let (chat_id, sender_id, _) = ids(chat);
    let sql = "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
               VALUES ($1, $2, $3, 'how are you?', $4, clock_timestamp())";
    client.execute(sql, &[&message_id, &chat_id, &sender_id, &seq]).await?;
    Ok(())
}
