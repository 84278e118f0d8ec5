//! Typing and presence: who is told, who isn't, over several nodes and when one of them dies.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::inbound::token;
use crate::support::proxy::Proxy;
use crate::support::{Setup, World, env};
use runtime::{Secret, Shutdown};
use serde_json::{Value, json};

/// Long enough for a node's key to end and to be missed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads until somebody looks like this; what was said of them then.
async fn sees(client: &mut Client, user_id: &str, state: &str) -> Value {
    let waiting = async {
        loop {
            client.fence().await;
            if let Some(said) = client.people.get(user_id).filter(|said| said["state"] == state) {
                return said.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{user_id} never looks {state}"))
}

fn typing(chat_id: &str) -> Value {
    json!({"event": "typing", "id": "t", "payload": {"chat_id": chat_id}})
}

/// A world whose clients may be silent while others are looked at.
async fn patient() -> World {
    let mut setup = Setup::default();
    setup.config.gateway.heartbeat_ms = 120_000;
    World::with(setup).await
}

async fn at(address: &str, user_id: &str) -> Client {
    let mut client = Client::connect(address, &token(user_id, 3_600_000)).await;
    client.ready().await;
    client
}

fn redis() -> Secret {
    Secret::new(env("WALTALKIE_TEST_REDIS"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_reaches_the_others_of_the_chat_and_nobody_else() {
    let mut world = patient().await;
    let chat = world.chat(&["alice", "bob", "erin"]).await;
    world.chat(&["carol", "bob"]).await;
    let shutdown = Shutdown::new();
    let node = world.another_node(redis(), &shutdown).await;
    let (mut alice, mut bob, mut carol) =
        (world.online("alice").await, at(&node, "bob").await, world.online("carol").await);
    // On the node of those who mustn't be told.
    let mut erin = world.online("erin").await;

    alice.send(typing(&chat)).await;
    assert_eq!(alice.expect("ack").await["state"], "accepted");
    assert_eq!(bob.expect("typing").await, json!({"chat_id": chat, "user_id": "alice"}));
    assert_eq!(erin.expect("typing").await["user_id"], "alice");
    assert!(alice.fence().await.is_empty(), "nobody is told of themselves");

    // A foreign chat and none are the same.
    for foreign in [chat.as_str(), "none"] {
        carol.send(typing(foreign)).await;
        let refused = carol.expect("error").await;
        assert_eq!((refused["code"].as_str(), refused["chat_id"].as_str()), (Some("chat_not_found"), Some(foreign)));
    }
    // Somebody who has left neither types nor sees it.
    let seq = world.write_leave(&chat, "alice").await;
    world.publish(&chat, seq).await;
    for member in [&mut bob, &mut alice, &mut erin] {
        member.expect("member_left").await;
    }
    alice.send(typing(&chat)).await;
    assert_eq!(alice.expect("error").await["code"], "chat_not_found");
    bob.send(typing(&chat)).await;
    bob.expect("ack").await;
    // Who is told of the same on the same node has it, so the others would have it too.
    assert_eq!(erin.expect("typing").await, json!({"chat_id": chat, "user_id": "bob"}));
    assert!(alice.fence().await.is_empty());
    carol.fence().await;
    assert!(!carol.bytes.contains("typing"), "{}", carol.bytes);
    shutdown.begin();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_typing_is_a_trickle() {
    let mut world = patient().await;
    let chat = world.chat(&["alice", "bob"]).await;
    let (mut alice, mut bob) = (world.online("alice").await, world.online("bob").await);
    for _ in 0..40 {
        alice.send(typing(&chat)).await;
    }
    for _ in 0..40 {
        alice.expect("ack").await;
    }
    let seq = world.say(&chat, "alice", "done").await;
    let mut typed = 0;
    loop {
        let frame = bob.frame().await;
        if frame["event"] == "message" {
            assert_eq!(frame["payload"]["seq"], seq);
            break;
        }
        assert_eq!(frame["event"], "typing");
        typed += 1;
    }
    assert!((1..20).contains(&typed), "{typed} of 40");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_of_one_chat_see_who_is_there_on_any_node() {
    let mut world = patient().await;
    let chat = world.chat(&["alice", "bob", "erin"]).await;
    world.chat(&["carol", "dave"]).await;
    let shutdown = Shutdown::new();
    let node = world.another_node(redis(), &shutdown).await;
    let (mut alice, mut carol) = (world.online("alice").await, world.online("carol").await);
    let mut bob = at(&node, "bob").await;
    assert_eq!(sees(&mut alice, "bob", "online").await["last_seen_at"], Value::Null);
    sees(&mut bob, "alice", "online").await;

    // A second device, and a short absence, are nobody's business.
    let mut second = at(&node, "bob").await;
    bob.socket.close(None).await.expect("closed");
    sees(&mut second, "alice", "online").await;
    let mut erin = at(&node, "erin").await;
    sees(&mut alice, "erin", "online").await;
    second.socket.close(None).await.expect("closed");
    let mut second = at(&node, "bob").await;
    second.fence().await;
    // Who went later than both is gone now, and they aren't.
    erin.socket.close(None).await.expect("closed");
    sees(&mut alice, "erin", "offline").await;
    assert_eq!(alice.people["bob"]["state"], "online");
    assert_eq!(alice.bytes.matches("offline").count(), 1, "{}", alice.bytes);
    let dave = world.online("dave").await;
    sees(&mut carol, "dave", "online").await;

    second.socket.close(None).await.expect("closed");
    let gone = sees(&mut alice, "bob", "offline").await;
    assert!(gone["last_seen_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{gone}");
    // Whoever leaves the chat isn't shown to it any more.
    let mut bob = at(&node, "bob").await;
    sees(&mut alice, "bob", "online").await;
    let seq = world.write_leave(&chat, "bob").await;
    world.publish(&chat, seq).await;
    bob.expect("member_left").await;
    sees(&mut alice, "bob", "offline").await;

    carol.fence().await;
    for id in ["alice", "bob", chat.as_str()] {
        assert!(!carol.bytes.contains(id), "{id} in {}", carol.bytes);
    }
    drop(dave);
    shutdown.begin();
}

/// The keys by which the nodes of a world show that they live, once there are so many.
async fn keys_of_life(world: &World, count: usize) -> Vec<String> {
    let mut redis = world.redis.clone();
    let pattern = format!("{}alive:*", world.names.prefix());
    let waiting = async {
        loop {
            let known: Vec<String> = redis::cmd("KEYS").arg(&pattern).query_async(&mut redis).await.expect("keys");
            if known.len() == count {
                return known;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the nodes show themselves")
}

async fn delete(redis: &mut redis::aio::MultiplexedConnection, keys: &[String]) {
    redis::cmd("DEL").arg(keys).exec_async(redis).await.expect("deleted");
}

/// Runs `ACL` with these words.
async fn acl(redis: &mut redis::aio::MultiplexedConnection, words: &[&str]) {
    redis::cmd("ACL").arg(words).exec_async(redis).await.expect("the access list changes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_of_a_node_without_a_sign_of_life_are_offline_until_there_is_one() {
    let mut world = patient().await;
    world.chat(&["alice", "bob"]).await;
    let own = keys_of_life(&world, 1).await;
    // The other node is somebody of whom Redis can be told what they mustn't do.
    let user = format!("{}node", world.names.prefix());
    acl(&mut world.redis, &["SETUSER", &user, "reset", "on", ">secret", "~*", "&*", "+@all"]).await;
    let url = env("WALTALKIE_TEST_REDIS").replace("redis://", &format!("redis://{user}:secret@"));
    let shutdown = Shutdown::new();
    let node = world.another_node(Secret::new(url), &shutdown).await;
    let (mut alice, _bob) = (world.online("alice").await, at(&node, "bob").await);
    sees(&mut alice, "bob", "online").await;
    let others: Vec<String> = keys_of_life(&world, 2).await.into_iter().filter(|key| !own.contains(key)).collect();

    // It goes on in everything else.
    acl(&mut world.redis, &["SETUSER", &user, "-set"]).await;
    delete(&mut world.redis, &others).await;
    assert!(sees(&mut alice, "bob", "offline").await["last_seen_at"].is_string());
    acl(&mut world.redis, &["SETUSER", &user, "+set"]).await;
    sees(&mut alice, "bob", "online").await;
    shutdown.begin();
    acl(&mut world.redis, &["DELUSER", &user]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_of_a_node_that_is_cut_off_are_offline_and_those_of_a_forgotten_one_not() {
    let mut world = patient().await;
    world.chat(&["alice", "bob"]).await;
    let shutdown = Shutdown::new();
    let proxy = Proxy::start(&env("WALTALKIE_TEST_REDIS")).await;
    let node = world.another_node(Secret::new(proxy.url()), &shutdown).await;
    let (mut alice, mut bob) = (world.online("alice").await, at(&node, "bob").await);
    sees(&mut alice, "bob", "online").await;
    sees(&mut bob, "alice", "online").await;

    // Redis forgets, as after FLUSHALL; nodes show themselves again.
    let known = keys_of_life(&world, 2).await;
    delete(&mut world.redis, &known).await;
    keys_of_life(&world, 2).await;
    alice.fence().await;
    assert_eq!(alice.bytes.matches("offline").count(), 0, "{}", alice.bytes);

    // Cut off from Redis, a node is as good as dead to the others; afterwards its people are back.
    proxy.close();
    sees(&mut alice, "bob", "offline").await;
    assert!(proxy.cuts() > 0);
    proxy.open();
    sees(&mut alice, "bob", "online").await;
    shutdown.begin();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_large_chat_nobody_is_told() {
    let mut setup = Setup::default();
    setup.config.gateway.heartbeat_ms = 120_000;
    setup.config.gateway.presence_people = 2;
    let mut world = World::with(setup).await;
    let chat = world.chat(&["alice", "bob", "carol"]).await;
    let (mut alice, mut bob) = (world.online("alice").await, world.online("bob").await);
    sees(&mut alice, "bob", "online").await;
    let mut carol = world.online("carol").await;
    assert_eq!(sees(&mut alice, "bob", "offline").await["last_seen_at"], Value::Null, "unknown from here on");
    bob.send(typing(&chat)).await;
    bob.expect("ack").await;
    // In another chat it is told, after this one would have been.
    let small = world.chat(&["bob", "carol"]).await;
    world.publish_to_user("bob", &small, 1).await;
    world.publish_to_user("carol", &small, 1).await;
    // Who is still being told what happened isn't told who types.
    carol.find(&["chat_created"]).await;
    bob.find(&["chat_created"]).await;
    bob.send(typing(&small)).await;
    assert_eq!(carol.find(&["typing"]).await["payload"]["chat_id"], small);
    assert!(!carol.bytes.contains(&format!("presence\",\"payload\":{{\"chat_id\":\"{chat}")), "{}", carol.bytes);
}
