//! The history completed from the tables: every event that is missing, in order, none twice, whatever goes on meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::support::completing::{complete, complete_with};
use crate::support::history::{check, check_when_arrived};
use crate::support::{self, Stack, count_all, eventually, read_events, read_positions, read_users};
use anyhow::{Context, Result, ensure};
use cdc_worker::failpoint::{Act, Failpoints, Point};
use cdc_worker::resnapshot::{self, Options, Report, Step};
use runtime::Shutdown;
use schemas::Position;

/// Publishes what is there, and loses the slot.
async fn publish_and_lose_the_slot(stack: &Stack) -> Result<()> {
    let running = stack.start();
    check_when_arrived(stack).await?;
    running.stop().await?;
    stack.drop_slot().await
}

/// A plain worker goes on after it.
async fn goes_on(stack: &Stack) -> Result<()> {
    let running = stack.start();
    stack.busy_chat("after", 0, 20).await?;
    stack.change_user("after", 1, "After", false).await?;
    check_when_arrived(stack).await?;
    running.stop().await?;
    check(stack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_slot_is_made_anew_and_what_it_missed_is_added() -> Result<()> {
    let stack = Stack::new().await?;
    stack.busy_chat("a", 0, 40).await?;
    stack.busy_chat("b", 0, 7).await?;
    stack.change_user("alice", 1, "Alice", false).await?;
    stack.change_user("bob", 1, "Bob", false).await?;
    publish_and_lose_the_slot(&stack).await?;
    let before = read_events(&stack.config).await?.len();
    // Seen by no slot: more of a known chat, new chats, and changes of what was published.
    stack.busy_chat("a", 40, 60).await?;
    stack.busy_chat("c", 0, 2_500).await?;
    stack.send_many("d", 1, 1).await?;
    stack.delete_message("b", 7, 2).await?;
    stack.change_user("alice", 2, "Alice B.", false).await?;
    stack.change_user("bob", 2, "", true).await?;
    stack.change_user("carol", 1, "Carol", false).await?;
    stack.change_user("gone", 1, "Gone", false).await?;
    stack.change_user("gone", 2, "", true).await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("isn't there") && why.contains("`waltalkie cdc resnapshot`"), "{why}");

    let summary = complete(&stack).await?;
    check(&stack).await?;
    ensure!(summary.makes_slot && !summary.was_whole && !summary.was_resumed, "{summary:?}");
    ensure!(summary.events_before as usize == before, "{summary:?}");
    ensure!((summary.events_added, summary.chats, summary.users) == (20 + 2_500 + 1 + 1, 4, 3), "{summary:?}");
    ensure!(read_users(&stack.config).await?.iter().all(|(user, _)| user != "gone"), "nobody heard of them");
    let last = read_positions(&stack.config).await?.pop().context("a position")?;
    ensure!(last.resnapshot_until_lsn.is_none(), "{last:?}");
    ensure!(stack.sql.query("SELECT FROM cdc_lease", &[]).await?.is_empty(), "the lease is given back");
    goes_on(&stack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_any_history_are_its_first_snapshot() -> Result<()> {
    let stack = Stack::new().await?;
    stack.drop_slot().await?;
    stack.forget_topics().await?;
    for chat in 0..700 {
        stack.send_many(&format!("chat-{chat}"), 1, 1 + chat % 7).await?;
    }
    stack.busy_chat("busy", 0, 90).await?;
    stack.change_user("alice", 3, "Alice", false).await?;
    let made = stack.make_slot().await.expect_err("the first position would hide what is there");
    ensure!(format!("{made:#}").contains("`waltalkie cdc resnapshot`"), "{made:#}");
    let why = stack.start().refusal().await?;
    ensure!(why.contains("has no position") && why.contains("`waltalkie cdc resnapshot`"), "{why}");
    let summary = complete(&stack).await?;
    check(&stack).await?;
    ensure!((summary.events_before, summary.chats, summary.users) == (0, 701, 1), "{summary:?}");
    goes_on(&stack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chats_are_written_to_meanwhile() -> Result<()> {
    let stack = Stack::new().await?;
    stack.busy_chat("shared", 0, 50).await?;
    publish_and_lose_the_slot(&stack).await?;
    stack.busy_chat("shared", 50, 100).await?;
    stack.send_many("large", 1, 12_000).await?;
    let writers = Writers::start(&stack).await?;
    let summary = complete(&stack).await?;
    ensure!(summary.rows_followed > 0, "nobody wrote meanwhile: {summary:?}");
    let running = stack.start();
    let written = writers.stop().await?;
    check_when_arrived(&stack).await?;
    running.stop().await?;
    check(&stack).await?;
    eprintln!("{written} rows meanwhile, {} of them by the slot: {summary:?}", summary.rows_followed);
    Ok(())
}

/// Dies at the `nth` passing of a point and ever after; counts the passings.
fn dies_from(point: Point, nth: usize) -> (Failpoints, Arc<AtomicUsize>) {
    let passed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&passed);
    let hook = move |at| {
        let dies = at == point && counter.fetch_add(1, Ordering::SeqCst) + 1 >= nth;
        if dies { Act::Die } else { Act::Continue }
    };
    (Failpoints::new(Arc::new(hook)), passed)
}

/// Killed, refused to a plain worker, killed again, gone on with.
async fn killed_at(point: Point, nth: usize) -> Result<()> {
    let stack = Stack::new().await?;
    stack.busy_chat("a", 0, 50).await?;
    stack.change_user("alice", 1, "Alice", false).await?;
    publish_and_lose_the_slot(&stack).await?;
    stack.busy_chat("a", 50, 100).await?;
    stack.send_many("large", 1, 15_000).await?;
    stack.change_user("alice", 2, "Alice", false).await?;
    let writers = Writers::start(&stack).await?;
    let records = count_all(&stack.config).await?;
    for nth in [nth, 1] {
        let (failpoints, passed) = dies_from(point, nth);
        let error = complete_with(&stack, failpoints).await.expect_err("it is killed");
        ensure!(passed.load(Ordering::SeqCst) >= nth, "the fault never hit: {error:#}");
        let why = stack.start().refusal().await?;
        ensure!(why.contains("isn't whole yet") && why.contains("`waltalkie cdc resnapshot`"), "{why}");
    }
    if point == Point::Produced {
        let (committed, all) = (read_events(&stack.config).await?.len(), count_all(&stack.config).await?);
        ensure!(all > committed && all > records, "no transaction was aborted");
    }
    let summary = complete(&stack).await?;
    ensure!(summary.was_resumed && !summary.makes_slot, "{summary:?}");
    writers.stop().await?;
    goes_on(&stack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_produce_and_commit() -> Result<()> {
    killed_at(Point::Produced, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_produce_and_commit_when_a_part_is_published() -> Result<()> {
    killed_at(Point::Produced, 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_a_commit() -> Result<()> {
    killed_at(Point::Committed, 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_the_stream_is_followed() -> Result<()> {
    killed_at(Point::Begun, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_the_stream_is_followed_and_rows_of_it_are_published() -> Result<()> {
    let stack = Stack::new().await?;
    publish_and_lose_the_slot(&stack).await?;
    stack.send_many("large", 1, 3_000).await?;
    let writers = Writers::start(&stack).await?;
    // While the tables are being published, a transaction is committed that only the stream can show, too large for one
    // of Kafka's. When nearly all of its rows are read, the first ones are committed; what is under way then isn't.
    let (reached, at_point) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let (reached, gate, is_first) = (Mutex::new(reached), Mutex::new(gate), AtomicBool::new(true));
    let rows = AtomicUsize::new(0);
    let failpoints = Failpoints::new(Arc::new(move |at| {
        match at {
            Point::Produced if is_first.swap(false, Ordering::SeqCst) => {
                let _ = reached.lock().map(|reached| reached.send(()));
                let _ = gate.lock().map(|gate| gate.recv());
            }
            Point::Row => {
                rows.fetch_add(1, Ordering::SeqCst);
            }
            Point::Produced if rows.load(Ordering::SeqCst) >= 45_500 => return Act::Die,
            _ => {}
        }
        Act::Continue
    }));
    let killed = async { anyhow::Ok(complete_with(&stack, failpoints).await) };
    let meanwhile = async {
        tokio::task::spawn_blocking(move || at_point.recv_timeout(support::PATIENCE)).await?.context("the point")?;
        stack.send_many("late", 1, 50_000).await?;
        go_on.send(())?;
        anyhow::Ok(())
    };
    let (killed, ()) = tokio::try_join!(killed, meanwhile)?;
    ensure!(killed.is_err(), "the fault never hit: {killed:?}");
    let published = read_events(&stack.config).await?.iter().filter(|logged| logged.key == "late").count();
    ensure!((1..50_000).contains(&published), "{published} rows of the stream are published");
    let last = read_positions(&stack.config).await?.pop().context("a position")?;
    ensure!(last.resnapshot_until_lsn.is_some_and(|until| until > last.commit_lsn), "{last:?}");
    let summary = complete(&stack).await?;
    ensure!(summary.was_resumed && summary.events_added == 0, "{summary:?}");
    writers.stop().await?;
    goes_on(&stack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_and_gone_on_with() -> Result<()> {
    let stack = Stack::new().await?;
    stack.busy_chat("a", 0, 50).await?;
    publish_and_lose_the_slot(&stack).await?;
    stack.send_many("large", 1, 20_000).await?;
    let writers = Writers::start(&stack).await?;
    let mut kills = 0;
    while kills < 6 {
        // Counts what gets done, so that it is killed while it works.
        let work = Arc::new(AtomicUsize::new(0));
        let (counter, config) = (Arc::clone(&work), Arc::clone(&stack.config));
        let task = tokio::spawn(async move {
            let failpoints = Failpoints::new(Arc::new(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
                Act::Continue
            }));
            resnapshot::run_with(config, Options::default(), Report::default(), &Shutdown::new(), failpoints).await
        });
        let enough = rand::random_range(1..12);
        while work.load(Ordering::SeqCst) < enough && !task.is_finished() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        task.abort();
        kills += usize::from(task.await.is_err());
    }
    complete(&stack).await?;
    writers.stop().await?;
    goes_on(&stack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_were_aborted_by_hand_come_from_the_tables() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.busy_chat("a", 0, 20).await?;
    check_when_arrived(&stack).await?;
    running.stop().await?;
    stack.busy_chat("a", 20, 30).await?;
    // What is left of a transaction whose events were aborted and whose position wasn't.
    let last = read_positions(&stack.config).await?.pop().context("a position")?;
    let lsn = stack.wal_lsn().await? as i64;
    stack.write_position(Position { commit_lsn: lsn - 1, confirmable_lsn: lsn, ..last }).await?;
    let running = stack.start();
    let health = running.health.clone();
    eventually("it streams", async || Ok(health.is_ready())).await?;
    running.stop().await?;
    ensure!(read_events(&stack.config).await?.len() == 20, "the plain worker finds nothing wrong");
    let summary = complete(&stack).await?;
    check(&stack).await?;
    ensure!(summary.refused_because.is_none() && summary.events_added == 10, "{summary:?}");
    goes_on(&stack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_is_ahead_of_the_tables_is_refused_and_nothing_is_changed() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.busy_chat("fine", 0, 20).await?;
    stack.send_many("c", 1, 10).await?;
    stack.change_user("alice", 2, "Alice", false).await?;
    check_when_arrived(&stack).await?;
    running.stop().await?;
    let (confirmed, positions) = (stack.confirmed().await?, read_positions(&stack.config).await?);
    let cases = [
        ("chat c: the history goes to seq 10, the tables to 8", "DELETE FROM message WHERE chat_id = 'c' AND sequence_number > 8"),
        (
            "chat c: the event of seq 10 has another message_id",
            "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'c', 'alice', 'another', 9, now()), (gen_random_uuid(), 'c', 'alice', 'another', 10, now())",
        ),
        ("chat c: the history goes to seq 10, the tables to 0", "DELETE FROM message WHERE chat_id = 'c'"),
    ];
    for (expected, damage) in cases {
        stack.sql.batch_execute(damage).await?;
        let why = format!("{:#}", complete(&stack).await.expect_err(expected));
        ensure!(why.contains(expected) && why.contains("new generation"), "{why}");
    }
    stack.sql.batch_execute("DELETE FROM user_change; DELETE FROM message WHERE chat_id = 'c'").await?;
    ensure!(stack.confirmed().await? == confirmed, "the slot was touched");
    ensure!(read_positions(&stack.config).await? == positions, "the position was touched");
    ensure!(read_events(&stack.config).await?.len() == 30);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_tables_lack_is_named() -> Result<()> {
    let stack = Stack::new().await?;
    publish_and_lose_the_slot(&stack).await?;
    stack.send_many("c", 1, 10).await?;
    stack.sql.batch_execute("DELETE FROM message WHERE sequence_number = 4").await?;
    let why = format!("{:#}", complete(&stack).await.expect_err("a hole"));
    ensure!(why.contains("chat c: the tables have no row of seq 4"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_is_missing_and_changes_nothing() -> Result<()> {
    let stack = Stack::new().await?;
    stack.send_many("c", 1, 10).await?;
    publish_and_lose_the_slot(&stack).await?;
    stack.send_many("c", 11, 15).await?;
    stack.change_user("alice", 1, "Alice", false).await?;
    let positions = read_positions(&stack.config).await?;
    let options = Options { dry_run: true };
    let summary = resnapshot::run(Arc::clone(&stack.config), options, Report::default(), &Shutdown::new()).await?;
    ensure!((summary.events_added, summary.chats, summary.users) == (5, 1, 1), "{summary:?}");
    ensure!(summary.makes_slot && summary.is_dry_run && !summary.was_whole, "{summary:?}");
    ensure!(read_positions(&stack.config).await? == positions);
    ensure!(read_events(&stack.config).await?.len() == 10);
    ensure!(!cdc_worker::status(&stack.config).await?.exists, "no slot was made");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_worker_is_waited_for_and_a_whole_history_left_alone() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.busy_chat("a", 0, 20).await?;
    check_when_arrived(&stack).await?;
    let waits = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&waits);
    let report = Report::to(move |step| {
        if step == Step::WaitingForLease {
            seen.store(true, Ordering::SeqCst);
        }
    });
    let config = Arc::clone(&stack.config);
    let task = tokio::spawn(async move { resnapshot::run(config, Options::default(), report, &Shutdown::new()).await });
    eventually("it waits", async || Ok(waits.load(Ordering::SeqCst))).await?;
    running.stop().await?;
    let positions = read_positions(&stack.config).await?;
    let summary = tokio::time::timeout(support::PATIENCE, task).await???;
    ensure!(summary.was_whole && summary.events_added == 0 && !summary.makes_slot, "{summary:?}");
    ensure!(read_positions(&stack.config).await? == positions, "the position was touched");
    goes_on(&stack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_says_so_and_a_standby_gets_the_lease() -> Result<()> {
    let stack = Stack::new().await?;
    publish_and_lose_the_slot(&stack).await?;
    stack.send_many("large", 1, 15_000).await?;
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let report = Report::to(move |step| {
        if matches!(step, Step::Adding { done, .. } if done > 2_000) {
            stop.begin();
        }
    });
    let outcome = resnapshot::run(Arc::clone(&stack.config), Options::default(), report, &shutdown).await;
    let why = outcome.expect_err("it was stopped").chain();
    ensure!(why.contains("goes on where it was stopped"), "{why}");
    ensure!(stack.sql.query("SELECT FROM cdc_lease", &[]).await?.is_empty(), "the lease is given back");
    let summary = complete(&stack).await?;
    ensure!(summary.was_resumed, "{summary:?}");
    goes_on(&stack).await
}

/// Two connections that write, each into a chat of its own and into a common one.
struct Writers {
    stop: Shutdown,
    tasks: Vec<tokio::task::JoinHandle<Result<usize>>>,
}

impl Writers {
    async fn start(stack: &Stack) -> Result<Self> {
        let stop = Shutdown::new();
        let mut tasks = Vec::new();
        for number in 0..2 {
            let (mut client, stop) = (stack.connect().await?, stop.clone());
            tasks.push(tokio::spawn(async move {
                let mut written = 0;
                while !stop.has_begun() {
                    support::history::write_under_lock(&mut client, "shared").await?;
                    support::history::write_under_lock(&mut client, &format!("own-{number}")).await?;
                    written += 2;
                }
                Ok(written)
            }));
        }
        eventually("both write", async || {
            let row =
                stack.sql.query_one("SELECT count(DISTINCT chat_id) FROM message WHERE chat_id LIKE 'own-%'", &[]);
            Ok(row.await?.get::<_, i64>(0) == 2)
        })
        .await?;
        Ok(Self { stop, tasks })
    }

    async fn stop(self) -> Result<usize> {
        self.stop.begin();
        let mut written = 0;
        for task in self.tasks {
            written += task.await??;
        }
        Ok(written)
    }
}
