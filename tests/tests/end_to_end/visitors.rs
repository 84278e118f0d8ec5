//! Who may not come in: wrong tokens, foreign pages, floods.

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, Person, Servers, Socket};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_with_a_wrong_token_or_from_a_foreign_page() -> Result<()> {
    let installation = Installation::make("tokens").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let gateway = process.gateway()?;
    let mut foreign = config.clone();
    foreign.auth.hs256_secret = runtime::Secret::new("another secret, which is not this installation's");
    let expired = ingest::auth::development_token(&config, "alice", None, -60)?.0;
    let forged = ingest::auth::development_token(&foreign, "alice", None, 60)?.0;
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.".to_owned();
    for (token, code) in [(&expired, "token_expired"), (&forged, "token_invalid"), (&unsigned, "token_invalid")] {
        Person::with_token(gateway, "alice", token).get("/v1/chats").await?.expect_problem(401, code, None)?;
        let (status, body) = Socket::refused(gateway, &format!("waltalkie.v1, bearer.{token}"), None).await?;
        ensure!(status == 401 && body.contains(code), "{status} {body}");
        ensure!(!body.contains(token.as_str()), "the token is in {body}");
    }
    let bare = reqwest::get(format!("{gateway}/v1/chats")).await?;
    ensure!(bare.status() == 401 && bare.headers()["www-authenticate"] == "Bearer", "{bare:?}");
    let (status, body) = Socket::refused(gateway, "waltalkie.v1", None).await?;
    ensure!(status == 401 && body.contains("token_missing"), "{status} {body}");
    let token = ingest::auth::development_token(&config, "alice", None, 60)?.0;
    // In an address it is nobody's token: addresses are kept in histories and logs.
    for name in ["token", "access_token", "bearer"] {
        let asked = reqwest::get(format!("{gateway}/v1/chats?{name}={token}")).await?;
        ensure!(asked.status() == 401 && asked.text().await?.contains("token_missing"), "{name}");
        let handshake = reqwest::Client::new().get(format!("{gateway}/v1/ws?{name}={token}"));
        let handshake = handshake.header("connection", "upgrade").header("upgrade", "websocket");
        let handshake =
            handshake.header("sec-websocket-version", "13").header("sec-websocket-protocol", "waltalkie.v1");
        let asked = handshake.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send().await?;
        ensure!(asked.status() == 401 && asked.text().await?.contains("token_missing"), "{name} at the handshake");
    }
    for origin in ["https://evil.example", "null", &format!("{gateway}.evil.example")] {
        let (status, body) = Socket::refused(gateway, &format!("waltalkie.v1, bearer.{token}"), Some(origin)).await?;
        ensure!(status == 403 && body.contains("forbidden"), "{origin}: {status} {body}");
    }
    let truth = installation.truth().await?;
    ensure!(truth.query("SELECT 1 FROM \"user\"", &[]).await?.is_empty(), "somebody was made by a wrong token");

    // A token that ends while it is open ends the connection, unless it is renewed in time.
    let short = ingest::auth::development_token(&config, "alice", None, 3)?.0;
    let (mut renewed, mut ending) = (Socket::open(gateway, &short).await?, Socket::open(gateway, &short).await?);
    let asked = renewed.send("authenticate", json!({ "token": token })).await?;
    renewed.answer(asked, |frame| frame["event"] == "ack").await?;
    ending.wait("token_expiring", |_| true).await?;
    ensure!(ending.closed().await? == Some(4101));
    let asked = renewed.send("mark_read", json!({ "marks": {} })).await?;
    renewed.answer(asked, |frame| frame["event"] == "ack").await?;
    let others = ingest::auth::development_token(&config, "bob", None, 60)?.0;
    let asked = renewed.send("authenticate", json!({ "token": others })).await?;
    renewed.expect_error(asked, "token_invalid", Some("payload.token")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_told_when_to_go_on() -> Result<()> {
    let settings = [
        ("limits.commands_per_s", "1"),
        ("limits.commands_burst", "5"),
        ("limits.requests_per_s", "1"),
        ("limits.requests_burst", "30"),
    ];
    let installation = Installation::make_on(Servers::shared()?, "flood", &settings).await?;
    let process = installation.run(&["all"]).await?;
    let alice = Person::arrive(&installation.config()?, process.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    let mut socket = alice.connect().await?;
    let truth = installation.truth().await?;
    let mut refused = None;
    for _ in 0..10 {
        let payload = json!({ "chat_id": chat_id, "message_id": Uuid::now_v7(), "content": "flood" });
        let asked = socket.send("send_message", payload).await?;
        let answer =
            socket.answer(asked, |frame| frame["event"] == "error" || frame["payload"]["state"] == "persisted").await?;
        if answer["event"] == "error" {
            refused = Some(answer["payload"].clone());
            break;
        }
    }
    let refused = refused.context("ten sends at once were taken")?;
    ensure!(refused["code"] == "rate_limited" && refused["temporary"] == true, "{refused}");
    ensure!(refused["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0 && wait <= 5_000), "{refused}");
    ensure!(process.metric("waltalkie_gateway_limited_total{limit=\"person\"}").await? > 0.0);
    let sends: i64 = truth.query_one("SELECT count(*) FROM message", &[]).await?.get(0);
    ensure!(sends < 10, "{sends} sends");
    for _ in 0..60 {
        let answer = alice.get("/v1/users/me").await?;
        if answer.status == 429 {
            answer.expect_problem(429, "rate_limited", None)?;
            ensure!(answer.headers.contains_key("retry-after") && answer.body["retry_after_ms"].is_u64(), "{answer:?}");
            ensure!(process.metric("waltalkie_gateway_limited_total{limit=\"address\"}").await? > 0.0);
            return handshakes_count_too(process.gateway()?, &alice).await;
        }
    }
    bail!("sixty requests at once were taken")
}

/// An address that has used up its requests opens no connections either.
async fn handshakes_count_too(gateway: &str, alice: &Person) -> Result<()> {
    // One a second is let in.
    for _ in 0..20 {
        let protocols = format!("waltalkie.v1, bearer.{}", alice.token);
        if let Ok((status, body)) = Socket::refused(gateway, &protocols, None).await {
            ensure!(status == 429 && body.contains("rate_limited"), "{status} {body}");
            return Ok(());
        }
    }
    bail!("twenty connections at once were taken")
}
