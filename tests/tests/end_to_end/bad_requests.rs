//! Requests that are wrong: problem details with code and field, and nothing else happens.

use anyhow::{Context, Result, ensure};
use schemas::ids;
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
        // Two others could never have theirs.
        ("/v1/chats", json!({ "chat_id": ids::one_to_one_chat("bob", "carol") }), "bad_field", Some("chat_id")),
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
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("before_seq=-1", "before_seq"),
        ("after_seq=9007199254740992", "after_seq"),
    ] {
        alice
            .get(&format!("{messages}?{query}"))
            .await?
            .expect_problem(400, "bad_field", Some(field))
            .context(query)?;
    }
    for query in ["x", "1_%00", "1_a%20b", "1_", "-370000000000000000_a"] {
        let path = format!("/v1/chats?cursor={query}");
        alice.get(&path).await?.expect_problem(400, "bad_field", Some("cursor")).context(path)?;
    }
    for query in ["%00", "a%00b", "a%20b"] {
        let path = format!("/v1/chats/{chat_id}/members?cursor={query}");
        alice.get(&path).await?.expect_problem(400, "bad_field", Some("cursor")).context(path)?;
    }
    alice.get(&format!("/v1/chats/{chat_id}/members?cursor=")).await?.expect(200)?;
    // What can't be an id is nobody's, and comes no further.
    for user_id in ["%00", "a%00b", "a%20b", &"x".repeat(65)] {
        let path = format!("/v1/chats/{chat_id}/members/{user_id}");
        let changed = alice.patch(&path, json!({ "role": "admin" })).await?;
        changed.expect_problem(404, "user_not_found", Some("user_id")).with_context(|| path.clone())?;
        let removed = alice.delete(&path).await?;
        removed.expect_problem(404, "user_not_found", Some("user_id")).with_context(|| path.clone())?;
    }
    let dead = process.metric("waltalkie_persister_dead_letters_total").await?;
    ensure!(dead < 0.5, "{dead} dead letters");
    alice.get(&format!("{messages}/1234")).await?.expect_problem(400, "bad_uuid", Some("message_id"))?;
    alice.post_raw("/v1/chats", "{not json").await?.expect_problem(400, "bad_json", None)?;
    let too_big = alice.post_raw(&messages, vec![b'x'; 65_537]).await?;
    too_big.expect_problem(413, "frame_too_big", None)?;
    ensure!(too_big.body["detail"].as_str().is_some_and(|text| text.contains("65536")), "{too_big:?}");
    alice.post_raw("/v1/chats", vec![0xff, 0xfe]).await?.expect_problem(400, "bad_json", None)?;
    for (path, body, code, field, names) in [
        ("/v1/chats", String::new(), "bad_json", None, "line 1, column 0"),
        ("/v1/chats", " \n\t ".to_owned(), "bad_json", None, "line 2"),
        (&messages, "{\"content\":\"a\",\"content\":\"b\"}".to_owned(), "bad_json", None, "\"content\" twice"),
        ("/v1/chats", "{\"x\":{\"a\":[{\"b\":1,\"b\":2}]}}".to_owned(), "bad_json", None, "\"b\" twice"),
        (
            "/v1/chats",
            "{\"app_data\":{\"a\":{\"b\":1,\"b\":2}}}".to_owned(),
            "bad_json",
            Some("app_data"),
            "\"b\" twice",
        ),
        (&messages, "{\"content\":\"\\ud800\"}".to_owned(), "bad_json", None, "line 1"),
        (&messages, format!("{{\"content\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000)), "bad_json", None, "line 1"),
        (&messages, "{\"content\":\"a\"} {}".to_owned(), "bad_json", None, "line 1"),
        (
            &messages,
            format!("{{\"content\":\"{}\"}}", "x".repeat(16_385)),
            "content_too_long",
            Some("content"),
            "16384",
        ),
        ("/v1/chats", "{\"name\":\"evil\\u202egpj.exe\"}".to_owned(), "bad_field", Some("name"), "U+202E"),
        ("/v1/chats", "{\"name\":\"two\\nlines\"}".to_owned(), "bad_field", Some("name"), "U+000A"),
        ("/v1/chats", format!("{{\"name\":\"{}\"}}", "é".repeat(201)), "bad_field", Some("name"), "200"),
        (
            &format!("/v1/chats/{chat_id}/read"),
            "{\"seq\":9007199254740992}".to_owned(),
            "bad_field",
            Some("seq"),
            "9007199254740991",
        ),
        (
            "/v1/users/me/devices",
            "{\"platform\":\"ios\",\"name\":\"\\u2066\"}".to_owned(),
            "bad_field",
            Some("name"),
            "U+2066",
        ),
    ] as [(&str, String, &str, Option<&str>, &str); 14]
    {
        let what = format!("{path} {}", body.chars().take(200).collect::<String>());
        let refused = alice.post_raw(path, body).await?;
        refused.expect_problem(400, code, field).with_context(|| what.clone())?;
        let said = refused.body["detail"].as_str().unwrap_or_default();
        ensure!(said.contains(names), "{what}: {said:?} doesn't name {names:?}");
    }
    for name in ["evil\u{202e}gpj.exe", "\u{1b}[31mred", "two\u{2028}lines"] {
        alice.patch("/v1/users/me", json!({ "name": name })).await?.expect_problem(400, "bad_field", Some("name"))?;
        alice.patch(&format!("/v1/chats/{chat_id}"), json!({ "name": name })).await?.expect_problem(
            400,
            "bad_field",
            Some("name"),
        )?;
    }
    alice.get("/v1/nothing").await?.expect_problem(404, "not_found", None)?;
    alice.delete("/v1/chats").await?.expect_problem(405, "method_not_allowed", None)?;
    ensure!(fingerprint(&truth).await? == before, "something happened");
    // What isn't known is no mistake, and a name in two scripts is none either.
    let known = json!({ "content": "from the future", "mood": { "good": [1] } });
    ensure!(alice.post(&messages, known).await?.expect(201)?["content"] == "from the future");
    alice.patch("/v1/users/me", json!({ "name": "שלום \u{200f}👩\u{200d}🚀" })).await?.expect(200)?;
    // A token's name is somebody else's: what doesn't belong into one is left out.
    let token = ingest::auth::development_token(&config, "eve", Some("Eve\u{202e} \nalice"), 60)?.0;
    let eve = Person::with_token(gateway, "eve", &token).get("/v1/users/me").await?.expect(200)?;
    ensure!(eve["name"] == "Eve alice", "{eve}");
    Ok(())
}
