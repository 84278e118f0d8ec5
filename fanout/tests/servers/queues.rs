//! What waits for one socket: greetings of any length, slow clients, live events behind a resume.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::inbound::token;
use crate::support::{Setup, World, counted, until};

/// A world whose connections have so little room; clients may be silent while others are looked at.
async fn narrow(outgoing_bytes: usize) -> World {
    let mut setup = Setup::default();
    setup.config.gateway.outgoing_bytes = outgoing_bytes;
    setup.config.gateway.heartbeat_ms = 60_000;
    World::with(setup).await
}

/// Reads on to the end of a resume, and resumes again where it says so; each `seq` must come once and in order.
async fn resume_all(client: &mut Client, chat: &str, mut cursor: i64, head: i64) -> i64 {
    client.resume(&[(chat, cursor)]).await;
    let mut resumes = 1;
    let mut is_complete = false;
    while !is_complete || cursor < head {
        let frame = client.frame().await;
        let payload = &frame["payload"];
        match (frame["event"].as_str(), payload["complete"].as_bool()) {
            (Some("resumed"), Some(true)) => is_complete = true,
            (Some("resumed"), _) => {
                assert_eq!(payload["to_seq"], cursor, "{frame}");
                resumes += 1;
                client.resume(&[(chat, cursor)]).await;
            }
            (Some("heads" | "receipt"), _) => {}
            _ => {
                cursor += 1;
                assert_eq!(payload["seq"], cursor, "{}", frame["event"]);
            }
        }
    }
    resumes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_in_very_many_chats_comes_in_and_is_told_of_all() {
    const CHATS: i64 = 2_000;
    let mut world = narrow(64 << 10).await;
    world.many_chats("bot", CHATS).await;
    let chat = world.chat(&["alice", "bot"]).await;
    let mut bot = world.connect("bot").await;
    let chats = bot.ready().await;
    assert_eq!(chats.len() as i64, CHATS + 1);
    let told: usize = chats.iter().map(|chat| chat.to_string().len()).sum();
    assert!(told > 2 * world.config.gateway.outgoing_bytes, "{told} bytes, so the greeting alone is over the limit");
    let seq = world.say(&chat, "alice", "and live").await;
    assert_eq!(bot.find(&["message"]).await["payload"]["seq"], seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_cursors_is_answered_in_as_many_frames_as_it_takes() {
    const CHATS: usize = 2_000;
    const FRAMES: usize = 20;
    let mut world = narrow(64 << 10).await;
    world.many_chats("bot", CHATS as i64).await;
    let mut behind = Vec::new();
    for _ in 0..FRAMES {
        let chat = world.chat(&["alice", "bot"]).await;
        world.write(&chat, "alice", "missed").await;
        behind.push(chat);
    }
    let mut bot = world.connect("bot").await;
    bot.ready().await;
    // Nothing can be read until all have been asked.
    let mut locks = world.another_connection().await;
    let lock = World::lock_messages(&mut locks).await;
    for (number, chat) in behind.iter().enumerate() {
        // One that misses something, and those where nothing is missing: their answers are more than may wait for a socket.
        let first = number * CHATS / FRAMES + 1;
        let mut cursors = vec![(chat.clone(), 1)];
        cursors.extend((first..first + CHATS / FRAMES).map(|n| (format!("many-{n}"), 1)));
        let cursors: Vec<(&str, i64)> = cursors.iter().map(|(chat, cursor)| (chat.as_str(), *cursor)).collect();
        bot.resume(&cursors).await;
    }
    bot.send(json!({"event": "heartbeat", "id": "asked"})).await;
    let (mut messages, mut answers) = (0, 0);
    // Those of the first frames where nothing is missing are answered at once.
    loop {
        let frame = bot.frame().await;
        match frame["event"].as_str() {
            Some("resumed") if frame["payload"]["complete"] == true => answers += 1,
            Some("heads") => break,
            _ => panic!("{frame}"),
        }
    }
    assert!(answers < CHATS, "{answers} of {CHATS} were answered before the first frame was done with");
    lock.commit().await.expect("the lock is let go");
    while answers < CHATS + FRAMES {
        let frame = bot.next().await.unwrap_or_else(|code| panic!("closed with {code:?} after {answers} answers"));
        match frame["event"].as_str() {
            Some("message") => messages += 1,
            Some("resumed") if frame["payload"]["complete"] == true => answers += 1,
            _ => panic!("{frame}"),
        }
    }
    assert_eq!(messages, FRAMES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_resumes_a_busy_chat_is_not_closed_for_what_was_said_meanwhile() {
    const MISSED: i64 = 20;
    const MEANWHILE: i64 = 100;
    let mut world = narrow(128 << 10).await;
    let chat = world.chat(&["alice", "bob", "carol"]).await;
    world.write_many(&chat, "alice", MISSED).await;
    let (mut bob, mut carol) = (world.online("bob").await, world.online("carol").await);
    let first = MISSED + 2;
    world.write_many_of(&chat, "alice", MEANWHILE, 4_000).await;
    let said = world.events(&chat, first, MISSED + 1 + MEANWHILE).await;
    // Nothing can be read until all of it has come live: more than may wait for a socket.
    let mut locks = world.another_connection().await;
    let lock = World::lock_messages(&mut locks).await;
    bob.resume(&[(&chat, 1)]).await;
    bob.send(json!({"event": "heartbeat", "id": "asked"})).await;
    bob.expect("heads").await;
    for event in &said {
        world.publish_event(event).await;
        // Who reads gets them as they come, so the node has had them.
        assert_eq!(carol.expect("message").await["seq"], event.seq);
    }
    lock.commit().await.expect("the lock is let go");
    let mut cursor = 1;
    loop {
        let frame = bob.next().await.unwrap_or_else(|code| panic!("closed with {code:?} after {cursor}"));
        if frame["event"] == "resumed" {
            assert_eq!((&frame["payload"]["to_seq"], &frame["payload"]["complete"]), (&json!(cursor), &json!(false)));
            break;
        }
        cursor += 1;
        assert_eq!(frame["payload"]["seq"], cursor, "{}", frame["event"]);
    }
    assert_eq!(cursor, MISSED + 1);
    resume_all(&mut bob, &chat, cursor, MISSED + 1 + MEANWHILE).await;
    let seq = world.say(&chat, "alice", "live again").await;
    assert_eq!(bob.find(&["message"]).await["payload"]["seq"], seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_more_slowly_than_a_gap_is_healed_is_not_closed() {
    const LOST: i64 = 100;
    let mut world = narrow(128 << 10).await;
    let chat = world.chat(&["alice", "bob"]).await;
    let bearer = format!("Bearer {}", token("bob", 600_000));
    let mut bob =
        Client::connect_with(&world.address, &[("authorization", &bearer)], Some(4_096)).await.expect("connected");
    bob.ready().await;
    // The node hears of the last one alone, and reads the others: far more than may wait for a socket.
    world.write_many_of(&chat, "alice", LOST, 15_900).await;
    let last = world.say(&chat, "alice", "and live").await;
    let mut cursor = 1;
    while cursor < last {
        let frame = bob.next().await.unwrap_or_else(|code| panic!("closed with {code:?} after {cursor}"));
        cursor += 1;
        assert_eq!(frame["payload"]["seq"], cursor, "{}", frame["event"]);
    }
    let seq = world.say(&chat, "alice", "live again").await;
    assert_eq!(bob.expect("message").await["seq"], seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_is_closed_delays_nobody_and_resumes_afterwards() {
    const BATCH: i64 = 50;
    const MOST: i64 = 1_000;
    // One of twenty stalls.
    const READERS: usize = 19;
    let closed_as_slow = "waltalkie_fanout_slow_connections_total";
    counted(closed_as_slow);
    let mut world = narrow(256 << 10).await;
    let people: Vec<String> = (0..READERS).map(|number| format!("reader-{number}")).collect();
    let mut members = vec!["alice", "carol"];
    members.extend(people.iter().map(String::as_str));
    let chat = world.chat(&members).await;
    let bearer = format!("Bearer {}", token("carol", 600_000));
    let mut slow =
        Client::connect_with(&world.address, &[("authorization", &bearer)], Some(4_096)).await.expect("connected");
    slow.ready().await;
    let mut readers = Vec::new();
    for person in &people {
        readers.push(world.online(person).await);
    }
    let closed_before = counted(closed_as_slow);
    // More than the queue and whatever the kernel buffers.
    let mut delays = Vec::new();
    let mut head = 1;
    while world.node.connections() > READERS && head < MOST {
        world.write_many_of(&chat, "alice", BATCH, 15_900).await;
        for event in world.events(&chat, head + 1, head + BATCH).await {
            let began = Instant::now();
            world.publish_event(&event).await;
            for reader in &mut readers {
                assert_eq!(reader.expect("message").await["seq"], event.seq);
            }
            delays.push(began.elapsed());
        }
        head += BATCH;
    }
    until(|| async { world.node.connections() == READERS }).await;
    delays.sort_unstable();
    let late = delays[delays.len() * 95 / 100];
    println!("closed after {head} events; all others had them after {late:?} at the 95th percentile");
    assert!(late < Duration::from_millis(500), "{late:?} for who reads");
    // What had reached its socket is there, in order; the farewell may not fit any more: then the socket just ends, and only the
    // node knows why.
    let mut cursor = 1;
    let code = loop {
        match slow.next().await {
            Ok(frame) if frame["event"] == "message" => {
                cursor += 1;
                assert_eq!(frame["payload"]["seq"], cursor);
            }
            Ok(_) => {}
            Err(code) => break code,
        }
    };
    assert!(matches!(code, Some(4008) | None), "{code:?}");
    assert!(counted(closed_as_slow) > closed_before, "it wasn't closed for being slow");
    for reader in &mut readers {
        assert!(reader.fence().await.is_empty());
    }
    assert!(cursor < head, "it missed something");

    // Back, with a network like everybody's: it resumes, and its view is that of the tables.
    let mut back = world.online("carol").await;
    let resumes = resume_all(&mut back, &chat, cursor, head).await;
    println!("{} events in {resumes} resumes", head - cursor);
    let seq = world.write(&chat, "alice", "and on").await;
    world.publish(&chat, seq).await;
    assert_eq!(back.find(&["message"]).await["payload"]["seq"], seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_come_once_a_second_whoever_publishes_them() {
    const READERS: usize = 60;
    let mut world = narrow(1 << 20).await;
    let chat = world.chat(&["alice", "bob"]).await;
    let mut alice = world.online("alice").await;
    let began = Instant::now();
    // As from many publishers, each of which tells of its own people.
    for reader in 0..READERS {
        let users = json!({ format!("reader-{reader}"): {"delivered_seq": 1, "read_seq": 1} });
        world.publish_receipts(&json!({"chat_id": chat, "users": users})).await;
    }
    let mut told = BTreeMap::new();
    let mut frames = 0;
    while told.len() < READERS {
        let receipt = alice.expect("receipt").await;
        frames += 1;
        told.extend(receipt["users"].as_object().expect("users").clone());
    }
    let seconds = began.elapsed().as_secs();
    assert!(frames <= 2 + seconds, "{frames} frames for {READERS} readers in {seconds} s");
    assert!(told.values().all(|marks: &Value| *marks == json!({"delivered_seq": 1, "read_seq": 1})), "{told:?}");
}
