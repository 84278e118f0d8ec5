//! Rebuilds: equal to what the live loops made, also when killed, raced, and while people write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use projections::rebuild::{Progress, Rebuilder, Rebuilt, Verdict};
use projections::{ChatHead, Error, Inbox, Shipped, Wiring};
use schemas::{ChatEvent, Mark};
use tokio::task::JoinHandle;

use crate::rest;
use crate::support::{Stack, until, with_stack};

pub(crate) const NAMES: [&str; 4] = ["membership", "chat_head", "cursor", "inbox"];

pub(crate) fn rebuilder(stack: &Stack) -> Rebuilder {
    Rebuilder::new(stack.wiring.clone(), Arc::new(Progress::default())).writing_every(Duration::ZERO)
}

pub(crate) async fn rebuild(stack: &Stack, name: &str) -> Result<Rebuilt, Error> {
    Shipped::named(name)?.rebuild(&rebuilder(stack)).await
}

pub(crate) async fn verify(stack: &Stack, name: &str) -> Verdict {
    let shipped = Shipped::named(name).expect(name);
    shipped.verify(&rebuilder(stack)).await.unwrap_or_else(|error| panic!("{name}: {error:?}"))
}

fn write(stack: &Arc<Stack>, events: &[ChatEvent], marks: &[Mark]) -> JoinHandle<()> {
    let (stack, events, marks) = (Arc::clone(stack), events.to_vec(), marks.to_vec());
    tokio::spawn(async move {
        for (at, event) in events.iter().enumerate() {
            stack.event(event).await;
            if let Some(mark) = marks.get(at) {
                stack.mark(mark).await;
            }
        }
    })
}

/// A chat in which somebody writes all the time, a hundred times a second.
struct Chatter {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<Vec<ChatEvent>>,
}

impl Chatter {
    fn start(stack: &Arc<Stack>) -> Self {
        let (stack, is_over) = (Arc::clone(stack), Arc::new(AtomicBool::new(false)));
        let end = Arc::clone(&is_over);
        let task = tokio::spawn(async move {
            let mut events = vec![crate::support::created("chatter", &["u0", "u1"])];
            stack.event(&events[0]).await;
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            while !end.load(Ordering::Acquire) {
                pace.tick().await;
                let event = crate::support::sent("chatter", events.len() as i64 + 1, "u0");
                stack.event(&event).await;
                events.push(event);
            }
            events
        });
        Self { is_over, task }
    }

    /// What was written.
    async fn stop(self) -> Vec<ChatEvent> {
        self.is_over.store(true, Ordering::Release);
        self.task.await.expect("written")
    }
}

/// Nothing of a rebuild is left: no schema but the live one.
pub(crate) async fn no_schema_is_left(stack: &Stack) {
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'rebuild%' OR nspname LIKE 'verify%'";
    assert_eq!(stack.count(left).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_and_mended_while_people_write() {
    with_stack(|stack| async move {
        let (events, marks) = (rest::events(900), rest::marks(300));
        let projector = rest::projector(&stack.config);
        let half = events.len() / 2;
        write(&stack, &events[..half], &marks[..150]).await.expect("written");
        until("half is read", || rest::is_read(&stack, half as i64, 150)).await;
        until("the inbox has read the cursors", || async {
            rest::cursors(&stack, "inbox_cursor").await == rest::expected_cursors(&marks[..150])
        })
        .await;
        for name in NAMES {
            let verdict = verify(&stack, name).await;
            assert!(verdict.is_equal() && verdict.differences.is_empty(), "{name}: {verdict:?}");
            assert!(verdict.tables.iter().all(|(_, live, _)| live.rows > 0), "{name}: {verdict:?}");
        }
        for (name, damage) in [
            ("chat_head", "UPDATE chat_head SET message = NULL WHERE chat_id = 'chat0'"),
            ("membership", "DELETE FROM membership WHERE chat_id = 'chat0'"),
            ("cursor", "UPDATE chat_cursor SET read_seq = read_seq + 1 WHERE chat_id = 'chat0'"),
            ("inbox", "DELETE FROM inbox WHERE chat_id = 'chat0' AND NOT is_delivered"),
        ] {
            stack.db.batch_execute(damage).await.expect(damage);
            let verdict = verify(&stack, name).await;
            assert!(!verdict.is_equal(), "{name}");
            let first = verdict.differences.first().expect("a difference");
            assert_eq!(first.chat_id.as_deref(), Some("chat0"), "{first:?}");
            assert!(!first.row.contains("content"), "a message's text is nobody's here: {first:?}");
        }
        let writing = write(&stack, &events[half..], &marks[150..]);
        let chatter = Chatter::start(&stack);
        for name in NAMES {
            rebuild(&stack, name).await.expect(name);
            let verdict = verify(&stack, name).await;
            assert!(verdict.is_equal(), "{name}: {verdict:?}");
        }
        writing.await.expect("written");
        let mut events = events;
        events.extend(chatter.stop().await);
        until("all is read", || rest::is_read(&stack, events.len() as i64, marks.len() as i64)).await;
        for name in NAMES {
            let verdict = verify(&stack, name).await;
            assert!(verdict.is_equal(), "{name}: {verdict:?}");
        }
        assert_eq!(rest::membership(&stack).await, rest::expected_membership(&events));
        assert_eq!(rest::heads(&stack).await, rest::expected_heads(&events));
        assert_eq!(rest::cursors(&stack, "chat_cursor").await, rest::expected_cursors(&marks));
        assert!(!projector.is_finished(), "a projector gave up");
        projector.abort();
        no_schema_is_left(&stack).await;
    })
    .await;
}

/// Up to ten times a rebuild is given up, each time a tenth further on; live loops go on reading and are rebalanced meanwhile.
/// What a killed process leaves is in [`crate::kills`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_is_killed_goes_on_from_where_it_was() {
    with_stack(|stack| async move {
        let events = rest::events(3_000);
        let total = events.len() as i64;
        write(&stack, &events, &[]).await.expect("written");
        let projectors = [rest::projector(&stack.config), rest::projector(&stack.config)];
        until("all is read", || rest::is_read_but_for_cursors(&stack, total)).await;
        projectors[0].abort();
        // The offsets are held, so that the rebuild can't come past the point at which it is killed.
        let holder = stack.another().await;
        let mut points = 0;
        for tenth in 1..=10 {
            let task = tokio::spawn({
                let stack = Arc::clone(&stack);
                async move { rebuild(&stack, "inbox").await }
            });
            let sum = "SELECT coalesce(sum(next_offset), 0)::bigint FROM rebuild_inbox.consumer_offset";
            let reached = || async { stack.db.query_one(sum, &[]).await.map_or(0, |row| row.get::<_, i64>(0)) };
            until("a point is reached", || async { task.is_finished() || reached().await >= total * tenth / 11 }).await;
            if task.is_finished() {
                break;
            }
            let hold = "BEGIN; LOCK TABLE rebuild_inbox.consumer_offset IN ACCESS EXCLUSIVE MODE";
            let is_held = holder.batch_execute(hold).await.is_ok();
            task.abort();
            assert!(task.await.is_err_and(|error| error.is_cancelled()), "it was killed");
            holder.batch_execute("ROLLBACK").await.expect("let go");
            until("its lock is free", || async { !is_locked(&stack).await }).await;
            points += usize::from(is_held);
        }
        assert!(points >= 5, "only {points} rebuilds were killed in the middle");
        let before = stack.count("SELECT sum(next_offset)::bigint FROM rebuild_inbox.consumer_offset").await;
        let rebuilt = rebuild(&stack, "inbox").await.expect("rebuilt");
        assert!(before > 0 && rebuilt.records <= (total - before) as u64, "{before} of {total}, then {rebuilt:?}");
        let verdict = verify(&stack, "inbox").await;
        assert!(verdict.is_equal(), "{verdict:?}");
        no_schema_is_left(&stack).await;
        projectors[1].abort();
    })
    .await;
}

/// Whether somebody holds the lock of rebuilds: a killed one lets go when its connection is closed.
pub(crate) async fn is_locked(stack: &Stack) -> bool {
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7768
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    stack.count(held).await > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_rebuilds_at_a_time() {
    with_stack(|stack| async move {
        let events = rest::events(200);
        write(&stack, &events, &[]).await.expect("written");
        let holder = stack.another().await;
        let claim = "SELECT pg_advisory_lock(7768, hashtext('rebuild_chat_head'))";
        holder.batch_execute(claim).await.expect("held");
        let refused = rebuild(&stack, "chat_head").await;
        assert!(matches!(refused, Err(Error::RebuiltElsewhere { projection: "chat_head" })), "{refused:?}");
        // One that was ended a moment ago may hold it while the next one begins.
        let tries = "SELECT count(*) FROM pg_stat_activity
                      WHERE datname = current_database() AND query LIKE 'SELECT pg_try_advisory_lock%'";
        let gone = async {
            until("it has tried", || async { stack.count(tries).await > 0 }).await;
            drop(holder);
        };
        until("the refused one has gone", || async { stack.count(tries).await == 0 }).await;
        // Without any live loop: the rebuilt tables and offsets are what it begins with.
        tokio::join!(async { rebuild(&stack, "chat_head").await.expect("rebuilt") }, gone);
        assert_eq!(rest::heads(&stack).await, rest::expected_heads(&events));
        let next = "SELECT sum(next_offset)::bigint FROM consumer_offset WHERE consumer = 'chat_head'";
        assert_eq!(stack.count(next).await, events.len() as i64);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_another_version_are_left_alone_until_they_are_rebuilt() {
    with_stack(|stack| async move {
        let events = rest::events(200);
        stack
            .db
            .batch_execute("INSERT INTO projection_version (projection, version) VALUES ('chat_head', 99)")
            .await
            .expect("another version");
        write(&stack, &events, &[]).await.expect("written");
        let projector = rest::projector(&stack.config);
        let membership =
            "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offset WHERE consumer = 'membership'";
        stack.until_count(membership, events.len() as i64).await;
        assert_eq!(stack.count("SELECT count(*) FROM chat_head").await, 0, "the others go on, this one doesn't");
        projector.abort();
        rebuild(&stack, "chat_head").await.expect("rebuilt");
        assert_eq!(rest::heads(&stack).await, rest::expected_heads(&events));
        let version = "SELECT version::bigint FROM projection_version
                        WHERE projection = 'chat_head' AND rebuilt_at IS NOT NULL";
        assert_eq!(stack.count(version).await, 1);
        // And a loop of the version that was there before, in the middle of its work, doesn't touch the new rows.
        let projector = rest::projector(&stack.config);
        stack.event(&crate::support::created("another", &["u0"])).await;
        stack.until_count("SELECT count(*) FROM chat_head WHERE chat_id = 'another'", 1).await;
        let mismatches = || crate::support::metric(projections::metrics::MISMATCHES, "chat_head");
        let before = mismatches();
        let another = "UPDATE projection_version SET version = 99 WHERE projection = 'chat_head'";
        stack.db.batch_execute(another).await.expect("another version");
        stack.event(&crate::support::sent("another", 2, "u0")).await;
        stack.until_count(membership, events.len() as i64 + 2).await;
        until("the loop has found out", || async { mismatches() > before }).await;
        assert_eq!(stack.count("SELECT head_seq FROM chat_head WHERE chat_id = 'another'").await, 1);
        projector.abort();
    })
    .await;
}

/// A runner that waits for the lock of its offset while the tables are swapped finds out that they are another version's,
/// though the offset is as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_waited_through_a_swap_leaves_the_new_rows_alone() {
    with_stack(|stack| async move {
        let projector = rest::projector(&stack.config);
        stack.event(&crate::support::created("chat", &["u0"])).await;
        stack.until_count("SELECT head_seq FROM chat_head UNION ALL SELECT 0 ORDER BY 1 DESC LIMIT 1", 1).await;
        let holder = stack.another().await;
        let hold = "BEGIN; SELECT FROM consumer_offset WHERE consumer = 'chat_head' FOR UPDATE";
        holder.batch_execute(hold).await.expect("held");
        stack.event(&crate::support::sent("chat", 2, "u0")).await;
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')
                          AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
        until("the runner waits", || async { stack.count(waiting).await > 0 }).await;
        let swap = "UPDATE projection_version SET version = 99 WHERE projection = 'chat_head'; COMMIT";
        holder.batch_execute(swap).await.expect("swapped");
        let membership = "SELECT sum(next_offset)::bigint FROM consumer_offset WHERE consumer = 'membership'";
        stack.until_count(membership, 2).await;
        until("the runner has had its turn", || async { stack.count(waiting).await == 0 }).await;
        stack.event(&crate::support::sent("chat", 3, "u0")).await;
        stack.until_count(membership, 3).await;
        assert_eq!(stack.count("SELECT head_seq FROM chat_head").await, 1);
        projector.abort();
    })
    .await;
}

/// A chat that was a crowd and isn't any more: what was sent to few waits for them, in a rebuild as in the live tables. The
/// rebuild is killed in between, so that it finds the crowd in its tables: one that it has seen grow needs no loading.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_shrinks_is_none_in_a_rebuild_either() {
    const SAID_TO_THE_CROWD: i64 = 2_000;
    with_stack(|stack| async move {
        let mut config = (*stack.config).clone();
        (config.projector.inbox_members, config.projector.batch_records) = (2, 1);
        let wiring = Wiring { config: Arc::new(config), ..stack.wiring.clone() };
        let rebuilder = || Rebuilder::new(wiring.clone(), Arc::new(Progress::default()));
        let inbox = || Inbox::new(Duration::from_millis(20), 2);
        let mut events = vec![crate::support::created("chat", &["u0", "u1", "u2", "u3"])];
        events.extend((2..2 + SAID_TO_THE_CROWD).map(|seq| crate::support::sent("chat", seq, "u0")));
        let next = SAID_TO_THE_CROWD + 2;
        events.extend([rest::left("chat", next, "u2"), rest::left("chat", next + 1, "u3")]);
        events.push(crate::support::sent("chat", next + 2, "u0"));
        stack.events(&events).await;

        let holder = stack.another().await;
        let first = rebuilder().writing_every(Duration::ZERO);
        let killed = tokio::spawn(async move { Box::pin(first.rebuild(inbox())).await });
        let written = "SELECT count(*) FROM rebuild_inbox.inbox_member";
        let has_crowd = || async { stack.db.query_one(written, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 4) };
        until("the crowd is in the tables", has_crowd).await;
        let hold = "BEGIN; LOCK TABLE rebuild_inbox.consumer_offset IN ACCESS EXCLUSIVE MODE";
        holder.batch_execute(hold).await.expect("held");
        killed.abort();
        assert!(killed.await.is_err_and(|error| error.is_cancelled()), "it was killed");
        holder.batch_execute("ROLLBACK").await.expect("let go");
        until("its lock is free", || async { !is_locked(&stack).await }).await;
        let reached = stack.count("SELECT sum(next_offset)::bigint FROM rebuild_inbox.consumer_offset").await;
        assert!((1..next).contains(&reached), "killed before the crowd shrank: {reached}");

        Box::pin(rebuilder().rebuild(inbox())).await.expect("rebuilt");
        let waits = "SELECT count(*) FROM inbox WHERE user_id = 'u1' AND sequence_number > 2000";
        assert_eq!((stack.count("SELECT count(*) FROM inbox").await, stack.count(waits).await), (1, 1));
        let verdict = rebuilder().verify(inbox()).await.expect("verified");
        assert!(verdict.is_equal(), "{verdict:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_on_a_live_table_is_in_the_way() {
    with_stack(|stack| async move {
        stack.db.batch_execute("CREATE VIEW ours AS SELECT chat_id FROM chat_head").await.expect("made");
        let refused = rebuild(&stack, "chat_head").await;
        let Err(Error::Obstacle { obstacle, .. }) = &refused else { panic!("{refused:?}") };
        assert!(obstacle.contains("view ours"), "{obstacle}");
        assert!(verify(&stack, "chat_head").await.is_equal(), "a comparison takes nothing away");
        stack.db.batch_execute("DROP VIEW ours").await.expect("dropped");
        rebuild(&stack, "chat_head").await.expect("rebuilt");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_is_built_beside_the_present() {
    with_stack(|stack| async move {
        let mut events = rest::events(400);
        let half = events.len() / 2;
        let noon = events[0].occurred_at;
        for event in &mut events[half..] {
            event.occurred_at = noon + 60_000;
        }
        write(&stack, &events, &[]).await.expect("written");
        let rebuilt = rebuilder(&stack).rebuild_as_of(ChatHead, noon + 1_000).await.expect("built");
        let schema = rebuilt.schema.expect("a schema");
        assert!(schema.starts_with("chat_head_as_of_2"), "{schema}");
        stack.db.batch_execute(&format!("SET search_path = {schema}")).await.expect("set");
        assert_eq!(rest::heads(&stack).await, rest::expected_heads(&events[..half]));
        stack.db.batch_execute("RESET search_path").await.expect("reset");
        assert!(rest::heads(&stack).await.is_empty(), "the live table is as it was");
        let refused = rebuilder(&stack).rebuild_as_of(Inbox::of(&stack.config), noon).await;
        assert!(matches!(refused, Err(Error::NoPast { projection: "inbox" })), "{refused:?}");
    })
    .await;
}

/// Names of indexes, settings and rights are those of the table that was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_tables_are_like_the_old_ones() {
    with_stack(|stack| async move {
        let reader = format!("{}reader", stack.names.prefix());
        stack
            .db
            .batch_execute(&format!(
                "CREATE ROLE \"{reader}\"; GRANT SELECT ON inbox, inbox_member TO \"{reader}\";
                 CREATE INDEX an_index_of_ours ON inbox (created_at) WHERE NOT is_deleted"
            ))
            .await
            .expect("prepared");
        let before = shape(&stack).await;
        assert!(before.contains("an_index_of_ours") && before.contains("fillfactor") && before.contains(&reader));
        rebuild(&stack, "inbox").await.expect("rebuilt");
        let after = shape(&stack).await;
        stack.db.batch_execute(&format!("DROP OWNED BY \"{reader}\"; DROP ROLE \"{reader}\"")).await.expect("tidied");
        assert_eq!(after, before);
    })
    .await;
}

async fn shape(stack: &Stack) -> String {
    let sql = "SELECT string_agg(line, E'\n' ORDER BY line) FROM (
        SELECT indexdef AS line FROM pg_indexes WHERE tablename LIKE 'inbox%'
         UNION ALL SELECT concat_ws(' ', relname, reloptions, relacl) FROM pg_class WHERE relname LIKE 'inbox%' AND relkind = 'r'
         UNION ALL SELECT concat_ws(' ', table_name, column_name, data_type, column_default, is_nullable)
                     FROM information_schema.columns WHERE table_name LIKE 'inbox%') AS lines";
    stack.db.query_one(sql, &[]).await.expect("rows").get(0)
}
