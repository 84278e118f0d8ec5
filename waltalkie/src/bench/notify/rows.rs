//! People in 1:1 chats, each with a browser of the push service in this process, written by a few statements.

use anyhow::{Context, Result};
use notify::fakes::{Browser, PushServiceFake};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::Json;
use uuid::Uuid;

/// The seq of the event that made each chat; messages follow.
pub(super) const FIRST_SEQ: i64 = 1;

/// Id of a chat, and of its sender and reader.
pub(super) fn ids(chat: u64) -> (String, String, String) {
    (format!("bench-{chat}"), format!("sender-{chat}"), format!("reader-{chat}"))
}

/// Id of the large chat, whose members are `many-0`, `many-1`, …; the first of them says something.
pub(super) const LARGE_CHAT: &str = "bench-large";
pub(super) const LARGE_SENDER: &str = "many-0";

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
    let users: Vec<String> = (0..chats).map(|chat| ids(chat).2).collect();
    give_browsers(client, &users, service, public_key).await?;
    client.batch_execute("ANALYZE").await.context("ANALYZE")
}

/// Writes the large chat; `devices` of its members have a device each, spread evenly over all of them.
pub(super) async fn write_large(
    client: &Client,
    members: u64,
    devices: u64,
    service: &PushServiceFake,
    public_key: &str,
) -> Result<()> {
    let count = members as i64;
    let sql = "INSERT INTO \"user\" (id, name, created_at, updated_at)
               SELECT 'many-' || n, 'many', now(), now() FROM generate_series(0, $1::bigint - 1) n";
    client.execute(sql, &[&count]).await?;
    let sql = "INSERT INTO chat (id, name, is_group, created_at, deleted_shown_as, history_for_new_members, changed_seq, changed_session)
               VALUES ($1, 'many', true, now(), 'tombstone', true, $2, '')";
    client.execute(sql, &[&LARGE_CHAT, &FIRST_SEQ]).await?;
    let sql = "INSERT INTO chat_counter (chat_id, last_seq, last_at) VALUES ($1, $2, now())";
    client.execute(sql, &[&LARGE_CHAT, &FIRST_SEQ]).await?;
    let sql = "INSERT INTO chat_member (chat_id, user_id, joined_at, role, joined_seq, visible_from_seq, changed_seq, changed_session)
               SELECT $1, 'many-' || n, now(), 'member', $3::bigint, $3::bigint, $3::bigint, ''
                 FROM generate_series(0, $2::bigint - 1) n";
    client.execute(sql, &[&LARGE_CHAT, &count, &FIRST_SEQ]).await?;
    // Not the sender, who isn't told.
    let users: Vec<String> =
        (0..devices).map(|number| format!("many-{}", 1 + number * (members - 1) / devices.max(1))).collect();
    give_browsers(client, &users, service, public_key).await?;
    client.batch_execute("ANALYZE").await.context("ANALYZE")
}

/// A browser for each of these people.
async fn give_browsers(client: &Client, users: &[String], service: &PushServiceFake, public_key: &str) -> Result<()> {
    let browsers: Vec<Browser> = users.iter().map(|_| service.subscribe(Some(public_key))).collect();
    let addresses: Vec<&str> = browsers.iter().map(|browser| browser.endpoint.as_str()).collect();
    let keys: Vec<Json<Value>> =
        browsers.iter().map(|browser| Json(json!({ "p256dh": browser.p256dh, "auth": browser.auth }))).collect();
    let sql = "INSERT INTO user_device (user_id, device_id, platform, address, keys, created_at, updated_at)
               SELECT d.user_id, 'browser', 'web', d.address, d.keys, now(), now()
                 FROM unnest($1::text[], $2::text[], $3::jsonb[]) AS d (user_id, address, keys)";
    client.execute(sql, &[&users, &addresses, &keys]).await.context("devices")?;
    Ok(())
}

/// Writes a message, so that it is there when it is sent.
pub(super) async fn say(client: &Client, chat_id: &str, sender_id: &str, seq: i64, message_id: Uuid) -> Result<()> {
    let sql = "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
               VALUES ($1, $2, $3, 'how are you?', $4, clock_timestamp())";
    client.execute(sql, &[&message_id, &chat_id, &sender_id, &seq]).await?;
    Ok(())
}
