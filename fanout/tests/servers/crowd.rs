//! Many people who come back at once, each from another place: the tables are read once a chat, not once a person.

use std::time::{Duration, Instant};

use runtime::telemetry;
use serde_json::{Value, json};

use crate::support::{Setup, World};

const PEOPLE: usize = 60;
const CHATS: usize = 5;
const MISSED: i64 = 60;
const PATIENCE: Duration = Duration::from_mins(1);

/// A counter of this process, which other tests raise too, by little.
fn counted(name: &str) -> usize {
    let text = telemetry::metrics().render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |number| number.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_who_come_back_at_once_share_what_is_read() {
    // Installs the recorder: what was counted before is nowhere.
    telemetry::metrics();
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
    let queries = "waltalkie_fanout_range_queries_total";
    let (asked_before, read_before) = (counted("waltalkie_fanout_resumes_total"), counted(queries));
    // Nothing can be read until all have asked.
    let mut locks = world.another_connection().await;
    let lock = World::lock_messages(&mut locks).await;
    for (place, client) in clients.iter_mut().enumerate() {
        let cursor = json!(1 + place as i64 % MISSED);
        let cursors: Value =
            chats.iter().map(|chat| (chat.clone(), cursor.clone())).collect::<serde_json::Map<_, _>>().into();
        client.send(json!({ "event": "resume", "payload": { "cursors": cursors } })).await;
    }
    let began = Instant::now();
    while counted("waltalkie_fanout_resumes_total") < asked_before + PEOPLE * CHATS {
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
    // Each of the two who read at a time may just have begun one for a few, then comes one for all others.
    assert!(read <= CHATS * 4, "{read} queries for {} ranges", PEOPLE * CHATS);
}
