//! Two people at once: whatever wins, there is one order and everybody sees it.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Answer, Installation, LONG, Person, Servers, Socket, until};

/// Rounds of each race, and chats that they are spread over.
const ROUNDS: usize = 1_000;
const CHATS: usize = 10;

async fn installation(test: &str) -> Result<Installation> {
    let generous = [
        ("limits.commands_per_s", "100000"),
        ("limits.commands_burst", "100000"),
        ("limits.chat_sends_per_s", "100000"),
        ("limits.chat_sends_burst", "100000"),
    ];
    Installation::make_on(Servers::shared()?, test, &generous).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_races_its_senders_removal() -> Result<()> {
    let installation = installation("race-remove").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let outcomes = try_join_all((0..CHATS).map(|_| removals(&alice, &bob, ROUNDS / CHATS))).await?;
    let (sent, refused) =
        outcomes.iter().fold((0, 0), |(sent, refused), outcome| (sent + outcome.0, refused + outcome.1));
    println!("{sent} sends came first, {refused} removals");
    ensure!(sent + refused == ROUNDS && sent > 0 && refused > 0, "{sent} sent, {refused} refused");
    Ok(())
}

/// How many sends came before the removal, and how many after.
async fn removals(alice: &Person, bob: &Person, rounds: usize) -> Result<(usize, usize)> {
    let chat_id = alice.make_group(&[bob], json!({})).await?;
    let (member, messages) = (format!("/v1/chats/{chat_id}/members/bob"), format!("/v1/chats/{chat_id}/messages"));
    let mut sent = HashMap::new();
    for round in 0..rounds {
        let message_id = Uuid::now_v7().to_string();
        let body = json!({ "content": format!("round {round}"), "message_id": message_id });
        let removing = decided(alice, Method::DELETE, &member, None);
        let sending = decided(bob, Method::POST, &messages, Some(&body));
        // Each is a little ahead in every other round, so that both outcomes are seen.
        let (removed, answer) = if round % 2 == 0 {
            tokio::try_join!(removing, sending)?
        } else {
            let (answer, removed) = tokio::try_join!(sending, removing)?;
            (removed, answer)
        };
        let left_seq = removed.expect(200)?["seq"].as_i64();
        match answer.status.as_u16() {
            201 => {
                let seq = answer.body["seq"].as_i64().context("no seq")?;
                // A removal that was tried twice doesn't tell its place.
                ensure!(
                    left_seq.is_none_or(|left_seq| seq < left_seq),
                    "sent at {seq}, after the removal at {left_seq:?}"
                );
                sent.insert(message_id, seq);
            }
            404 => {
                answer.expect_problem(404, "chat_not_found", Some("chat_id"))?;
                // Decided is decided: sent again while still outside, it is refused again.
                decided(bob, Method::POST, &messages, Some(&body)).await?.expect_problem(
                    404,
                    "chat_not_found",
                    Some("chat_id"),
                )?;
            }
            _ => anyhow::bail!("{}: {}", answer.status, answer.body),
        }
        let back = json!({ "user_ids": ["bob"] });
        decided(alice, Method::POST, &format!("/v1/chats/{chat_id}/members"), Some(&back)).await?.expect(201)?;
    }
    for person in [alice, bob] {
        let seen = all_messages(person, &chat_id).await?;
        ensure!(seen == sent, "{} sees {} messages, {} were sent", person.user_id, seen.len(), sent.len());
    }
    Ok((sent.len(), rounds - sent.len()))
}

/// Asks until it is decided, as clients do while a busy machine has them wait.
async fn decided(person: &Person, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
    until("a decision", LONG, async || {
        let answer = person.request(method.clone(), path, body.cloned()).await?;
        Ok((answer.status != 503).then_some(answer))
    })
    .await
}

async fn all_messages(person: &Person, chat_id: &str) -> Result<HashMap<String, i64>> {
    let (mut seen, mut after) = (HashMap::new(), 0);
    loop {
        let page =
            person.get(&format!("/v1/chats/{chat_id}/messages?after_seq={after}&limit=200")).await?.expect(200)?;
        for message in page["messages"].as_array().context("no list")? {
            after = message["seq"].as_i64().context("no seq")?;
            seen.insert(message["message_id"].as_str().context("no id")?.to_owned(), after);
        }
        if page["has_more_after"] == false {
            return Ok(seen);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_races_the_delivery() -> Result<()> {
    let installation = installation("race-delete").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let mut chats = Vec::new();
    for _ in 0..CHATS {
        chats.push(alice.make_group(&[&bob], json!({})).await?);
    }
    let mut watching = bob.connect().await?;
    let mut talking = alice.connect().await?;
    for round in 0..ROUNDS {
        let chat_id = &chats[round % CHATS];
        let message_id = Uuid::now_v7().to_string();
        let content = format!("secret {message_id}");
        let payload = json!({ "chat_id": chat_id, "message_id": message_id, "content": content });
        talking.send("send_message", payload).await?;
        let deleted = talking.send("delete_message", json!({ "chat_id": chat_id, "message_id": message_id })).await?;
        let seq = talking.persisted(deleted).await?;
        // The commit of the delete is behind us: no page has the body any more, however far the event is.
        let page = bob.get(&format!("/v1/chats/{chat_id}/messages?limit=1")).await?.expect(200)?;
        ensure!(!page.to_string().contains(&content) && page["messages"][0]["deleted_at"].is_string(), "{page}");
        passes(&mut watching, chat_id, &message_id, seq).await?;
    }
    let late = watching.unread().iter().find(|frame| frame["event"] == "message");
    ensure!(late.is_none(), "after its deletion: {late:?}");
    Ok(())
}

/// The send, with or without its body, then the delete without; and no body afterwards.
async fn passes(watching: &mut Socket, chat_id: &str, message_id: &str, seq: i64) -> Result<()> {
    let is_it = |frame: &Value| frame["chat_id"] == chat_id && frame["message_id"] == message_id;
    let sent = watching.wait("message", is_it).await?;
    ensure!(sent["seq"] == seq - 1, "{sent}, deleted at {seq}");
    let deleted = watching.wait("message_deleted", is_it).await?;
    ensure!(deleted["seq"] == seq && deleted["content"].is_null(), "{deleted}");
    Ok(())
}
