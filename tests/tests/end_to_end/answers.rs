//! Answers that Redis never carried: the tables have them.

use anyhow::{Result, ensure};
use faults::Proxy;
use serde_json::json;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, Person, Servers};

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_answers_come_from_the_tables() -> Result<()> {
    let servers = Servers::shared()?;
    let (proxy, through) = Proxy::before_url(&servers.redis).await?;
    let installation = Installation::make_on(servers, "answers-without-redis", &[("redis.url", &through)]).await?;
    let process = installation.run(&["all"]).await?;
    let alice = Person::arrive(&installation.config()?, process.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    let messages = format!("/v1/chats/{chat_id}/messages");
    let mut socket = alice.connect().await?;
    proxy.refuse();

    // A send, a repeated one, one that is refused, and a change of the chat.
    let message_id = Uuid::now_v7();
    let send = json!({ "message_id": message_id, "content": "hello" });
    let first = alice.post(&messages, send.clone()).await?.expect(201)?;
    ensure!(alice.post(&messages, send).await?.expect(201)?["seq"] == first["seq"]);
    let other = json!({ "message_id": message_id, "content": "something else" });
    alice.post(&messages, other).await?.expect_problem(409, "message_id_conflict", Some("message_id"))?;
    alice.patch(&format!("/v1/chats/{chat_id}"), json!({ "name": "Without Redis" })).await?.expect(200)?;
    let asked = socket.send("send_message", json!({ "chat_id": chat_id, "content": "by the socket" })).await?;
    socket.answer(asked, |frame| frame["event"] == "ack" && frame["payload"]["state"] == "persisted").await?;
    ensure!(proxy.resets() > 0, "Redis was never cut");
    Ok(())
}
