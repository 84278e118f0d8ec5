//! Kafka says nothing any more: a gateway lets so much wait for it, refuses early what comes after that, and sends marks that
//! were lost on the way again.

use anyhow::{Context, Result, ensure};
use faults::Proxy;
use serde_json::json;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, until};

/// Records that may wait for Kafka.
const QUEUED: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_kafka_is_bounded_and_arrives_once_it_is_back() -> Result<()> {
    let installation = Installation::make("silent-kafka").await?;
    let _behind = installation.run(&["persister", "cdc", "projector"]).await?;
    let config = installation.config()?;
    let kafka = Proxy::before_kafka(&config.kafka.brokers).await?;
    let (address, queued) = (kafka.address().to_string(), QUEUED.to_string());
    let settings = [
        ("kafka.brokers", address.as_str()),
        ("kafka.delivery_timeout_ms", "6000"),
        ("limits.queued_commands", &queued),
        // Nobody's lag is the reason.
        ("limits.lag_ms", "600000"),
    ];
    let gateway = installation.run_with(&["gateway"], &settings).await?;
    let alice = Person::arrive(&config, gateway.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, gateway.gateway()?, "bob").await?;
    let (chat_id, other) = (alice.make_group(&[&bob], json!({})).await?, alice.make_group(&[], json!({})).await?);
    alice.say(&chat_id, "before").await?;
    let mut socket = alice.connect().await?;

    kafka.freeze();
    // A mark is taken all the same: nobody waits for it.
    bob.post(&format!("/v1/chats/{chat_id}/read"), json!({ "seq": 2 })).await?.expect(202)?;
    let mut waiting = Vec::new();
    for number in 0..QUEUED {
        let (message_id, content) = (Uuid::now_v7(), format!("number {number}"));
        let payload = json!({ "chat_id": chat_id, "message_id": message_id, "content": content });
        waiting.push((socket.send("send_message", payload).await?, message_id, content));
    }
    let payload = json!({ "chat_id": other, "message_id": Uuid::now_v7(), "content": "too much" });
    let too_much = socket.send("send_message", payload).await?;
    let refusal = socket.expect_error(too_much, "overloaded", None).await?;
    let is_for_kafka = |text: &serde_json::Value| text.as_str().is_some_and(|text| text.contains("Kafka"));
    ensure!(is_for_kafka(&refusal["message"]) && refusal["temporary"] == true, "{refusal}");
    ensure!(refusal["retry_after_ms"].as_u64().is_some_and(|wait_ms| wait_ms > 0), "{refusal}");
    let messages = format!("/v1/chats/{chat_id}/messages");
    let refused = alice.post(&messages, json!({ "content": "too much by HTTP" })).await?;
    refused.expect_problem(503, "overloaded", None)?;
    ensure!(is_for_kafka(&refused.body["detail"]) && refused.headers.contains_key("retry-after"), "{refused:?}");
    alice.get("/v1/chats").await?.expect(200)?;

    // Those that wait are given up, and what was under way is lost.
    for (asked, ..) in &waiting {
        socket.expect_error(*asked, "unavailable", None).await?;
    }
    ensure!(kafka.held_back() > 0 && kafka.cut() > 0, "nothing was on its way");
    kafka.heal();
    for (_, message_id, content) in &waiting {
        let body = json!({ "message_id": message_id, "content": content });
        until("a send to be taken again", LONG, async || {
            let answer = alice.post(&messages, body.clone()).await?;
            Ok(answer.status.is_success().then_some(()))
        })
        .await?;
    }
    let page = alice.get(&format!("{messages}?limit=100")).await?.expect(200)?;
    let list = page["messages"].as_array().context("no list")?;
    let said: Vec<&str> = list.iter().filter_map(|message| message["content"].as_str()).collect();
    let mut expected = vec!["before"];
    expected.extend(waiting.iter().map(|(_, _, content)| content.as_str()));
    ensure!(said == expected, "{said:?}");
    // The mark too, which nobody sends again but the gateway.
    until("the mark", LONG, async || {
        let chat = bob.get(&format!("/v1/chats/{chat_id}")).await?.expect(200)?;
        Ok((chat["read_seq"] == 2).then_some(()))
    })
    .await
}
