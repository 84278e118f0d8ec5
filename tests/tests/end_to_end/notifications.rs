//! People who aren't looking are told, once, by every way out, as they want it; people who are looking aren't.

mod breaker;
mod browser;
mod company;
mod crowd;
mod crowding;
mod devices;
mod faults;
mod mail;
mod outages;
mod redis_cluster;
mod redis_restarts;
mod several;
mod standstill;
mod trial;
mod world;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::{LONG, until};

use world::{World, apple_token};

#[tokio::test(flavor = "multi_thread")]
async fn who_is_away_is_pushed_once_by_each_provider_and_who_is_here_is_not() -> Result<()> {
    let world = World::make("notified", &[]).await?;
    let process = world.run().await?;
    let alice = world.arrive(&process, "alice").await?;
    let bob = world.arrive(&process, "bob").await?;
    let carol = world.arrive(&process, "carol").await?;
    let bobs = world.give_devices(&bob, 1).await?;
    let carols = world.give_devices(&carol, 2).await?;
    let chat_id = alice.make_group(&[&bob, &carol], json!({ "name": "Launch" })).await?;
    let mut there = carol.connect().await?;
    let said = alice.say(&chat_id, "Lunch at noon?").await?;
    let message_id = said["message_id"].as_str().context("an id")?.to_owned();
    there.wait("message", |message| message["content"] == "Lunch at noon?").await?;
    there.send("mark_delivered", json!({ "marks": { &chat_id: said["seq"] } })).await?;

    let apple = world.apple_has(1, 1).await?;
    let aps = &apple[0].payload["aps"];
    ensure!(aps["alert"] == json!({ "title": "Launch", "subtitle": "alice", "body": "Lunch at noon?" }), "{aps}");
    ensure!(aps["badge"] == 1 && aps["thread-id"] == chat_id, "{aps}");
    ensure!(apple[0].fields["apns-collapse-id"] == message_id, "{:?}", apple[0].fields);
    let link = format!("http://chat.example/#/chats/{chat_id}");
    ensure!(apple[0].payload["waltalkie"]["link"] == link, "{}", apple[0].payload);
    // A second one, behind which the first can't come again.
    alice.say(&chat_id, "Well?").await?;
    world.apple_has(1, 2).await?;
    let message = there.wait("message", |message| message["content"] == "Well?").await?;
    there.send("mark_delivered", json!({ "marks": { &chat_id: message["seq"] } })).await?;
    world.settled().await?;
    let (apple, android, browser) = (world.apple(1), world.android(1), world.browser(&bobs));
    ensure!((apple.len(), android.len(), browser.len()) == (2, 2, 2), "{apple:?} {android:?} {browser:?}");
    ensure!(apple[1].payload["aps"]["badge"] == 2, "{:?}", apple[1].payload);
    let mut shown: Vec<&Value> = browser.iter().map(|payload| &payload["body"]).collect();
    shown.sort_by_key(ToString::to_string);
    ensure!(shown == [&json!("Lunch at noon?"), &json!("Well?")], "{browser:?}");
    ensure!(android.iter().any(|sent| sent.message["android"]["notification"]["tag"] == message_id), "{android:?}");
    // Carol was here and took both.
    ensure!(world.apple(2).is_empty() && world.android(2).is_empty() && world.browser(&carols).is_empty());
    // Alice, who wrote, has no device; nobody else got anything.
    ensure!(world.apns.accepted().len() == 2 && world.push.delivered().len() == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_looked_online_is_pushed_after_all() -> Result<()> {
    let world = World::make("looked-online", &[]).await?;
    let process = world.run().await?;
    let (alice, bob) = (world.arrive(&process, "alice").await?, world.arrive(&process, "bob").await?);
    world.give_devices(&bob, 1).await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    // Connected, but what is behind the connection takes nothing.
    let _there = bob.connect().await?;
    alice.say(&chat_id, "Are you there?").await?;
    let read = world.installation.read().await?;
    until("bob to be looked at again", LONG, async || {
        let rows: i64 = read.query_one("SELECT count(*) FROM notify_look", &[]).await?.get(0);
        Ok((rows == 1).then_some(()))
    })
    .await?;
    ensure!(world.apple(1).is_empty(), "he looks online");
    let pushed = world.apple_has(1, 1).await?;
    ensure!(pushed[0].payload["aps"]["alert"]["body"] == "Are you there?", "{:?}", pushed[0]);
    world.settled().await?;
    ensure!(world.apple(1).len() == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_nobody_is_at_keeps_no_push_from_the_others() -> Result<()> {
    let world = World::make("nobody-there", &[]).await?;
    let process = world.run().await?;
    let company::Company { mut there, alice, chat_id, .. } = world.company(&process).await?;
    there.send("heartbeat", json!({ "active": false })).await?;
    world.sessions_are("bob", |session| session.starts_with("idle.")).await?;
    world.leave_dead_session("bob").await?;
    alice.say(&chat_id, "Are you there?").await?;
    company::take(&mut there, "Are you there?").await?;
    world.apple_has(1, 1).await?;
    // Back at it, he takes it himself.
    there.send("heartbeat", json!({})).await?;
    world.sessions_are("bob", |session| !session.starts_with("idle.")).await?;
    alice.say(&chat_id, "So you are.").await?;
    company::take(&mut there, "So you are.").await?;
    world.apple_has(2, 3).await?;
    world.settled().await?;
    ensure!(world.apple(1).len() == 1, "{:?}", world.apple(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_as_they_want_it() -> Result<()> {
    let world = World::make("as-they-want", &[]).await?;
    let process = world.run().await?;
    let alice = world.arrive(&process, "alice").await?;
    let quiet = json!({ "from": "00:00", "to": "23:59", "time_zone": "Etc/UTC" });
    let mut people = Vec::new();
    for (number, user_id) in (10..).zip(["muted", "mentions", "night", "off", "sender", "nothing", "plain"]) {
        let person = world.arrive(&process, user_id).await?;
        let ios = json!({ "device_id": "phone", "platform": "ios", "address": apple_token(number) });
        person.post("/v1/users/me/devices", ios).await?.expect(201)?;
        people.push(person);
    }
    let all: Vec<_> = people.iter().collect();
    let chat_id = alice.make_group(&all, json!({ "name": "Team" })).await?;
    for (person, settings) in people.iter().zip([
        json!({ "mute": [&chat_id] }),
        json!({ "mentions_only": [&chat_id] }),
        json!({ "do_not_disturb": quiet }),
        json!({ "push": false }),
        json!({ "content": "sender_only" }),
        json!({ "content": "nothing", "language": "de" }),
    ]) {
        person.patch("/v1/users/me/settings", settings).await?.expect(200)?;
    }
    alice.say(&chat_id, "the secret plan").await?;
    world.apple_has(16, 1).await?;
    world.settled().await?;
    let got: Vec<usize> = (10..17).map(|number| world.apple(number).len()).collect();
    ensure!(got == [0, 0, 0, 0, 1, 1, 1], "{got:?}");
    let sender = world.apple(14)[0].payload["aps"]["alert"].clone();
    ensure!(sender == json!({ "title": "Team", "subtitle": "alice", "loc-key": "WALTALKIE_MESSAGE" }), "{sender}");
    let nothing = world.apple(15)[0].payload.to_string();
    ensure!(!nothing.contains("alice") && !nothing.contains("secret"), "{nothing}");
    // Who is named is told, but for who muted the chat, sleeps or wants no push.
    alice.say(&chat_id, "@mentions and @muted, @all").await?;
    world.apple_has(11, 1).await?;
    world.settled().await?;
    let got: Vec<usize> = (10..17).map(|number| world.apple(number).len()).collect();
    ensure!(got == [0, 1, 0, 0, 2, 2, 2], "{got:?}");
    // Heard again.
    people[0].patch("/v1/users/me/settings", json!({ "unmute": [&chat_id] })).await?.expect(200)?;
    alice.say(&chat_id, "and now?").await?;
    world.apple_has(10, 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_on_one_device_clears_the_others() -> Result<()> {
    let world = World::make("cleared", &[]).await?;
    let process = world.run().await?;
    let (alice, bob) = (world.arrive(&process, "alice").await?, world.arrive(&process, "bob").await?);
    let browser = world.give_devices(&bob, 1).await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let said = alice.say(&chat_id, "read me").await?;
    world.apple_has(1, 1).await?;
    world.settled().await?;
    bob.post(&format!("/v1/chats/{chat_id}/read"), json!({ "seq": said["seq"] })).await?;
    let apple = world.apple_has(1, 2).await?;
    let read = &apple[1].payload;
    ensure!(read["waltalkie"] == json!({ "type": "read", "chat_id": chat_id, "read_seq": said["seq"] }), "{read}");
    ensure!(read["aps"] == json!({ "badge": 0, "content-available": 1 }), "{read}");
    world.settled().await?;
    let android = world.android(1);
    ensure!(android.len() == 2 && android[1].message["data"]["type"] == "read", "{android:?}");
    // Browsers insist that each push shows something.
    ensure!(world.browser(&browser).len() == 1);
    // Read once, cleared once.
    alice.say(&chat_id, "another").await?;
    world.apple_has(1, 3).await?;
    world.settled().await?;
    ensure!(world.apple(1).len() == 3 && world.android(1).len() == 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_chat_is_one_job_and_everybody_gets_it_once() -> Result<()> {
    let world = World::make("large-chat", &[("notify.large_chat_members", "4")]).await?;
    let process = world.run().await?;
    let alice = world.arrive(&process, "alice").await?;
    let mut people = Vec::new();
    for number in 0..8 {
        let person = world.arrive(&process, &format!("member-{number}")).await?;
        let ios = json!({ "device_id": "phone", "platform": "ios", "address": apple_token(number) });
        person.post("/v1/users/me/devices", ios).await?.expect(201)?;
        people.push(person);
    }
    let all: Vec<_> = people.iter().collect();
    let chat_id = alice.make_group(&all, json!({ "name": "Crowd" })).await?;
    alice.say(&chat_id, "to all of you").await?;
    for number in 0..8 {
        world.apple_has(number, 1).await?;
    }
    world.settled().await?;
    ensure!(world.apns.accepted().len() == 8);
    let logged = waltalkie_tests::harness::read_all(&world.config, schemas::topics::Topic::ChatNotifications).await?;
    ensure!(logged.len() == 1 && logged[0].key == chat_id, "one job: {}", logged.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_need_to_know_is_told_and_what_browsers_hand_over_is_checked() -> Result<()> {
    let settings = [
        ("notify.content", "sender_only"),
        ("notify.web_push_anywhere", "false"),
        ("notify.link_template", "chatapp://open/{chat_id}"),
        ("notify.brand", "Fernspruch"),
        ("notify.mail_from_name", "The team of Fernspruch"),
    ];
    let world = World::make("told", &settings).await?;
    let process = world.run().await?;
    let alice = world.arrive(&process, "alice").await?;
    let options = alice.get("/v1/notifications").await?.expect(200)?;
    let expected = json!({
        "web_push_public_key": world.web_push_key, "ios": true, "android": true, "email": true,
        "content": "sender_only", "languages": ["en", "de"],
    });
    ensure!(options == expected, "{options}");
    let browser = world.push.subscribe(None);
    let device = |address: &str, p256dh: &str, auth: &str| json!({ "platform": "web", "address": address, "keys": { "p256dh": p256dh, "auth": auth } });
    for (body, field) in [
        // The push service of tests is on this machine.
        (device(&browser.endpoint, &browser.p256dh, &browser.auth), "address"),
        (device("https://169.254.169.254/latest", &browser.p256dh, &browser.auth), "address"),
        (device("https://push.example/1", "BNc-_A", &browser.auth), "keys.p256dh"),
        (device("https://push.example/1", &browser.p256dh, "tBHI"), "keys.auth"),
    ] {
        alice.post("/v1/users/me/devices", body).await?.expect_problem(400, "bad_field", Some(field))?;
    }
    let good = device("https://push.example/1", &browser.p256dh, &browser.auth);
    alice.post("/v1/users/me/devices", good).await?.expect(201)?;
    // What would be sent is shown as the operator has set it and in the person's language, and nothing is sent.
    alice.patch("/v1/users/me/settings", json!({ "language": "de" })).await?.expect(200)?;
    let mut command = world.installation.command()?;
    command.args(["notify", "test", "--user", "alice", "--dry-run"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains("Subject: 8 ungelesene Nachrichten in Fernspruch\n"), "{said}");
    ensure!(said.contains("From: The team of Fernspruch <chat@chat.example>\n"), "{said}");
    // The mail's link, and the push's.
    ensure!(said.contains("  chatapp://open/launch\n") && said.contains("\"chatapp://open/notify-test\""), "{said}");
    ensure!(said.contains("WALTALKIE_MESSAGE"), "{said}");
    ensure!(!said.contains("This is a test."), "the operator allows no words: {said}");
    ensure!(world.push.delivered().is_empty());
    let doctor = async || -> Result<Value> {
        let mut command = world.installation.command()?;
        command.args(["doctor", "--json"]);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let findings: Value = serde_json::from_slice(&output.stdout)?;
        let found = findings.as_array().into_iter().flatten().find(|finding| finding["part"] == "notifications");
        found.cloned().context("doctor says nothing of notifications")
    };
    let found = doctor().await?;
    ensure!(found["is_well"] == true, "{found}");
    // What nobody sends is told, with the remedy.
    let overdue = "INSERT INTO notify_task (kind, is_bulk, service, user_id, device_id, chat_id, seq, message_id, cause, occurred_at, due_at)
                   VALUES ('push', false, 'apns', 'nobody', 'phone', 'none', 1, 'none', 'message', now(), now() - interval '2 hours')";
    drop(process);
    world.installation.read().await?.execute(overdue, &[]).await?;
    let found = doctor().await?;
    let said = found["details"].to_string();
    ensure!(found["is_well"] == false && said.contains("should have been sent by now: 1,"), "{found}");
    ensure!(said.contains("waltalkie run notifier"), "{found}");
    Ok(())
}
