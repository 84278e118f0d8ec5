//! Bad input gets a code, a text and its place, and nothing else happens.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use runtime::kafka::producer_config;
use schemas::topics::Topic;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, Servers, Socket, read_all, until};

/// Rows that some input could have made or changed, as one number each.
async fn fingerprint(truth: &Client) -> Result<Vec<i64>> {
    let mut counts = Vec::new();
    for sql in [
        "SELECT count(*) FROM message",
        "SELECT count(*) FROM chat_change",
        "SELECT count(*) FROM chat",
        "SELECT count(*) FROM chat_member",
        "SELECT count(*) FROM message_key",
        "SELECT coalesce(sum(last_seq), 0)::bigint FROM chat_counter",
        "SELECT coalesce(sum(hashtext(content)::bigint), 0)::bigint FROM message",
    ] {
        counts.push(truth.query_one(sql, &[]).await?.get(0));
    }
    Ok(counts)
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_wrong_are_refused_with_their_place() -> Result<()> {
    let installation = Installation::make("bad-frames").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    let message_id = Uuid::now_v7().to_string();
    let mut socket = alice.connect().await?;
    socket.say(&chat_id, &message_id, "here").await?;
    let truth = installation.truth().await?;
    let before = fingerprint(&truth).await?;

    for (text, code, field) in [
        ("{not json", "bad_json", None),
        ("[1, 2]", "bad_json", None),
        ("\"text\"", "bad_json", None),
        ("", "bad_json", None),
        ("{\"id\": 1", "bad_json", None),
        ("{\"id\": {\"a\": 1}, \"event\": \"heartbeat\"}", "bad_field", Some("id")),
        ("{\"payload\": {}}", "missing_field", Some("event")),
        ("{\"event\": 5}", "bad_field", Some("event")),
        ("{\"event\": \"heartbeat\", \"payload\": [1]}", "bad_field", Some("payload")),
        ("{\"event\": \"send_mail\", \"payload\": {}}", "unknown_event", Some("event")),
    ] {
        socket.send_raw(Message::text(text)).await?;
        socket.expect_bare_error(code, field).await.with_context(|| text.to_owned())?;
    }
    let deep = format!("{{\"event\":\"send_message\",\"payload\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    socket.send_raw(Message::text(deep)).await?;
    socket.expect_bare_error("bad_json", None).await?;

    let good = json!({ "chat_id": chat_id, "message_id": Uuid::now_v7(), "content": "text" });
    let with = |field: &str, value: Value| {
        let mut payload = good.clone();
        payload[field] = value;
        payload
    };
    for (event, payload, code, field) in [
        ("send_message", json!({}), "missing_field", "payload.chat_id"),
        ("send_message", with("chat_id", json!(7)), "bad_field", "payload.chat_id"),
        ("send_message", with("chat_id", json!("no spaces allowed")), "bad_field", "payload.chat_id"),
        ("send_message", with("chat_id", json!("x".repeat(65))), "bad_field", "payload.chat_id"),
        ("send_message", with("chat_id", json!("nobody-has-this-chat")), "chat_not_found", "chat_id"),
        ("send_message", with("content", Value::Null), "missing_field", "payload.content"),
        ("send_message", with("content", json!(["a"])), "bad_field", "payload.content"),
        ("send_message", with("content", json!("")), "content_empty", "payload.content"),
        ("send_message", with("content", json!(" \n\t\u{3000} ")), "content_empty", "payload.content"),
        ("send_message", with("content", json!("é".repeat(8_193))), "content_too_long", "payload.content"),
        ("send_message", with("content", json!("a\u{0}b")), "content_not_text", "payload.content"),
        ("send_message", with("message_id", json!("not-a-uuid")), "bad_uuid", "payload.message_id"),
        ("send_message", with("message_id", json!(12)), "bad_field", "payload.message_id"),
        ("send_message", with("parent_message_id", json!("x")), "bad_uuid", "payload.parent_message_id"),
        ("send_message", with("parent_message_id", json!(Uuid::now_v7())), "message_not_found", "parent_message_id"),
        ("send_message", with("app_data", json!("text")), "bad_field", "payload.app_data"),
        ("send_message", with("app_data", json!({ "a": "x".repeat(5_000) })), "bad_field", "payload.app_data"),
        ("send_message", with("attachments", json!(["m"])), "not_supported", "payload.attachments"),
        ("edit_message", json!({ "chat_id": chat_id, "content": "x" }), "missing_field", "payload.message_id"),
        ("edit_message", with("content", json!("")), "content_empty", "payload.content"),
        ("edit_message", good.clone(), "message_not_found", "message_id"),
        ("delete_message", good.clone(), "message_not_found", "message_id"),
        ("delete_message", with("message_id", json!("?")), "bad_uuid", "payload.message_id"),
        ("mark_read", json!({}), "missing_field", "payload.marks"),
        ("mark_read", json!({ "marks": { &chat_id: "3" } }), "bad_field", "payload.marks"),
        ("mark_read", json!({ "marks": { &chat_id: -1 } }), "bad_field", "payload.marks"),
        ("mark_read", json!({ "marks": { &chat_id: 9_007_199_254_740_993_u64 * 2_000 } }), "bad_field", "payload.marks"),
        ("mark_delivered", json!({ "marks": [1] }), "bad_field", "payload.marks"),
        ("resume", json!({}), "missing_field", "payload.cursors"),
        ("resume", json!({ "cursors": { &chat_id: 1.5 } }), "bad_field", "payload.cursors"),
        ("authenticate", json!({}), "missing_field", "payload.token"),
        ("authenticate", json!({ "token": "x.y.z" }), "token_invalid", ""),
    ] {
        let what = format!("{event} {payload}").chars().take(200).collect::<String>();
        let asked = socket.send(event, payload).await?;
        let field = Some(field).filter(|field| !field.is_empty());
        expect_final_error(&mut socket, asked, code, field).await.context(what)?;
        // A refused send holds back what comes after it until it is given up.
        if let Some(id) = blocking(&good, event) {
            socket.send("discard_message", json!({ "chat_id": chat_id, "message_id": id })).await?;
        }
    }
    ensure!(fingerprint(&truth).await? == before, "something happened");
    // The connection has lived through all of it.
    ensure!(socket.say(&chat_id, &Uuid::now_v7().to_string(), "still here").await? == 3);
    Ok(())
}

fn blocking(good: &Value, event: &str) -> Option<Value> {
    (event == "send_message").then(|| good["message_id"].clone())
}

/// The refusal of a command, which may have been accepted first.
async fn expect_final_error(socket: &mut Socket, asked: u64, code: &str, field: Option<&str>) -> Result<()> {
    let refused = socket.answer(asked, |frame| frame["event"] == "error").await?;
    ensure!(refused["payload"]["code"] == code, "{refused} instead of {code}");
    ensure!(refused["payload"]["field"].as_str() == field, "{refused} instead of field {field:?}");
    ensure!(refused["payload"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_refusal_keeps_the_order() -> Result<()> {
    let installation = Installation::make("order").await?;
    let process = installation.run(&["all"]).await?;
    let alice = Person::arrive(&installation.config()?, process.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    let mut socket = alice.connect().await?;
    let (first, second) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
    let send = |message_id: &str, content: &str| json!({ "chat_id": chat_id, "message_id": message_id, "content": content });
    let asked = socket.send("send_message", send(&first, "")).await?;
    socket.expect_error(asked, "content_empty", Some("payload.content")).await?;
    let asked = socket.send("send_message", send(&second, "second")).await?;
    let refused = socket.expect_error(asked, "blocked_by_earlier", None).await?;
    ensure!(refused["temporary"] == true && refused["message_id"] == second, "{refused}");
    ensure!(socket.say(&chat_id, &first, "first").await? == 2);
    ensure!(socket.say(&chat_id, &second, "second").await? == 3);
    let third = Uuid::now_v7().to_string();
    let asked = socket.send("send_message", send(&third, " ")).await?;
    socket.expect_error(asked, "content_empty", Some("payload.content")).await?;
    let asked = socket.send("discard_message", json!({ "chat_id": chat_id, "message_id": third })).await?;
    socket.answer(asked, |frame| frame["event"] == "ack").await?;
    ensure!(socket.say(&chat_id, &Uuid::now_v7().to_string(), "fourth").await? == 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_over_the_limit_and_binary_ones_close_the_connection() -> Result<()> {
    let installation = Installation::make("big-frames").await?;
    let process = installation.run(&["all"]).await?;
    let alice = Person::arrive(&installation.config()?, process.gateway()?, "alice").await?;
    let mut socket = alice.connect().await?;
    let limit = socket.hello["limits"]["frame_bytes"].as_u64().context("no limit")? as usize;
    let at_the_limit = format!("{:<limit$}", "{\"event\":\"send_mail\"}");
    socket.send_raw(Message::text(at_the_limit)).await?;
    socket.expect_bare_error("unknown_event", Some("event")).await?;
    socket.send_raw(Message::text("x".repeat(limit + 1))).await?;
    ensure!(socket.closed().await? == Some(1009));
    let mut socket = alice.connect().await?;
    socket.send_raw(Message::text("x".repeat(4 * limit))).await?;
    ensure!(socket.closed().await? == Some(1009));
    let mut socket = alice.connect().await?;
    socket.send_raw(Message::binary(vec![1, 2, 3])).await?;
    ensure!(socket.closed().await? == Some(1003));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_wrong_are_refused_with_their_place() -> Result<()> {
    let installation = Installation::make("bad-requests").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let gateway = process.gateway()?;
    let alice = Person::arrive(&config, gateway, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    alice.say(&chat_id, "here").await?;
    let truth = installation.truth().await?;
    let before = fingerprint(&truth).await?;
    let messages = format!("/v1/chats/{chat_id}/messages");
    for (path, body, code, field) in [
        ("/v1/chats", json!([]), "bad_json", None),
        ("/v1/chats", json!({ "is_group": "yes" }), "bad_field", Some("is_group")),
        ("/v1/chats", json!({ "member_ids": "bob" }), "bad_field", Some("member_ids")),
        ("/v1/chats", json!({ "member_ids": [7] }), "bad_field", Some("member_ids")),
        ("/v1/chats", json!({ "member_ids": ["nobody-knows-them"] }), "user_not_found", Some("member_ids")),
        ("/v1/chats", json!({ "is_group": false, "member_ids": [] }), "bad_field", Some("member_ids")),
        ("/v1/chats", json!({ "chat_id": "not allowed" }), "bad_field", Some("chat_id")),
        ("/v1/chats", json!({ "name": "" }), "bad_field", Some("name")),
        ("/v1/chats", json!({ "name": "a\u{0}b" }), "content_not_text", Some("name")),
        ("/v1/chats", json!({ "deleted_shown_as": "ghost" }), "bad_field", Some("deleted_shown_as")),
        ("/v1/chats", json!({ "avatar_url": "javascript:alert(1)" }), "bad_field", Some("avatar_url")),
        ("/v1/chats", json!({ "chat_id": chat_id }), "chat_exists", Some("chat_id")),
        (messages.as_str(), json!({}), "missing_field", Some("content")),
        (messages.as_str(), json!({ "content": "" }), "content_empty", Some("content")),
        (messages.as_str(), json!({ "content": "x".repeat(16_385) }), "content_too_long", Some("content")),
        (messages.as_str(), json!({ "content": "a\u{0}" }), "content_not_text", Some("content")),
        (messages.as_str(), json!({ "content": "a", "message_id": "1" }), "bad_uuid", Some("message_id")),
    ] {
        let status = match code {
            "user_not_found" => 404,
            "chat_exists" => 409,
            _ => 400,
        };
        let refused = alice.post(path, body.clone()).await?;
        refused.expect_problem(status, code, field).with_context(|| format!("{path} {body}").chars().take(200).collect::<String>())?;
    }
    for (query, field) in [("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("before_seq=-1", "before_seq")] {
        alice.get(&format!("{messages}?{query}")).await?.expect_problem(400, "bad_field", Some(field)).context(query)?;
    }
    alice.get("/v1/chats?cursor=x").await?.expect_problem(400, "bad_field", Some("cursor"))?;
    alice.get(&format!("{messages}/1234")).await?.expect_problem(400, "bad_uuid", Some("message_id"))?;
    alice.post_raw("/v1/chats", "{not json").await?.expect_problem(400, "bad_json", None)?;
    alice.post_raw("/v1/chats", vec![b'x'; 65_537]).await?.expect_problem(413, "frame_too_big", None)?;
    alice.post_raw("/v1/chats", vec![0xff, 0xfe]).await?.expect_problem(400, "bad_json", None)?;
    alice.get("/v1/nothing").await?.expect_problem(404, "not_found", None)?;
    alice.delete("/v1/chats").await?.expect_problem(405, "method_not_allowed", None)?;
    ensure!(fingerprint(&truth).await? == before, "something happened");
    Ok(())
}

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
    let sends: i64 = truth.query_one("SELECT count(*) FROM message", &[]).await?.get(0);
    ensure!(sends < 10, "{sends} sends");
    for _ in 0..60 {
        let answer = alice.get("/v1/users/me").await?;
        if answer.status == 429 {
            answer.expect_problem(429, "rate_limited", None)?;
            ensure!(answer.headers.contains_key("retry-after") && answer.body["retry_after_ms"].is_u64(), "{answer:?}");
            return Ok(());
        }
    }
    bail!("sixty requests at once were taken")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_command_is_put_aside_and_its_partition_goes_on() -> Result<()> {
    let installation = Installation::make("poison").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    alice.say(&chat_id, "before").await?;
    let producer: FutureProducer = producer_config(&config.kafka).create()?;
    let topic = config.names().topic(Topic::ChatCommands);
    let poisons: [&[u8]; 3] = [b"not Avro at all", &[0, 0, 0, 0, 99, 1, 2, 3], b""];
    for poison in poisons {
        let record = FutureRecord::to(&topic).key(&chat_id).payload(poison);
        producer.send(record, Timeout::After(LONG)).await.map_err(|(error, _)| error)?;
    }
    // Same key, same partition, behind the poison.
    ensure!(alice.say(&chat_id, "after").await?["seq"] == 3);
    let dead = read_all(&config, Topic::ChatCommandsDlq).await?;
    ensure!(dead.len() == poisons.len(), "{dead:?}");
    for (dead, poison) in dead.iter().zip(poisons) {
        ensure!(dead.value.as_deref().unwrap_or_default() == poison && dead.key == chat_id, "{dead:?}");
        ensure!(dead.header("reason").is_some_and(|reason| !reason.is_empty()), "{dead:?}");
        ensure!(dead.header("source_topic") == Some(&topic), "{dead:?}");
        ensure!(dead.header("source_offset").is_some_and(|offset| offset.parse::<i64>().is_ok()), "{dead:?}");
    }
    until("three dead letters in the metrics", LONG, async || {
        Ok((process.metric("waltalkie_persister_dead_letters_total").await? >= 3.0).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_names_file_line_key_and_the_nearest() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("waltalkie.toml");
    fs::write(&file, "development = true\n\n[gateway]\nlisten_on = \"127.0.0.1:0\"\n")?;
    let said = refusal(&["--config", &file.to_string_lossy(), "config"], &[])?;
    ensure!(said.contains(&format!("{}:4: unknown key `listen_on`; the nearest is `listen`", file.display())), "{said}");
    fs::write(&file, "[kafka]\npartitions = \"a secret\"\n")?;
    let said = refusal(&["--config", &file.to_string_lossy(), "config"], &[])?;
    ensure!(said.contains("waltalkie.toml:2: "), "{said}");
    let said = refusal(&["config"], &[("WALTALKIE_KAFKA__BROKER", "secret:9092")])?;
    ensure!(said.contains("WALTALKIE_KAFKA__BROKER") && said.contains("`brokers`"), "{said}");
    ensure!(!said.contains("secret"), "a value is shown: {said}");
    let said = refusal(&["run", "gatway"], &[])?;
    ensure!(said.contains("gateway"), "{said}");
    Ok(())
}

/// What the program says when it refuses to start.
fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let mut command = std::process::Command::new(waltalkie_tests::harness::program()?);
    let output = command.args(arguments).envs(variables.iter().copied()).current_dir(folder.path()).output()?;
    ensure!(!output.status.success(), "{arguments:?} was taken");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
