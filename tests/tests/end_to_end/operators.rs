//! What stream operators say of a conversation is what the tables say, whatever becomes of their processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runtime::Config;
use rustix::process::Signal;
use schemas::registry::Registry;
use schemas::{ChatAbuse, ChatActivity, Decoder, Record};
use serde_json::json;
use waltalkie_tests::harness::{Installation, LONG, Person, read_all, until};

/// A minute of talk has to end, and a process that is stopped has to be missed.
const TWO_MINUTES_AND_A_HALF: Duration = Duration::from_secs(150);
const MINUTE_MS: i64 = 60_000;

async fn rows<R: Record>(config: &Config) -> Result<Vec<R>> {
    let registry = Arc::new(Registry::new(config.registry.url.expose(), &config.names.prefix)?);
    let id = registry.id_of::<R>().await?;
    let decoder = Decoder::<R>::new(registry, id);
    let mut rows = Vec::new();
    for logged in read_all(config, R::TOPIC).await? {
        rows.push(decoder.decode(logged.value.as_deref().context("no value")?).await?);
    }
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_in_a_minute_is_what_the_tables_say() -> Result<()> {
    let settings =
        [("operators.gather_ms", "100"), ("operators.flood_messages", "12"), ("limits.commands_per_s", "1000")];
    let installation = Installation::make("operators").await?;
    let config = installation.config()?;
    let others = ["gateway", "persister", "cdc", "projector", "publisher"];
    let process = installation.run_with(&others, &settings).await?;
    let mut first = installation.run_with(&["operators"], &settings).await?;
    let gateway = process.gateway()?;
    let alice = Person::arrive(&config, gateway, "alice").await?;
    let bob = Person::arrive(&config, gateway, "bob").await?;
    let mallory = Person::arrive(&config, gateway, "mallory").await?;
    let mut chats = Vec::new();
    for _ in 0..6 {
        chats.push(alice.make_group(&[&bob, &mallory], json!({})).await?);
    }
    let talk = async |text: &str| -> Result<()> {
        for chat_id in &chats {
            alice.say(chat_id, text).await?;
            bob.say(chat_id, &format!("Grüße, {text}")).await?;
        }
        Ok(())
    };
    talk("hello").await?;
    for number in 0..20 {
        mallory.say(&chats[0], &format!("you {number} must {number} read {number} this")).await?;
    }
    for number in 0..6 {
        mallory.say(&chats[1], if number % 2 == 0 { "Buy it NOW: cheap!" } else { "buy it now, cheap" }).await?;
    }
    // The alarms come at once, before any window ends.
    until("the alarms", LONG, async || {
        let rows = rows::<ChatAbuse>(&config).await?;
        let has = |kind: &str, chat_id: &str| {
            rows.iter().any(|row| row.abuse_kind == kind && row.chat_id == chat_id && row.sender_id == mallory.user_id)
        };
        Ok((has("flood", &chats[0]) && has("repeated_text", &chats[1])).then_some(()))
    })
    .await?;

    first.kill()?;
    talk("while nobody counts").await?;
    let second = installation.run_with(&["operators"], &settings).await?;
    talk("counted again").await?;
    second.signal(Signal::STOP)?;
    talk("while the one who counts is stopped").await?;
    let third = installation.run_with(&["operators"], &settings).await?;
    until("its partitions to be taken over", TWO_MINUTES_AND_A_HALF, async || {
        talk("on and on").await?;
        Ok((third.metric("waltalkie_operators_events_total").await? > 12.0).then_some(()))
    })
    .await?;
    second.signal(Signal::CONT)?;
    talk("after it was woken").await?;
    let truth = installation.truth().await?;
    let now_ms = "SELECT (extract(epoch FROM max(created_at)) * 1000)::bigint FROM message";
    let newest_ms: i64 = truth.query_one(now_ms, &[]).await?.get(0);
    let minute_ms = newest_ms - newest_ms % MINUTE_MS;
    // Only later events close a window.
    let told = until("the minute's rows", TWO_MINUTES_AND_A_HALF, async || {
        talk("and on").await?;
        let rows = rows::<ChatActivity>(&config).await?;
        let is_told =
            |chat_id: &String| rows.iter().any(|row| row.chat_id == *chat_id && row.window_start == minute_ms);
        Ok(chats.iter().all(is_told).then_some(rows))
    })
    .await?;

    let mut last: BTreeMap<(String, i64), ChatActivity> = BTreeMap::new();
    for row in told {
        let before = last.insert((row.chat_id.clone(), row.window_start), row.clone());
        ensure!(before.is_none_or(|before| before.revision < row.revision), "told twice: {row:?}");
    }
    let sql = "SELECT count(*), count(DISTINCT sender_id), coalesce(sum(octet_length(content)), 0)::bigint FROM message
               WHERE chat_id = $1 AND created_at >= to_timestamp($2::bigint / 1000) AND created_at < to_timestamp($3::bigint / 1000)";
    for row in last.values() {
        let found = truth.query_one(sql, &[&row.chat_id, &row.window_start, &row.window_end]).await?;
        let found: (i64, i64, i64) = (found.get(0), found.get(1), found.get(2));
        ensure!(found == (row.messages, row.senders, row.text_bytes), "the tables say {found:?}: {row:?}");
    }
    let sql = "SELECT count(DISTINCT (chat_id, date_trunc('minute', created_at))) FROM message
               WHERE created_at < to_timestamp($1::bigint / 1000)";
    let minutes: i64 = truth.query_one(sql, &[&(minute_ms + MINUTE_MS)]).await?.get(0);
    let counted = last.values().filter(|row| row.window_start <= minute_ms).count() as i64;
    ensure!(minutes == counted, "{minutes} minutes with messages, {counted} told");
    Ok(())
}
