//! Two people at once: whatever wins, there is one order and everybody sees it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Method;
use schemas::ChatEvent;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Answer, Installation, LONG, Logged, Person, Servers, Socket, read_events, until};

/// Rounds of each race, and chats that they are spread over.
const ROUNDS: usize = 1_000;
const CHATS: usize = 10;

async fn installation(test: &str) -> Result<Installation> {
    let generous = [
        ("limits.commands_per_s", "100000"),
        ("limits.commands_burst", "100000"),
        ("limits.chat_sends_per_s", "100000"),
        ("limits.chat_sends_burst", "100000"),
    ];
    Installation::make_on(Servers::shared()?, test, &generous).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_races_its_senders_removal() -> Result<()> {
    let installation = installation("race-remove").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let (mut here, mut there) = (alice.connect().await?, bob.connect().await?);
    let raced = try_join_all((0..CHATS).map(|_| removals(&alice, &bob, ROUNDS / CHATS))).await?;
    let sent: usize = raced.iter().map(|chat| chat.sent).sum();
    let refused = ROUNDS - sent;
    println!("{sent} sends came first, {refused} removals");
    ensure!(sent > 0 && refused > 0, "{sent} sent, {refused} refused");

    // The log has one order. She was there all the while and heard it live; he is told at the latest when he asks for it.
    let cursors: Map<String, Value> = raced.iter().map(|chat| (chat.chat_id.clone(), json!(0))).collect();
    there.send("resume", json!({ "cursors": cursors })).await?;
    until("the log and both sockets to say the same", LONG, async || {
        let events = read_events(&config).await?;
        for Raced { chat_id, head_seq, .. } in &raced {
            let logged = logged(&events, chat_id);
            ensure!(logged.keys().copied().eq(1..=*head_seq), "the log of {chat_id}: {logged:?}");
            for (name, socket) in [("alice", &mut here), ("bob", &mut there)] {
                let told = told(socket.unread(), chat_id)?;
                ensure!(told == logged, "{name} is told {told:?}, the log has {logged:?}");
            }
        }
        Ok(Some(()))
    })
    .await
}

/// What is at each `seq` of a chat: the frame's name, and the message that it is about.
type Told = BTreeMap<i64, (String, Option<String>)>;

fn logged(events: &[(ChatEvent, Logged)], chat_id: &str) -> Told {
    let of_chat = events.iter().map(|(event, _)| event).filter(|event| event.chat_id == chat_id);
    let place = |event: &ChatEvent| {
        let name = event.event_type.replace("message.persisted", "message").replace('.', "_");
        (event.seq, (name, event.message.as_ref().map(|message| message.message_id.clone())))
    };
    of_chat.map(place).collect()
}

/// What a socket was told of a chat; never two things of one place.
fn told(frames: &VecDeque<Value>, chat_id: &str) -> Result<Told> {
    let mut told = Told::new();
    for frame in frames.iter().filter(|frame| frame["payload"]["chat_id"] == chat_id) {
        let Some(seq) = frame["payload"]["seq"].as_i64() else { continue };
        let name = frame["event"].as_str().unwrap_or_default().to_owned();
        let place = (name, frame["payload"]["message_id"].as_str().map(str::to_owned));
        let before = told.insert(seq, place.clone());
        ensure!(before.as_ref().is_none_or(|before| *before == place), "{frame}, and before {before:?}");
    }
    Ok(told)
}

/// What became of a chat.
struct Raced {
    chat_id: String,
    head_seq: i64,
    /// Sends that came before the removal; the others came after it.
    sent: usize,
}

async fn removals(alice: &Person, bob: &Person, rounds: usize) -> Result<Raced> {
    let chat_id = alice.make_group(&[bob], json!({})).await?;
    let (member, messages) = (format!("/v1/chats/{chat_id}/members/bob"), format!("/v1/chats/{chat_id}/messages"));
    let mut sent = HashMap::new();
    for round in 0..rounds {
        let message_id = Uuid::now_v7().to_string();
        let body = json!({ "content": format!("round {round}"), "message_id": message_id });
        let removing = decided(alice, Method::DELETE, &member, None);
        let sending = decided(bob, Method::POST, &messages, Some(&body));
        // Each is a little ahead in every other round, so that both outcomes are seen.
        let (removed, answer) = if round % 2 == 0 {
            tokio::try_join!(removing, sending)?
        } else {
            let (answer, removed) = tokio::try_join!(sending, removing)?;
            (removed, answer)
        };
        let left_seq = removed.expect(200)?["seq"].as_i64();
        match answer.status.as_u16() {
            201 => {
                let seq = answer.body["seq"].as_i64().context("no seq")?;
                // A removal that was tried twice doesn't tell its place.
                ensure!(
                    left_seq.is_none_or(|left_seq| seq < left_seq),
                    "sent at {seq}, after the removal at {left_seq:?}"
                );
                sent.insert(message_id, seq);
            }
            404 => {
                answer.expect_problem(404, "chat_not_found", Some("chat_id"))?;
                // Decided is decided: sent again while still outside, it is refused again.
                decided(bob, Method::POST, &messages, Some(&body)).await?.expect_problem(
                    404,
                    "chat_not_found",
                    Some("chat_id"),
                )?;
            }
            _ => anyhow::bail!("{}: {}", answer.status, answer.body),
        }
        let back = json!({ "user_ids": ["bob"] });
        decided(alice, Method::POST, &format!("/v1/chats/{chat_id}/members"), Some(&back)).await?.expect(201)?;
    }
    for person in [alice, bob] {
        let seen = all_messages(person, &chat_id).await?;
        ensure!(seen == sent, "{} sees {} messages, {} were sent", person.user_id, seen.len(), sent.len());
    }
    let chat = alice.get(&format!("/v1/chats/{chat_id}")).await?.expect(200)?;
    let head_seq = chat["head_seq"].as_i64().context("no head_seq")?;
    Ok(Raced { chat_id, head_seq, sent: sent.len() })
}

/// Asks until it is decided, as clients do while a busy machine has them wait.
async fn decided(person: &Person, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
    until("a decision", LONG, async || {
        let answer = person.request(method.clone(), path, body.cloned()).await?;
        Ok((answer.status != 503).then_some(answer))
    })
    .await
}

async fn all_messages(person: &Person, chat_id: &str) -> Result<HashMap<String, i64>> {
    let (mut seen, mut after) = (HashMap::new(), 0);
    loop {
        let page =
            person.get(&format!("/v1/chats/{chat_id}/messages?after_seq={after}&limit=200")).await?.expect(200)?;
        for message in page["messages"].as_array().context("no list")? {
            after = message["seq"].as_i64().context("no seq")?;
            seen.insert(message["message_id"].as_str().context("no id")?.to_owned(), after);
        }
        if page["has_more_after"] == false {
            return Ok(seen);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_races_the_delivery() -> Result<()> {
    let installation = installation("race-delete").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let mut chats = Vec::new();
    for _ in 0..CHATS {
        // Made, and nothing else yet.
        chats.push((alice.make_group(&[&bob], json!({})).await?, 1));
    }
    // One device hears of it live, the other also asks for it: at once, or when the send is there to be read and its deletion
    // already decided.
    let (mut listening, mut asking) = (bob.connect().await?, bob.connect().await?);
    let mut talking = alice.connect().await?;
    let mut deleted = HashMap::new();
    for round in 0..ROUNDS {
        let (chat_id, head_seq) = &mut chats[round % CHATS];
        let message_id = Uuid::now_v7().to_string();
        let content = format!("secret {message_id}");
        let payload = json!({ "chat_id": chat_id, "message_id": message_id, "content": content });
        talking.send("send_message", payload).await?;
        let asked = talking.send("delete_message", json!({ "chat_id": chat_id, "message_id": message_id })).await?;
        let cursors = json!({ "cursors": Map::from_iter([(chat_id.clone(), json!(head_seq))]) });
        if round % 2 == 0 {
            asking.send("resume", cursors.clone()).await?;
        }
        let seq = talking.persisted(asked).await?;
        // The commit of the delete is behind us: no page has the body any more, however far the event is.
        let page = bob.get(&format!("/v1/chats/{chat_id}/messages?limit=1")).await?.expect(200)?;
        ensure!(!page.to_string().contains(&content) && page["messages"][0]["deleted_at"].is_string(), "{page}");
        if round % 2 == 1 {
            talking.wait("message", |message| message["message_id"] == message_id).await?;
            asking.send("resume", cursors).await?;
        }
        *head_seq = seq;
        deleted.insert(message_id, seq);
    }
    let (with_body, without) = [passed(&mut listening, &deleted).await?, passed(&mut asking, &deleted).await?]
        .into_iter()
        .fold((0, 0), |sum, device| (sum.0 + device.0, sum.1 + device.1));
    println!("{with_body} sends came with their body, {without} without");
    ensure!(with_body > 0 && without > 0, "{with_body} sends came with their body, {without} without");
    Ok(())
}

/// Each send, with or without its body, before its deletion, and no body after that. How many came with it, and how many
/// without.
async fn passed(socket: &mut Socket, deleted: &HashMap<String, i64>) -> Result<(usize, usize)> {
    let came = until("every deletion", LONG, async || {
        let mut came: HashMap<String, Vec<Value>> = HashMap::new();
        let is_one = |frame: &&Value| frame["event"] == "message" || frame["event"] == "message_deleted";
        for frame in socket.unread().iter().filter(is_one) {
            let message_id = frame["payload"]["message_id"].as_str().context("no message_id")?;
            came.entry(message_id.to_owned()).or_default().push(frame.clone());
        }
        let is_deletion = |frame: &Value| frame["event"] == "message_deleted";
        let is_there = |message_id: &String| came.get(message_id).is_some_and(|frames| frames.iter().any(is_deletion));
        Ok(deleted.keys().all(is_there).then_some(came))
    })
    .await?;
    let (mut with_body, mut without) = (0, 0);
    for (message_id, &seq) in deleted {
        let frames = &came[message_id];
        ensure!(frames[0]["event"] == "message", "a deletion before its message: {frames:?}");
        let mut is_deleted = false;
        for frame in frames {
            let is_deletion = frame["event"] == "message_deleted";
            let has_body = frame["payload"]["content"].is_string();
            is_deleted |= is_deletion;
            let place = if is_deletion { seq } else { seq - 1 };
            ensure!(frame["payload"]["seq"] == place, "{frame}, deleted at {seq}");
            ensure!(!(has_body && is_deleted), "a body after its deletion: {frames:?}");
            with_body += usize::from(has_body);
            without += usize::from(!has_body && !is_deletion);
        }
    }
    Ok((with_body, without))
}
