//! Frames that are wrong: a code, a text and their place, and nothing else happens.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, Person, Socket, fingerprint};

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
    // Bytes that no JSON value of ours could be written as: keys that are there twice, half a surrogate pair, numbers of which a
    // reader of doubles makes others.
    let raw = |event: &str, payload: &str| format!("{{\"event\":\"{event}\",\"payload\":{{{payload}}}}}");
    let send = |more: &str| raw("send_message", &format!("\"chat_id\":\"{chat_id}\",\"content\":\"text\",{more}"));
    let mark = |seq: &str| raw("mark_read", &format!("\"marks\":{{\"{chat_id}\":{seq}}}"));
    for (text, code, field, names) in [
        ("{\"event\":\"heartbeat\",\"event\":\"heartbeat\"}".to_owned(), "bad_json", None, "\"event\" twice"),
        ("{\"event\":\"heartbeat\",\"payload\":{},\"payload\":{}}".to_owned(), "bad_json", None, "\"payload\" twice"),
        (send("\"content\":\"other\""), "bad_json", None, "\"content\" twice"),
        (send("\"x\":[{\"a\":{\"b\":1,\"b\":1}}]"), "bad_json", None, "\"b\" twice"),
        (send("\"app_data\":{\"a\":1,\"\\u0061\":1}"), "bad_json", Some("payload.app_data"), "\"a\" twice"),
        (raw("mark_read", &format!("\"marks\":{{\"{chat_id}\":1,\"{chat_id}\":2}}")), "bad_json", None, "twice"),
        (send("\"parent_message_id\":\"\\ud800\""), "bad_json", None, "line 1"),
        (send("\"parent_message_id\":\"\\udc00\\ud800\""), "bad_json", None, "line 1"),
        (send("\"app_data\":{\"n\":1e999}"), "bad_json", Some("payload.app_data"), "line 1"),
        (mark("9007199254740992"), "bad_field", Some("payload.marks"), "9007199254740991"),
        (mark("18446744073709551617"), "bad_field", Some("payload.marks"), "9007199254740991"),
        ("{\"id\":18446744073709551617,\"event\":\"heartbeat\"}".to_owned(), "bad_field", Some("id"), "2^53"),
        (
            send(&format!("\"app_data\":{{\"a\":\"{}\"}}", "x".repeat(4_096))),
            "bad_field",
            Some("payload.app_data"),
            "4096",
        ),
    ] {
        let what = text.chars().take(200).collect::<String>();
        socket.send_raw(Message::text(text)).await?;
        let said = socket.expect_bare_error(code, field).await.with_context(|| what.clone())?;
        ensure!(said.contains(names), "{what}: {said:?} doesn't name {names:?}");
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
        (
            "delete_message",
            json!({ "chat_id": chat_id, "message_id": Uuid::now_v7() }),
            "message_not_found",
            "message_id",
        ),
        ("delete_message", with("message_id", json!("?")), "bad_uuid", "payload.message_id"),
        ("mark_read", json!({}), "missing_field", "payload.marks"),
        ("mark_read", json!({ "marks": { &chat_id: "3" } }), "bad_field", "payload.marks"),
        ("mark_read", json!({ "marks": { &chat_id: -1 } }), "bad_field", "payload.marks"),
        (
            "mark_read",
            json!({ "marks": { &chat_id: 9_007_199_254_740_993_u64 * 2_000 } }),
            "bad_field",
            "payload.marks",
        ),
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
    // Fields that nobody knows are no mistake: clients may be ahead of the server. What is opaque keeps its digits.
    let (first, later) = ("123456789012345678901234567890", "0.1234567890123456789");
    let payload = format!(
        "\"chat_id\":\"{chat_id}\",\"content\":\"from the future\",\"mood\":{{\"good\":[1]}},
         \"app_data\":{{\"n\": {first}, \"f\": {later}}}"
    );
    let text = format!("{{\"event\":\"send_message\",\"id\":\"x\",\"trace\":{{}},\"payload\":{{{payload}}}}}");
    socket.send_raw(Message::text(text)).await?;
    let sent = socket.wait("message", |message| message["content"] == "from the future").await?;
    let path = format!("{}/v1/chats/{chat_id}/messages/{}", alice.base, sent["message_id"].as_str().context("no id")?);
    let shown = reqwest::Client::new().get(path).bearer_auth(&alice.token).send().await?.text().await?;
    ensure!(shown.contains(&format!("\"app_data\":{{\"n\":{first},\"f\":{later}}}")), "{shown}");
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
    let send =
        |message_id: &str, content: &str| json!({ "chat_id": chat_id, "message_id": message_id, "content": content });
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
    let frame = "{\"event\":\"send_mail\"}";
    let at_the_limit = format!("{frame}{}", " ".repeat(limit - frame.len()));
    socket.send_raw(Message::text(at_the_limit)).await?;
    socket.expect_bare_error("unknown_event", Some("event")).await?;
    socket.send_raw(Message::text("x".repeat(limit + 1))).await?;
    let said = socket.expect_bare_error("frame_too_big", None).await?;
    ensure!(said.contains(&limit.to_string()), "{said:?} doesn't name the limit");
    ensure!(socket.closed().await? == Some(1009));
    let mut socket = alice.connect().await?;
    socket.send_raw(Message::text("x".repeat(4 * limit))).await?;
    ensure!(socket.closed().await? == Some(1009));
    let mut socket = alice.connect().await?;
    socket.send_raw(Message::binary(vec![1, 2, 3])).await?;
    ensure!(socket.closed().await? == Some(1003));
    Ok(())
}
