//! The same history makes the same bytes, whatever dies and moves in between.

use std::sync::atomic::Ordering;

use operators::Row;
use operators::failpoint::{Failpoints, Point};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schemas::topics::Topic;
use schemas::{ChatAbuse, ChatActivity};

use crate::support::history::{expected, history};
use crate::support::{Running, Stack, dying_at, until, with_stack};

/// Records that are no events, in each partition.
async fn spoil(stack: &Stack, mark: &str) {
    for partition in 0..3 {
        stack.raw(Topic::ChatEvents, partition, "anything", Some(format!("poison {mark}").as_bytes())).await;
        stack.raw(Topic::ChatEvents, partition, "anything", None).await;
    }
}

/// The dead letters' values and where they came from; partitions are buried side by side, so their order is no matter.
async fn letters(stack: &Stack) -> Vec<Option<Vec<u8>>> {
    let mut values: Vec<_> =
        stack.read(Topic::ChatEventsDlq).await.into_values().flatten().map(|letter| letter.value).collect();
    values.sort();
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_with_kills_and_rebalances_makes_the_same_bytes() {
    with_stack(|stack| async move {
        let events = history(11, 6_000);
        let (first, second) = events.split_at(3_000);
        stack.events(first).await;
        spoil(&stack, "one").await;
        stack.events(second).await;
        spoil(&stack, "two").await;

        let calm = Running::start(&stack.config, Failpoints::default());
        stack.until_done().await;
        calm.stop().await;
        let (wanted, wanted_letters) = (stack.outputs().await, letters(&stack).await);

        // What is in the topics is what the transform says of each partition's events, in that order.
        let told: Vec<Row> = (stack.rows::<ChatActivity>().await.into_iter().map(Row::Activity))
            .chain(stack.rows::<ChatAbuse>().await.into_iter().map(Row::Abuse))
            .collect();
        let of_events: Vec<Row> = expected(&stack.config.operators, &events).into_values().flatten().collect();
        let (activity, abuse): (Vec<Row>, Vec<Row>) =
            of_events.into_iter().partition(|row| matches!(row, Row::Activity(_)));
        assert!(activity.len() > 100 && abuse.len() > 50, "{} {}", activity.len(), abuse.len());
        assert!(told == [activity, abuse].concat(), "the topics hold other rows than the transform makes");
        assert_eq!(wanted_letters.len(), 12);

        stack.forget_rows().await;
        assert_eq!(stack.outputs().await.into_values().flatten().count(), 0);
        let config = stack.config_with(|config| {
            // So many batches that the history lasts for every death below.
            config.operators.batch_records = 40;
            config.operators.gather_ms = 10;
        });
        let mut dice = StdRng::seed_from_u64(7);
        let mut deaths = [0; Point::ALL.len()];
        let (mut rounds, mut moves, mut settled) = (0, 0, None);
        while !stack.is_done().await {
            // Once at each place and alone, then anywhere and beside another one.
            let is_alone = rounds < Point::ALL.len();
            let place = if is_alone { rounds } else { dice.random_range(0..Point::ALL.len()) };
            rounds += 1;
            let (failpoints, has_died) = dying_at(Point::ALL[place], dice.random_range(1..4));
            let victim = Running::start(&config, failpoints);
            if !is_alone && moves < 6 && settled.is_none() {
                // Partitions move to it, and back when it goes.
                let other = Running::start(&config, Failpoints::default());
                other.ready().await;
                moves += 1;
                settled = Some(other);
            } else if let Some(other) = settled.take() {
                other.stop().await;
            }
            until("a death, or the end", || async { victim.has_ended() || stack.is_done().await }).await;
            if victim.has_ended() {
                assert!(victim.ended().await.is_err() && has_died.load(Ordering::SeqCst));
                deaths[place] += 1;
            } else {
                victim.stop().await;
            }
        }
        if let Some(other) = settled {
            other.stop().await;
        }
        assert!(
            deaths.iter().all(|deaths| *deaths > 0) && moves > 0,
            "{deaths:?} deaths, {moves} moves: nothing was shown"
        );
        let found = stack.outputs().await;
        for (place, wanted) in &wanted {
            assert!(found[place] == *wanted, "{place:?} holds other bytes after {deaths:?} deaths and {moves} moves");
        }
        assert_eq!(letters(&stack).await, wanted_letters);
    })
    .await;
}
