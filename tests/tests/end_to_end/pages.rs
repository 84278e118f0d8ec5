//! Pages by cursor while others write: what isn't touched comes exactly once, nothing comes twice.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::{Installation, Person, Servers};

/// Goes through all pages of a list and disturbs between them; ids in the order in which they came.
async fn walk(
    who: &Person,
    path: &str,
    (list, id): (&str, &str),
    mut disturb: impl AsyncFnMut(usize) -> Result<()>,
) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for number in 0.. {
        let page = who.get(&format!("{path}?limit=5{cursor}")).await?.expect(200)?;
        let items = page[list].as_array().context("no list")?;
        seen.extend(items.iter().filter_map(|item| item[id].as_str().map(str::to_owned)));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        disturb(number).await?;
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_stable_under_writes() -> Result<()> {
    let settings = [("limits.commands_per_s", "1000"), ("limits.commands_burst", "1000")];
    let installation = Installation::make_on(Servers::shared()?, "stable-pages", &settings).await?;
    let process = installation.run(&["all"]).await?;
    let (config, gateway) = (installation.config()?, process.gateway()?);
    let alice = Person::arrive(&config, gateway, "alice").await?;
    let mut others = Vec::new();
    for number in 10..40 {
        others.push(Person::arrive(&config, gateway, &format!("p{number}")).await?);
    }

    // Chats by latest activity: old ones move to the front, new ones are made there.
    let mut chats = Vec::new();
    for number in 10..40 {
        chats.push(alice.make_group(&[], json!({ "chat_id": format!("c{number}") })).await?);
    }
    let moving = ["c11", "c18", "c25", "c33", "c38"];
    let seen = walk(&alice, "/v1/chats", ("chats", "chat_id"), async |number| {
        alice.say(moving[number % moving.len()], "to the front").await?;
        alice.make_group(&[], json!({ "chat_id": format!("new{number}") })).await?;
        Ok(())
    })
    .await?;
    let unique: BTreeSet<&String> = seen.iter().collect();
    ensure!(unique.len() == seen.len(), "some came twice: {seen:?}");
    for chat in chats.iter().filter(|chat| !moving.contains(&chat.as_str())) {
        ensure!(unique.contains(chat), "{chat} is missing in {seen:?}");
    }

    // A socket is greeted with all of them in the same order.
    let listed = walk(&alice, "/v1/chats", ("chats", "chat_id"), async |_| Ok(())).await?;
    let socket = alice.connect().await?;
    let announced: Vec<&str> = socket.chats.iter().filter_map(|chat| chat["chat_id"].as_str()).collect();
    ensure!(announced == listed, "{announced:?} at the beginning, {listed:?} by HTTP");

    // Members by id: some leave, some come, before and behind the cursor.
    let first: Vec<&Person> = others.iter().step_by(2).collect();
    let group = alice.make_group(&first, json!({})).await?;
    let members = format!("/v1/chats/{group}/members");
    let (mut gone, mut come) = (BTreeSet::new(), BTreeSet::new());
    let seen = walk(&alice, &members, ("members", "user_id"), async |number| {
        let (leaves, comes) = (&first[first.len() - 1 - number].user_id, &others[number * 6 + 1].user_id);
        alice.delete(&format!("{members}/{leaves}")).await?.expect(200)?;
        alice.post(&members, json!({ "user_ids": [comes] })).await?.expect(201)?;
        gone.insert(leaves.clone());
        come.insert(comes.clone());
        Ok(())
    })
    .await?;
    let unique: BTreeSet<&String> = seen.iter().collect();
    ensure!(unique.len() == seen.len(), "some came twice: {seen:?}");
    for member in first.iter().map(|person| &person.user_id).filter(|member| !gone.contains(*member)) {
        ensure!(unique.contains(member), "{member} is missing in {seen:?}");
    }
    ensure!(!gone.is_empty() && !come.is_empty(), "nothing was disturbed");

    // Messages by seq: new ones behind, edits and deletes in front of the cursor.
    let talk = chats.first().context("no chat")?;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(alice.say(talk, &format!("number {number}")).await?);
    }
    let (mut seqs, mut before) = (Vec::new(), String::new());
    for number in 0.. {
        let page = alice.get(&format!("/v1/chats/{talk}/messages?limit=6{before}")).await?.expect(200)?;
        let messages: Vec<&Value> = page["messages"].as_array().into_iter().flatten().collect();
        seqs.extend(messages.iter().rev().filter_map(|message| message["seq"].as_i64()));
        if page["has_more_before"] != true {
            break;
        }
        before = format!("&before_seq={}", messages.first().context("an empty page")?["seq"]);
        alice.say(talk, "meanwhile").await?;
        let message =
            |number: usize| format!("/v1/chats/{talk}/messages/{}", ids[number]["message_id"].as_str().unwrap_or(""));
        alice.patch(&message(number), json!({ "content": "edited" })).await?.expect(200)?;
        alice.delete(&message(number + 5)).await?.expect(200)?;
    }
    ensure!(seqs.windows(2).all(|pair| pair[0] == pair[1] + 1), "{seqs:?}");
    ensure!(seqs.last() == ids[0]["seq"].as_i64().as_ref() && seqs.len() == 20, "{seqs:?}");
    Ok(())
}
