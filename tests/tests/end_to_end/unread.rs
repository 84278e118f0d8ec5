//! Unread counts, right after everything that changes them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, Servers, until};

/// Whoever looks, and at which chat.
struct Reader<'a> {
    person: &'a Person,
    chat_id: &'a str,
}

impl Reader<'_> {
    /// From the tables as they are: right at once.
    async fn expect(&self, unread: i64, when: &str) -> Result<()> {
        let chat = self.person.get(&format!("/v1/chats/{}", self.chat_id)).await?.expect(200)?;
        ensure!(chat["unread_count"] == unread, "{when}: {} instead of {unread}", chat["unread_count"]);
        Ok(())
    }

    /// Marks read; the mark comes back by way of Kafka.
    async fn read(&self, seq: i64, unread: i64) -> Result<()> {
        let (chat, marks) = (format!("/v1/chats/{}", self.chat_id), format!("/v1/chats/{}/read", self.chat_id));
        self.person.post(&marks, json!({ "seq": seq })).await?.expect(202)?;
        until("the mark", LONG, async || {
            let chat = self.person.get(&chat).await?.expect(200)?;
            Ok((chat["read_seq"] == seq).then_some(()))
        })
        .await?;
        self.expect(unread, &format!("read up to {seq}")).await
    }
}

fn path(chat_id: &str, said: &Value) -> Result<String> {
    Ok(format!("/v1/chats/{chat_id}/messages/{}", said["message_id"].as_str().context("no id")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_counts_are_right_whatever_happens() -> Result<()> {
    let generous = [
        ("limits.commands_per_s", "100000"),
        ("limits.commands_burst", "100000"),
        ("limits.chat_sends_per_s", "100000"),
        ("limits.chat_sends_burst", "100000"),
    ];
    let installation = Installation::make_on(Servers::shared()?, "unread", &generous).await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;

    for shows_history in [true, false] {
        let chat_id = alice.make_group(&[&bob], json!({ "history_for_new_members": shows_history })).await?;
        let reader = Reader { person: &bob, chat_id: &chat_id };
        let mut said = Vec::new();
        for number in 2..=4 {
            said.push(alice.say(&chat_id, &format!("number {number}")).await?);
        }
        reader.expect(3, "three of another's").await?;
        bob.say(&chat_id, "my own").await?;
        reader.expect(3, "and one of one's own").await?;
        alice.patch(&path(&chat_id, &said[0])?, json!({ "content": "edited" })).await?.expect(200)?;
        reader.expect(3, "one was edited, unread as before").await?;
        alice.delete(&path(&chat_id, &said[1])?).await?.expect(200)?;
        reader.expect(2, "one was deleted").await?;
        reader.read(2, 1).await?;
        alice.patch(&path(&chat_id, &said[0])?, json!({ "content": "edited again" })).await?.expect(200)?;
        reader.expect(1, "one that was read was edited").await?;
        alice.delete(&path(&chat_id, &said[0])?).await?.expect(200)?;
        reader.expect(1, "one that was read was deleted").await?;

        let left = bob.delete(&format!("/v1/chats/{chat_id}/members/me")).await?.expect(200)?;
        bob.get(&format!("/v1/chats/{chat_id}")).await?.expect_problem(404, "chat_not_found", Some("chat_id"))?;
        let list = bob.get("/v1/chats").await?.expect(200)?;
        ensure!(!list.to_string().contains(&chat_id), "left, and still in the list: {list}");
        alice.say(&chat_id, "while bob is away").await?;
        let members = format!("/v1/chats/{chat_id}/members");
        let back = alice.post(&members, json!({ "user_ids": ["bob"] })).await?.expect(201)?;
        // What came meanwhile counts if it is shown; what was read before stays read.
        reader.expect(if shows_history { 2 } else { 0 }, "came back").await?;
        let visible =
            if shows_history { json!([[1, null]]) } else { json!([[1, left["seq"]], [back["seqs"][0], null]]) };
        let chat = bob.get(&format!("/v1/chats/{chat_id}")).await?.expect(200)?;
        ensure!(chat["visible"] == visible, "{} instead of {visible}", chat["visible"]);
        alice.say(&chat_id, "welcome back").await?;
        reader.expect(if shows_history { 3 } else { 1 }, "and was greeted").await?;
    }

    // More than are counted.
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let reader = Reader { person: &bob, chat_id: &chat_id };
    let mut socket = alice.connect().await?;
    for round in 0..5 {
        let mut asked = Vec::new();
        for number in 0..201 {
            let payload =
                json!({ "chat_id": chat_id, "message_id": Uuid::now_v7(), "content": format!("{round} {number}") });
            asked.push(socket.send("send_message", payload).await?);
        }
        for id in asked {
            socket.persisted(id).await?;
        }
    }
    reader.expect(999, "1,005 are unread").await?;
    let list = bob.get("/v1/chats?limit=1").await?.expect(200)?;
    ensure!(list["chats"][0]["chat_id"] == chat_id && list["chats"][0]["unread_count"] == 999, "{list}");
    // Messages are 2 to 1,006.
    reader.read(7, 999).await?;
    reader.read(8, 998).await?;
    reader.read(1_006, 0).await
}
