//! The AsyncAPI document is one, and says what the server does: a tour through every frame. Each is held against the
//! document by the harness's socket, here as in all other tests.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use schemas::wire::{ClientEvent, ServerEvent};
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, Person, Socket, node_packages};

#[test]
fn the_document_is_asyncapi() -> Result<()> {
    let path = node_packages()?.join("@asyncapi/specs/schemas/3.0.0.json");
    let meta_schema = serde_json::from_slice(&fs::read(&path).with_context(|| path.display().to_string())?)?;
    conformance::check_document(&meta_schema).map_err(anyhow::Error::msg)
}

/// Keeps what was sent and seen.
#[derive(Default)]
struct Tour {
    sent: BTreeSet<&'static str>,
    seen: BTreeSet<&'static str>,
}

impl Tour {
    /// Sends a frame and waits for this answer to it.
    async fn ask(
        &mut self,
        socket: &mut Socket,
        event: ClientEvent,
        payload: Value,
        answer: ServerEvent,
    ) -> Result<Value> {
        let id = socket.send(event.name(), payload).await?;
        self.sent.insert(event.name());
        let answered = socket.answer(id, |frame| frame["event"] == answer.name()).await?;
        self.seen.insert(answer.name());
        Ok(answered["payload"].clone())
    }

    /// Sends a command and waits until it is persisted.
    async fn command(&mut self, socket: &mut Socket, event: ClientEvent, payload: Value) -> Result<i64> {
        let id = socket.send(event.name(), payload).await?;
        self.sent.insert(event.name());
        socket.persisted(id).await
    }

    /// Sends a frame whose answer has no `id`.
    async fn tell(&mut self, socket: &mut Socket, event: ClientEvent, payload: Value) -> Result<()> {
        socket.send(event.name(), payload).await?;
        self.sent.insert(event.name());
        Ok(())
    }

    async fn see(&mut self, socket: &mut Socket, event: ServerEvent) -> Result<Value> {
        let payload = socket.wait(event.name(), |_| true).await?;
        self.seen.insert(event.name());
        Ok(payload)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_described_frame_is_sent_and_taken() -> Result<()> {
    let installation = Installation::make("asyncapi").await?;
    let process = installation.run(&["all"]).await?;
    let (config, gateway) = (installation.config()?, process.gateway()?.to_owned());
    let alice = Person::arrive(&config, &gateway, "alice").await?;
    let bob = Person::arrive(&config, &gateway, "bob").await?;
    let carol = Person::arrive(&config, &gateway, "carol").await?;
    let mut tour = Tour::default();
    let (mut here, mut late) = (alice.connect().await?, carol.connect().await?);
    // `connect` has seen both.
    tour.seen.extend([ServerEvent::Hello.name(), ServerEvent::Chats.name()]);

    let chat_id = alice.make_group(&[&bob], json!({ "history_for_new_members": false })).await?;
    tour.see(&mut here, ServerEvent::ChatCreated).await?;
    let mut there = bob.connect().await?;
    tour.see(&mut there, ServerEvent::Presence).await?;
    tour.ask(&mut here, ClientEvent::Typing, json!({ "chat_id": chat_id }), ServerEvent::Ack).await?;
    tour.see(&mut there, ServerEvent::Typing).await?;

    // A message and what can become of it.
    let message_id = Uuid::now_v7().to_string();
    let place = json!({ "chat_id": chat_id, "message_id": message_id });
    let with = |field: &str, value: Value| {
        let mut payload = place.clone();
        payload[field] = value;
        payload
    };
    let refused =
        tour.ask(&mut here, ClientEvent::SendMessage, with("content", json!(" ")), ServerEvent::Error).await?;
    ensure!(refused["code"] == "content_empty", "{refused}");
    tour.ask(&mut here, ClientEvent::DiscardMessage, place.clone(), ServerEvent::Ack).await?;
    ensure!(tour.command(&mut here, ClientEvent::SendMessage, with("content", json!("Noon?"))).await? == 2);
    ensure!(tour.command(&mut here, ClientEvent::EditMessage, with("content", json!("Half past?"))).await? == 3);
    ensure!(tour.command(&mut here, ClientEvent::DeleteMessage, place.clone()).await? == 4);
    for event in [ServerEvent::Message, ServerEvent::MessageEdited, ServerEvent::MessageDeleted] {
        let message = tour.see(&mut there, event).await?;
        ensure!(message["message_id"] == message_id && message["message_seq"] == 2, "{message}");
    }

    // The chat, and somebody from whom its beginning is hidden.
    let path = format!("/v1/chats/{chat_id}");
    alice.patch(&path, json!({ "name": "Lunch" })).await?.expect(200)?;
    alice.post(&format!("{path}/members"), json!({ "user_ids": ["carol"] })).await?.expect(201)?;
    alice.patch(&format!("{path}/members/carol"), json!({ "role": "admin" })).await?.expect(200)?;
    for event in [ServerEvent::ChatUpdated, ServerEvent::MemberJoined, ServerEvent::MemberUpdated] {
        tour.see(&mut there, event).await?;
    }
    tour.see(&mut late, ServerEvent::MemberUpdated).await?;
    let cursors = json!({ "cursors": { &chat_id: 0 }, "epoch": late.hello["epoch"] });
    tour.tell(&mut late, ClientEvent::Resume, cursors).await?;
    let skipped = tour.see(&mut late, ServerEvent::Skipped).await?;
    ensure!(skipped["from_seq"] == 1 && skipped["to_seq"] == 5, "{skipped}");
    tour.see(&mut late, ServerEvent::Resumed).await?;
    alice.delete(&format!("{path}/members/carol")).await?.expect(200)?;
    tour.see(&mut there, ServerEvent::MemberLeft).await?;

    // Marks, and what keeps a connection.
    for event in [ClientEvent::MarkDelivered, ClientEvent::MarkRead] {
        tour.ask(&mut there, event, json!({ "marks": { &chat_id: 4 } }), ServerEvent::Ack).await?;
    }
    tour.see(&mut here, ServerEvent::Receipt).await?;
    tour.tell(&mut there, ClientEvent::Heartbeat, Value::Null).await?;
    tour.see(&mut there, ServerEvent::Heads).await?;
    let short = ingest::auth::development_token(&config, "carol", None, 6)?.0;
    let mut ending = Socket::open(&gateway, &short).await?;
    tour.see(&mut ending, ServerEvent::TokenExpiring).await?;
    tour.ask(&mut ending, ClientEvent::Authenticate, json!({ "token": carol.token }), ServerEvent::Ack).await?;

    let document: Value = reqwest::get(format!("{gateway}/asyncapi.json")).await?.json().await?;
    let mut command = installation.command()?;
    command.args(["docs", "asyncapi"]);
    let printed = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(serde_json::from_slice::<Value>(&printed.stdout)? == document, "the command prints another document");

    let (ended, _) = tokio::try_join!(process.stop(), tour.see(&mut here, ServerEvent::Reconnect))?;
    ensure!(ended.success(), "{ended}");
    ensure!(here.closed().await? == Some(1001));

    let never_sent: Vec<_> =
        ClientEvent::ALL.map(ClientEvent::name).into_iter().filter(|event| !tour.sent.contains(event)).collect();
    let never_seen: Vec<_> =
        ServerEvent::ALL.map(ServerEvent::name).into_iter().filter(|event| !tour.seen.contains(event)).collect();
    ensure!(never_sent.is_empty() && never_seen.is_empty(), "described, but not here: {never_sent:?}, {never_seen:?}");
    Ok(())
}
