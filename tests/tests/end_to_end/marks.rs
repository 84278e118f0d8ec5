//! Marks into `chat.marks`: of all devices of a person together, at most one record a chat and second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runtime::Config;
use schemas::registry::Registry;
use schemas::{Decoder, Mark, Record};
use serde_json::json;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, read_all, until};

/// When each was marked, and up to where it says that one has read.
type Records = Vec<(i64, Option<i64>)>;

#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_one_mark_a_chat_and_second_on_all_devices() -> Result<()> {
    let installation = Installation::make("marks-a-second").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let chats = [alice.make_group(&[&bob], json!({})).await?, alice.make_group(&[&bob], json!({})).await?];
    let mut here = alice.connect().await?;
    for chat_id in &chats {
        for number in 0..20 {
            here.say(chat_id, &Uuid::now_v7().to_string(), &format!("number {number}")).await?;
        }
    }

    // A telephone, a laptop and a program by HTTP mark more than twice a second each, for more than two seconds.
    let (mut telephone, mut laptop) = (bob.connect().await?, bob.connect().await?);
    let began = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    while began.elapsed() < Duration::from_millis(2_300) {
        pace.tick().await;
        let seq = 2 + (began.elapsed().as_millis() / 130).min(18);
        let marks = json!({ "marks": { &chats[0]: seq, &chats[1]: seq } });
        for (socket, event) in [(&mut telephone, "mark_delivered"), (&mut laptop, "mark_read")] {
            let asked = socket.send(event, marks.clone()).await?;
            let answer = socket.answer(asked, |_| true).await?;
            // The connection's own limit comes first on a quick machine.
            ensure!(answer["event"] == "ack" || answer["payload"]["code"] == "rate_limited", "{answer}");
        }
        bob.post(&format!("/v1/chats/{}/read", chats[0]), json!({ "seq": seq })).await?.expect(202)?;
    }
    for chat_id in &chats {
        let read = json!({ "seq": 21 });
        bob.post(&format!("/v1/chats/{chat_id}/read"), read).await?.expect(202)?;
    }

    // What one device has read, the others have, those that are there and those that come.
    for chat_id in &chats {
        for socket in [&mut telephone, &mut laptop] {
            let told = |receipt: &serde_json::Value| {
                receipt["chat_id"] == chat_id.as_str() && receipt["users"]["bob"]["read_seq"] == 21
            };
            socket.wait("receipt", told).await?;
        }
    }
    until("the marks on a new device", LONG, async || {
        let tablet = bob.connect().await?;
        let is_read = |chat: &serde_json::Value| chat["read_seq"] == 21 && chat["delivered_seq"] == 21;
        Ok((tablet.chats.len() == 2 && tablet.chats.iter().all(is_read)).then_some(()))
    })
    .await?;

    let marks = until("the last marks in the log", LONG, async || {
        let marks = logged(&config).await?;
        let last = |chat_id: &String| marks.get(&(chat_id.clone(), "bob".to_owned()))?.last()?.1;
        Ok(chats.iter().all(|chat_id| last(chat_id) == Some(21)).then_some(marks))
    })
    .await?;
    for chat_id in &chats {
        let records = marks.get(&(chat_id.clone(), "bob".to_owned())).context("no marks")?;
        ensure!(records.len() >= 3, "two seconds of marks are {records:?}");
        // They say the wall clock's time, and are spaced by another one.
        let is_spaced = records.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 900);
        ensure!(is_spaced, "more than one in a second: {records:?}");
        ensure!(records.is_sorted_by_key(|(_, read_seq)| *read_seq), "{records:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_hands_over_the_marks_that_wait() -> Result<()> {
    let installation = Installation::make("marks-at-the-end").await?;
    let process = installation.run(&["all"]).await?;
    let gateway = installation.run_with(&["gateway"], &[("gateway.drain_ms", "0")]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, gateway.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    for text in ["one", "two"] {
        alice.say(&chat_id, text).await?;
    }
    // The first goes at once, the second waits for its second to be over.
    for seq in [2, 3] {
        bob.post(&format!("/v1/chats/{chat_id}/read"), json!({ "seq": seq })).await?.expect(202)?;
    }
    let status = gateway.stop().await?;
    ensure!(status.success(), "{status}");
    let marks = logged(&config).await?;
    let records = marks.get(&(chat_id, "bob".to_owned())).context("no marks")?;
    ensure!(records.last().is_some_and(|(_, read_seq)| *read_seq == Some(3)), "{records:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_takes_marks_until_its_sockets_have_left() -> Result<()> {
    let installation = Installation::make("marks-while-draining").await?;
    let behind = installation.run(&["gateway", "cdc", "projector", "publisher"]).await?;
    let persister = installation.run(&["persister"]).await?;
    let gateway = installation.run_with(&["gateway"], &[("gateway.drain_ms", "3000")]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, behind.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, gateway.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let mut socket = bob.connect().await?;
    for text in ["one", "two"] {
        alice.say(&chat_id, text).await?;
    }
    socket.wait("message", |message| message["content"] == "two").await?;
    // A command that nobody answers keeps the socket open after `reconnect`, up to the end of the drain.
    let status = persister.stop().await?;
    ensure!(status.success(), "{status}");
    let payload = json!({ "chat_id": chat_id, "message_id": Uuid::now_v7(), "content": "without an answer" });
    let sent = socket.send("send_message", payload).await?;
    socket.answer(sent, |frame| frame["payload"]["state"] == "accepted").await?;

    let leaving = async {
        socket.wait("reconnect", |_| true).await?;
        // The first goes at once, the second waits for its second to be over.
        for seq in [2, 3] {
            let asked = socket.send("mark_read", json!({ "marks": { &chat_id: seq } })).await?;
            let answer = socket.answer(asked, |_| true).await?;
            ensure!(answer["event"] == "ack", "{answer}");
        }
        ensure!(socket.closed().await? == Some(1001));
        Ok(())
    };
    let (status, ()) = tokio::try_join!(gateway.stop(), leaving)?;
    ensure!(status.success(), "{status}");
    let bob = bob.at(behind.gateway()?);
    until("the cursor of the last mark", LONG, async || {
        let socket = bob.connect().await?;
        let read = socket.chats.iter().find(|chat| chat["chat_id"] == chat_id.as_str()).context("no chat")?;
        ensure!(read["read_seq"] == 3, "{read}");
        Ok(Some(()))
    })
    .await
}

/// All marks in the log, by chat and person.
async fn logged(config: &Config) -> Result<BTreeMap<(String, String), Records>> {
    let registry = Arc::new(Registry::new(config.registry.url.expose(), &config.names.prefix)?);
    let own_id = registry.id_of::<Mark>().await?;
    let decoder = Decoder::<Mark>::new(registry, own_id);
    let mut marks: BTreeMap<(String, String), Records> = BTreeMap::new();
    for logged in read_all(config, Mark::TOPIC).await? {
        let mark = decoder.decode(logged.value.as_deref().unwrap_or_default()).await?;
        ensure!(logged.key == mark.chat_id, "{mark:?} has the key {}", logged.key);
        marks.entry((mark.chat_id, mark.user_id)).or_default().push((mark.marked_at, mark.read_seq));
    }
    Ok(marks)
}
