//! The OpenAPI document and the server say the same: a tour through every endpoint, each answer held against the document.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, ObjectStore, Person, Servers, python, repository};

/// Keeps what was asked and answered.
#[derive(Default)]
struct Tour {
    exchanges: Mutex<Vec<Value>>,
}

impl Tour {
    async fn ask(&self, who: &Person, method: &str, path: &str, body: Value) -> Result<(u16, Value)> {
        self.ask_with(who, method, path, body, &[]).await
    }

    async fn ask_with(
        &self,
        who: &Person,
        method: &str,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Result<(u16, Value)> {
        let mut request =
            reqwest::Client::new().request(method.parse()?, format!("{}{path}", who.base)).bearer_auth(&who.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let names: Vec<String> = response.headers().keys().map(ToString::to_string).collect();
        let content_type = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        let content_type = content_type.map(str::to_owned);
        let text = response.text().await?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        self.exchanges.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(json!({
            "method": method, "path": path, "request": body, "status": status, "headers": names,
            "content_type": content_type, "body": answer,
        }));
        Ok((status, answer))
    }

    async fn expect(&self, status: u16, who: &Person, method: &str, path: &str, body: Value) -> Result<Value> {
        let (answered, answer) = self.ask(who, method, path, body).await?;
        ensure!(answered == status, "{method} {path}: {answered} instead of {status}: {answer}");
        Ok(answer)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_what_the_server_does() -> Result<()> {
    let store = ObjectStore::start().await?;
    let settings = [store.settings().as_slice(), &[("media.max_file_bytes", "1000000")]].concat();
    let installation = Installation::make_on(Servers::shared()?, "openapi", &settings).await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let gateway = process.gateway()?;
    let alice = Person::arrive(&config, gateway, "alice").await?;
    let bob = Person::arrive(&config, gateway, "bob").await?;
    let carol = Person::arrive(&config, gateway, "carol").await?;
    let tour = Tour::default();
    let none = Value::Null;

    // Oneself.
    tour.expect(200, &alice, "GET", "/v1/users/me", none.clone()).await?;
    let profile = json!({ "name": "Alice A.", "avatar_url": "https://example.com/a.png" });
    tour.expect(200, &alice, "PATCH", "/v1/users/me", profile).await?;
    tour.expect(400, &alice, "PATCH", "/v1/users/me", json!({ "avatar_url": "ftp://x" })).await?;
    tour.expect(200, &alice, "GET", "/v1/users/me/settings", none.clone()).await?;
    let hours = json!({ "from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin" });
    let changes = json!({ "email": true, "do_not_disturb": hours, "mute": ["launch"] });
    let settings = tour.expect(200, &alice, "PATCH", "/v1/users/me/settings", changes).await?;
    ensure!(settings["do_not_disturb"] == hours && settings["muted_chat_ids"] == json!(["launch"]), "{settings}");
    let nowhere = json!({ "do_not_disturb": { "from": "22:00", "to": "07:00", "time_zone": "Europe/Atlantis" } });
    let refused = tour.expect(400, &alice, "PATCH", "/v1/users/me/settings", nowhere).await?;
    ensure!(refused["field"] == "do_not_disturb.time_zone", "{refused}");
    tour.expect(200, &alice, "GET", "/v1/notifications", none.clone()).await?;
    // The browser of RFC 8291.
    let keys = json!({
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "auth": "BTBZMqHH6r4Tts7J_aSIgg",
    });
    let device = json!({ "device_id": "laptop", "platform": "web", "address": "https://push.example/1", "keys": keys });
    tour.expect(201, &alice, "POST", "/v1/users/me/devices", device).await?;
    for number in 1..20 {
        let device = json!({ "platform": "ios", "address": format!("{number:064x}"), "name": "Phone" });
        tour.expect(201, &alice, "POST", "/v1/users/me/devices", device).await?;
    }
    let surplus = json!({ "platform": "ios", "address": "one too many" });
    tour.expect(400, &alice, "POST", "/v1/users/me/devices", surplus).await?;
    let surplus = json!({ "platform": "ios", "address": "f".repeat(64) });
    tour.expect(409, &alice, "POST", "/v1/users/me/devices", surplus).await?;
    let devices = tour.expect(200, &alice, "GET", "/v1/users/me/devices", none.clone()).await?;
    ensure!(devices["devices"].as_array().is_some_and(|devices| devices.len() == 20), "{devices}");
    ensure!(!devices.to_string().contains("push.example"), "addresses are shown: {devices}");
    tour.expect(204, &alice, "DELETE", "/v1/users/me/devices/laptop", none.clone()).await?;
    tour.expect(404, &alice, "DELETE", "/v1/users/me/devices/laptop", none.clone()).await?;
    tour.expect(200, &alice, "GET", "/v1/users?ids=alice,bob", none.clone()).await?;
    tour.expect(400, &alice, "GET", "/v1/users?ids=", none.clone()).await?;

    // A chat and its members.
    let chat = json!({
        "chat_id": "launch", "name": "Launch", "member_ids": ["bob"], "app_data": { "ticket": 7 },
        "avatar_url": "https://example.com/l.png", "deleted_shown_as": "tombstone",
    });
    tour.expect(201, &alice, "POST", "/v1/chats", chat.clone()).await?;
    tour.expect(409, &bob, "POST", "/v1/chats", chat).await?;
    tour.expect(404, &alice, "POST", "/v1/chats", json!({ "member_ids": ["nobody"] })).await?;
    let direct = json!({ "is_group": false, "member_ids": ["bob"] });
    tour.expect(201, &alice, "POST", "/v1/chats", direct.clone()).await?;
    tour.expect(200, &bob, "POST", "/v1/chats", json!({ "is_group": false, "member_ids": ["alice"] })).await?;
    tour.expect(200, &alice, "GET", "/v1/chats/launch", none.clone()).await?;
    tour.expect(404, &carol, "GET", "/v1/chats/launch", none.clone()).await?;
    tour.expect(200, &alice, "PATCH", "/v1/chats/launch", json!({ "name": "Launch!" })).await?;
    tour.expect(403, &bob, "PATCH", "/v1/chats/launch", json!({ "name": "Mine" })).await?;
    let members = "/v1/chats/launch/members";
    tour.expect(201, &alice, "POST", members, json!({ "user_ids": ["carol"], "role": "member" })).await?;
    tour.expect(200, &alice, "PATCH", &format!("{members}/carol"), json!({ "role": "admin" })).await?;
    tour.expect(200, &alice, "GET", &format!("{members}?limit=2"), none.clone()).await?;
    tour.expect(409, &alice, "DELETE", &format!("{members}/me"), none.clone()).await?;
    tour.expect(200, &alice, "DELETE", &format!("{members}/carol"), none.clone()).await?;

    // Messages.
    let messages = "/v1/chats/launch/messages";
    let message_id = Uuid::now_v7().to_string();
    let send = json!({ "content": "Noon?", "message_id": message_id, "app_data": { "mood": "hungry" } });
    tour.expect(201, &bob, "POST", messages, send).await?;
    tour.expect(409, &bob, "POST", messages, json!({ "content": "other", "message_id": message_id })).await?;
    let answer = json!({ "content": "Yes", "parent_message_id": message_id });
    let (status, _) = tour.ask_with(&alice, "POST", messages, answer, &[("prefer", "respond-async")]).await?;
    ensure!(status == 202, "{status}");
    tour.expect(413, &bob, "POST", messages, json!({ "content": "x".repeat(70_000) })).await?;
    tour.expect(404, &bob, "POST", messages, json!({ "content": "see", "attachments": ["a"] })).await?;
    let message = format!("{messages}/{message_id}");
    tour.expect(200, &bob, "PATCH", &message, json!({ "content": "Half past?" })).await?;
    tour.expect(200, &alice, "GET", &message, none.clone()).await?;
    tour.expect(200, &alice, "GET", &format!("{messages}?limit=5"), none.clone()).await?;
    tour.expect(200, &alice, "GET", &format!("{messages}?around_seq=3&limit=5"), none.clone()).await?;
    tour.expect(202, &alice, "POST", "/v1/chats/launch/read", json!({ "seq": 3 })).await?;
    tour.expect(200, &alice, "GET", "/v1/users/me/inbox?limit=10", none.clone()).await?;
    tour.expect(200, &bob, "DELETE", &message, none.clone()).await?;
    tour.expect(200, &alice, "GET", messages, none.clone()).await?;
    tour.expect(200, &alice, "GET", "/v1/chats?limit=1", none.clone()).await?;
    tour.expect(200, &alice, "GET", "/v1/chats", none.clone()).await?;

    // Files.
    let wanted = |size: usize, kind: &str| json!({ "chat_id": "launch", "file_name": "a.txt", "content_type": kind, "size_bytes": size });
    let begun = tour.expect(201, &bob, "POST", "/v1/media", wanted(5, "text/plain")).await?;
    let media = format!("/v1/media/{}", begun["media_id"].as_str().context("no media_id")?);
    tour.expect(400, &bob, "POST", "/v1/media", wanted(0, "text/plain")).await?;
    tour.expect(413, &bob, "POST", "/v1/media", wanted(2_000_000, "text/plain")).await?;
    tour.expect(409, &bob, "POST", &format!("{media}/complete"), none.clone()).await?;
    tour.expect(200, &bob, "GET", &media, none.clone()).await?;
    ensure!(bob.bring(&begun["upload"], b"hello").await? == [200]);
    tour.expect(200, &bob, "POST", &format!("{media}/complete"), none.clone()).await?;
    let file = json!({ "file": begun["media_id"] });
    tour.expect(201, &bob, "POST", messages, file).await?;
    tour.expect(200, &alice, "GET", &media, none.clone()).await?;
    tour.expect(404, &carol, "GET", &media, none.clone()).await?;
    tour.expect(409, &bob, "DELETE", &media, none.clone()).await?;
    let html = tour.expect(201, &bob, "POST", "/v1/media", wanted(5, "image/png")).await?;
    let refused = format!("/v1/media/{}", html["media_id"].as_str().context("no media_id")?);
    ensure!(bob.bring(&html["upload"], b"hello").await? == [200]);
    tour.expect(422, &bob, "POST", &format!("{refused}/complete"), none.clone()).await?;
    tour.expect(200, &bob, "GET", &refused, none.clone()).await?;
    tour.expect(204, &bob, "DELETE", &refused, none.clone()).await?;

    // An answer that is kept, and its key with another request.
    let key = [("idempotency-key", "the tour's only key")];
    for (content, expected) in [("once", 201), ("once", 201), ("twice", 422)] {
        let (status, answer) = tour.ask_with(&bob, "POST", messages, json!({ "content": content }), &key).await?;
        ensure!(status == expected, "{content}: {status}: {answer}");
    }

    // An application's backend.
    let scopes = "users:write users:remove users:revoke chats:write chats:read messages:system act:users";
    let token = ingest::auth::development_service_token(&config, "backend", scopes, 600)?.0;
    let service = Person::with_token(gateway, "backend", &token);
    let profile = json!({ "name": "Dave", "email": "dave@example.com" });
    tour.expect(201, &service, "PUT", "/v1/users/dave", profile.clone()).await?;
    tour.expect(200, &service, "PUT", "/v1/users/dave", profile).await?;
    tour.expect(403, &alice, "PUT", "/v1/users/dave", json!({})).await?;
    tour.expect(200, &alice, "GET", "/v1/users?email=dave@example.com", none.clone()).await?;
    let wanted =
        json!({ "name": "Order 7", "members": [{ "user_id": "dave", "role": "owner" }], "app_data": { "a": 1 } });
    tour.expect(201, &service, "PUT", "/v1/chats/order-7", wanted.clone()).await?;
    tour.expect(200, &service, "PUT", "/v1/chats/order-7", wanted).await?;
    tour.expect(200, &service, "GET", "/v1/chats/order-7", none.clone()).await?;
    tour.expect(201, &service, "POST", "/v1/chats/order-7/messages", json!({ "content": "Shipped." })).await?;
    let (status, answer) =
        tour.ask_with(&service, "GET", "/v1/chats", none.clone(), &[("on-behalf-of", "dave")]).await?;
    ensure!(status == 200 && answer["chats"][0]["role"] == "owner", "{status} {answer}");
    tour.expect(200, &service, "POST", "/v1/users/dave/revoke", none.clone()).await?;
    tour.expect(200, &service, "DELETE", "/v1/users/dave", none.clone()).await?;
    tour.expect(404, &service, "DELETE", "/v1/users/nobody", none.clone()).await?;

    tour.expect(200, &alice, "GET", "/v1/dev/users", none.clone()).await?;
    tour.expect(200, &alice, "POST", "/v1/dev/token", json!({ "user_id": "alice" })).await?;
    let nobody = Person::with_token(gateway, "nobody", "not a token");
    tour.expect(401, &nobody, "GET", "/v1/chats", none).await?;

    let document: Value = reqwest::get(format!("{gateway}/openapi.json")).await?.json().await?;
    let mut command = installation.command()?;
    command.args(["docs", "openapi"]);
    let printed = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(serde_json::from_slice::<Value>(&printed.stdout)? == document, "the command prints another document");
    check(&json!({ "document": document, "exchanges": tour.exchanges.into_inner().unwrap_or_default() }))
}

fn check(given: &Value) -> Result<()> {
    let mut command = Command::new(python()?);
    command.arg(repository().join("tests/interop/python/openapi.py"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let written = child.stdin.take().context("no input")?.write_all(given.to_string().as_bytes());
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    ensure!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(written?)
}
