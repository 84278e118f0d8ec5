//! Runners that are killed, stopped and set against each other: every record counts once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{Stack, mark, metric, sent, until, with_stack};
use deadpool_postgres::Transaction;
use projections::rebuild::{Pass, Replay};
use projections::{
    Applied, Board, CursorWriter, Fence, Input, Patience, Projection, PublishError, Refusal, Rows, Wiring, runner,
};
use runtime::kafka::reader::{Loading, Place, Reader, Settings};
use runtime::kafka::{OffsetStore, Start};
use runtime::{Shutdown, clock};
use schemas::topics::Topic;
use schemas::{ChatEvent, Cursor};
use tokio::sync::Semaphore;
use tokio_postgres::Error as PgError;

/// Where a runner can be made to wait in the middle of a transaction.
struct Gate {
    is_shut: AtomicBool,
    arrived: AtomicU64,
    opened: Semaphore,
}

/// Counts events by chat: adding twice shows. `SIDE` gives it a group of its own, so that two runners of one projection
/// both read everything.
struct Counting<const SIDE: u8> {
    gate: Arc<Gate>,
}

impl<const SIDE: u8> Projection for Counting<SIDE> {
    const NAME: &'static str = "counting";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["counted"];
}

impl<const SIDE: u8> Input<ChatEvent> for Counting<SIDE> {
    const LOOP: &'static str = if SIDE == 0 { "counting" } else { "counting-other" };
    const LAG_METRIC: &'static str = "counting_lag_records";
    type State = Rows<String, i64>;

    fn state(&self) -> Self::State {
        Rows::default()
    }

    async fn load(
        &self,
        transaction: &Transaction<'_>,
        events: &[ChatEvent],
        state: &mut Self::State,
    ) -> Result<(), PgError> {
        let chats: Vec<&str> = events.iter().map(|event| event.chat_id.as_str()).collect();
        for row in transaction.query("SELECT chat_id, events FROM counted WHERE chat_id = ANY($1)", &[&chats]).await? {
            state.loaded(row.get(0), row.get(1));
        }
        Ok(())
    }

    fn size(state: &Self::State) -> usize {
        state.len()
    }

    fn settle(state: &mut Self::State) {
        state.settle();
    }

    fn apply(state: &mut Self::State, event: &ChatEvent) -> Result<Applied, Refusal> {
        let events = state.get(&event.chat_id).copied().unwrap_or(0);
        state.set(event.chat_id.clone(), events + 1);
        Ok(Applied::Understood)
    }

    /// Most batches have more chats, so they come in several transactions.
    fn is_full(state: &Self::State) -> bool {
        state.changed().len() >= 3
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &Self::State) -> Result<(), PgError> {
        for (chat, events) in state.changed() {
            let sql =
                "INSERT INTO counted VALUES ($1, $2) ON CONFLICT (chat_id) DO UPDATE SET events = excluded.events";
            transaction.execute(sql, &[chat, events]).await?;
        }
        Ok(())
    }

    /// The rows are stored and not committed: the worst moment.
    async fn publish(&self, _state: &Self::State, _fence: &Arc<Fence>) -> Result<(), PublishError> {
        if self.gate.is_shut.load(Ordering::SeqCst) {
            self.gate.arrived.fetch_add(1, Ordering::SeqCst);
            self.gate.opened.acquire().await.expect("never closed").forget();
        }
        Ok(())
    }
}

impl<const SIDE: u8> Replay for Counting<SIDE> {
    async fn replay(self: Arc<Self>, pass: Arc<Pass>) -> Result<(), projections::Error> {
        pass.input::<Self, ChatEvent>(&self).await
    }
}

struct Running {
    task: tokio::task::JoinHandle<Result<(), projections::Error>>,
    gate: Arc<Gate>,
}

fn run<const SIDE: u8>(wiring: &Wiring, is_shut: bool) -> Running {
    let gate =
        Arc::new(Gate { is_shut: AtomicBool::new(is_shut), arrived: AtomicU64::new(0), opened: Semaphore::new(0) });
    let (projection, wiring) = (Counting::<SIDE> { gate: Arc::clone(&gate) }, wiring.clone());
    let task = tokio::spawn(async move {
        let status = Board::default().entry("counting");
        runner::run(&projection, &wiring, &status, &Shutdown::new()).await
    });
    Running { task, gate }
}

async fn make_table(stack: &Stack) {
    stack
        .db
        .batch_execute("CREATE TABLE counted (chat_id text PRIMARY KEY, events bigint NOT NULL)")
        .await
        .expect("made");
}

async fn produce(stack: &Stack, chats: i64, events: i64, from: i64) {
    for seq in from..from + events {
        for chat in 0..chats {
            stack.event(&sent(&format!("c{chat}"), seq, "alice")).await;
        }
    }
}

/// Every chat has exactly this many events.
async fn until_counted(stack: &Stack, chats: i64, events: i64) {
    stack.until_count("SELECT coalesce(sum(events), 0)::bigint FROM counted", chats * events).await;
    assert_eq!(stack.count(&format!("SELECT count(*) FROM counted WHERE events = {events}")).await, chats);
}

/// What is counted is what the history counts: row for row, at the same offsets.
async fn expect_history(stack: &Stack) {
    let gate = Gate { is_shut: AtomicBool::new(false), arrived: AtomicU64::new(0), opened: Semaphore::new(0) };
    let counting = Counting::<0> { gate: Arc::new(gate) };
    let verdict = crate::rebuild::rebuilder(stack).verify(counting).await.expect("compared");
    assert!(verdict.is_equal() && verdict.tables[0].1.rows > 0, "{verdict:?}");
}

fn mismatches() -> f64 {
    metric(projections::metrics::MISMATCHES, "counting")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_store_and_commit_it_goes_on_where_it_was() {
    with_stack(|stack| async move {
        make_table(&stack).await;
        produce(&stack, 5, 4, 1).await;
        let victim = run::<0>(&stack.wiring, true);
        until("in the middle", || async { victim.gate.arrived.load(Ordering::SeqCst) > 0 }).await;
        victim.task.abort();
        assert!(victim.task.await.expect_err("killed").is_cancelled());
        assert_eq!(stack.count("SELECT coalesce(sum(events), 0)::bigint FROM counted").await, 0);
        let heir = run::<0>(&stack.wiring, false);
        produce(&stack, 5, 4, 5).await;
        until_counted(&stack, 5, 8).await;
        expect_history(&stack).await;
        heir.task.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_runner_neither_blocks_the_next_nor_counts_twice() {
    with_stack(|stack| async move {
        make_table(&stack).await;
        let mut wiring = stack.wiring.clone();
        wiring.patience =
            Patience { lock: Duration::from_millis(300), idle_in_transaction: Duration::from_millis(1_500) };
        produce(&stack, 6, 3, 1).await;
        // Stopped with its rows stored and the offsets' locks held, like a process under SIGSTOP.
        let zombie = run::<0>(&wiring, true);
        until("in the middle", || async { zombie.gate.arrived.load(Ordering::SeqCst) > 0 }).await;
        let other_wiring = Wiring { pool: Wiring::new(Arc::clone(&stack.config)).expect("wiring").pool, ..wiring };
        let other = run::<1>(&other_wiring, false);
        until_counted(&stack, 6, 3).await;

        // Woken, its commit fails, and its next attempt finds the offsets moved.
        let before = mismatches();
        zombie.gate.is_shut.store(false, Ordering::SeqCst);
        zombie.gate.opened.add_permits(100);
        until("the compare-and-set refused the batch", || async { mismatches() > before }).await;
        produce(&stack, 6, 3, 4).await;
        until_counted(&stack, 6, 6).await;
        expect_history(&stack).await;
        zombie.task.abort();
        other.task.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_that_fight_over_every_partition_count_every_event_once() {
    with_stack(|stack| async move {
        make_table(&stack).await;
        let before = mismatches();
        // Two groups: both sides read all partitions, and only the compare-and-set stands between them. Two runners a
        // group: partitions move. Now and then one is killed, or every connection is.
        let mut runners =
            vec![run::<0>(&stack.wiring, false), run::<1>(&stack.wiring, false), run::<0>(&stack.wiring, false)];
        for round in 0..6 {
            produce(&stack, 10, 10, 1 + 10 * round).await;
            let victim = runners.remove(0);
            victim.task.abort();
            runners.push(if round % 2 == 0 { run::<1>(&stack.wiring, false) } else { run::<0>(&stack.wiring, false) });
            if round % 3 == 1 {
                let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                            WHERE datname = current_database() AND pid <> pg_backend_pid()";
                stack.count(cut).await;
            }
        }
        until_counted(&stack, 10, 60).await;
        expect_history(&stack).await;
        assert!(mismatches() > before, "nobody ever came second: nothing was proved");
        let still = runners.iter().filter(|runner| !runner.task.is_finished()).count();
        assert_eq!(still, 3, "a runner gave up");
        for runner in runners {
            runner.task.abort();
        }
    })
    .await;
}

/// As when an older backup of the database takes its place under a running loop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_that_were_moved_back_are_read_again_from_there() {
    with_stack(|stack| async move {
        make_table(&stack).await;
        let runner = run::<0>(&stack.wiring, false);
        produce(&stack, 5, 4, 1).await;
        until_counted(&stack, 5, 4).await;
        let backup = "BEGIN; DELETE FROM counted; UPDATE consumer_offset SET next_offset = 0; COMMIT";
        stack.db.batch_execute(backup).await.expect("restored");
        produce(&stack, 5, 1, 5).await;
        until_counted(&stack, 5, 5).await;
        runner.task.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_expelled_cannot_publish_cursors() {
    with_stack(|stack| async move {
        let reader = |shutdown: &Shutdown| {
            let settings = Settings {
                client: runtime::kafka::client_config(&stack.config.kafka),
                group: stack.names.group("fenced"),
                topics: vec![stack.names.topic(Topic::ChatMarks)],
                batch_records: 1,
                gather: Duration::ZERO,
                lag_metric: "unused",
            };
            Reader::start(settings, Arc::new(Beginnings), shutdown).expect("a reader")
        };
        let fence = |reader: &Reader, next| {
            let offsets = vec![(stack.names.topic(Topic::ChatMarks), 0, next)];
            Arc::new(Fence { group: reader.group_metadata().map(Arc::new), offsets })
        };
        let cursor = |delivered_seq| Cursor {
            chat_id: "c".into(),
            user_id: "alice".into(),
            delivered_seq,
            read_seq: 0,
            updated_at: clock::now_ms(),
        };
        stack.mark(&mark("c", "alice", 1, 0)).await;
        let (first_life, second_life) = (Shutdown::new(), Shutdown::new());
        let mut first = reader(&first_life);
        first.next().await.expect("reads").expect("a batch");
        let old = fence(&first, 1);
        let writer = CursorWriter::new(&stack.wiring);
        writer.write(&[cursor(1)], &old).await.expect("its owner may");

        // The group goes on without it.
        first_life.begin();
        let mut second = reader(&second_life);
        second.next().await.expect("reads").expect("a batch");
        let new = fence(&second, 2);
        CursorWriter::new(&stack.wiring).write(&[cursor(3)], &new).await.expect("the new owner may");
        let refused = writer.write(&[cursor(2)], &old).await.expect_err("the old owner may not");
        assert!(matches!(refused, PublishError::Kafka { .. }), "{refused}");

        // What the inbox reads: 1 and 3, and nothing after.
        let wiring = stack.wiring.clone();
        let inbox = tokio::spawn(async move {
            let status = Board::default().entry("inbox");
            let inbox = projections::Inbox::new(Duration::ZERO, usize::MAX);
            runner::run::<_, Cursor>(&inbox, &wiring, &status, &Shutdown::new()).await
        });
        writer
            .write(&[Cursor { user_id: "bob".into(), ..cursor(9) }], &new)
            .await
            .expect("with the new membership it may");
        stack.until_count("SELECT count(*) FROM inbox_cursor WHERE delivered_seq = 9", 1).await;
        stack.until_count("SELECT count(*) FROM inbox_cursor WHERE delivered_seq = 3", 1).await;
        inbox.abort();
        second_life.begin();
    })
    .await;
}

/// Everything from the beginning, whoever asks.
struct Beginnings;

impl OffsetStore for Beginnings {
    fn load<'a>(&'a self, places: &'a [Place]) -> Loading<'a> {
        Box::pin(async move { Ok(places.iter().map(|place| (place.clone(), Start::Beginning)).collect()) })
    }
}
