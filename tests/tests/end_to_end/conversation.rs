//! People talk: live in both directions, edits and deletes, pages of history, receipts, and sends that come again.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use schemas::event_type;
use schemas::topics::Topic;
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, RoleProcess, read_all, read_events, until};

/// An installation with all roles in one process, and people.
async fn talk<const N: usize>(test: &str, people: [&str; N]) -> Result<(Installation, RoleProcess, [Person; N])> {
    let installation = Installation::make(test).await?;
    let process = installation.run(&["all"]).await?;
    let mut arrived = Vec::new();
    for user_id in people {
        arrived.push(Person::arrive(&installation.config()?, process.gateway()?, user_id).await?);
    }
    let people = arrived.try_into().ok().context("as many as there are names")?;
    Ok((installation, process, people))
}

fn id() -> String {
    Uuid::now_v7().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_live_and_change_what_they_said() -> Result<()> {
    let (installation, _process, [alice, bob]) = talk("live", ["alice", "bob"]).await?;
    let (mut here, mut there) = (alice.connect().await?, bob.connect().await?);
    ensure!(here.hello["user_id"] == "alice" && here.hello["development"] == true && here.chats.is_empty());
    let hello = &here.hello;
    ensure!(hello["session_id"].is_string() && hello["session_id"] != there.hello["session_id"], "{hello}");
    ensure!(hello["heartbeat_ms"] == 5_000 && hello["epoch"].is_string(), "{hello}");
    ensure!(hello["epoch"] == there.hello["epoch"], "{hello}");
    ensure!(hello["limits"] == json!({ "content_bytes": 16_384, "frame_bytes": 65_536, "attachments": 0 }), "{hello}");
    let chat = alice.post("/v1/chats", json!({ "is_group": false, "member_ids": ["bob"] })).await?.expect(201)?;
    let chat_id = chat["chat_id"].as_str().context("no chat_id")?.to_owned();
    for socket in [&mut here, &mut there] {
        let added = socket.wait("chats", |page| page["chats"][0]["chat_id"] == chat_id).await?;
        ensure!(added["complete"] == true && added["chats"][0]["visible"] == json!([[1, null]]), "{added}");
        let created = socket.wait("chat_created", |chat| chat["chat_id"] == chat_id).await?;
        ensure!(
            created["seq"] == 1 && created["memberships"].as_array().is_some_and(|all| all.len() == 2),
            "{created}"
        );
    }

    let first = id();
    let asked =
        here.send("send_message", json!({ "chat_id": chat_id, "message_id": first, "content": "Hello, Bob" })).await?;
    let accepted = here.answer(asked, |frame| frame["payload"]["state"] == "accepted").await?;
    ensure!(accepted["payload"]["message_id"] == first && accepted["payload"]["chat_id"] == chat_id, "{accepted}");
    ensure!(here.persisted(asked).await? == 2);
    for socket in [&mut here, &mut there] {
        let message = socket.wait("message", |message| message["seq"] == 2).await?;
        ensure!(
            message["content"] == "Hello, Bob" && message["sender_id"] == "alice" && message["message_id"] == first
        );
        ensure!(message["message_seq"] == 2 && message["edited_at"].is_null() && message["deleted_at"].is_null());
        let way = &message["way"];
        ensure!(way["commit_lsn"].as_str().is_some_and(|lsn| lsn.contains('/')) && way["offset"].is_i64(), "{way}");
    }

    // The other way, as an answer to the first.
    let reply = json!({ "chat_id": chat_id, "message_id": id(), "content": "Hello, Alice", "parent_message_id": first,
        "app_data": { "mood": "good" } });
    let asked = there.send("send_message", reply).await?;
    ensure!(there.persisted(asked).await? == 3);
    let reply = here.wait("message", |message| message["seq"] == 3).await?;
    ensure!(
        reply["parent_message_id"] == first && reply["parent_seq"] == 2 && reply["app_data"]["mood"] == "good",
        "{reply}"
    );

    let asked = here
        .send("edit_message", json!({ "chat_id": chat_id, "message_id": first, "content": "Hello, dear Bob" }))
        .await?;
    ensure!(here.persisted(asked).await? == 4);
    let edited = there.wait("message_edited", |message| message["seq"] == 4).await?;
    ensure!(
        edited["content"] == "Hello, dear Bob" && edited["message_seq"] == 2 && edited["edited_at"].is_string(),
        "{edited}"
    );
    let shown = bob.get(&format!("/v1/chats/{chat_id}/messages/{first}")).await?.expect(200)?;
    ensure!(shown["content"] == "Hello, dear Bob" && shown["seq"] == 2, "{shown}");

    let asked = here.send("delete_message", json!({ "chat_id": chat_id, "message_id": first })).await?;
    ensure!(here.persisted(asked).await? == 5);
    let deleted = there.wait("message_deleted", |message| message["seq"] == 5).await?;
    ensure!(
        deleted["content"].is_null() && deleted["message_seq"] == 2 && deleted["deleted_at"].is_string(),
        "{deleted}"
    );
    let page = bob.get(&format!("/v1/chats/{chat_id}/messages")).await?;
    let text = page.body.to_string();
    ensure!(!text.contains("Hello, Bob") && !text.contains("dear"), "a deleted body is in {text}");
    ensure!(
        page.body["as_of_seq"] == 5 && page.body["messages"].as_array().is_some_and(|all| all.len() == 2),
        "{text}"
    );

    // Without an id it gets one whose time is in it.
    let made = |id: &Value| Uuid::try_parse(id.as_str().unwrap_or_default()).is_ok_and(|id| id.get_version_num() == 7);
    let elsewhere = alice.make_group(&[], json!({})).await?;
    let asked = here.send("send_message", json!({ "chat_id": elsewhere, "content": "To myself" })).await?;
    let accepted = here.answer(asked, |frame| frame["payload"]["state"] == "accepted").await?;
    ensure!(made(&accepted["payload"]["message_id"]), "{accepted}");
    ensure!(here.persisted(asked).await? == 2);
    let by_http = alice.say(&elsewhere, "To myself, by HTTP").await?;
    ensure!(made(&by_http["message_id"]), "{by_http}");

    // Nothing of it stays in the tables either; the history keeps each event once, in order, with its attributes.
    let truth = installation.truth().await?;
    let sql = "SELECT count(*) FROM (SELECT content FROM message UNION ALL SELECT content FROM chat_change) bodies
                WHERE content LIKE '%Bob'";
    ensure!(truth.query_one(sql, &[]).await?.get::<_, i64>(0) == 0, "a deleted body is in the tables");
    let mut events = read_events(&installation.config()?).await?;
    events.retain(|(event, _)| event.chat_id == chat_id);
    let types: Vec<&str> = events.iter().map(|(event, _)| event.event_type.as_str()).collect();
    ensure!(
        types == ["chat.created", "message.persisted", "message.persisted", "message.edited", "message.deleted"],
        "{types:?}"
    );
    for (number, (event, logged)) in events.iter().enumerate() {
        ensure!(event.seq == number as i64 + 1 && logged.key == chat_id, "{event:?}");
        ensure!(logged.header("ce_id") == Some(&format!("{chat_id}/{}", event.seq)), "{logged:?}");
        ensure!(
            logged.header("ce_type") == Some(event.event_type.as_str())
                && logged.header("ce_specversion") == Some("1.0")
        );
        ensure!(logged.header("content-type") == Some("application/avro") && logged.timestamp_ms == event.occurred_at);
        ensure!(event.origin.commit_lsn > 0, "{event:?}");
    }
    let users = read_all(&installation.config()?, Topic::ChatUsers).await?;
    for user_id in ["alice", "bob"] {
        ensure!(users.iter().filter(|user| user.key == user_id).count() == 1, "chat.users: {users:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn history_comes_in_pages() -> Result<()> {
    let (installation, _process, [alice, bob]) = talk("pages", ["alice", "bob"]).await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    for number in 2..=12 {
        let said = alice.say(&chat_id, &format!("number {number}")).await?;
        ensure!(said["seq"] == number, "{said}");
    }
    let seqs = |page: &Value| -> Vec<i64> {
        page["messages"].as_array().into_iter().flatten().filter_map(|message| message["seq"].as_i64()).collect()
    };
    let page = async |query: &str| bob.get(&format!("/v1/chats/{chat_id}/messages?{query}")).await?.expect(200);
    let latest = page("limit=4").await?;
    ensure!(
        seqs(&latest) == [9, 10, 11, 12] && latest["has_more_before"] == true && latest["has_more_after"] == false,
        "{latest}"
    );
    let older = page("limit=4&before_seq=9").await?;
    ensure!(seqs(&older) == [5, 6, 7, 8] && older["has_more_before"] == true, "{older}");
    let oldest = page("limit=4&before_seq=5").await?;
    ensure!(seqs(&oldest) == [2, 3, 4] && oldest["has_more_before"] == false, "{oldest}");
    let newer = page("limit=3&after_seq=3").await?;
    ensure!(seqs(&newer) == [4, 5, 6] && newer["has_more_after"] == true, "{newer}");
    let around = page("limit=4&around_seq=7").await?;
    ensure!(
        seqs(&around) == [5, 6, 7, 8] && around["has_more_before"] == true && around["has_more_after"] == true,
        "{around}"
    );

    // What was given up because it can't be published isn't shown by another way either.
    let give_up = "INSERT INTO cdc_withheld VALUES ($1, 11, 'alice', now(), now())";
    installation.truth().await?.execute(give_up, &[&chat_id]).await?;
    let latest = page("limit=4").await?;
    ensure!(seqs(&latest) == [8, 9, 10, 12], "{latest}");
    let chat = bob.get(&format!("/v1/chats/{chat_id}")).await?.expect(200)?;
    ensure!(chat["unread_count"] == 10, "{chat}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_move_cursors_and_empty_the_unread_count_on_all_devices() -> Result<()> {
    let (installation, _process, [alice, bob]) = talk("marks", ["alice", "bob"]).await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let mut here = alice.connect().await?;
    for number in 2..=4 {
        here.say(&chat_id, &id(), &format!("number {number}")).await?;
    }
    let chat_of = async |person: &Person| person.get(&format!("/v1/chats/{chat_id}")).await?.expect(200);
    ensure!(chat_of(&bob).await?["unread_count"] == 3 && chat_of(&alice).await?["unread_count"] == 0);
    let list = until("the last message", LONG, async || {
        let list = bob.get("/v1/chats").await?.expect(200)?;
        Ok((list["chats"][0]["last_message"]["seq"] == 4).then_some(list))
    });
    ensure!(list.await?["chats"][0]["last_message"]["content"] == "number 4");

    // Two devices of his: what one reads, the other is told of.
    let (mut there, mut beside) = (bob.connect().await?, bob.connect().await?);
    // Beyond the head is no further than the head.
    for (event, seq) in [("mark_delivered", 1_000_000), ("mark_read", 3)] {
        let asked = there.send(event, json!({ "marks": { &chat_id: seq } })).await?;
        let answer = there.answer(asked, |_| true).await?;
        ensure!(answer["event"] == "ack" && answer["payload"]["state"] == "accepted", "{answer}");
    }
    for socket in [&mut here, &mut beside] {
        let told = socket.wait("receipt", |receipt| receipt["users"]["bob"]["read_seq"] == 3).await?;
        ensure!(told["chat_id"] == chat_id && told["users"]["bob"]["delivered_seq"] == 4, "{told}");
    }
    until("the cursor", LONG, async || {
        let chat = chat_of(&bob).await?;
        Ok((chat["unread_count"] == 1 && chat["read_seq"] == 3 && chat["delivered_seq"] == 4).then_some(()))
    })
    .await?;
    // An older mark, by HTTP, takes nothing back.
    bob.post(&format!("/v1/chats/{chat_id}/read"), json!({ "seq": 2 })).await?.expect(202)?;
    bob.post(&format!("/v1/chats/{chat_id}/read"), json!({ "seq": 4 })).await?.expect(202)?;
    until("everything to be read", LONG, async || {
        let chat = chat_of(&bob).await?;
        Ok((chat["unread_count"] == 0 && chat["read_seq"] == 4).then_some(()))
    })
    .await?;
    for socket in [&mut there, &mut beside] {
        socket.wait("receipt", |receipt| receipt["users"]["bob"]["read_seq"] == 4).await?;
    }
    // And whoever comes back is told with the chats.
    let back = bob.connect().await?;
    ensure!(back.chats.iter().any(|chat| chat["read_seq"] == 4 && chat["head_seq"] == 4), "{:?}", back.chats);
    let cursors = read_all(&installation.config()?, Topic::ChatCursors).await?;
    ensure!(cursors.iter().any(|cursor| cursor.key == format!("{chat_id}/bob")), "{cursors:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_to_one_chat_made_by_both_is_one() -> Result<()> {
    let (installation, _process, [alice, bob]) = talk("one-to-one", ["alice", "bob"]).await?;
    // By both, fifty times, at two gateways.
    let other = installation.run(&["gateway"]).await?;
    let (alice_there, bob_there) = (alice.at(other.gateway()?), bob.at(other.gateway()?));
    let made = try_join_all((0..50).map(|number| {
        let (person, peer) =
            [(&alice, "bob"), (&bob, "alice"), (&alice_there, "bob"), (&bob_there, "alice")][number % 4];
        person.post("/v1/chats", json!({ "is_group": false, "member_ids": [peer] }))
    }))
    .await?;
    let chat_id = made[0].body["chat_id"].clone();
    for answer in &made {
        ensure!(answer.status.is_success() && answer.body["chat_id"] == chat_id, "{answer:?}");
    }
    let again = alice.post("/v1/chats", json!({ "is_group": false, "member_ids": ["bob"] })).await?.expect(200)?;
    ensure!(again["chat_id"] == chat_id && again["peer"]["user_id"] == "bob" && again["head_seq"] == 1);
    until("the history", LONG, async || {
        let events = read_events(&installation.config()?).await?;
        ensure!(events.len() <= 1, "{events:?}");
        Ok((events.len() == 1).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_or_delete_follows_its_send_at_once() -> Result<()> {
    let (_installation, _process, [alice, bob]) = talk("pipelined", ["alice", "bob"]).await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let (mut here, mut there) = (alice.connect().await?, bob.connect().await?);
    // Nothing is waited for: each is decided behind what went before it.
    let mut asked = Vec::new();
    let messages: Vec<String> = (0..5).map(|_| id()).collect();
    for message_id in &messages {
        let place = json!({ "chat_id": chat_id, "message_id": message_id });
        let with = |content: &str| json!({ "chat_id": chat_id, "message_id": message_id, "content": content });
        asked.push(here.send("send_message", with("sent")).await?);
        asked.push(here.send("edit_message", with("edited")).await?);
        asked.push(here.send("edit_message", with("edited again")).await?);
        asked.push(here.send("delete_message", place).await?);
        asked.push(here.send("edit_message", with("too late")).await?);
    }
    for (number, id) in asked.into_iter().enumerate() {
        if number % 5 == 4 {
            let refused = here.answer(id, |frame| frame["event"] == "error").await?;
            ensure!(refused["payload"]["code"] == "message_not_found", "{refused}");
        } else {
            let seq = here.persisted(id).await?;
            ensure!(seq == 2 + number as i64 / 5 * 4 + number as i64 % 5, "{number}: {seq}");
        }
    }
    for message_id in &messages {
        let mut seen = Vec::new();
        for event in ["message", "message_edited", "message_edited", "message_deleted"] {
            let message = there.wait(event, |message| message["message_id"] == message_id.as_str()).await?;
            seen.push(message["content"].clone());
        }
        ensure!(seen == [json!("sent"), json!("edited"), json!("edited again"), Value::Null], "{seen:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_comes_again_gets_its_first_place() -> Result<()> {
    let (installation, process, [alice, bob]) = talk("again", ["alice", "bob"]).await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let other_chat = alice.make_group(&[&bob], json!({})).await?;
    let (mut here, mut there) = (alice.connect().await?, bob.connect().await?);
    let first = id();
    let seq = there.say(&chat_id, &first, "once").await?;
    ensure!(there.say(&chat_id, &first, "once").await? == seq);
    let path = format!("/v1/chats/{chat_id}/messages");
    let by_http = bob.post(&path, json!({ "message_id": first, "content": "once" })).await?.expect(201)?;
    ensure!(by_http["seq"] == seq, "{by_http}");

    // The same id for something else is refused, and nobody learns what it was used for.
    for (socket, chat, content) in [(&mut there, &chat_id, "twice"), (&mut here, &chat_id, "once")] {
        let send = json!({ "chat_id": chat, "message_id": first, "content": content });
        let asked = socket.send("send_message", send).await?;
        let refused = socket.answer(asked, |frame| frame["event"] == "error").await?;
        ensure!(refused["payload"]["code"] == "message_id_conflict", "{refused}");
        ensure!(!refused.to_string().contains("once"), "{refused}");
    }
    let elsewhere = format!("/v1/chats/{other_chat}/messages");
    let refused = bob.post(&elsewhere, json!({ "message_id": first, "content": "once" })).await?;
    refused.expect_problem(409, "message_id_conflict", Some("message_id"))?;

    // After an edit, a delete, and the sender's removal it is still the same send.
    bob.patch(&format!("{path}/{first}"), json!({ "content": "edited" })).await?.expect(200)?;
    ensure!(there.say(&chat_id, &first, "once").await? == seq);
    bob.delete(&format!("{path}/{first}")).await?.expect(200)?;
    ensure!(there.say(&chat_id, &first, "once").await? == seq);
    alice.delete(&format!("/v1/chats/{chat_id}/members/bob")).await?.expect(200)?;
    there.wait("member_left", |left| left["chat_id"] == chat_id).await?;
    ensure!(there.say(&chat_id, &first, "once").await? == seq);
    let truth = installation.truth().await?;
    let sends: i64 = truth.query_one("SELECT count(*) FROM message", &[]).await?.get(0);
    ensure!(sends == 1, "{sends} rows");
    let events = read_events(&installation.config()?).await?;
    let sends = events.iter().filter(|(event, _)| event.event_type == event_type::MESSAGE_PERSISTED).count();
    ensure!(sends == 1, "{sends} events");

    // Also after all roles were started anew, without anything that they or the tables keep of answers.
    ensure!(process.stop().await?.success(), "roles end well");
    truth.batch_execute("TRUNCATE command_result, idempotent_answer").await?;
    let process = installation.run(&["all"]).await?;
    let bob = bob.at(process.gateway()?);
    ensure!(bob.connect().await?.say(&chat_id, &first, "once").await? == seq);
    let by_http = bob.post(&path, json!({ "message_id": first, "content": "once" })).await?.expect(201)?;
    ensure!(by_http["seq"] == seq, "{by_http}");
    let refused = bob.post(&elsewhere, json!({ "message_id": first, "content": "once" })).await?;
    refused.expect_problem(409, "message_id_conflict", Some("message_id"))?;
    let sends: i64 = truth.query_one("SELECT count(*) FROM message", &[]).await?.get(0);
    ensure!(sends == 1, "{sends} rows");
    Ok(())
}
