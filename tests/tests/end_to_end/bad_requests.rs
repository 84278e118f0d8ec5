//! Requests that are wrong: problem details with code and field, and nothing else happens.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Installation, Person, fingerprint};

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
        refused
            .expect_problem(status, code, field)
            .with_context(|| format!("{path} {body}").chars().take(200).collect::<String>())?;
    }
    for (query, field) in
        [("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("before_seq=-1", "before_seq")]
    {
        alice
            .get(&format!("{messages}?{query}"))
            .await?
            .expect_problem(400, "bad_field", Some(field))
            .context(query)?;
    }
    alice.get("/v1/chats?cursor=x").await?.expect_problem(400, "bad_field", Some("cursor"))?;
    alice.get(&format!("{messages}/1234")).await?.expect_problem(400, "bad_uuid", Some("message_id"))?;
    alice.post_raw("/v1/chats", "{not json").await?.expect_problem(400, "bad_json", None)?;
    alice.post_raw(&messages, vec![b'x'; 65_537]).await?.expect_problem(413, "frame_too_big", None)?;
    alice.post_raw("/v1/chats", vec![0xff, 0xfe]).await?.expect_problem(400, "bad_json", None)?;
    alice.get("/v1/nothing").await?.expect_problem(404, "not_found", None)?;
    alice.delete("/v1/chats").await?.expect_problem(405, "method_not_allowed", None)?;
    ensure!(fingerprint(&truth).await? == before, "something happened");
    Ok(())
}
