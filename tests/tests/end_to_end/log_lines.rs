//! What logs hold: the id of every request that failed, and never what people wrote.

use std::fs;

use anyhow::{Context, Result, ensure};
use faults::Proxy;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, Servers, Socket, until};

fn logged(installation: &Installation) -> Result<String> {
    let mut logged = String::new();
    for file in fs::read_dir(installation.logs())? {
        logged.push_str(&fs::read_to_string(file?.path()).unwrap_or_default());
    }
    Ok(logged)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_ever_holds_what_somebody_wrote() -> Result<()> {
    let everything = [("log.filter", "trace,rdkafka=info,librdkafka=info"), ("gateway.compression", "true")];
    let installation = Installation::make_on(Servers::shared()?, "log-lines", &everything).await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let canary = format!("canary{}", Uuid::now_v7().simple());
    let secret = |what: &str| format!("{what} {canary}");
    let chat_id = alice.make_group(&[&bob], json!({ "app_data": { "note": secret("of the chat") } })).await?;
    let messages = format!("/v1/chats/{chat_id}/messages");
    let (mut here, mut there) = (alice.connect().await?, bob.connect().await?);

    // Said and heard, by both ways in; changed, answered, taken back.
    let first = Uuid::now_v7().to_string();
    here.say(&chat_id, &first, &secret("by the socket")).await?;
    let body =
        json!({ "content": secret("by HTTP"), "parent_message_id": first, "app_data": { "a": secret("beside") } });
    let second = alice.post(&messages, body.clone()).await?.expect(201)?;
    let second = second["message_id"].as_str().context("no id")?.to_owned();
    alice.patch(&format!("{messages}/{second}"), json!({ "content": secret("edited") })).await?.expect(200)?;
    alice.post_once(&messages, "a key", body).await?.expect(201)?;
    bob.get(&messages).await?.expect(200)?;
    there.send("resume", json!({ "cursors": { &chat_id: 0 } })).await?;
    there.wait("resumed", |_| true).await?;
    // Refused in every place where something is refused.
    for payload in [
        json!({ "chat_id": chat_id, "message_id": second, "content": secret("a conflict") }),
        json!({ "chat_id": chat_id, "message_id": "no uuid", "content": secret("refused") }),
        json!({ "chat_id": "elsewhere", "message_id": Uuid::now_v7(), "content": secret("nowhere") }),
        json!({ "chat_id": chat_id, "content": secret("too much").repeat(1_000), "message_id": Uuid::now_v7() }),
    ] {
        let asked = here.send("send_message", payload.clone()).await?;
        here.answer(asked, |frame| frame["event"] == "error").await?;
        let message_id = payload["message_id"].clone();
        here.send("discard_message", json!({ "chat_id": chat_id, "message_id": message_id })).await?;
        ensure!(!alice.post(&messages, payload).await?.status.is_server_error());
    }
    here.send_raw(Message::text(format!("{{\"event\": \"{}", secret("no JSON")))).await?;
    here.expect_bare_error("bad_json", None).await?;
    alice
        .post_raw(&messages, format!("{{\"content\": \"{}", secret("no JSON")))
        .await?
        .expect_problem(400, "bad_json", None)?;
    for message_id in [&first, &second] {
        alice.delete(&format!("{messages}/{message_id}")).await?.expect(200)?;
    }
    there.wait("message_deleted", |message| message["message_id"] == second).await?;
    let head_seq = bob.get("/v1/chats").await?.expect(200)?["chats"][0]["head_seq"].as_i64().context("no head")?;
    let read = installation.read().await?;
    until("the read models", LONG, async || {
        let sql = "SELECT 1 FROM chat_head WHERE chat_id = $1 AND head_seq = $2";
        Ok(read.query_opt(sql, &[&chat_id, &head_seq]).await?.map(drop))
    })
    .await?;
    ensure!(process.stop().await?.success());
    let logged = logged(&installation)?;
    ensure!(logged.contains("answered") && logged.contains(&chat_id), "the log has nothing of the requests");
    let line = logged.lines().find(|line| line.contains(&canary));
    ensure!(line.is_none(), "{line:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_found_by_its_request_id() -> Result<()> {
    let mut servers = Servers::shared()?;
    let (proxy, through) = Proxy::before_url(&servers.postgres).await?;
    servers.postgres = through;
    // As operators have it: no more than `info`.
    let installation = Installation::make_on(servers, "request-ids", &[]).await?;
    let process = installation.run(&["all"]).await?;
    let (config, gateway) = (installation.config()?, process.gateway()?.to_owned());
    let alice = Person::arrive(&config, &gateway, "alice").await?;
    let id_of = |headers: &reqwest::header::HeaderMap| -> Result<String> {
        Ok(headers.get("request-id").context("no Request-Id")?.to_str()?.to_owned())
    };
    let taken = id_of(&alice.get("/v1/chats").await?.headers)?;
    // A handshake that is refused, one that isn't one, a page, and a path that isn't there have one too.
    for path in ["/v1/ws", "/v1/nothing", "/docs", "/healthz"] {
        id_of(reqwest::get(format!("{gateway}{path}")).await?.headers()).context(path)?;
    }
    let (status, _) = Socket::refused(&gateway, "waltalkie.v1", None).await?;
    ensure!(status == 401, "{status}");

    proxy.refuse();
    let failed = until("a failure", LONG, async || {
        let answer = alice.get("/v1/chats").await?;
        Ok((answer.status == 503).then_some(answer))
    })
    .await?;
    failed.expect_problem(503, "unavailable", None)?;
    let failed = id_of(&failed.headers)?;
    proxy.heal();
    let logged = logged(&installation)?;
    let lines: Vec<&str> = logged.lines().filter(|line| line.contains(&failed)).collect();
    // Why, and that.
    ensure!(lines.iter().any(|line| line.contains("Postgres away")), "{lines:?}");
    ensure!(lines.iter().any(|line| line.contains("a request failed") && line.contains("Unavailable")), "{lines:?}");
    ensure!(!logged.contains(&taken), "what went well is logged");
    Ok(())
}
