//! A subscriber that isn't read: what it drops, it reports.

use std::time::Duration;

use runtime::redis::Heard;
use runtime::{Secret, Shutdown, redis};

/// How long the test waits for anything.
const PATIENCE: Duration = Duration::from_mins(1);
/// Messages: more than both of its queues hold.
const MESSAGES: usize = 300_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_is_reported_and_the_channel_is_subscribed_again() {
    let url = std::env::var("WALTALKIE_TEST_REDIS").expect("WALTALKIE_TEST_REDIS; scripts/test starts the servers");
    let config = runtime::config::Redis { url: Secret::new(url), ..Default::default() };
    let mut publisher = redis::commands(&config).expect("Redis");
    let channel = format!("overflow-{:016x}", rand::random::<u64>());
    let shutdown = Shutdown::new();
    let (subscriptions, mut hearing) = redis::subscriber(&config, &shutdown).expect("a subscriber");
    subscriptions.subscribe(channel.clone()).await;
    let first = tokio::time::timeout(PATIENCE, hearing.recv()).await.expect("in time");
    assert!(matches!(first, Some(Heard::Subscribed(_))), "{first:?}");
    for _ in 0..MESSAGES / 1_000 {
        let mut pipeline = ::redis::Pipeline::with_capacity(1_000);
        for _ in 0..1_000 {
            pipeline.cmd("SPUBLISH").arg(&channel).arg("x").ignore();
        }
        pipeline.exec_async(&mut publisher).await.expect("published");
    }
    let mut messages = 0;
    let is_told = tokio::time::timeout(PATIENCE, async {
        while let Some(heard) = hearing.recv().await {
            match heard {
                Heard::Message { .. } => messages += 1,
                Heard::Lost => return true,
                Heard::Subscribed(_) => {}
            }
        }
        false
    });
    assert!(is_told.await.expect("in time"), "{messages} of {MESSAGES} messages, and not a word of the others");
    assert!(messages < MESSAGES, "nothing was dropped: the test is too small");
    let again = tokio::time::timeout(PATIENCE, async {
        while let Some(heard) = hearing.recv().await {
            if matches!(heard, Heard::Subscribed(_)) {
                return true;
            }
        }
        false
    });
    assert!(again.await.expect("in time"), "not subscribed again");
    shutdown.begin();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_left_and_taken_again_loses_nothing() {
    let url = std::env::var("WALTALKIE_TEST_REDIS").expect("WALTALKIE_TEST_REDIS; scripts/test starts the servers");
    let config = runtime::config::Redis { url: Secret::new(url), ..Default::default() };
    let shutdown = Shutdown::new();
    let (subscriptions, mut hearing) = redis::subscriber(&config, &shutdown).expect("a subscriber");
    let channel = format!("again-{:016x}", rand::random::<u64>());
    const ROUNDS: usize = 200;
    for _ in 0..ROUNDS {
        subscriptions.subscribe(channel.clone()).await;
        subscriptions.unsubscribe(channel.clone()).await;
    }
    subscriptions.subscribe("the last".to_owned() + &channel).await;
    loop {
        match tokio::time::timeout(PATIENCE, hearing.recv()).await.expect("in time") {
            Some(Heard::Subscribed(channel)) if channel.starts_with("the last") => break,
            Some(Heard::Subscribed(_)) => {}
            other => panic!("{other:?} while nothing was lost"),
        }
    }
    shutdown.begin();
}
