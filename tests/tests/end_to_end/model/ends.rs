//! What a case has come to, where it isn't an answer: on a socket, in the counts, in the history.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context, Result, ensure};
use runtime::Config;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use waltalkie_tests::harness::{LONG, Person, read_events, until};

use super::chat::{Chat, Shown};

/// A new socket that begins at the beginning is told what the model says, `seq` by `seq`.
pub(super) async fn same_on_a_socket(person: &Person, chat_id: &str, expected: Option<Vec<Shown>>) -> Result<()> {
    let mut socket = person.connect().await?;
    let is_announced = socket.chats.iter().any(|chat| chat["chat_id"] == chat_id);
    let asked = socket.send("resume", json!({ "cursors": { chat_id: 0 } })).await?;
    let Some(expected) = expected else {
        ensure!(!is_announced, "{} is told of a chat that they never were in", person.user_id);
        socket.expect_error(asked, "chat_not_found", Some("chat_id")).await?;
        return socket.send_raw(Message::Close(None)).await;
    };
    let told = until("everything to be resumed", LONG, async || {
        let told = told(socket.unread(), chat_id)?;
        Ok((told.len() >= expected.len()).then_some(told))
    });
    let told = told.await.with_context(|| format!("{} should be told {expected:?}", person.user_id))?;
    for (seq, expected) in (1_i64..).zip(&expected) {
        let expected = expected.as_ref().map(|(event_type, text)| (frame_of(event_type), text.clone()));
        let seen = told.get(&seq).cloned().flatten();
        ensure!(seen == expected, "{} is told {seen:?} at {seq}, the model says {expected:?}", person.user_id);
    }
    ensure!(told.len() == expected.len(), "{} is told more: {told:?}", person.user_id);
    socket.send_raw(Message::Close(None)).await
}

/// A frame's name and its text, or nothing where its `seq` was skipped.
type Told = Option<(String, Option<String>)>;

/// What came of a chat, by `seq`.
fn told(frames: &VecDeque<Value>, chat_id: &str) -> Result<BTreeMap<i64, Told>> {
    let mut told = BTreeMap::new();
    for frame in frames {
        let (event, payload) = (frame["event"].as_str().unwrap_or_default(), &frame["payload"]);
        if payload["chat_id"] != chat_id {
            continue;
        }
        if event == "skipped" {
            let ends = payload["from_seq"].as_i64().zip(payload["to_seq"].as_i64());
            let (from, to) = ends.with_context(|| format!("{frame}"))?;
            told.extend((from..=to).map(|seq| (seq, None)));
        } else if let Some(seq) = payload["seq"].as_i64() {
            told.insert(seq, Some((event.to_owned(), payload["content"].as_str().map(str::to_owned))));
        }
    }
    Ok(told)
}

fn frame_of(event_type: &str) -> String {
    if event_type == "message.persisted" { "message".to_owned() } else { event_type.replace('.', "_") }
}

/// How far a member has read, and how much is unread; others aren't told.
pub(super) async fn same_unread(person: &Person, chat_id: &str, expected: Option<(i64, i64)>) -> Result<()> {
    let Some((read_seq, unread)) = expected else { return Ok(()) };
    let path = format!("/v1/chats/{chat_id}");
    let chat = until("the mark to have arrived", LONG, async || {
        let chat = person.get(&path).await?.expect(200)?;
        Ok((chat["read_seq"] == read_seq).then_some(chat))
    });
    let chat = chat.await.with_context(|| format!("{} has read up to {read_seq}", person.user_id))?;
    ensure!(chat["unread_count"] == unread, "{}: {chat}, the model says {unread} unread", person.user_id);
    Ok(())
}

/// The history has each chat's events, once and in order, as the model has them.
pub(super) async fn same_history(config: &Config, chats: &[(String, Chat)]) -> Result<()> {
    until("the history to have everything", LONG, async || {
        let mut logged: BTreeMap<String, Vec<(i64, String, Option<String>)>> = BTreeMap::new();
        for (event, _) in read_events(config).await? {
            let text = event.message.and_then(|message| message.content);
            logged.entry(event.chat_id).or_default().push((event.seq, event.event_type, text));
        }
        for (chat_id, chat) in chats {
            let expected =
                chat.events().iter().map(|event| (event.seq, event.event_type.to_owned(), event.text.clone()));
            let (expected, seen) = (expected.collect::<Vec<_>>(), logged.remove(chat_id).unwrap_or_default());
            ensure!(seen == expected, "the history has {seen:?} of {chat_id}, the model {expected:?}");
        }
        Ok(Some(()))
    })
    .await
}
