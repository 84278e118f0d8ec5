//! Operators that are stopped, fenced, cut off from the registry and given what can't be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use faults::Proxy;
use operators::Row;
use operators::failpoint::{Act, Failpoints, Point};
use runtime::Secret;
use schemas::topics::Topic;
use schemas::{ChatActivity, ChatEvent};

use crate::support::history::{NOON, expected, history, sent};
use crate::support::{PARTITIONS, Running, Stack, dying_at, server, until, with_stack};

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
        for (point, part) in Point::ALL.into_iter().zip(events.chunks(300)) {
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

/// Nothing but the transactional id stands in its way: the broker knows of no transaction of its own that it could abort, and
/// the proof of membership is taken from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_that_goes_on_is_fenced_by_its_partitions_transactional_id() {
    with_stack(|stack| async move {
        let talk = |seq: i64| sent("c", seq, if seq % 3 == 0 { "bob" } else { "alice" }, NOON + seq * 900, "talk");
        let events: Vec<ChatEvent> = (1..=400).map(talk).collect();
        // Stopped at the first event with its transaction begun, like a process under SIGSTOP.
        let gate = Arc::new(Gate::default());
        let hook = {
            let gate = Arc::clone(&gate);
            move |point, partition| gate.pass(point, partition)
        };
        let proxy = Proxy::before_kafka(&stack.config.kafka.brokers).await.expect("a proxy");
        let through = stack.config_with(|config| config.kafka.brokers = proxy.address().to_string());
        let zombie = Running::start(&through, Failpoints::new(Arc::new(hook)));
        stack.events(&events[..1]).await;
        until("in the middle", || async { gate.arrived.load(Ordering::SeqCst) }).await;
        assert_eq!(
            gate.partition.load(Ordering::SeqCst),
            i64::from(schemas::partitioner::partition_of(b"c", PARTITIONS))
        );
        // Its session runs out, and the group goes on without it: it can't get the partition back.
        proxy.freeze();
        stack.events(&events[1..]).await;
        let heir = Running::start(&stack.config, Failpoints::default());
        stack.until_done().await;
        let failed = failed_transactions();
        proxy.heal();
        gate.is_open.store(true, Ordering::SeqCst);
        zombie.stop().await;
        assert!(
            gate.woken.load(Ordering::SeqCst) && !gate.committed.load(Ordering::SeqCst),
            "the zombie has committed"
        );
        assert!(failed_transactions() > failed, "nothing has failed");
        assert!(stack.is_done().await, "the progress is back where the zombie was");
        expect_rows(&stack, &events).await;
        heir.stop().await;
        // The next one finds the state as it was left, not as the zombie had it.
        let more: Vec<ChatEvent> = (401..=500).map(talk).collect();
        stack.events(&more).await;
        let next = Running::start(&stack.config, Failpoints::default());
        stack.until_done().await;
        expect_rows(&stack, &[events, more].concat()).await;
        next.stop().await;
    })
    .await;
}

/// Holds whoever begins a transaction, and what became of it.
#[derive(Default)]
struct Gate {
    is_open: AtomicBool,
    arrived: AtomicBool,
    partition: AtomicI64,
    woken: AtomicBool,
    committed: AtomicBool,
}

impl Gate {
    fn pass(&self, point: Point, partition: i32) -> Act {
        match point {
            Point::Begun => {
                self.partition.store(i64::from(partition), Ordering::SeqCst);
                self.arrived.store(true, Ordering::SeqCst);
                while !self.is_open.load(Ordering::SeqCst) {
                    std::thread::park_timeout(std::time::Duration::from_millis(5));
                }
                self.woken.store(true, Ordering::SeqCst);
                Act::WithoutGroup
            }
            Point::Committed => {
                self.committed.store(true, Ordering::SeqCst);
                Act::Continue
            }
            Point::Produced | Point::Prepared => Act::Continue,
        }
    }
}

/// Of all operators of this process.
fn failed_transactions() -> u64 {
    let text = runtime::telemetry::metrics().render();
    let values =
        text.lines().filter_map(|line| line.strip_prefix(operators::metrics::FAILED)?.trim().parse::<u64>().ok());
    values.sum()
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
