//! Limits of a person, of a chat and of a node: refused early, with a time to come back; nobody's order is lost, and nobody
//! waits for one who floods.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use rustix::process::Signal;
use serde_json::json;
use uuid::Uuid;
use waltalkie_tests::harness::{Answer, Installation, LONG, Person, Servers, Socket, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_takes_so_many_sends_and_keeps_each_senders_order() -> Result<()> {
    let settings = [
        ("limits.chat_sends_per_s", "5"),
        ("limits.chat_sends_burst", "8"),
        ("limits.commands_per_s", "1000"),
        ("limits.commands_burst", "1000"),
    ];
    let installation = Installation::make_on(Servers::shared()?, "chat-limit", &settings).await?;
    let process = installation.run(&["all"]).await?;
    let alice = Person::arrive(&installation.config()?, process.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    let quiet = alice.make_group(&[], json!({})).await?;
    let mut socket = alice.connect().await?;
    let texts: Vec<(String, String)> = (0..24).map(|n| (Uuid::now_v7().to_string(), format!("message {n}"))).collect();
    let mut waiting: Vec<usize> = (0..texts.len()).collect();
    let mut refused_once = 0;
    // As a client does: what was refused for now is sent again after the time that it was told, the first one first.
    while !waiting.is_empty() {
        let mut asked = Vec::new();
        for &place in &waiting {
            let (message_id, content) = &texts[place];
            let payload = json!({ "chat_id": chat_id, "message_id": message_id, "content": content });
            asked.push((place, socket.send("send_message", payload).await?));
        }
        let (mut refused, mut wait_ms) = (Vec::new(), 0);
        for (place, id) in asked {
            let is_last =
                |frame: &serde_json::Value| frame["event"] == "error" || frame["payload"]["state"] == "persisted";
            let answer = socket.answer(id, is_last).await?;
            if answer["event"] == "ack" {
                continue;
            }
            let code = answer["payload"]["code"].as_str().context("no code")?.to_owned();
            ensure!(code == "rate_limited" || code == "blocked_by_earlier", "{answer}");
            ensure!(answer["payload"]["temporary"] == true, "{answer}");
            if code == "rate_limited" {
                refused_once += 1;
                wait_ms = wait_ms.max(answer["payload"]["retry_after_ms"].as_u64().context("no time")?);
            }
            refused.push(place);
        }
        if !refused.is_empty() {
            // Another chat has room meanwhile.
            socket.say(&quiet, &Uuid::now_v7().to_string(), "not limited").await?;
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        waiting = refused;
    }
    ensure!(refused_once > 0, "24 at once are more than 8");
    let page = alice.get(&format!("/v1/chats/{chat_id}/messages?limit=100")).await?.expect(200)?;
    let seen: Vec<&str> = page["messages"]
        .as_array()
        .context("no list")?
        .iter()
        .filter_map(|message| message["content"].as_str())
        .collect();
    let sent: Vec<&str> = texts.iter().map(|(_, content)| content.as_str()).collect();
    ensure!(seen == sent, "{seen:?}");

    // By HTTP the headers tell it too, and operators see which limit it was.
    let full = over(&alice, &chat_id).await?;
    full.expect_problem(429, "rate_limited", Some("chat_id"))?;
    ensure!(told(&full, "ratelimit-policy")?.contains("\"chat\";q=8;w=2"), "{:?}", full.headers);
    ensure!(told(&full, "ratelimit")?.contains("\"chat\";r=0;t="), "{:?}", full.headers);
    told(&full, "retry-after")?;
    ensure!(process.metric("waltalkie_gateway_limited_total{limit=\"chat\"}").await? > 0.0);
    let small = [("limits.node_commands_per_s", "1"), ("limits.node_commands_burst", "2")];
    let small = installation.run_with(&["gateway"], &small).await?;
    let full = over(&alice.at(small.gateway()?), &quiet).await?;
    full.expect_problem(429, "rate_limited", None)?;
    ensure!(told(&full, "ratelimit-policy")?.contains("\"node\";q=2;w=2"), "{:?}", full.headers);
    ensure!(told(&full, "ratelimit")?.contains("\"node\";r=0;t="), "{:?}", full.headers);
    ensure!(small.metric("waltalkie_gateway_limited_total{limit=\"node\"}").await? > 0.0);
    // Another node has a limit of its own.
    alice.say(&quiet, "by another node").await?;
    Ok(())
}

/// Sends many at once; gives a refusal.
async fn over(person: &Person, chat_id: &str) -> Result<Answer> {
    let path = format!("/v1/chats/{chat_id}/messages");
    let answers = try_join_all((0..40).map(|_| person.post(&path, json!({ "content": "one of many" })))).await?;
    answers.into_iter().find(|answer| answer.status == 429).context("nobody is refused")
}

fn told<'a>(answer: &'a Answer, header: &str) -> Result<&'a str> {
    answer.headers.get(header).with_context(|| format!("no {header}"))?.to_str().context("not text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persister_that_lags_means_an_early_refusal_and_no_loss() -> Result<()> {
    let settings = [("limits.lag_ms", "1000")];
    let installation = Installation::make_on(Servers::shared()?, "admission", &settings).await?;
    let gateway = installation.run(&["gateway"]).await?;
    let persister = installation.run(&["persister"]).await?;
    let alice = Person::arrive(&installation.config()?, gateway.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    persister.signal(Signal::STOP)?;
    let mut socket = alice.connect().await?;
    let first = Uuid::now_v7().to_string();
    let payload = json!({ "chat_id": chat_id, "message_id": first, "content": "waits" });
    let waits = socket.send("send_message", payload).await?;
    socket.answer(waits, |frame| frame["payload"]["state"] == "accepted").await?;
    let refused = until("sends to be refused", LONG, async || {
        let payload = json!({ "chat_id": chat_id, "message_id": Uuid::now_v7(), "content": "too much" });
        let id = socket.send("send_message", payload).await?;
        let answer = socket.answer(id, |_| true).await?;
        Ok((answer["event"] == "error").then_some(answer))
    })
    .await?;
    let error = &refused["payload"];
    ensure!(error["code"] == "overloaded" && error["temporary"] == true, "{refused}");
    ensure!(error["retry_after_ms"].as_u64().is_some_and(|wait_ms| wait_ms > 0), "{refused}");
    let path = format!("/v1/chats/{chat_id}/messages");
    let refused = alice.post(&path, json!({ "content": "too much by HTTP" })).await?;
    refused.expect_problem(503, "overloaded", None)?;
    ensure!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
    // Everything but a send is still taken.
    alice.get("/v1/chats").await?.expect(200)?;
    persister.signal(Signal::CONT)?;
    ensure!(socket.persisted(waits).await? == 2);
    until("sends to be taken again", LONG, async || {
        let answer = alice.post(&path, json!({ "content": "again" })).await?;
        Ok((answer.status == 201).then_some(()))
    })
    .await
}

/// What a person may at once, and then each second.
const BURST: u64 = 300;
const PER_S: u64 = 50;
/// Sends whose way is timed, calm and beside a flood; and frames of a flood that aren't answered yet.
const TIMED: usize = 100;
const WINDOW: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn who_floods_is_refused_and_slows_nobody() -> Result<()> {
    let (burst, per_s) = (BURST.to_string(), PER_S.to_string());
    let settings = [("limits.commands_per_s", per_s.as_str()), ("limits.commands_burst", &burst)];
    let installation = Installation::make_on(Servers::shared()?, "flood", &settings).await?;
    let process = installation.run(&["gateway", "persister"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let (mut here, mut there) = (alice.connect().await?, bob.connect().await?);
    let calm = timed(&mut there, &chat_id).await?;
    let is_enough = AtomicBool::new(false);
    let began = Instant::now();
    let beside = async {
        let beside = timed(&mut there, &chat_id).await;
        is_enough.store(true, Ordering::Relaxed);
        beside
    };
    let (beside, (taken, refused)) = tokio::try_join!(beside, flood(&mut here, &chat_id, &is_enough))?;
    let allowed = BURST + PER_S * (began.elapsed().as_secs() + 1);
    let shown = |[p50, p95]: [Duration; 2]| {
        format!("p50 {:.1} ms, p95 {:.1} ms", p50.as_secs_f64() * 1e3, p95.as_secs_f64() * 1e3)
    };
    println!(
        "Bob's sends until persisted: calm {}, beside a flood of {} frames {}; {taken} of these were taken, {refused} refused",
        shown(calm),
        taken + refused,
        shown(beside)
    );
    ensure!(taken <= allowed && refused > BURST, "{taken} of a flood were taken, {refused} refused");
    // The machine has the flood's frames to read and to refuse, but nothing queues behind them.
    let bound = calm[0] * 5 + Duration::from_millis(100);
    ensure!(beside[0] < bound, "{beside:?} beside a flood, {calm:?} without");
    Ok(())
}

/// Median and 95th percentile of how long sends take to be persisted, one after another. None of them may be refused.
async fn timed(socket: &mut Socket, chat_id: &str) -> Result<[Duration; 2]> {
    let mut took = Vec::new();
    for number in 0..TIMED {
        let began = Instant::now();
        socket.say(chat_id, &Uuid::now_v7().to_string(), &format!("number {number}")).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok([took[TIMED / 2], took[TIMED * 95 / 100]])
}

/// Sends as fast as it is answered, whatever the answers are: how many were taken, and how many refused.
async fn flood(socket: &mut Socket, chat_id: &str, is_enough: &AtomicBool) -> Result<(u64, u64)> {
    let (mut taken, mut refused) = (0, 0);
    while !is_enough.load(Ordering::Relaxed) {
        let mut asked = Vec::new();
        for _ in 0..WINDOW {
            let payload = json!({ "chat_id": chat_id, "message_id": Uuid::now_v7(), "content": "flood" });
            asked.push(socket.send("send_message", payload).await?);
        }
        for id in asked {
            let answer = socket.answer(id, |_| true).await?;
            if answer["event"] == "ack" { taken += 1 } else { refused += 1 }
        }
    }
    Ok((taken, refused))
}
