//! Killed anywhere, the worker loses nothing and repeats nothing. Each test shows that its fault hit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::support::{self, Stack, count_all, eventually, read_events};
use anyhow::{Context, Result, ensure};
use cdc_worker::failpoint::{Act, Failpoints, Point};
use cdc_worker::producer::{Options, Producer};
use runtime::config::Compression;
use schemas::topics::Topic;

/// The committed history equals the table: every chat dense from 1, nothing twice.
async fn check(stack: &Stack, rows: usize) -> Result<()> {
    eventually(&format!("{rows} events"), async || Ok(read_events(&stack.config).await?.len() >= rows)).await?;
    let mut chats: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let events = read_events(&stack.config).await?;
    for logged in &events {
        chats.entry(logged.key.clone()).or_default().push(logged.event.seq);
    }
    for (chat, seqs) in &chats {
        ensure!(*seqs == (1..=seqs.len() as i64).collect::<Vec<_>>(), "{chat}: {seqs:?}");
    }
    let row = stack.sql.query_one("SELECT count(*) FROM message", &[]).await?;
    ensure!(row.get::<_, i64>(0) == events.len() as i64, "{} events of {} rows", events.len(), row.get::<_, i64>(0));
    Ok(())
}

/// Rows of a transaction that takes at least three of Kafka's.
const LARGE: i64 = 50_000;

/// Dies at the `nth` passing of a point, once; counts the passings.
fn dies_at(point: Point, nth: usize) -> (Failpoints, Arc<AtomicUsize>) {
    let passed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&passed);
    let hook = move |at| {
        let dies = at == point && counter.fetch_add(1, Ordering::SeqCst) + 1 == nth;
        if dies { Act::Die } else { Act::Continue }
    };
    (Failpoints::new(Arc::new(hook)), passed)
}

async fn killed_at(point: Point, nth: usize, rows: i64, a_transaction: i64) -> Result<()> {
    let stack = Stack::new().await?;
    let (failpoints, passed) = dies_at(point, nth);
    let running = stack.start_with(failpoints);
    for from in (1..=rows).step_by(a_transaction as usize) {
        stack.send_many("c", from, from + a_transaction - 1).await?;
    }
    check(&stack, rows as usize).await?;
    running.stop().await?;
    check(&stack, rows as usize).await?;
    ensure!(passed.load(Ordering::SeqCst) >= nth, "the fault never hit");
    if point == Point::Produced {
        let aborted = count_all(&stack.config).await? as i64 - rows;
        ensure!(aborted > 0, "no transaction was aborted");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_a_transaction_began() -> Result<()> {
    killed_at(Point::Begun, 7, 200, 10).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_within_a_transaction_of_which_a_part_is_published() -> Result<()> {
    killed_at(Point::Row, LARGE as usize - 5_000, LARGE, LARGE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_produce_and_commit() -> Result<()> {
    killed_at(Point::Produced, 1, 200, 10).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_produce_and_commit_within_a_large_transaction() -> Result<()> {
    killed_at(Point::Produced, 2, LARGE, LARGE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_commit_and_feedback() -> Result<()> {
    killed_at(Point::Committed, 1, 200, 10).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_commit_and_feedback_within_a_large_transaction() -> Result<()> {
    killed_at(Point::Committed, 2, LARGE, LARGE).await
}

/// The next transaction is on its way already when the commit of the one before turns out to be refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_refused_takes_the_next_transaction_along() -> Result<()> {
    let stack = Stack::new().await?;
    let (names, kafka) = (stack.config.names(), stack.config.kafka.clone());
    let options = Options {
        transactional_id: names.transactional_id(&format!("cdc-{}-a", stack.slot())),
        transaction_timeout: Duration::from_secs(10),
        topics: vec![names.topic(Topic::ChatEvents)],
        compression: Compression::None,
    };
    let is_taken = Arc::new(AtomicBool::new(false));
    let taken = Arc::clone(&is_taken);
    // All of the first transaction is at the brokers and its commit is about to be asked for; the queue fills meanwhile.
    let hook = move |at| {
        if at == Point::Produced && !taken.load(Ordering::SeqCst) {
            Producer::take_over(&kafka, &options).expect("the id is taken over");
            taken.store(true, Ordering::SeqCst);
        }
        Act::Continue
    };
    let running = stack.start_with(Failpoints::new(Arc::new(hook)));
    stack.send_many("c", 1, LARGE).await?;
    check(&stack, LARGE as usize).await?;
    running.stop().await?;
    check(&stack, LARGE as usize).await?;
    ensure!(is_taken.load(Ordering::SeqCst), "nobody took the id over");
    let aborted = count_all(&stack.config).await? as i64 - LARGE;
    ensure!(aborted > 0, "no transaction was aborted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_and_started_again() -> Result<()> {
    let stack = Stack::new().await?;
    let writer = stack.connect().await?;
    let writing = tokio::spawn(async move {
        for seq in 1..=3_000_i64 {
            support::insert(&writer, &format!("chat-{}", seq % 3), (seq + 2) / 3, "text").await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    let mut kills = 0;
    while !writing.is_finished() || kills < 4 {
        // Counts what the worker gets done, so that it is killed while it works.
        let work = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&work);
        let running = stack.start_with(Failpoints::new(Arc::new(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            Act::Continue
        })));
        let enough = rand::random_range(1..400);
        while work.load(Ordering::SeqCst) < enough && !writing.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.kill().await;
        kills += 1;
    }
    writing.await??;
    let running = stack.start();
    check(&stack, 3_000).await?;
    running.stop().await?;
    check(&stack, 3_000).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_and_the_stopped_one_publishes_nothing() -> Result<()> {
    let stack = Stack::new().await?;
    let (reached, at_point) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let (reached, gate) = (Mutex::new(reached), Mutex::new(gate));
    let armed = Arc::new(AtomicBool::new(false));
    let is_armed = Arc::clone(&armed);
    // Stops in mid-transaction, with every record at the brokers, until the gate is opened; then tries to commit.
    let first = stack.start_with(Failpoints::new(Arc::new(move |point| {
        if point == Point::Produced && is_armed.load(Ordering::SeqCst) {
            let _ = reached.lock().map(|reached| reached.send(()));
            let _ = gate.lock().map(|gate| gate.recv());
        }
        Act::Continue
    })));
    let health = first.health.clone();
    eventually("the first streams", async || Ok(health.is_ready())).await?;
    let second = stack.start();
    stack.send_many("c", 1, 50).await?;
    check(&stack, 50).await?;
    armed.store(true, Ordering::SeqCst);
    stack.send_many("c", 51, 100).await?;
    tokio::task::spawn_blocking(move || at_point.recv_timeout(support::PATIENCE)).await?.context("the point")?;
    // Its loop is gone, and with it the lease; its producer still holds an open transaction.
    first.kill().await;
    let taken_over = std::time::Instant::now();
    check(&stack, 100).await?;
    let took = taken_over.elapsed();
    // The stopped one goes on, and must not add anything.
    go_on.send(())?;
    stack.send_many("c", 101, 200).await?;
    check(&stack, 200).await?;
    second.stop().await?;
    check(&stack, 200).await?;
    ensure!(count_all(&stack.config).await? > 200, "no transaction was aborted");
    ensure!(took < Duration::from_secs(10), "the takeover took {took:?}");
    eprintln!("taken over in {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_pass_the_slot_to_and_fro() -> Result<()> {
    let stack = Stack::new().await?;
    let (mut active, mut standby) = (stack.start(), stack.start());
    let mut rows = 0;
    for round in 0..4 {
        stack.send_many("c", rows + 1, rows + 50).await?;
        rows += 50;
        if round % 2 == 0 {
            active.stop().await?;
        } else {
            active.kill().await;
        }
        stack.send_many("c", rows + 1, rows + 50).await?;
        rows += 50;
        check(&stack, rows as usize).await?;
        active = standby;
        standby = stack.start();
    }
    active.stop().await?;
    standby.stop().await?;
    check(&stack, rows as usize).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_ends_the_connection_in_mid_stream() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.send("c", 1, "text").await?;
    check(&stack, 1).await?;
    let writer = stack.connect().await?;
    let writing = tokio::spawn(async move {
        for seq in 2..=2_000_i64 {
            support::insert(&writer, "c", seq, "text").await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    let mut ended = 0;
    while !writing.is_finished() {
        ended += stack
            .sql
            .execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
                  WHERE slot_name = $1 AND active_pid IS NOT NULL",
                &[&stack.slot()],
            )
            .await?;
        eventually("it streams again", async || {
            let streams = "SELECT 1 FROM pg_replication_slots WHERE slot_name = $1 AND active";
            Ok(!stack.sql.query(streams, &[&stack.slot()]).await?.is_empty())
        })
        .await?;
    }
    writing.await??;
    ensure!(ended > 0, "no connection was ended");
    check(&stack, 2_000).await?;
    running.stop().await?;
    check(&stack, 2_000).await
}
