//! Events to sockets: order, losses, entitlement, resume.

use crate::support::client::summary;
use std::time::{Duration, Instant};

use crate::support::{Setup, World, until};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_live_in_order_with_their_way() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    let (mut alice, mut bob) = (world.online("alice").await, world.online("bob").await);
    for n in 0..50 {
        world.say(&chat, "alice", &format!("message {n}")).await;
    }
    for client in [&mut alice, &mut bob] {
        for n in 0..50 {
            let message = client.expect("message").await;
            assert_eq!(
                (message["seq"].as_i64(), message["content"].as_str()),
                (Some(n + 2), Some(&*format!("message {n}")))
            );
            assert_eq!(message["way"]["partition"], 2);
            assert_eq!(message["way"]["relayed_at"], "1970-01-01T00:00:00.001Z");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chats_say_where_each_stands() {
    let mut world = World::start().await;
    let first = world.chat(&["alice", "bob"]).await;
    let second = world.chat(&["alice"]).await;
    world.write(&first, "bob", "later").await;
    world.write_leave(&second, "alice").await;
    let join = world.write_join(&second, "alice", false).await;
    let left = world.chat(&["alice", "bob"]).await;
    let left_seq = world.write_leave(&left, "alice").await;
    world.write(&left, "bob", "behind alice's back").await;
    let mut alice = world.connect("alice").await;
    let chats = alice.ready().await;
    let find = |chat_id: &str| chats.iter().find(|chat| chat["chat_id"] == chat_id).expect("chat").clone();
    assert_eq!(find(&first)["head_seq"], 2);
    assert_eq!(
        find(&second)["visible"],
        serde_json::json!([[1, null]]).clone(),
        "left at 2, back at {join}: one range"
    );
    assert_eq!(find(&left)["head_seq"], left_seq, "nothing of what came after");
    assert_eq!(find(&left)["visible"], serde_json::json!([[1, left_seq]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pubsub_loses_is_healed_by_the_next_event() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    let mut bob = world.online("bob").await;
    for _ in 0..5 {
        world.write(&chat, "alice", "lost").await;
    }
    world.say(&chat, "alice", "heard").await;
    for seq in 2..=7 {
        let message = bob.expect("message").await;
        assert_eq!(message["seq"], seq);
        assert_eq!(message["way"].is_object(), seq == 7, "all but the last were read from Postgres");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_the_last_message_is_healed_by_heads() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    let mut bob = world.online("bob").await;
    let began = Instant::now();
    world.write(&chat, "alice", "lost").await;
    let message = bob.find(&["message"]).await;
    assert_eq!(message["payload"]["content"], "lost");
    // A heartbeat, the second for which it may be on its way, and some time for a busy machine.
    let healed = began.elapsed();
    assert!(healed < Duration::from_millis(world.config.gateway.heartbeat_ms) + Duration::from_secs(4), "{healed:?}");
    assert!(message["payload"]["way"].is_null(), "read from Postgres");
    // The same event, late: nobody sees it twice.
    world.publish(&chat, 2).await;
    world.say(&chat, "alice", "next").await;
    assert_eq!(bob.expect("message").await["seq"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_could_not_be_read_are_asked_for_again_at_once() {
    let mut setup = Setup::default();
    setup.config.gateway.heartbeat_ms = 5_000;
    let mut world = World::with(setup).await;
    let chat = world.chat(&["alice", "bob"]).await;
    let mut bob = world.online("bob").await;
    let seq = world.write(&chat, "alice", "lost").await;
    world.sql.batch_execute("ALTER TABLE chat_counter RENAME TO chat_counter_away").await.expect("renamed");
    until(|| async { !world.health.is_ready() }).await;
    world.sql.batch_execute("ALTER TABLE chat_counter_away RENAME TO chat_counter").await.expect("renamed back");
    let began = Instant::now();
    assert_eq!(bob.find(&["message"]).await["payload"]["seq"], seq);
    // Not a heartbeat later: the second for which it may be on its way, and some time for a busy machine.
    let healed = began.elapsed();
    assert!(healed < Duration::from_secs(4), "{healed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_subscription_is_healed_at_once() {
    let mut world = World::with(Setup { redis_through_proxy: true, ..Setup::default() }).await;
    let chat = world.chat(&["alice", "bob"]).await;
    let mut bob = world.online("bob").await;
    for round in 0..3 {
        world.proxy.as_ref().expect("proxy").cut();
        for _ in 0..3 {
            world.say(&chat, "alice", "around the cut").await;
        }
        for n in 0..3 {
            assert_eq!(bob.find(&["message"]).await["payload"]["seq"], 2 + round * 3 + n);
        }
    }
    assert!(world.proxy.as_ref().expect("proxy").cuts() >= 3, "each round cut something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_people_connect_and_messages_come_by_heads() {
    let mut world = World::with(Setup { redis_through_proxy: true, ..Setup::default() }).await;
    let chat = world.chat(&["alice", "bob"]).await;
    world.proxy.as_ref().expect("proxy").close();
    let mut bob = world.online("bob").await;
    world.write(&chat, "alice", "no pubsub").await;
    assert_eq!(bob.find(&["message"]).await["payload"]["seq"], 2);
    world.proxy.as_ref().expect("proxy").open();
    world.write(&chat, "alice", "still").await;
    assert_eq!(bob.find(&["message"]).await["payload"]["seq"], 3);
    let mut pubsub_is_back = false;
    for seq in 4..200 {
        world.say(&chat, "alice", "again").await;
        let message = bob.find(&["message"]).await;
        assert_eq!(message["payload"]["seq"], seq);
        if message["payload"]["way"].is_object() {
            pubsub_is_back = true;
            break;
        }
    }
    assert!(pubsub_is_back);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaver_gets_the_leaving_and_nothing_after() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob", "carol"]).await;
    let (mut bob, mut carol) = (world.online("bob").await, world.online("carol").await);
    let left = world.write_leave(&chat, "bob").await;
    world.publish(&chat, left).await;
    for _ in 0..3 {
        world.say(&chat, "alice", "canary-after-leaving").await;
    }
    let gone = bob.expect("member_left").await;
    assert_eq!((gone["seq"].as_i64(), gone["memberships"][0]["user_id"].as_str()), (Some(left), Some("bob")));
    assert_eq!(carol.expect("member_left").await["seq"], left);
    for n in 1..=3 {
        assert_eq!(carol.expect("message").await["seq"], left + n);
    }
    assert!(bob.fence().await.is_empty());
    bob.resume(&[(&chat, 0)]).await;
    let frames = [bob.frame().await, bob.frame().await, bob.frame().await];
    let seen: Vec<String> = frames.iter().map(summary).collect();
    assert_eq!(seen, ["chat_created 1", &format!("member_left {left}"), &format!("resumed 0-{left}")]);
    assert!(!bob.bytes.contains("canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_history_stays_hidden() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    for _ in 0..3 {
        world.write(&chat, "alice", "canary-history").await;
    }
    let join = world.write_join(&chat, "carol", false).await;
    assert_eq!(join, 5);
    let mut carol = world.online("carol").await;
    let mut bob = world.online("bob").await;
    let hidden = world.write_edit(&chat, 2, "canary-edited").await;
    world.publish(&chat, hidden).await;
    let own = world.say(&chat, "carol", "mine").await;
    let edit = world.write_edit(&chat, own, "mine, edited").await;
    world.publish(&chat, edit).await;
    let seen = [carol.frame().await, carol.frame().await, carol.frame().await];
    assert_eq!(seen.each_ref().map(summary), ["skipped 6-6", "message 7", "message_edited 8"]);
    assert_eq!(bob.expect("message_edited").await["content"], "canary-edited");
    carol.resume(&[(&chat, 0)]).await;
    let seen: Vec<String> = carol.fence().await.iter().map(summary).collect();
    // The fence may overtake a read from Postgres, so what is left is awaited.
    let mut seen = seen;
    while seen.len() < 6 {
        seen.push(summary(&carol.frame().await));
    }
    assert_eq!(seen, ["skipped 1-4", "member_joined 5", "skipped 6-6", "message 7", "message_edited 8", "resumed 0-8"]);
    assert!(!carol.bytes.contains("canary"), "{}", carol.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_events_wait_behind_a_resume() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    world.write_many(&chat, "alice", 600).await;
    let mut bob = world.online("bob").await;
    bob.resume(&[(&chat, 0)]).await;
    for _ in 0..50 {
        world.say(&chat, "alice", "live").await;
    }
    let mut next = 1;
    let mut resumed = None;
    while next <= 651 {
        let frame = bob.frame().await;
        match frame["event"].as_str() {
            Some("resumed") => resumed = Some(frame["payload"].clone()),
            Some("message" | "chat_created") => {
                assert_eq!(frame["payload"]["seq"], next, "{frame}");
                next += 1;
            }
            _ => panic!("{frame}"),
        }
    }
    let resumed = resumed.expect("resumed");
    assert_eq!((resumed["from_seq"].as_i64(), resumed["complete"].as_bool()), (Some(0), Some(true)));
    assert!(resumed["to_seq"].as_i64().expect("to_seq") >= 601);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_resume_says_where_to_go_on() {
    let mut setup = Setup::default();
    setup.config.gateway.resume_events = 250;
    let mut world = World::with(setup).await;
    let chat = world.chat(&["alice", "bob"]).await;
    world.write_many(&chat, "alice", 400).await;
    let mut bob = world.online("bob").await;
    let mut cursor = 0;
    let mut rounds = 0;
    loop {
        rounds += 1;
        bob.resume(&[(&chat, cursor)]).await;
        let resumed = loop {
            let frame = bob.frame().await;
            if frame["event"] == "resumed" {
                break frame["payload"].clone();
            }
            cursor += 1;
            assert_eq!(frame["payload"]["seq"], cursor);
        };
        assert_eq!(resumed["to_seq"], cursor);
        if resumed["complete"] == true {
            break;
        }
        assert_eq!(cursor, 250, "as many as the configuration says");
    }
    assert_eq!((rounds, cursor), (2, 401));
    world.say(&chat, "alice", "live again").await;
    assert_eq!(bob.expect("message").await["seq"], 402);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_at_and_above_the_head_are_answered_at_once() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    let mut bob = world.online("bob").await;
    bob.resume(&[(&chat, 1)]).await;
    assert_eq!(summary(&bob.frame().await), "resumed 1-1");
    bob.resume(&[(&chat, 99)]).await;
    let resumed = bob.expect("resumed").await;
    assert_eq!((resumed["to_seq"].as_i64(), resumed["complete"].as_bool()), (Some(1), Some(true)));
    bob.epoch = "another".into();
    bob.resume(&[(&chat, 1)]).await;
    let refused = bob.frame().await;
    assert_eq!((refused["payload"]["code"].as_str(), refused["id"].as_str()), (Some("conflict"), Some("r")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_no_byte() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    world.write(&chat, "alice", "canary-0").await;
    let (mut eve, mut bob) = (world.online("eve").await, world.online("bob").await);
    let nowhere = "no-such-chat";
    eve.resume(&[(&chat, 0), (nowhere, 0)]).await;
    let mut refusals: Vec<Value> = Vec::new();
    for _ in 0..2 {
        refusals.push(eve.expect("error").await);
    }
    for refused in &mut refusals {
        assert_eq!(refused["code"], "chat_not_found");
        refused.as_object_mut().expect("object").remove("chat_id").expect("chat_id");
    }
    assert_eq!(refusals[0], refusals[1], "absent and forbidden are the same");
    eve.send(serde_json::json!({"event": "mark_read", "payload": {"marks": {chat.as_str(): 1}}})).await;
    assert_eq!(eve.expect("error").await["code"], "chat_not_found");
    world.say(&chat, "alice", "canary-1").await;
    assert_eq!(bob.expect("message").await["content"], "canary-1");
    assert!(eve.fence().await.is_empty());
    assert!(!eve.bytes.contains("canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_does_not_wait_for_a_read_that_hangs() {
    let mut setup = Setup::default();
    // Nothing else has the connection written to.
    (setup.config.gateway.presence_people, setup.config.gateway.heartbeat_ms) = (0, 60_000);
    let mut world = World::with(setup).await;
    let chat = world.chat(&["alice", "bob"]).await;
    world.write(&chat, "alice", "read late").await;
    let mut bob = world.online("bob").await;
    let mut locks = world.another_connection().await;
    let lock = World::lock_messages(&mut locks).await;
    bob.resume(&[("no-such-chat", 0), (&chat, 1)]).await;
    assert_eq!(bob.expect("error").await["code"], "chat_not_found");
    lock.commit().await.expect("commit");
    assert_eq!(bob.expect("message").await["content"], "read late");
    assert_eq!(bob.expect("resumed").await["complete"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_added_while_connected_gets_the_chat_and_its_events() {
    let mut world = World::start().await;
    let mut carol = world.online("carol").await;
    let chat = world.chat(&["alice", "bob"]).await;
    let mut bob = world.online("bob").await;
    let join = world.write_join(&chat, "carol", true).await;
    world.publish(&chat, join).await;
    world.publish_to_user("carol", &chat, join).await;
    assert_eq!(bob.expect("member_joined").await["seq"], join);
    let chats = carol.expect("chats").await;
    assert_eq!(
        (chats["chats"][0]["chat_id"].as_str(), chats["chats"][0]["head_seq"].as_i64()),
        (Some(&*chat), Some(join - 1))
    );
    assert_eq!(carol.expect("member_joined").await["seq"], join);
    world.say(&chat, "alice", "welcome").await;
    assert_eq!(carol.expect("message").await["seq"], join + 1);
    // Away and back, on the same socket.
    let left = world.write_leave(&chat, "carol").await;
    world.publish(&chat, left).await;
    assert_eq!(carol.expect("member_left").await["seq"], left);
    world.say(&chat, "alice", "canary").await;
    let back = world.write_join(&chat, "carol", false).await;
    world.publish(&chat, back).await;
    let chats = carol.expect("chats").await;
    assert_eq!(chats["chats"][0]["visible"], serde_json::json!([[1, left], [back, null]]));
    assert_eq!(carol.expect("member_joined").await["seq"], back);
    assert!(!carol.bytes.contains("canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_reach_those_who_are_in_the_chat() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    let mut alice = world.online("alice").await;
    let payload = serde_json::json!({"chat_id": chat, "users": {"bob": {"delivered_seq": 1, "read_seq": 1}}});
    world.publish_receipts(&payload).await;
    assert_eq!(alice.expect("receipt").await, payload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_of_a_crowd_are_counted_and_ones_own_comes_by_name() {
    let mut setup = Setup::default();
    setup.config.gateway.receipt_people = 2;
    let mut world = World::with(setup).await;
    let chat = world.chat(&["alice", "bob", "carol", "dave"]).await;
    let (mut alice, mut dave) = (world.online("alice").await, world.online("dave").await);
    let marks =
        |delivered_seq: i64, read_seq: i64| serde_json::json!({"delivered_seq": delivered_seq, "read_seq": read_seq});
    let users = serde_json::json!({"alice": marks(5, 5), "bob": marks(5, 4), "carol": marks(5, 5)});
    world.publish_receipts(&serde_json::json!({"chat_id": chat, "users": users})).await;
    let own = serde_json::json!({"chat_id": chat, "users": {"alice": marks(5, 5)}});
    let counts = serde_json::json!({"chat_id": chat, "counts": {"delivered": {"5": 3}, "read": {"4": 1, "5": 2}}});
    assert_eq!((alice.expect("receipt").await, alice.expect("receipt").await), (own, counts.clone()));
    assert_eq!(dave.expect("receipt").await, counts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_subscribed_to_a_chat_while_a_member_is_connected_and_a_while_longer() {
    let mut world = World::start().await;
    let chat = world.chat(&["alice", "bob"]).await;
    assert_eq!(world.nodes_of(&chat).await, 0, "nobody is here");
    let (alice, bob) = (world.online("alice").await, world.online("bob").await);
    until(|| async { world.nodes_of(&chat).await == 1 }).await;
    drop(alice);
    until(|| async { world.node.connections() == 1 }).await;
    assert_eq!(world.nodes_of(&chat).await, 1, "bob is still here");
    drop(bob);
    until(|| async { world.node.connections() == 0 }).await;
    let left = Instant::now();
    until(|| async { world.nodes_of(&chat).await == 0 }).await;
    let kept = left.elapsed();
    assert!(kept > Duration::from_millis(5 * world.config.gateway.heartbeat_ms), "kept only for {kept:?}");
    let mut bob = world.online("bob").await;
    until(|| async { world.nodes_of(&chat).await == 1 }).await;
    world.say(&chat, "alice", "again").await;
    assert!(bob.find(&["message"]).await["payload"]["way"].is_object(), "over the channel");
}
