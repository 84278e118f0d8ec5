//! Who is in a chat sees it, from where they may and until they leave; others see nothing, and can't tell that it exists.

use anyhow::{Context, Result, ensure};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use runtime::kafka::producer_config;
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{ChatCommand, CommandMember, Encoder, command_type};
use serde_json::json;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, RoleProcess, until};

async fn people<const N: usize>(
    installation: &Installation,
    process: &RoleProcess,
    names: [&str; N],
) -> Result<[Person; N]> {
    let mut people = Vec::new();
    for name in names {
        people.push(Person::arrive(&installation.config()?, process.gateway()?, name).await?);
    }
    people.try_into().ok().context("as many as there are names")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_added_sees_the_chat_from_there() -> Result<()> {
    let installation = Installation::make("added").await?;
    let process = installation.run(&["all"]).await?;
    let [alice, bob, carol, dave] = people(&installation, &process, ["alice", "bob", "carol", "dave"]).await?;
    let hidden = alice.make_group(&[&bob], json!({ "history_for_new_members": false })).await?;
    let open = alice.make_group(&[&bob], json!({ "history_for_new_members": true })).await?;
    let mut early = Vec::new();
    for chat_id in [&hidden, &open] {
        early.push(alice.say(chat_id, "before carol").await?["message_id"].as_str().context("no id")?.to_owned());
    }
    let mut here = carol.connect().await?;
    ensure!(here.chats.is_empty(), "{:?}", here.chats);
    for chat_id in [&hidden, &open] {
        alice
            .post(&format!("/v1/chats/{chat_id}/members"), json!({ "user_ids": ["carol", "dave"] }))
            .await?
            .expect(201)?;
        here.wait("chats", |page| page["chats"][0]["chat_id"] == **chat_id).await?;
        let joined = here.wait("member_joined", |joined| joined["chat_id"] == **chat_id).await?;
        ensure!(joined["seq"] == 3 && joined["actor_id"] == "alice", "{joined}");
    }

    // Hidden history stays hidden: in pages, one by one, in answers to it, in edits of it, and when resumed.
    let page =
        async |person: &Person, chat_id: &str| person.get(&format!("/v1/chats/{chat_id}/messages")).await?.expect(200);
    ensure!(page(&carol, &hidden).await?["messages"] == json!([]));
    ensure!(page(&carol, &open).await?["messages"][0]["content"] == "before carol");
    let path = format!("/v1/chats/{hidden}/messages");
    carol.get(&format!("{path}/{}", early[0])).await?.expect_problem(404, "message_not_found", Some("message_id"))?;
    let answer = json!({ "content": "to that", "parent_message_id": early[0] });
    carol.post(&path, answer).await?.expect_problem(404, "message_not_found", Some("parent_message_id"))?;
    alice.patch(&format!("{path}/{}", early[0]), json!({ "content": "before carol, edited" })).await?.expect(200)?;
    let skipped = here.wait("skipped", |skipped| skipped["chat_id"] == hidden).await?;
    ensure!(skipped["from_seq"] == 4 && skipped["to_seq"] == 4, "{skipped}");
    here.send("resume", json!({ "cursors": { &hidden: 0 } })).await?;
    let skipped = here.wait("skipped", |skipped| skipped["chat_id"] == hidden).await?;
    ensure!(skipped["from_seq"] == 1 && skipped["to_seq"] == 2, "{skipped}");
    let resumed = here.wait("resumed", |resumed| resumed["chat_id"] == hidden).await?;
    ensure!(resumed["to_seq"] == 4 && resumed["complete"] == true, "{resumed}");
    let leaked = here.unread().iter().find(|frame| {
        let is_of_hidden = frame["payload"]["chat_id"] == hidden;
        is_of_hidden && frame["payload"]["content"].as_str().is_some_and(|body| body.contains("before"))
    });
    ensure!(leaked.is_none(), "{leaked:?}");
    // Bob, who was there, is told.
    ensure!(page(&bob, &hidden).await?["messages"][0]["content"] == "before carol, edited");
    ensure!(page(&dave, &open).await?["messages"][0]["content"] == "before carol");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_sees_no_more_and_a_stranger_sees_nothing() -> Result<()> {
    let installation = Installation::make("left").await?;
    let process = installation.run(&["all"]).await?;
    let [alice, bob, carol, mallory] = people(&installation, &process, ["alice", "bob", "carol", "mallory"]).await?;
    let chat_id = alice.make_group(&[&bob, &carol], json!({})).await?;
    let said = alice.say(&chat_id, "while bob is here").await?;
    let message_id = said["message_id"].as_str().context("no id")?.to_owned();
    let (mut here, mut there) = (alice.connect().await?, bob.connect().await?);
    alice.delete(&format!("/v1/chats/{chat_id}/members/bob")).await?.expect(200)?;
    let left = there.wait("member_left", |left| left["chat_id"] == chat_id).await?;
    ensure!(left["seq"] == 3 && left["memberships"][0]["left_seq"] == 3, "{left}");
    here.say(&chat_id, &Uuid::now_v7().to_string(), "after bob left").await?;
    here.wait("message", |message| message["content"] == "after bob left").await?;
    // Bob's own chat with alice comes later on the same connection: whatever leaked would have come before it.
    let direct = alice.post("/v1/chats", json!({ "is_group": false, "member_ids": ["bob"] })).await?.expect(201)?;
    there.wait("chat_created", |chat| chat["chat_id"] == direct["chat_id"]).await?;
    let leaked = there.unread().iter().find(|frame| frame.to_string().contains("after bob left"));
    ensure!(leaked.is_none(), "{leaked:?}");

    // A former member, a stranger, and a chat that isn't there: the same answers, byte for byte but for the request's id.
    let mut answers = Vec::new();
    for (person, chat) in [(&bob, chat_id.as_str()), (&mallory, chat_id.as_str()), (&mallory, "no-such-chat")] {
        let chat_path = format!("/v1/chats/{chat}");
        let message = format!("{chat_path}/messages/{message_id}");
        let mut of_person = vec![
            person.get(&chat_path).await?,
            person.patch(&chat_path, json!({ "name": "Mine" })).await?,
            person.get(&format!("{chat_path}/members")).await?,
            person.post(&format!("{chat_path}/members"), json!({ "user_ids": ["mallory"] })).await?,
            person.patch(&format!("{chat_path}/members/alice"), json!({ "role": "member" })).await?,
            person.delete(&format!("{chat_path}/members/carol")).await?,
            person.get(&format!("{chat_path}/messages")).await?,
            person.post(&format!("{chat_path}/messages"), json!({ "content": "let me in" })).await?,
            person.get(&message).await?,
            person.patch(&message, json!({ "content": "changed" })).await?,
            person.delete(&message).await?,
            person.post(&format!("{chat_path}/read"), json!({ "seq": 1 })).await?,
        ];
        for answer in &of_person {
            answer.expect_problem(404, "chat_not_found", Some("chat_id"))?;
        }
        answers.push(of_person.drain(..).map(|answer| answer.body).collect::<Vec<_>>());
    }
    ensure!(answers[0] == answers[1] && answers[1] == answers[2], "answers tell people apart");
    let mut stranger = mallory.connect().await?;
    for event in ["send_message", "edit_message", "delete_message"] {
        let payload = json!({ "chat_id": chat_id, "message_id": message_id, "content": "let me in" });
        let asked = stranger.send(event, payload).await?;
        stranger.expect_error(asked, "chat_not_found", Some("chat_id")).await?;
    }
    for event in ["mark_read", "mark_delivered"] {
        let asked = stranger.send(event, json!({ "marks": { &chat_id: 1 } })).await?;
        stranger.expect_error(asked, "chat_not_found", Some("payload.marks")).await?;
    }
    let asked = stranger.send("resume", json!({ "cursors": { &chat_id: 0 } })).await?;
    stranger.expect_error(asked, "chat_not_found", Some("chat_id")).await?;
    let people = mallory.get("/v1/users?ids=alice,mallory").await?.expect(200)?;
    ensure!(people["users"].as_array().is_some_and(|users| users.len() == 1), "{people}");

    // An adding that was on its way all the while, decided on a chat in which he still was, brings him back no more.
    late_adding(&installation, &chat_id).await?;
    let after = alice.say(&chat_id, "after the late adding").await?;
    let members = alice.get(&format!("/v1/chats/{chat_id}/members")).await?.expect(200)?;
    ensure!(!members.to_string().contains("\"bob\"") && after["seq"] == 5, "{after} {members}");
    bob.get(&format!("/v1/chats/{chat_id}")).await?.expect_problem(404, "chat_not_found", Some("chat_id"))?;

    // Nor does an edit that was on its way undo a newer one.
    let edited = after["message_id"].as_str().context("no id")?;
    let path = format!("/v1/chats/{chat_id}/messages/{edited}");
    alice.patch(&path, json!({ "content": "the newer text" })).await?.expect(200)?;
    late_edit(&installation, &chat_id, edited).await?;
    let shown = alice.get(&path).await?.expect(200)?;
    let page = alice.get(&format!("/v1/chats/{chat_id}")).await?.expect(200)?;
    ensure!(shown["content"] == "the newer text" && page["head_seq"] == 6, "{shown} {page}");
    // A command that names what no table can hold is refused, and is no dead letter.
    nobodys_id(&installation, &chat_id).await?;
    let dead = process.metric("waltalkie_persister_dead_letters_total").await?;
    ensure!(dead < 0.5, "{dead} dead letters");

    // Bob may look at what he saw before he left, and at nothing after it.
    there.send("resume", json!({ "cursors": { &chat_id: 0 } })).await?;
    let resumed = there.wait("resumed", |resumed| resumed["chat_id"] == chat_id).await?;
    ensure!(resumed["to_seq"] == 3 && resumed["complete"] == true, "{resumed}");
    ensure!(there.unread().iter().any(|frame| frame["payload"]["content"] == "while bob is here"));
    ensure!(!there.unread().iter().any(|frame| frame.to_string().contains("after bob left")));
    Ok(())
}

/// A command of alice's that another gateway made before bob was removed, and that reaches the log only now.
async fn late_adding(installation: &Installation, chat_id: &str) -> Result<()> {
    let adding = ChatCommand {
        command_type: command_type::MEMBERS_ADD.into(),
        members: vec![CommandMember { user_id: "bob".into(), member_role: None }],
        based_on_seq: Some(2),
        ..ChatCommand::default()
    };
    refused(installation, chat_id, adding, "conflict").await
}

/// The same of an edit that was made of the text as it was sent, at 5.
async fn late_edit(installation: &Installation, chat_id: &str, message_id: &str) -> Result<()> {
    let edit = ChatCommand {
        command_type: command_type::MESSAGE_EDIT.into(),
        message_id: Some(message_id.to_owned()),
        content: Some("the older text".into()),
        based_on_seq: Some(5),
        ..ChatCommand::default()
    };
    refused(installation, chat_id, edit, "conflict").await
}

/// What a gateway refuses to pass on, from one that doesn't.
async fn nobodys_id(installation: &Installation, chat_id: &str) -> Result<()> {
    let removal = ChatCommand {
        command_type: command_type::MEMBERS_REMOVE.into(),
        members: vec![CommandMember { user_id: "nobody\0".into(), member_role: None }],
        ..ChatCommand::default()
    };
    refused(installation, chat_id, removal, "bad_field").await
}

/// Puts a command of alice's into the log; it is decided, and refused.
async fn refused(installation: &Installation, chat_id: &str, command: ChatCommand, code: &str) -> Result<()> {
    let config = installation.config()?;
    let registry = Registry::new(config.registry.url.expose(), config.names().prefix())?;
    let encoder = Encoder::<ChatCommand>::new(registry.id_of::<ChatCommand>().await?);
    let command_id = Uuid::now_v7();
    let command = ChatCommand {
        command_id: command_id.to_string(),
        chat_id: chat_id.to_owned(),
        user_id: "alice".into(),
        session_id: Uuid::now_v7().to_string(),
        issued_at: runtime::clock::now_ms(),
        ..command
    };
    let value = encoder.encode(&command)?;
    let producer: FutureProducer = producer_config(&config.kafka).create()?;
    let topic = config.names().topic(Topic::ChatCommands);
    let record = FutureRecord::to(&topic).key(chat_id).payload(&value).timestamp(command.issued_at);
    producer.send(record, Timeout::After(LONG)).await.map_err(|(error, _)| error)?;
    let truth = installation.truth().await?;
    let outcome = until("the decision", LONG, async || {
        let sql = "SELECT row_to_json(r)::text FROM command_result r WHERE command_id = $1";
        Ok(truth.query_opt(sql, &[&command_id]).await?.map(|row| row.get::<_, String>(0)))
    })
    .await?;
    ensure!(outcome.contains(code), "{outcome} instead of {code}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_decide_who_may_do_what() -> Result<()> {
    let installation = Installation::make("roles").await?;
    let process = installation.run(&["all"]).await?;
    let [alice, bob, carol] = people(&installation, &process, ["alice", "bob", "carol"]).await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let members = format!("/v1/chats/{chat_id}/members");
    bob.post(&members, json!({ "user_ids": ["carol"] })).await?.expect_problem(403, "forbidden", None)?;
    bob.patch(&format!("/v1/chats/{chat_id}"), json!({ "name": "Bob's" })).await?.expect_problem(
        403,
        "forbidden",
        None,
    )?;
    bob.delete(&format!("{members}/alice")).await?.expect_problem(403, "forbidden", None)?;
    alice.delete(&format!("{members}/me")).await?.expect_problem(409, "last_owner", None)?;
    let said = alice.say(&chat_id, "mine").await?;
    let message = format!("/v1/chats/{chat_id}/messages/{}", said["message_id"].as_str().context("no id")?);
    bob.patch(&message, json!({ "content": "bob's" })).await?.expect_problem(
        404,
        "message_not_found",
        Some("message_id"),
    )?;
    bob.delete(&message).await?.expect_problem(404, "message_not_found", Some("message_id"))?;

    let mut there = bob.connect().await?;
    alice.patch(&format!("{members}/bob"), json!({ "role": "admin" })).await?.expect(200)?;
    let updated = there.wait("member_updated", |updated| updated["chat_id"] == chat_id).await?;
    ensure!(updated["memberships"][0]["role"] == "admin", "{updated}");
    bob.post(&members, json!({ "user_ids": ["carol"] })).await?.expect(201)?;
    let renamed = bob.patch(&format!("/v1/chats/{chat_id}"), json!({ "name": "Ours" })).await?.expect(200)?;
    ensure!(renamed["name"] == "Ours", "{renamed}");
    there.wait("chat_updated", |updated| updated["name"] == "Ours").await?;
    // How deleted messages are shown is told; that one was deleted is kept either way.
    ensure!(renamed["deleted_shown_as"] == "tombstone", "{renamed}");
    let hiding = json!({ "deleted_shown_as": "hidden" });
    let hidden = bob.patch(&format!("/v1/chats/{chat_id}"), hiding).await?.expect(200)?;
    ensure!(hidden["deleted_shown_as"] == "hidden", "{hidden}");
    there.wait("chat_updated", |updated| updated["deleted_shown_as"] == "hidden").await?;
    bob.delete(&message).await?.expect(200)?;
    let page = alice.get(&format!("/v1/chats/{chat_id}/messages")).await?.expect(200)?;
    ensure!(page["messages"][0]["deleted_at"].is_string() && page["messages"][0]["content"].is_null(), "{page}");
    let made = alice.make_group(&[], json!({ "deleted_shown_as": "hidden" })).await?;
    ensure!(alice.get(&format!("/v1/chats/{made}")).await?.expect(200)?["deleted_shown_as"] == "hidden");
    let list = carol.get(&members).await?.expect(200)?;
    let roles: Vec<_> = list["members"].as_array().into_iter().flatten().map(|member| member["role"].clone()).collect();
    ensure!(roles == ["owner", "admin", "member"], "{list}");
    carol.delete(&format!("{members}/me")).await?.expect(200)?;
    carol.get(&members).await?.expect_problem(404, "chat_not_found", Some("chat_id"))
}
