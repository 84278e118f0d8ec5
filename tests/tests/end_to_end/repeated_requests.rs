//! Requests that come again: `Idempotency-Key`, `If-None-Match`, and what pages of other origins may ask.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, Response};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use waltalkie_tests::harness::{Installation, LONG, Person, SHORT, Servers, until};

async fn ask(who: &Person, method: Method, path: &str, headers: &[(&str, &str)], body: Value) -> Result<Response> {
    let mut request = reqwest::Client::new().request(method, format!("{}{path}", who.base)).bearer_auth(&who.token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if !body.is_null() {
        request = request.json(&body);
    }
    Ok(request.send().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_key_is_done_once() -> Result<()> {
    let installation = Installation::make("idempotency").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let messages = format!("/v1/chats/{chat_id}/messages");
    let send = async |who: &Person, key: &str, content: &str| {
        let response =
            ask(who, Method::POST, &messages, &[("idempotency-key", key)], json!({ "content": content })).await?;
        let (status, replayed) = (response.status().as_u16(), response.headers().contains_key("idempotent-replayed"));
        Ok::<_, anyhow::Error>((status, replayed, response.json::<Value>().await?))
    };

    // Ten at once: one is done, the others get its answer or are told to come again.
    let racing: Vec<_> = (0..10).map(|_| send(&alice, "first", "said once")).collect();
    for (status, _, answer) in futures_util::future::try_join_all(racing).await? {
        ensure!(status == 201 || (status == 409 && answer["code"] == "idempotency_key_in_use"), "{status} {answer}");
    }
    let (status, replayed, first) = send(&alice, "first", "said once").await?;
    ensure!(status == 201 && replayed && first["content"] == "said once", "{status} {first}");
    let page = alice.get(&messages).await?.expect(200)?;
    ensure!(page["messages"].as_array().is_some_and(|messages| messages.len() == 1), "{page}");

    // Another request, another person.
    let (status, _, refused) = send(&alice, "first", "said twice").await?;
    ensure!(status == 422 && refused["code"] == "idempotency_key_reused", "{status} {refused}");
    let (status, replayed, _) = send(&bob, "first", "said once").await?;
    ensure!(status == 201 && !replayed, "{status}");

    // What failed made nothing: its key can be used for the mended request.
    let (status, _, _) = send(&alice, "second", " ").await?;
    ensure!(status == 400, "{status}");
    let (status, replayed, mended) = send(&alice, "second", "mended").await?;
    ensure!(status == 201 && !replayed, "{status}");

    // What was done and is not known to be, as when the gateway died before it kept the answer, isn't done again.
    let truth = installation.truth().await?;
    let forget = "UPDATE idempotent_answer SET status = NULL, body = NULL, claim = NULL WHERE key <> 'first'";
    let new_chat = async || {
        let headers = [("idempotency-key", "third")];
        let response = ask(&alice, Method::POST, "/v1/chats", &headers, json!({ "name": "Once" })).await?;
        ensure!(response.status() == 201, "{}", response.status());
        Ok(response.json::<Value>().await?["chat_id"].clone())
    };
    let made = new_chat().await?;
    truth.execute(forget, &[]).await?;
    let (status, replayed, again) = send(&alice, "second", "mended").await?;
    ensure!(status == 201 && !replayed && again["message_id"] == mended["message_id"], "{status} {again}");
    ensure!(new_chat().await? == made, "a second chat");
    truth.execute(forget, &[]).await?;
    let (status, _, refused) = send(&alice, "second", "other").await?;
    ensure!(status == 422 && refused["code"] == "idempotency_key_reused", "{status} {refused}");

    // A kept answer doesn't keep a body that was deleted.
    let message = format!("{messages}/{}", first["message_id"].as_str().context("no id")?);
    alice.delete(&message).await?.expect(200)?;
    let (status, replayed, gone) = send(&alice, "first", "said once").await?;
    ensure!(status == 201 && replayed && gone["content"].is_null() && gone["seq"] == first["seq"], "{gone}");
    let kept =
        "SELECT count(*) FROM idempotent_answer WHERE body::text LIKE '%said once%' OR body::text LIKE '%mended%'";
    ensure!(truth.query_one(kept, &[]).await?.get::<_, i64>(0) == 0, "kept answers hold bodies");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_again_undoes_nothing() -> Result<()> {
    let installation = Installation::make("idempotency-late").await?;
    // No projector: what is taken out of the tables below is in the log.
    let process = installation.run(&["gateway", "persister", "cdc", "publisher"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let truth = installation.truth().await?;
    // As when the gateway died before it kept the answer.
    let forget =
        async || truth.execute("UPDATE idempotent_answer SET status = NULL, body = NULL, claim = NULL", &[]).await;

    // Added, and removed before the request comes again.
    let chat_id = alice.make_group(&[], json!({})).await?;
    let (chat, members) = (format!("/v1/chats/{chat_id}"), format!("/v1/chats/{chat_id}/members"));
    let add = async |key: &str| alice.post_once(&members, key, json!({ "user_ids": ["bob"] })).await;
    let added = add("add").await?.expect(201)?;
    ensure!(added["seqs"] == json!([2]), "{added}");
    forget().await?;
    let again = add("add").await?.expect(201)?;
    ensure!(again["seqs"] == json!([]), "its own change is another's to it, or was made twice: {again}");
    alice.delete(&format!("{members}/bob")).await?.expect(200)?;
    forget().await?;
    add("add").await?.expect_problem(409, "conflict", Some("members"))?;
    bob.get(&chat).await?.expect_problem(404, "chat_not_found", Some("chat_id"))?;
    add("add anew").await?.expect(201)?;
    bob.get(&chat).await?.expect(200)?;

    // A chat with an id of one's own, made by two commands: 499 others, then 101.
    let sql = "INSERT INTO \"user\" (id, name, created_at, updated_at)
               SELECT 'person-' || n, 'Person', now(), now() FROM generate_series(100, 699) n";
    truth.execute(sql, &[]).await?;
    let everybody: Vec<String> = (100..700).map(|number| format!("person-{number}")).collect();
    let make = async || {
        alice.post_once("/v1/chats", "make", json!({ "chat_id": "large", "member_ids": everybody })).await?.expect(201)
    };
    make().await?;
    alice.delete("/v1/chats/large/members/person-650").await?.expect(200)?;
    // As if this one had never been reached.
    truth.execute("DELETE FROM chat_member WHERE chat_id = 'large' AND user_id = 'person-651'", &[]).await?;
    forget().await?;
    let again = make().await?;
    ensure!(again["chat_id"] == "large", "{again}");
    let members = "SELECT count(*), bool_or(user_id = 'person-650'), bool_or(user_id = 'person-651')
                     FROM chat_member WHERE chat_id = 'large' AND left_seq IS NULL";
    let row = truth.query_one(members, &[]).await?;
    let found: (i64, bool, bool) = (row.get(0), row.get(1), row.get(2));
    ensure!(found == (600, false, true), "members, the removed one, the missing one: {found:?}");

    // Added by two commands, of which the second had never been reached; of the first somebody has another role since.
    let wide = alice.make_group(&[], json!({})).await?;
    let members = format!("/v1/chats/{wide}/members");
    let add = async || alice.post_once(&members, "wide", json!({ "user_ids": everybody })).await?.expect(201);
    add().await?;
    alice.patch(&format!("{members}/person-100"), json!({ "role": "admin" })).await?.expect(200)?;
    truth.execute("DELETE FROM chat_member WHERE chat_id = $1 AND user_id = 'person-651'", &[&wide]).await?;
    forget().await?;
    let again = add().await?;
    ensure!(again["seqs"].as_array().is_some_and(|seqs| seqs.len() == 1), "{again}");
    let sql = "SELECT count(*), bool_or(user_id = 'person-100' AND role = 'admin'), bool_or(user_id = 'person-651')
                 FROM chat_member WHERE chat_id = $1 AND left_seq IS NULL";
    let row = truth.query_one(sql, &[&wide]).await?;
    let found: (i64, bool, bool) = (row.get(0), row.get(1), row.get(2));
    ensure!(found == (601, true, true), "members, the admin, the missing one: {found:?}");

    // The id of a chat that another request made is taken, however often one asks.
    for _ in 0..2 {
        let other = alice.post_once("/v1/chats", "other", json!({ "chat_id": "large" })).await?;
        other.expect_problem(409, "chat_exists", Some("chat_id"))?;
        forget().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_polls_is_told_that_nothing_changed() -> Result<()> {
    let installation = Installation::make("etag").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let messages = format!("/v1/chats/{chat_id}/messages");
    alice.say(&chat_id, "one").await?;
    let tag_of = |response: &Response| {
        let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        tag.context("no ETag")
    };
    for path in [&messages, &format!("/v1/chats/{chat_id}/members"), "/v1/users/me"] {
        let first = tag_of(&ask(&alice, Method::GET, path, &[], Value::Null).await?)?;
        let again = ask(&alice, Method::GET, path, &[("if-none-match", &first)], Value::Null).await?;
        ensure!(again.status() == 304 && tag_of(&again)? == first, "{path}: {}", again.status());
        ensure!(again.text().await?.is_empty(), "{path}: 304 with a body");
    }
    // The list of chats once its read models have the message.
    until("the list of chats to change no more", LONG, async || {
        let first = tag_of(&ask(&alice, Method::GET, "/v1/chats", &[], Value::Null).await?)?;
        let again = ask(&alice, Method::GET, "/v1/chats", &[("if-none-match", &first)], Value::Null).await?;
        Ok((again.status() == 304 && tag_of(&again)? == first).then_some(()))
    })
    .await?;
    let first = tag_of(&ask(&alice, Method::GET, &messages, &[], Value::Null).await?)?;
    alice.say(&chat_id, "two").await?;
    let changed = ask(&alice, Method::GET, &messages, &[("if-none-match", &first)], Value::Null).await?;
    ensure!(changed.status() == 200 && tag_of(&changed)? != first, "{}", changed.status());

    // A page of any length is compressed for those who can read it, a short answer isn't.
    for _ in 0..5 {
        alice.say(&chat_id, &"long ".repeat(100)).await?;
    }
    let encoding = async |path: &str| {
        let response = ask(&alice, Method::GET, path, &[("accept-encoding", "gzip")], Value::Null).await?;
        Ok::<_, anyhow::Error>(response.headers().get("content-encoding").map(|value| value.as_bytes().to_vec()))
    };
    ensure!(encoding(&messages).await?.as_deref() == Some(b"gzip".as_slice()), "a long page isn't compressed");
    ensure!(encoding("/v1/users/me/inbox?limit=1").await?.is_none(), "a tiny answer is compressed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_may_ask_and_others_may_not() -> Result<()> {
    let settings = [("gateway.allowed_origins", "https://app.example.com")];
    let installation = Installation::make_on(Servers::shared()?, "cors", &settings).await?;
    let process = installation.run(&["all"]).await?;
    let alice = Person::arrive(&installation.config()?, process.gateway()?, "alice").await?;
    let preflight = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "authorization,idempotency-key"),
        ];
        ask(&alice, Method::OPTIONS, "/v1/users/me", &headers, Value::Null).await
    };
    let header = |response: &Response, name: &str| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_lowercase()
    };
    let allowed = preflight("https://app.example.com").await?;
    ensure!(allowed.status() == 200, "{}", allowed.status());
    ensure!(header(&allowed, "access-control-allow-origin") == "https://app.example.com");
    ensure!(header(&allowed, "access-control-allow-methods").contains("patch"));
    ensure!(header(&allowed, "access-control-allow-headers").contains("idempotency-key"));
    let origin = [("origin", "https://app.example.com")];
    let answer = ask(&alice, Method::GET, "/v1/users/me", &origin, Value::Null).await?;
    ensure!(header(&answer, "access-control-allow-origin") == "https://app.example.com");
    ensure!(header(&answer, "access-control-expose-headers").contains("retry-after"));
    for stranger in ["https://evil.example.com", "https://app.example.com.evil", "http://app.example.com", "null"] {
        let refused = preflight(stranger).await?;
        ensure!(header(&refused, "access-control-allow-origin").is_empty(), "{stranger} is allowed");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_connection_comes_back_at_once_and_makes_nothing_twice() -> Result<()> {
    let installation = Installation::make("idempotency-lost").await?;
    let persister = installation.run(&["persister"]).await?;
    let process = installation.run(&["gateway", "cdc", "projector", "publisher"]).await?;
    let gateway = process.gateway()?;
    let alice = Person::arrive(&installation.config()?, gateway, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    let messages = format!("/v1/chats/{chat_id}/messages");
    let truth = installation.truth().await?;
    let claims = async |condition: &str| {
        let sql = format!("SELECT count(*) FROM idempotent_answer WHERE status IS NULL AND {condition}");
        Ok::<_, anyhow::Error>((truth.query_one(&sql, &[]).await?.get::<_, i64>(0) == 1).then_some(()))
    };

    // Nothing is decided, so the request is under way when its connection breaks.
    persister.signal(Signal::STOP)?;
    let body = json!({ "content": "once" }).to_string();
    let mut stream = TcpStream::connect(gateway.strip_prefix("http://").context("no address")?).await?;
    let request = format!(
        "POST {messages} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nIdempotency-Key: lost\r\nContent-Length: {}\r\n\r\n{body}",
        alice.token,
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    until("the key to be claimed", SHORT, async || claims("claim IS NOT NULL").await).await?;
    drop(stream);
    until("the key to be free for this request", SHORT, async || claims("claim IS NULL").await).await?;
    persister.signal(Signal::CONT)?;
    let key = [("idempotency-key", "lost")];
    let again = ask(&alice, Method::POST, &messages, &key, json!({ "content": "once" })).await?;
    ensure!(again.status() == 201, "{again:?}");
    let page = alice.get(&messages).await?.expect(200)?;
    ensure!(page["messages"].as_array().is_some_and(|messages| messages.len() == 1), "{page}");
    Ok(())
}
