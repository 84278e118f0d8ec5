//! A subscriber that isn't read, and one that doesn't read: what is dropped is reported.

use std::time::{Duration, Instant};

use runtime::redis::{Commands, Heard};
use runtime::{Secret, Shutdown, redis};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long the test waits for anything.
const PATIENCE: Duration = Duration::from_mins(1);
/// A line whose pings aren't answered ends by itself after a little more.
const UNANSWERED: Duration = Duration::from_secs(9);
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

/// A proxy's URL. While it is stalled, it reads nothing of what the server says.
async fn stalling(url: &str, is_stalled: watch::Receiver<bool>) -> String {
    let server = url.trim_start_matches("redis://").trim_end_matches('/').to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&server).await else { continue };
            let (mut from_client, to_client) = client.into_split();
            let (from_server, mut to_server) = server.into_split();
            let is_stalled = is_stalled.clone();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                    _ = relay(from_server, to_client, is_stalled) => {}
                }
            });
        }
    });
    format!("redis://127.0.0.1:{port}")
}

async fn relay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_stalled: watch::Receiver<bool>) -> Option<()> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        is_stalled.wait_for(|is_stalled| !is_stalled).await.ok()?;
        let count = from.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
        to.write_all(&bytes[..count]).await.ok()?;
    }
}

/// To how many it went.
async fn publish(redis: &mut Commands, channel: &str, payload: &[u8]) -> usize {
    ::redis::cmd("SPUBLISH").arg(channel).arg(payload).query_async(redis).await.expect("published")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_redis_cuts_as_too_slow_is_told_and_goes_on() {
    let url = std::env::var("WALTALKIE_TEST_REDIS").expect("WALTALKIE_TEST_REDIS; scripts/test starts the servers");
    let (stall, is_stalled) = watch::channel(false);
    let through = stalling(&url, is_stalled).await;
    let direct = runtime::config::Redis { url: Secret::new(url), ..Default::default() };
    let slow = runtime::config::Redis { url: Secret::new(through), ..Default::default() };
    let mut publisher = redis::commands(&direct).expect("Redis");
    let channel = format!("slow-{:016x}", rand::random::<u64>());
    let shutdown = Shutdown::new();
    let (subscriptions, mut hearing) = redis::subscriber(&slow, &shutdown).expect("a subscriber");
    subscriptions.subscribe(channel.clone()).await;
    let first = tokio::time::timeout(PATIENCE, hearing.recv()).await.expect("in time");
    assert!(matches!(first, Some(Heard::Subscribed(_))), "{first:?}");
    // Redis keeps 32 MB for a subscriber that doesn't read; some more are in the kernel's buffers.
    let (megabyte, began, mut published) = (vec![b'x'; 1 << 20], Instant::now(), 0);
    stall.send(true).expect("a proxy");
    while publish(&mut publisher, &channel, &megabyte).await == 1 {
        published += 1;
        assert!(published < 200, "Redis never cut it");
    }
    assert!(published > 16 && began.elapsed() < UNANSWERED, "it ended by itself, after {published} MB");
    stall.send(false).expect("a proxy");
    let is_told = tokio::time::timeout(PATIENCE, async {
        let mut is_lost = false;
        while let Some(heard) = hearing.recv().await {
            match heard {
                Heard::Message { .. } => {}
                Heard::Lost => is_lost = true,
                Heard::Subscribed(_) => return is_lost,
            }
        }
        false
    });
    assert!(is_told.await.expect("in time"), "it isn't told");
    assert_eq!(publish(&mut publisher, &channel, b"after").await, 1);
    let next = tokio::time::timeout(PATIENCE, hearing.recv()).await.expect("in time");
    assert!(matches!(&next, Some(Heard::Message { payload, .. }) if payload == b"after"), "{next:?}");
    shutdown.begin();
}
