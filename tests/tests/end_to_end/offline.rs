//! Who is away misses nothing: messages wait, come once and in order, and stop waiting.

use anyhow::{Context, Result, ensure};
use runtime::names::Database;
use serde_json::json;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, Servers, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_came_meanwhile_is_resumed_once_and_in_order() -> Result<()> {
    let installation = Installation::make("resumed").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let mut there = bob.connect().await?;
    let mut here = alice.connect().await?;
    here.say(&chat_id, &Uuid::now_v7().to_string(), "seen").await?;
    there.wait("message", |message| message["seq"] == 2).await?;
    drop(there);
    let mut sent = Vec::new();
    for number in 3..=40 {
        let payload =
            json!({ "chat_id": chat_id, "message_id": Uuid::now_v7(), "content": format!("number {number}") });
        sent.push(here.send("send_message", payload).await?);
    }
    for (number, asked) in sent.into_iter().enumerate() {
        // Sends of one connection keep their order.
        ensure!(here.persisted(asked).await? == number as i64 + 3);
    }

    let mut there = bob.connect().await?;
    let chat = there.chats.iter().find(|chat| chat["chat_id"] == chat_id).context("bob's chat")?;
    ensure!(chat["head_seq"].as_i64() >= Some(2), "{chat}");
    let epoch = there.hello["epoch"].clone();
    let asked = there.send("resume", json!({ "cursors": { &chat_id: 2 }, "epoch": "another" })).await?;
    there.expect_error(asked, "conflict", Some("payload.epoch")).await?;
    there.send("resume", json!({ "cursors": { &chat_id: 2 }, "epoch": epoch })).await?;
    let mut cursor = 2;
    while cursor < 40 {
        let message = there.wait("message", |_| true).await?;
        let seq = message["seq"].as_i64().context("a message without seq")?;
        // What came live between the greeting and the resume starts after the greeting's head, and
        // comes again with it.
        let before_resume = cursor == 2 && seq > 3;
        if seq <= cursor || before_resume {
            continue;
        }
        let number = cursor + 1;
        ensure!(seq == number && message["content"] == format!("number {number}"), "{message} is not {number}");
        cursor = number;
    }
    let resumed = there.wait("resumed", |resumed| resumed["chat_id"] == chat_id).await?;
    ensure!(resumed["complete"] == true, "{resumed}");
    // Live again, and nothing twice.
    here.say(&chat_id, &Uuid::now_v7().to_string(), "live").await?;
    let live = there.wait("message", |_| true).await?;
    ensure!(live["seq"] == 41 && live["content"] == "live", "{live}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_of_who_is_away_fills_and_is_emptied_by_their_return() -> Result<()> {
    let settings = [("projector.inbox_delay_ms", "300"), ("janitor.interval_ms", "300")];
    let installation = Installation::make_on(Servers::shared()?, "inbox", &settings).await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    for number in 2..=4 {
        alice.say(&chat_id, &format!("number {number}")).await?;
    }
    let third = alice.get(&format!("/v1/chats/{chat_id}/messages?after_seq=3&limit=1")).await?.expect(200)?;
    let third = third["messages"][0]["message_id"].as_str().context("no id")?.to_owned();
    let waiting = async |count: usize| {
        until(&format!("{count} messages in the inbox"), LONG, async || {
            let inbox = bob.get("/v1/users/me/inbox").await?.expect(200)?;
            let messages = inbox["messages"].as_array().context("no messages")?.clone();
            Ok((messages.len() == count).then_some(messages))
        })
        .await
    };
    let messages = waiting(3).await?;
    let seqs: Vec<_> = messages.iter().map(|message| message["seq"].as_i64().unwrap_or_default()).collect();
    ensure!(seqs == [2, 3, 4] && messages.iter().all(|message| message["chat_id"] == chat_id), "{messages:?}");
    ensure!(!serde_json::to_string(&messages)?.contains("number"), "the inbox has no bodies");
    let of_alice = alice.get("/v1/users/me/inbox").await?.expect(200)?;
    ensure!(of_alice["messages"] == json!([]), "one's own messages don't wait: {of_alice}");
    // A message that is deleted waits no more; its row stays until the tombstone is delivered.
    alice.delete(&format!("/v1/chats/{chat_id}/messages/{third}")).await?.expect(200)?;
    waiting(2).await?;

    // Back: what was missed is shown, the device says so, and the rows go.
    let mut there = bob.connect().await?;
    there.send("resume", json!({ "cursors": { &chat_id: 1 } })).await?;
    let resumed = there.wait("resumed", |resumed| resumed["chat_id"] == chat_id).await?;
    ensure!(resumed["to_seq"] == 5, "{resumed}");
    there.send("mark_delivered", json!({ "marks": { &chat_id: 4 } })).await?;
    waiting(0).await?;
    let read = installation.read().await?;
    until("the rows to go", LONG, async || {
        let rows: i64 = read.query_one("SELECT count(*) FROM inbox", &[]).await?.get(0);
        Ok((rows == 0).then_some(()))
    })
    .await?;
    // Whoever is there and says so at once never has a row for long.
    alice.say(&chat_id, "while bob is here").await?;
    let live = there.wait("message", |message| message["content"] == "while bob is here").await?;
    there.send("mark_delivered", json!({ "marks": { &chat_id: live["seq"] } })).await?;
    until("the cursor", LONG, async || {
        let sql = "SELECT 1 FROM chat_cursor WHERE chat_id = $1 AND user_id = 'bob' AND delivered_seq = 6";
        Ok(read.query_opt(sql, &[&chat_id]).await?)
    })
    .await?;
    waiting(0).await?;
    let name = installation.names().database(Database::Read);
    ensure!(name.starts_with('t'), "{name} has the prefix of this test");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_sends_its_people_to_another() -> Result<()> {
    let installation = Installation::make("drained").await?;
    let behind = installation.run(&["persister", "cdc", "projector", "publisher"]).await?;
    let first = installation.run(&["gateway"]).await?;
    let second = installation.run(&["gateway"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, first.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, second.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let (mut here, mut there) = (alice.connect().await?, bob.connect().await?);
    here.say(&chat_id, &Uuid::now_v7().to_string(), "across nodes").await?;
    there.wait("message", |message| message["content"] == "across nodes").await?;

    let leaving = async {
        let told = here.wait("reconnect", |_| true).await?;
        ensure!(told["after_ms"].is_u64(), "{told}");
        ensure!(here.closed().await? == Some(1001));
        Ok(())
    };
    let (ended, ()) = tokio::try_join!(first.stop(), leaving)?;
    ensure!(ended.success(), "a drained gateway ends well: {ended}");
    let mut here = alice.at(second.gateway()?).connect().await?;
    here.say(&chat_id, &Uuid::now_v7().to_string(), "from the other node").await?;
    there.wait("message", |message| message["content"] == "from the other node").await?;
    ensure!(behind.stop().await?.success(), "roles end well");
    Ok(())
}
