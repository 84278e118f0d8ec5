//! Operators that are stopped, fenced, cut off from the registry and given what can't be read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use faults::Proxy;
use operators::Row;
use operators::failpoint::{Act, Failpoints, Point};
use runtime::Secret;
use schemas::topics::Topic;
use schemas::{ChatActivity, ChatEvent};

use crate::support::history::{NOON, expected, history, sent};
use crate::support::{Running, Stack, dying_at, server, until, with_stack};

/// The topic holds what follows from the events, once and in order.
async fn expect_rows(stack: &Stack, events: &[ChatEvent]) {
    let rows = expected(&stack.config.operators, events).into_values().flatten();
    let wanted: Vec<ChatActivity> =
        rows.filter_map(|row| if let Row::Activity(row) = row { Some(row) } else { None }).collect();
    assert!(stack.rows::<ChatActivity>().await == wanted, "chat.activity holds other rows than the transform makes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_point_the_next_one_goes_on_where_it_was() {
    with_stack(|stack| async move {
        let events = history(3, 1_200);
        for (point, part) in Point::ALL.into_iter().zip(events.chunks(400)) {
            stack.events(part).await;
            let (failpoints, has_died) = dying_at(point, 1);
            let victim = Running::start(&stack.config, failpoints);
            assert!(victim.ended().await.is_err() && has_died.load(Ordering::SeqCst), "{point:?}");
            let heir = Running::start(&stack.config, Failpoints::default());
            stack.until_done().await;
            heir.stop().await;
        }
        expect_rows(&stack, &events).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_that_goes_on_can_commit_nothing() {
    with_stack(|stack| async move {
        let events = history(5, 1_000);
        let (before, after) = events.split_at(500);
        stack.events(before).await;
        // Stopped with everything at the brokers and its transaction open, like a process under SIGSTOP.
        let (is_shut, arrived, passed) =
            (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let gate = (Arc::clone(&is_shut), Arc::clone(&arrived), Arc::clone(&passed));
        let hook = move |point| {
            let (is_shut, arrived, passed) = &gate;
            if point == Point::Produced && is_shut.load(Ordering::SeqCst) {
                arrived.fetch_add(1, Ordering::SeqCst);
                while is_shut.load(Ordering::SeqCst) {
                    std::thread::park_timeout(std::time::Duration::from_millis(5));
                }
                passed.lock().expect("no panic").push("woken");
            } else if point == Point::Committed {
                passed.lock().expect("no panic").push("committed");
            }
            Act::Continue
        };
        let zombie = Running::start(&stack.config, Failpoints::new(Arc::new(hook)));
        until("in the middle", || async { arrived.load(Ordering::SeqCst) > 0 }).await;
        // The other one gets partitions of the group, and what isn't its own is taken over anew as well.
        let heir = Running::start(&stack.config, Failpoints::default());
        heir.ready().await;
        stack.events(after).await;
        until("the heir's first rows", || async {
            !stack.read(Topic::OperatorsState).await.into_values().all(|records| records.is_empty())
        })
        .await;
        is_shut.store(false, Ordering::SeqCst);
        until("the zombie to go on", || async { passed.lock().expect("no panic").contains(&"woken") }).await;
        stack.until_done().await;
        // Its own transaction failed: whatever it committed later belongs to partitions that it took over anew.
        expect_rows(&stack, &events).await;
        zombie.stop().await;
        heir.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_registry_it_waits_and_with_known_ids_it_goes_on() {
    with_stack(|stack| async move {
        let (proxy, url) = Proxy::before_url(&server("WALTALKIE_TEST_REGISTRY")).await.expect("proxy");
        let config = stack.config_with(|config| config.registry.url = Secret::new(url));
        let events = history(9, 900);
        stack.events(&events[..300]).await;
        proxy.refuse();
        let running = Running::start(&config, Failpoints::default());
        until("a word about the registry", || async { running.problem().contains("registry") }).await;
        assert!(!running.health.is_ready());
        proxy.heal();
        stack.until_done().await;
        // Restarted while it works, and away for good: ids are known by now.
        stack.events(&events[300..600]).await;
        proxy.cut();
        stack.until_done().await;
        proxy.refuse();
        stack.events(&events[600..]).await;
        stack.until_done().await;
        running.ready().await;
        expect_rows(&stack, &events).await;
        running.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_event_is_buried_once_and_the_rest_goes_on() {
    with_stack(|stack| async move {
        let events = [sent("c", 1, "alice", NOON, "before"), sent("c", 2, "bob", NOON + 5_000, "after")];
        let end = sent("c", 3, "bob", NOON + 200_000, "later");
        stack.events(&events[..1]).await;
        let partition = schemas::partitioner::partition_of(b"c", 3);
        stack.raw(Topic::ChatEvents, partition, "c", Some(b"no frame")).await;
        let id = stack.registry.id_of::<ChatEvent>().await.expect("id");
        stack.raw(Topic::ChatEvents, partition, "c", Some(&schemas::codec::header(id))).await;
        stack.raw(Topic::ChatEvents, partition, "c", None).await;
        stack.events(&events[1..]).await;
        stack.events(std::slice::from_ref(&end)).await;
        // Committed and not known to be: a second burial would show here.
        let (failpoints, _) = dying_at(Point::Committed, 1);
        assert!(Running::start(&stack.config, failpoints).ended().await.is_err());
        let running = Running::start(&stack.config, Failpoints::default());
        stack.until_done().await;
        let letters: Vec<_> = stack.read(Topic::ChatEventsDlq).await.into_values().flatten().collect();
        assert_eq!(letters.len(), 3, "{letters:?}");
        assert_eq!(letters[0].value.as_deref(), Some(b"no frame".as_slice()));
        assert_eq!(letters[0].key.as_deref(), Some(b"c".as_slice()));
        let rows = stack.rows::<ChatActivity>().await;
        assert_eq!(rows.iter().map(|row| (row.messages, row.revision)).collect::<Vec<_>>(), [(2, 0)]);
        running.ready().await;
        running.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_share_the_work_and_one_more_that_has_none_are_ready() {
    with_stack(|stack| async move {
        let events = history(13, 2_000);
        let all: Vec<Running> = (0..4).map(|_| Running::start(&stack.config, Failpoints::default())).collect();
        for running in &all {
            running.ready().await;
        }
        stack.events(&events).await;
        stack.until_done().await;
        expect_rows(&stack, &events).await;
        for running in all {
            running.ready().await;
            running.stop().await;
        }
    })
    .await;
}
