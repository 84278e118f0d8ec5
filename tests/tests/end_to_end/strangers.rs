//! Attempts at other people's things: each is answered like a thing that doesn't exist.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Answer, Installation, ObjectStore, Person, Servers};

/// One attempt: a verb, a path with `{chat}`, `{message}` and `{media}`, a body.
struct Attempt(Method, &'static str, Value);

fn on_a_chat() -> Vec<Attempt> {
    let uuid = Uuid::now_v7;
    vec![
        Attempt(Method::GET, "/v1/chats/{chat}", Value::Null),
        Attempt(Method::PATCH, "/v1/chats/{chat}", json!({ "name": "mine now" })),
        Attempt(Method::PATCH, "/v1/chats/{chat}", json!({ "history_for_new_members": true })),
        Attempt(Method::GET, "/v1/chats/{chat}/members", Value::Null),
        Attempt(Method::POST, "/v1/chats/{chat}/members", json!({ "user_ids": ["mallory"], "role": "owner" })),
        Attempt(Method::POST, "/v1/chats/{chat}/members", json!({ "user_ids": ["bob"] })),
        Attempt(Method::PATCH, "/v1/chats/{chat}/members/bob", json!({ "role": "owner" })),
        Attempt(Method::PATCH, "/v1/chats/{chat}/members/mallory", json!({ "role": "owner" })),
        Attempt(Method::DELETE, "/v1/chats/{chat}/members/bob", Value::Null),
        Attempt(Method::DELETE, "/v1/chats/{chat}/members/me", Value::Null),
        Attempt(Method::GET, "/v1/chats/{chat}/messages", Value::Null),
        Attempt(Method::GET, "/v1/chats/{chat}/messages?around_seq=2", Value::Null),
        Attempt(Method::POST, "/v1/chats/{chat}/messages", json!({ "content": "let me in", "message_id": uuid() })),
        Attempt(Method::GET, "/v1/chats/{chat}/messages/{message}", Value::Null),
        Attempt(Method::PATCH, "/v1/chats/{chat}/messages/{message}", json!({ "content": "forged" })),
        Attempt(Method::DELETE, "/v1/chats/{chat}/messages/{message}", Value::Null),
        Attempt(Method::POST, "/v1/chats/{chat}/read", json!({ "seq": 2 })),
        Attempt(Method::POST, "/v1/media", json!({ "chat_id": "{chat}", "file_name": "a", "size_bytes": 1 })),
        Attempt(Method::GET, "/v1/media/{media}", Value::Null),
        Attempt(Method::POST, "/v1/media/{media}/complete", Value::Null),
        Attempt(Method::DELETE, "/v1/media/{media}", Value::Null),
    ]
}

async fn attempt(person: &Person, attempt: &Attempt, [chat, message, media]: [&str; 3]) -> Result<Answer> {
    let Attempt(method, path, body) = attempt;
    let path = path.replace("{chat}", chat).replace("{message}", message).replace("{media}", media);
    let body =
        (!body.is_null()).then(|| serde_json::from_str(&body.to_string().replace("{chat}", chat))).transpose()?;
    person.request(method.clone(), &path, body).await
}

/// What an answer tells: everything but what is new in each.
fn told(answer: &Answer) -> Value {
    let mut body = answer.body.clone();
    if let Some(body) = body.as_object_mut() {
        body.remove("request_id");
        body.remove("instance");
    }
    json!({ "status": answer.status.as_u16(), "body": body })
}

struct World {
    _store: ObjectStore,
    _installation: Installation,
    _process: waltalkie_tests::harness::RoleProcess,
    alice: Person,
    bob: Person,
    mallory: Person,
    gone: Person,
    chat: String,
    message: String,
    media: String,
}

async fn world(test: &str) -> Result<World> {
    let store = ObjectStore::start().await?;
    let mut generous = store.settings().to_vec();
    generous.extend([("limits.commands_per_s", "100000"), ("limits.commands_burst", "100000")]);
    let installation = Installation::make_on(Servers::shared()?, test, &generous).await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let arrive = |name| Person::arrive(&config, process.gateway().unwrap_or_default(), name);
    let (alice, bob, mallory, gone) =
        (arrive("alice").await?, arrive("bob").await?, arrive("mallory").await?, arrive("gone").await?);
    let chat = alice.make_group(&[&bob, &gone], json!({})).await?;
    let message = alice.say(&chat, "canary 5f1c").await?["message_id"].as_str().context("no id")?.to_owned();
    // Posted while everybody was there: who was removed has seen it.
    let media = alice.upload(&chat, "canary.txt", "text/plain", b"canary 5f1c").await?;
    let file = json!({ "file": media });
    alice.post(&format!("/v1/chats/{chat}/messages"), file).await?.expect(201)?;
    alice.delete(&format!("/v1/chats/{chat}/members/gone")).await?.expect(200)?;
    Ok(World {
        _store: store,
        _installation: installation,
        _process: process,
        alice,
        bob,
        mallory,
        gone,
        chat,
        message,
        media,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_and_a_removed_member_are_told_what_is_told_of_nothing() -> Result<()> {
    let world = world("strangers").await?;
    let absent_message = Uuid::now_v7().to_string();
    let before = world.alice.get(&format!("/v1/chats/{}/messages", world.chat)).await?.expect(200)?;
    for who in [&world.mallory, &world.gone] {
        for this in &on_a_chat() {
            let theirs = attempt(who, this, [&world.chat, &world.message, &world.media]).await?;
            let nothing = attempt(who, this, ["no-such-chat", &absent_message, "no-such-file"]).await?;
            let Attempt(method, path, _) = this;
            ensure!(theirs.status == 404, "{} {method} {path}: {} {}", who.user_id, theirs.status, theirs.body);
            ensure!(told(&theirs) == told(&nothing), "{method} {path}: {} and {}", told(&theirs), told(&nothing));
            ensure!(!theirs.body.to_string().contains("canary"), "{method} {path}: {}", theirs.body);
        }
    }
    let after = world.alice.get(&format!("/v1/chats/{}/messages", world.chat)).await?.expect(200)?;
    ensure!(before == after, "{before} became {after}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_member_does_nothing_that_their_role_forbids() -> Result<()> {
    let world = world("plain-member").await?;
    let path = format!("/v1/chats/{}", world.chat);
    let bob = &world.bob;
    for (method, path, body) in [
        (Method::PATCH, path.clone(), json!({ "name": "mine now" })),
        (Method::PATCH, path.clone(), json!({ "history_for_new_members": false })),
        (Method::POST, format!("{path}/members"), json!({ "user_ids": ["mallory"] })),
        (Method::PATCH, format!("{path}/members/bob"), json!({ "role": "owner" })),
        (Method::PATCH, format!("{path}/members/alice"), json!({ "role": "member" })),
        (Method::DELETE, format!("{path}/members/alice"), Value::Null),
    ] {
        let answer = bob.request(method, &path, (!body.is_null()).then_some(body)).await?;
        answer.expect_problem(403, "forbidden", None)?;
    }
    // A message of another, and one that isn't there: one and the same error.
    for message in [&world.message, &Uuid::now_v7().to_string()] {
        let path = format!("{path}/messages/{message}");
        bob.patch(&path, json!({ "content": "forged" })).await?.expect_problem(
            404,
            "message_not_found",
            Some("message_id"),
        )?;
        bob.delete(&path).await?.expect_problem(404, "message_not_found", Some("message_id"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_ids_open_nothing() -> Result<()> {
    let world = world("others-ids").await?;
    let World { mallory, alice, chat, message, .. } = &world;
    let own = mallory.make_group(&[], json!({})).await?;
    let own_path = format!("/v1/chats/{own}");
    let absent = Uuid::now_v7().to_string();
    // Alice's message under Mallory's own chat.
    for id in [message, &absent] {
        let path = format!("{own_path}/messages/{id}");
        mallory.get(&path).await?.expect_problem(404, "message_not_found", Some("message_id"))?;
        mallory.patch(&path, json!({ "content": "forged" })).await?.expect_problem(
            404,
            "message_not_found",
            Some("message_id"),
        )?;
        mallory.delete(&path).await?.expect_problem(404, "message_not_found", Some("message_id"))?;
        let answer = json!({ "content": "quoting", "parent_message_id": id });
        let refused = mallory.post(&format!("{own_path}/messages"), answer).await?;
        refused.expect_problem(404, "message_not_found", Some("parent_message_id"))?;
    }
    // Her message_id for a message of one's own: a conflict, the same whatever stands there.
    for content in ["canary 5f1c", "anything"] {
        let body = json!({ "content": content, "message_id": message });
        let refused = mallory.post(&format!("{own_path}/messages"), body).await?;
        refused.expect_problem(409, "message_id_conflict", Some("message_id"))?;
        ensure!(!refused.body.to_string().contains(chat.as_str()), "{}", refused.body);
    }
    // Her chat_id for a chat of one's own.
    let taken = mallory.post("/v1/chats", json!({ "chat_id": chat, "member_ids": [] })).await?;
    taken.expect_problem(409, "chat_exists", Some("chat_id"))?;
    // People that one shares no chat with.
    let people = mallory.get("/v1/users?ids=alice,bob,no-such-person").await?.expect(200)?;
    ensure!(people["users"] == json!([]), "{people}");
    let chats = mallory.get("/v1/chats").await?.expect(200)?.to_string();
    ensure!(!chats.contains(chat.as_str()) && !chats.contains("canary"), "{chats}");
    let inbox = mallory.get("/v1/users/me/inbox").await?.expect(200)?;
    ensure!(inbox["messages"] == json!([]), "{inbox}");
    // By the socket as well.
    let mut socket = mallory.connect().await?;
    for chat in [chat.as_str(), "no-such-chat"] {
        let payload = json!({ "chat_id": chat, "message_id": Uuid::now_v7(), "content": "let me in" });
        let sent = socket.send("send_message", payload).await?;
        socket.expect_error(sent, "chat_not_found", Some("chat_id")).await?;
        let edited = json!({ "chat_id": chat, "message_id": message, "content": "forged" });
        let edited = socket.send("edit_message", edited).await?;
        socket.expect_error(edited, "chat_not_found", Some("chat_id")).await?;
        let deleted = socket.send("delete_message", json!({ "chat_id": chat, "message_id": message })).await?;
        socket.expect_error(deleted, "chat_not_found", Some("chat_id")).await?;
        let marked = socket.send("mark_read", json!({ "marks": { chat: 2 } })).await?;
        socket.expect_error(marked, "chat_not_found", Some("payload.marks")).await?;
        socket.send("resume", json!({ "cursors": { chat: 0 } })).await?;
    }
    // Whatever resumes brought came before the answer to this.
    let last = socket.send("discard_message", json!({ "chat_id": own, "message_id": Uuid::now_v7() })).await?;
    socket.answer(last, |frame| frame["event"] == "ack").await?;
    let leaked = socket.unread().iter().find(|frame| frame.to_string().contains("canary"));
    ensure!(leaked.is_none(), "{leaked:?}");
    let page = alice.get(&format!("/v1/chats/{chat}/messages")).await?.expect(200)?;
    ensure!(page["messages"][0]["content"] == "canary 5f1c", "{page}");
    Ok(())
}

/// How often each is asked.
const TRIES: usize = 1_000;
/// Questions that are asked at a time.
const AT_ONCE: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn time_doesnt_tell_a_foreign_chat_from_none() -> Result<()> {
    let world = world("timing").await?;
    let chat = "/v1/chats/{chat}";
    let pages = "/v1/chats/{chat}/messages";
    let one = "/v1/chats/{chat}/messages/{message}";
    let stranger_asks = [
        (&world.mallory, Attempt(Method::GET, chat, Value::Null)),
        (&world.mallory, Attempt(Method::GET, pages, Value::Null)),
        (&world.gone, Attempt(Method::GET, pages, Value::Null)),
        (&world.gone, Attempt(Method::GET, one, Value::Null)),
        (&world.mallory, Attempt(Method::POST, pages, json!({ "content": "let me in" }))),
        (&world.mallory, Attempt(Method::PATCH, one, json!({ "content": "forged" }))),
        (&world.mallory, Attempt(Method::GET, "/v1/media/{media}", Value::Null)),
    ];
    let medians = stream::iter(stranger_asks.iter().map(|(who, attempt)| medians(&world, who, attempt)));
    let medians: Vec<[f64; 2]> = medians.buffered(AT_ONCE).try_collect().await?;
    for ((who, Attempt(method, path, _)), [theirs, nothing]) in stranger_asks.iter().zip(medians) {
        println!(
            "{} {method} {path}: medians of {TRIES}: {:.3} ms of theirs, {:.3} ms of nothing",
            who.user_id,
            theirs * 1e3,
            nothing * 1e3
        );
        // The same query answers both; a second one would be half as much again.
        let ratio = theirs / nothing;
        ensure!((0.8..1.25).contains(&ratio), "{} {method} {path}: {theirs} s and {nothing} s", who.user_id);
    }
    Ok(())
}

/// Medians of the time that it takes to be refused somebody else's thing, and one that isn't there.
async fn medians(world: &World, who: &Person, asked: &Attempt) -> Result<[f64; 2]> {
    let absent = Uuid::now_v7().to_string();
    let theirs = [world.chat.as_str(), &world.message, &world.media];
    let mut took = [Vec::new(), Vec::new()];
    // In turn, so that whatever else the machine does falls on both.
    for _ in 0..TRIES {
        for (ids, took) in [theirs, ["no-such-chat", &absent, "no-such-file"]].into_iter().zip(&mut took) {
            let began = Instant::now();
            let answer = attempt(who, asked, ids).await?;
            took.push(began.elapsed());
            ensure!(answer.status == 404, "{}", answer.body);
        }
    }
    Ok(took.map(|mut took: Vec<Duration>| {
        took.sort_unstable();
        took[TRIES / 2].as_secs_f64()
    }))
}
