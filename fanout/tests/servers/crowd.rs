//! Very many chats and people: the tables are asked once for all, not once for each.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Setup, World, counted};

const PEOPLE: usize = 60;
const CHATS: usize = 5;
const MISSED: i64 = 100;
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_who_come_back_at_once_share_what_is_read() {
    let (resumes, queries) = ("waltalkie_fanout_resumes_total", "waltalkie_fanout_range_queries_total");
    counted(queries);
    let mut setup = Setup::default();
    // Clients aren't read while the others come.
    setup.config.gateway.heartbeat_ms = 60_000;
    let mut world = World::with(setup).await;
    let people: Vec<String> = (0..PEOPLE).map(|number| format!("u{number}")).collect();
    let members: Vec<&str> = people.iter().map(String::as_str).collect();
    let mut chats = Vec::new();
    for _ in 0..CHATS {
        let chat = world.chat(&members).await;
        world.write_many(&chat, "u0", MISSED).await;
        chats.push(chat);
    }
    let mut clients = Vec::new();
    for user_id in &people {
        clients.push(world.online(user_id).await);
    }
    let (asked_before, read_before) = (counted(resumes), counted(queries));
    // Nothing can be read until all have asked.
    let mut locks = world.another_connection().await;
    let lock = World::lock_messages(&mut locks).await;
    for (place, client) in clients.iter_mut().enumerate() {
        // A frame a chat: chats of one frame are read one after the other.
        for chat in &chats {
            let cursors = json!({ chat.as_str(): 1 + place as i64 % MISSED });
            client.send(json!({ "event": "resume", "payload": { "cursors": cursors } })).await;
        }
    }
    let began = Instant::now();
    while counted(resumes) < asked_before + PEOPLE * CHATS {
        assert!(began.elapsed() < PATIENCE, "not all resumes were taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lock.commit().await.expect("the lock is let go");
    for (place, client) in clients.iter_mut().enumerate() {
        let cursor = 1 + place as i64 % MISSED;
        let mut seen = std::collections::HashMap::<String, i64>::new();
        let mut complete = 0;
        while complete < CHATS {
            let frame = client.next().await.expect("a frame");
            let payload = &frame["payload"];
            let chat = payload["chat_id"].as_str().unwrap_or_default().to_owned();
            if frame["event"] == "message" {
                let last = seen.entry(chat).or_insert(cursor);
                *last += 1;
                assert_eq!(payload["seq"], *last, "in order: {frame}");
            } else if frame["event"] == "resumed" {
                assert_eq!((&payload["complete"], &payload["to_seq"]), (&json!(true), &json!(MISSED + 1)), "{frame}");
                complete += 1;
            }
        }
        assert!(chats.iter().all(|chat| seen.get(chat) == Some(&(MISSED + 1))), "{seen:?}");
    }
    let read = counted(queries) - read_before;
    println!("{read} queries for {} ranges", PEOPLE * CHATS);
    // Each of the two who read at a time may just have begun one for a few, then comes one for all others: a query has room
    // for all events of these chats. Read once a person, they would fill thirty. The rest is left to other tests.
    assert!(read <= CHATS * 4, "{read} queries for {} ranges", PEOPLE * CHATS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_all_chats_are_one_question_a_heartbeat() {
    const QUIET: usize = 1_000;
    let queries = "waltalkie_fanout_heads_queries_total";
    counted(queries);
    let mut world = World::start().await;
    world.many_chats("bot", QUIET as i64).await;
    let mut bot = world.online("bot").await;
    let (asked_before, began) = (counted(queries), Instant::now());
    for round in 1..=3 {
        // Nobody publishes it.
        let seq = world.write("many-7", "bot", "lost").await;
        assert_eq!(bot.find(&["message"]).await["payload"]["seq"], seq);
        let asked = counted(queries) - asked_before;
        // A heartbeat is a second here; other tests' nodes ask too.
        let most = 10 * (3 + began.elapsed().as_secs() as usize);
        assert!((round..most).contains(&asked), "{asked} queries in {:?}", began.elapsed());
    }
}
