//! Sockets: handshake, commands and their answers, limits, ends.

use std::sync::Arc;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::inbound::token;
use crate::support::{Setup, World, until};
use futures_util::SinkExt;
use schemas::wire::{ClientFrame, CloseCode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

fn send(chat_id: &str, message_id: Uuid, content: &str) -> Value {
    json!({"event": "send_message", "id": content, "payload": {"chat_id": chat_id, "message_id": message_id, "content": content}})
}

/// Status and body of a refused handshake.
async fn refusal(world: &World, headers: &[(&'static str, &str)]) -> (u16, Value) {
    match Client::connect_with(&world.address, headers, None).await {
        Err(Error::Http(response)) => {
            let body = response.body().as_ref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
            (response.status().as_u16(), body)
        }
        Err(error) => panic!("{error}"),
        Ok(_) => (101, Value::Null),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origins_and_tokens() {
    let mut setup = Setup::default();
    setup.config.gateway.allowed_origins = vec!["https://app.example.com".into()];
    let world = World::with(setup).await;
    let bearer = format!("Bearer {}", token("alice", 60_000));
    let own = format!("http://{}", world.address);
    let other_port = format!("http://{}1", world.address);
    let suffix = format!("http://{}.evil.org", world.address);
    let cases = [
        (own.as_str(), 101),
        ("https://app.example.com", 101),
        ("null", 403),
        ("https://app.example.com.evil.org", 403),
        ("https://evil-app.example.com", 403),
        ("http://app.example.com", 403),
        ("https://app.example.com:444", 403),
        (&other_port, 403),
        (&suffix, 403),
        ("https://evil.org", 403),
    ];
    for (origin, status) in cases {
        assert_eq!(refusal(&world, &[("authorization", &bearer), ("origin", origin)]).await.0, status, "{origin}");
    }
    let (status, body) = refusal(&world, &[]).await;
    assert_eq!((status, body["code"].as_str(), body["status"].as_i64()), (401, Some("token_missing"), Some(401)));
    let (status, body) = refusal(&world, &[("authorization", "Bearer rubbish")]).await;
    assert_eq!((status, body["code"].as_str()), (401, Some("token_invalid")));
    let expired = format!("Bearer {}", token("alice", -1));
    assert_eq!(refusal(&world, &[("authorization", &expired)]).await.1["code"], "token_expired");
    let browser = format!("waltalkie.v1, bearer.{}", token("alice", 60_000));
    assert_eq!(refusal(&world, &[("sec-websocket-protocol", &browser)]).await.0, 101);
    assert_eq!(refusal(&world, &[("authorization", &bearer), ("sec-websocket-protocol", "soap")]).await.0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_person_has_so_many_connections() {
    let mut setup = Setup::default();
    setup.config.limits.connections_per_user = 2;
    let world = World::with(setup).await;
    let (first, _second) = (world.online("alice").await, world.online("alice").await);
    let bearer = format!("Bearer {}", token("alice", 60_000));
    let (status, body) = refusal(&world, &[("authorization", &bearer)]).await;
    assert_eq!((status, body["code"].as_str()), (429, Some("rate_limited")));
    let mut socket = first.socket;
    socket.close(None).await.expect("closed");
    until(|| async { world.node.connections() == 1 }).await;
    world.online("alice").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_pings_ends_the_connection() {
    let world = World::start().await;
    let mut flooder = world.online("alice").await;
    let mut quiet = world.online("bob").await;
    // More than any allowance, which refills meanwhile; the server may close before all are written.
    for _ in 0..5_000 {
        if flooder.socket.send(Message::Ping("still there?".into())).await.is_err() {
            break;
        }
    }
    let code = flooder.closed().await;
    assert!(code.is_none_or(|code| code == CloseCode::TooManyErrors.number()), "{code:?}");
    quiet.send(json!({"event": "heartbeat", "id": "h"})).await;
    quiet.expect("heads").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_handed_over_in_order_and_answered_twice() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    let mut alice = world.online("alice").await;
    let ids: Vec<Uuid> = (0..20).map(|_| Uuid::now_v7()).collect();
    for (n, id) in ids.iter().enumerate() {
        alice.send(send(&chat, *id, &n.to_string())).await;
    }
    let mut persisted = Vec::new();
    let mut accepted = Vec::new();
    while persisted.len() < 20 {
        let ack = alice.find(&["ack"]).await;
        let id = ack["id"].as_str().expect("id").to_owned();
        assert_eq!(ack["payload"]["chat_id"], *chat);
        assert_eq!(ack["payload"]["message_id"], ids[id.parse::<usize>().expect("number")].to_string());
        if ack["payload"]["state"] == "accepted" {
            accepted.push(id);
        } else {
            assert!(accepted.contains(&id), "accepted comes first");
            assert_eq!(ack["payload"]["seq"], 101 + id.parse::<i64>().expect("number"));
            persisted.push(id);
        }
    }
    let commands = world.inbound.commands.lock().expect("lock").clone();
    for (n, command) in commands.iter().enumerate() {
        assert_eq!((command.counter, command.known, command.user_id.as_str()), (n as i64 + 1, Some(1), "alice"));
        assert!(matches!(&command.frame, ClientFrame::SendMessage(send) if send.content == n.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_refused_send_later_ones_of_its_chat_wait() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice"]).await;
    let other = world.chat(&["alice"]).await;
    let mut alice = world.online("alice").await;
    world.inbound.refused.lock().expect("lock").insert("a".into());
    world.inbound.lost.lock().expect("lock").insert("lost".into());
    world.inbound.rejected.lock().expect("lock").insert("rejected".into());
    let (a, b, lost) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    alice.send(send(&chat, a, "a")).await;
    alice.send(send(&chat, b, "b")).await;
    let refused = alice.find(&["error"]).await;
    assert_eq!((refused["id"].as_str(), refused["payload"]["code"].as_str()), (Some("a"), Some("rate_limited")));
    assert_eq!(refused["payload"]["message_id"], a.to_string());
    let blocked = alice.find(&["error"]).await;
    assert_eq!((blocked["id"].as_str(), blocked["payload"]["code"].as_str()), (Some("b"), Some("blocked_by_earlier")));
    assert_eq!(blocked["payload"]["temporary"], true);
    // Another chat isn't touched; the persister's refusal blocks nothing.
    alice.send(send(&other, Uuid::now_v7(), "rejected")).await;
    assert_eq!(alice.find(&["error"]).await["payload"]["code"], "chat_not_found");
    alice.send(send(&other, Uuid::now_v7(), "other")).await;
    world.inbound.refused.lock().expect("lock").clear();
    alice.send(send(&chat, a, "a")).await;
    alice.send(send(&chat, b, "b")).await;
    // What Kafka never took blocks too, until it is discarded.
    alice.send(send(&chat, lost, "lost")).await;
    let gone = alice.find(&["error"]).await;
    assert_eq!((gone["id"].as_str(), gone["payload"]["code"].as_str()), (Some("lost"), Some("unavailable")));
    alice.send(send(&chat, Uuid::now_v7(), "c")).await;
    assert_eq!(alice.find(&["error"]).await["payload"]["code"], "blocked_by_earlier");
    alice.send(json!({"event": "discard_message", "id": 9, "payload": {"chat_id": chat, "message_id": lost}})).await;
    alice.send(send(&chat, Uuid::now_v7(), "d")).await;
    loop {
        let ack = alice.find(&["ack"]).await;
        if ack["id"] == "d" && ack["payload"]["state"] == "persisted" {
            break;
        }
    }
    assert_eq!(world.inbound.bodies(), ["rejected", "other", "a", "b", "lost", "d"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_attempt_of_what_is_persisted_after_all_blocks_nothing() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice"]).await;
    let mut alice = world.online("alice").await;
    let a = Uuid::now_v7();
    world.inbound.held.lock().expect("lock").insert("a".into());
    alice.send(send(&chat, a, "a")).await;
    assert_eq!(alice.find(&["ack"]).await["payload"]["state"], "accepted");
    // No answer for long: the client sends it again, and that attempt is refused.
    world.inbound.refused.lock().expect("lock").insert("a".into());
    alice.send(send(&chat, a, "a")).await;
    assert_eq!(alice.find(&["error"]).await["payload"]["code"], "rate_limited");
    world.inbound.release.notify_one();
    assert_eq!(alice.find(&["ack"]).await["payload"]["state"], "persisted");
    alice.send(send(&chat, Uuid::now_v7(), "b")).await;
    assert_eq!(alice.find(&["ack", "error"]).await["payload"]["state"], "accepted");
    assert_eq!(alice.find(&["ack"]).await["payload"]["state"], "persisted");
    // The same the other way round.
    alice.send(send(&chat, a, "a")).await;
    assert_eq!(alice.find(&["error"]).await["payload"]["code"], "rate_limited");
    alice.send(send(&chat, Uuid::now_v7(), "c")).await;
    assert_eq!(alice.find(&["ack", "error"]).await["payload"]["state"], "accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_are_for_own_chats_and_never_beyond_the_head() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    let foreign = world.chat(&["bob"]).await;
    let mut alice = world.online("alice").await;
    alice.send(json!({"event": "mark_read", "id": 1, "payload": {"marks": {chat.as_str(): 50}}})).await;
    let ack = alice.frame().await;
    assert_eq!(
        (ack["event"].as_str(), ack["id"].as_i64(), ack["payload"]["state"].as_str()),
        (Some("ack"), Some(1), Some("accepted"))
    );
    alice
        .send(
            json!({"event": "mark_delivered", "id": 2, "payload": {"marks": {chat.as_str(): 1, foreign.as_str(): 1}}}),
        )
        .await;
    let refused = alice.frame().await;
    assert_eq!(
        (refused["payload"]["code"].as_str(), refused["payload"]["chat_id"].as_str()),
        (Some("chat_not_found"), Some(&*foreign))
    );
    let marks = world.inbound.marks.lock().expect("lock").clone();
    assert_eq!(
        marks.iter().map(|mark| mark.1.clone()).collect::<Vec<_>>(),
        vec![vec![(chat.clone(), 1)], vec![(chat, 1)]]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_frames_are_named_and_the_connection_goes_on() {
    let mut setup = Setup::default();
    setup.config.gateway.heartbeat_ms = 5_000;
    let world = World::with(setup).await;
    let mut alice = world.online("alice").await;
    let cases = [
        ("{", "bad_json", None),
        ("[]", "bad_json", None),
        (r#"{"event":"nope","id":1}"#, "unknown_event", Some("event")),
        (r#"{"event":"send_message"}"#, "missing_field", Some("payload.chat_id")),
        (
            r#"{"event":"send_message","payload":{"chat_id":"c","content":""}}"#,
            "content_empty",
            Some("payload.content"),
        ),
        (
            r#"{"event":"send_message","payload":{"chat_id":"c","content":"a\u0000"}}"#,
            "content_not_text",
            Some("payload.content"),
        ),
        (
            r#"{"event":"send_message","payload":{"chat_id":"c","content":"a","message_id":"x"}}"#,
            "bad_uuid",
            Some("payload.message_id"),
        ),
        (r#"{"event":"mark_read","payload":{"marks":{"c":"1"}}}"#, "bad_field", Some("payload.marks")),
        (r#"{"event":"typing","payload":{"chat_id":"c"}}"#, "chat_not_found", Some("payload.chat_id")),
        (r#"{"event":"authenticate","payload":{"token":"x"}}"#, "token_invalid", None),
    ];
    for (text, code, field) in cases {
        alice.send_text(text.to_owned()).await;
        let refused = alice.expect("error").await;
        assert_eq!((refused["code"].as_str(), refused["field"].as_str()), (Some(code), field), "{text}");
    }
    assert!(alice.fence().await.is_empty());
    // Only so many are forgiven.
    for _ in 0..200 {
        if alice.socket.send(Message::text("{")).await.is_err() {
            break;
        }
    }
    assert_eq!(alice.closed().await, Some(4103));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_too_big_or_no_text_close() {
    let world = World::start().await;
    for size in [65_537, 100_000, 1 << 20] {
        let mut alice = world.online("alice").await;
        alice.send_text("x".repeat(size)).await;
        assert_eq!(alice.closed().await, Some(1009), "{size}");
    }
    let mut alice = world.online("alice").await;
    alice.send_text(format!("{{\"event\":\"heartbeat\",\"pad\":\"{}\"}}", "x".repeat(65_000))).await;
    alice.expect("heads").await;
    alice.socket.send(Message::binary(vec![1, 2, 3])).await.expect("sent");
    assert_eq!(alice.closed().await, Some(1003));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_frames_close_with_their_code() {
    use tokio::io::AsyncWriteExt;
    let world = World::start().await;
    // Masked with zeros, so that the payload stands as it is.
    let frame = |first: u8, payload: &[u8]| [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat();
    let long_ping = [&[0x89, 0xFE, 0, 126, 0, 0, 0, 0][..], &[b'x'; 126]].concat();
    let endless = [0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
    let cases: [(&str, Vec<u8>, u16); 22] = [
        ("no UTF-8", frame(0x81, &[0xC3, 0x28]), 1007),
        ("half a character", frame(0x81, &[0xE2, 0x82]), 1007),
        ("a surrogate", frame(0x81, &[0xED, 0xA0, 0x80]), 1007),
        ("an overlong character", frame(0x81, &[0xC0, 0xAF]), 1007),
        ("past the last character", frame(0x81, &[0xF4, 0x90, 0x80, 0x80]), 1007),
        ("half a character over fragments", [frame(0x01, &[0xE2]), frame(0x80, &[0x28])].concat(), 1007),
        ("no mask", vec![0x81, 0x01, b'x'], 1002),
        ("RSV1", frame(0xC1, b"x"), 1002),
        ("RSV2", frame(0xA1, b"x"), 1002),
        ("RSV3", frame(0x91, b"x"), 1002),
        ("opcode 3", frame(0x83, b"x"), 1002),
        ("opcode 7", frame(0x87, b"x"), 1002),
        ("opcode 11", frame(0x8B, b"x"), 1002),
        ("opcode 15", frame(0x8F, b"x"), 1002),
        ("a ping in fragments", frame(0x09, b"x"), 1002),
        ("a ping of 126 bytes", long_ping, 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a text within a fragmented one", [frame(0x01, b"x"), frame(0x81, b"x")].concat(), 1002),
        ("half a close code", frame(0x88, &[3]), 1002),
        ("a close code that may not be sent", frame(0x88, &1005_u16.to_be_bytes()), 1002),
        ("a close reason that is no UTF-8", frame(0x88, &[0x03, 0xE8, 0xFF]), 1007),
        ("a frame without end", endless.to_vec(), 1009),
    ];
    for (number, (what, bytes, code)) in cases.into_iter().enumerate() {
        let mut alice = world.online(&format!("alice-{number}")).await;
        alice.socket.get_mut().write_all(&bytes).await.expect("written");
        assert_eq!(alice.closed().await, Some(code), "{what}");
    }
    until(|| async { world.node.connections() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ends_closes_unless_it_is_renewed() {
    let mut setup = Setup::default();
    setup.config.gateway.heartbeat_ms = 5_000;
    let world = World::with(setup).await;
    let mut alice = Client::connect(&world.address, &token("alice", 1_500)).await;
    let mut renewing = Client::connect(&world.address, &token("alice", 1_500)).await;
    alice.ready().await;
    renewing.ready().await;
    assert!(alice.expect("token_expiring").await["expires_at"].is_string());
    renewing.expect("token_expiring").await;
    renewing.send(json!({"event": "authenticate", "id": 1, "payload": {"token": token("bob", 60_000)}})).await;
    assert_eq!(renewing.expect("error").await["code"], "token_invalid");
    renewing.send(json!({"event": "authenticate", "id": 2, "payload": {"token": token("alice", 60_000)}})).await;
    assert_eq!(renewing.expect("ack").await["state"], "accepted");
    assert_eq!(alice.closed().await, Some(4101));
    assert!(renewing.fence().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_closes_and_pongs_count() {
    use tokio::io::AsyncReadExt;
    let mut setup = Setup::default();
    setup.config.gateway.heartbeat_ms = 300;
    let world = World::with(setup).await;
    let silent = world.online("alice").await;
    // The library answers pings only while it is read.
    let mut answering = world.online("bob").await;
    let reading = tokio::spawn(async move { answering.next().await });
    until(|| async { world.node.connections() == 1 }).await;
    assert!(!reading.is_finished());
    // Read past the library, which would answer the pings that wait.
    let mut bytes = Vec::new();
    let mut silent = silent;
    silent.socket.get_mut().read_to_end(&mut bytes).await.expect("read to the end");
    let code = 4009_u16.to_be_bytes();
    assert!(bytes.windows(4).any(|window| window[0] == 0x88 && window[2..] == code), "a close frame with 4009");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_tell_what_moved_since_last_time() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    let mut bob = world.online("bob").await;
    bob.send(json!({"event": "heartbeat"})).await;
    assert_eq!(bob.expect("heads").await, json!({}));
    world.say(&chat, "alice", "moved").await;
    bob.expect("message").await;
    bob.send(json!({"event": "heartbeat"})).await;
    assert_eq!(bob.expect("heads").await, json!({ chat.as_str(): 2 }));
    bob.send(json!({"event": "heartbeat"})).await;
    assert_eq!(bob.expect("heads").await, json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_node_says_reconnect_and_takes_nobody_new() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(world.online("bob").await);
    }
    let _ = chat;
    world.shutdown.begin();
    for client in &mut clients {
        let reconnect = client.find(&["reconnect"]).await;
        assert!(reconnect["payload"]["after_ms"].as_u64().expect("after_ms") <= 500);
        assert_eq!(client.closed().await, Some(1001));
    }
    let bearer = format!("Bearer {}", token("bob", 60_000));
    let (status, body) = refusal(&world, &[("authorization", &bearer)]).await;
    assert_eq!((status, body["code"].as_str()), (503, Some("unavailable")));
    drop(clients);
    assert!(world.shutdown.finish(Duration::from_secs(10)).await, "every task ends");
    assert_eq!(world.node.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_in_redis_while_connected_and_come_back_when_forgotten() {
    let world = World::start().await;
    let alice = world.online("alice").await;
    let key = world.names.session_key("alice", &alice.session_id);
    // The client has to be read, or it would fall silent.
    let session = Arc::new(tokio::sync::Mutex::new(alice));
    let reading = Arc::clone(&session);
    let pump = tokio::spawn(async move {
        let mut alice = reading.lock().await;
        alice.closed().await
    });
    let exists = || exists(&world, &key);
    until(exists).await;
    let mut redis = world.redis.clone();
    let ttl: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut redis).await.expect("asked");
    assert!((1..=10_000).contains(&ttl), "{ttl}");
    // What FLUSHALL does to it, without doing it to others on this server.
    redis::cmd("DEL").arg(&key).exec_async(&mut redis).await.expect("deleted");
    until(exists).await;
    pump.abort();
    let _ = pump.await;
    drop(session);
    // It is taken back: by itself a key lives for at least five seconds more, and the set of all for minutes.
    let all = world.names.sessions_key("alice");
    let gone = until(|| async { !exists().await && !self::exists(&world, &all).await });
    tokio::time::timeout(Duration::from_secs(4), gone).await.expect("taken back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_while_redis_is_away_is_taken_back_afterwards() {
    let mut setup = Setup { redis_through_proxy: true, ..Setup::default() };
    setup.config.gateway.heartbeat_ms = 60_000;
    let world = World::with(setup).await;
    let proxy = world.proxy.as_ref().expect("a proxy");
    let alice = world.online("alice").await;
    let (key, all) = (world.names.session_key("alice", &alice.session_id), world.names.sessions_key("alice"));
    until(|| async { exists(&world, &key).await && exists(&world, &all).await }).await;
    proxy.close();
    until(|| async { proxy.cuts() > 0 }).await;
    drop(alice);
    until(|| async { world.node.connections() == 0 }).await;
    // Longer than anybody goes on trying to tell Redis.
    until(|| async { !exists(&world, &key).await }).await;
    assert!(exists(&world, &all).await, "the fault never hit");
    proxy.open();
    until(|| async { !exists(&world, &all).await }).await;
}

async fn exists(world: &World, key: &str) -> bool {
    let mut redis = world.redis.clone();
    redis::cmd("EXISTS").arg(key).query_async::<i64>(&mut redis).await.expect("asked") == 1
}
