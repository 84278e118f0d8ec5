//! The command `rebuild` under SIGKILL, at random offsets and in the middle of its swap: the tables that are read stay what the
//! history says, and so do those that are swapped in afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use faults::Victim;
use projections::Shipped;
use uuid::Uuid;

use crate::more;
use crate::rebuild::{is_locked, no_schema_is_left, rebuild, verify};
use crate::rest;
use crate::support::{Stack, until, with_stack};

const LONG: Duration = Duration::from_mins(1);

/// The executable `waltalkie`, where cargo puts it beside the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let program = test.ancestors().nth(2).expect("a folder").join("waltalkie");
    assert!(program.is_file(), "{} isn't there: cargo build --workspace --all-targets", program.display());
    program
}

/// `waltalkie rebuild`, which writes each few records, as a process.
fn rebuilding(stack: &Stack, name: &str) -> Victim {
    start(stack, &["rebuild", name, "--write-every-ms", "0"])
}

fn start(stack: &Stack, arguments: &[&str]) -> Victim {
    let config = &stack.config;
    let mut command = Command::new(program());
    // Those of the tests aren't the program's.
    for (variable, _) in
        std::env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("WALTALKIE_"))
    {
        command.env_remove(variable);
    }
    command.args(arguments).envs([
        ("WALTALKIE_DEVELOPMENT", "true"),
        ("WALTALKIE_NAMES__PREFIX", stack.names.prefix()),
        ("WALTALKIE_KAFKA__BROKERS", config.kafka.brokers.as_str()),
        ("WALTALKIE_REGISTRY__URL", config.registry.url.expose()),
        ("WALTALKIE_POSTGRES__READ_URL", config.postgres.read_url.expose()),
        ("WALTALKIE_POSTGRES__TRUTH_URL", config.postgres.truth_url.expose()),
        ("WALTALKIE_PROJECTOR__BATCH_RECORDS", "5"),
    ]);
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rebuild-{}.log", Uuid::new_v4()));
    Victim::start(command, &log).expect("started")
}

/// Kills it once `is_there` holds, unless it has ended before; says whether it was killed.
async fn killed<F>(stack: &Stack, mut victim: Victim, is_there: impl Fn() -> F) -> bool
where
    F: Future<Output = bool>,
{
    let deadline = Instant::now() + LONG;
    let mut is_hit = false;
    while !is_hit && victim.is_there().expect("asked") {
        assert!(Instant::now() < deadline, "it neither comes there nor ends: {}", victim.log_end());
        is_hit = is_there().await;
        tokio::time::sleep(Duration::from_millis(u64::from(!is_hit))).await;
    }
    let was_killed = is_hit && victim.kill().await.is_ok();
    drop(victim);
    until("its lock is free", || async { !is_locked(stack).await }).await;
    was_killed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_offsets_and_in_the_swap_it_harms_none_of_the_seven() {
    with_stack(|stack| async move {
        let (events, marks) = (rest::events(2_000), rest::marks(200));
        let projector = rest::projector(&Arc::new(more::keeping_more(&stack)));
        stack.events(&events).await;
        for mark in &marks {
            stack.mark(mark).await;
        }
        more::until_read(&stack, events.len()).await;
        let expected = rest::expected_cursors(&marks);
        until("the cursors are there", || async { rest::cursors(&stack, "inbox_cursor").await == expected }).await;
        let holder = stack.another().await;
        let (mut at_offsets, mut at_swaps) = (0, 0);
        for shipped in Shipped::ALL {
            let name = shipped.name();
            // The cursors' topic is short.
            let most = if shipped == Shipped::Cursor { 20 } else { events.len() as u64 };
            let point = (Uuid::new_v4().as_u64_pair().1 % most + 1) as i64;
            let reached = format!("SELECT coalesce(sum(next_offset), 0)::bigint >= {point} FROM rebuild_{name}.consumer_offset");
            let is_there = || async { stack.db.query_one(&reached, &[]).await.is_ok_and(|row| row.get(0)) };
            at_offsets += u32::from(killed(&stack, rebuilding(&stack, name), is_there).await);
            // In the swap: before the last pass, and when the tables are to change places.
            let table = shipped.tables()[0];
            for hold in [
                format!("SELECT FROM consumer_offset WHERE consumer = '{name}' FOR UPDATE"),
                format!("LOCK TABLE {table} IN ACCESS SHARE MODE"),
            ] {
                holder.batch_execute(&format!("BEGIN; {hold}")).await.expect("held");
                let mine: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
                // Live loops wait for the offsets too, and aren't it.
                let swapping = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE {mine} = ANY(pg_blocking_pids(pid))
                        AND (query LIKE '%FROM consumer_offset WHERE consumer = $1 ORDER BY%' OR query LIKE '%LOCK TABLE%')"
                );
                let is_there = || async { stack.count(&swapping).await > 0 };
                at_swaps += u32::from(killed(&stack, rebuilding(&stack, name), is_there).await);
                holder.batch_execute("ROLLBACK").await.expect("let go");
            }
            let verdict = verify(&stack, name).await;
            assert!(verdict.is_equal() && verdict.tables[0].1.rows > 0, "{name}: {verdict:?}");
            let mut whole = rebuilding(&stack, name);
            let deadline = Instant::now() + LONG;
            while whole.is_there().expect("asked") && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let status = whole.ended().await.expect("ended");
            assert!(status.success(), "{name}: {status}\n{}", whole.log_end());
        }
        assert!(at_offsets >= 4 && at_swaps == 14, "{at_offsets} were killed at offsets, {at_swaps} in the swap");
        for shipped in Shipped::ALL {
            let verdict = verify(&stack, shipped.name()).await;
            assert!(verdict.is_equal(), "{}: {verdict:?}", shipped.name());
        }
        assert!(!projector.is_finished(), "a projector gave up");
        projector.abort();
        no_schema_is_left(&stack).await;
    })
    .await;
}

/// Of the inbox, which reads two topics: ten kills at random places of what is left, each of a process that goes on from the one
/// before, and the last one reads no more than what is left then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_ten_random_points_a_rebuild_goes_on_each_time() {
    with_stack(|stack| async move {
        let events = rest::events(8_000);
        let total = events.len() as i64;
        stack.events(&events).await;
        let projector = rest::projector(&stack.config);
        until("all is read", || rest::is_read_but_for_cursors(&stack, total)).await;
        let holder = stack.another().await;
        let sum = "SELECT coalesce(sum(next_offset), 0)::bigint, 'rebuild_inbox'::regnamespace::oid
                     FROM rebuild_inbox.consumer_offset";
        let reached =
            || async { stack.db.query_one(sum, &[]).await.map_or((0, 0_u32), |row| (row.get(0), row.get(1))) };
        // Whoever begins anew makes another schema.
        let (mut hits, mut resumed, mut at, mut schema) = (0, 0, 0, 0);
        // One that comes to its end before it is hit is none of the ten.
        for _ in 0..100 {
            let left = ((total - at) / 3).max(1) as u64;
            let point = at + 1 + (Uuid::new_v4().as_u64_pair().1 % left) as i64;
            let mut victim = rebuilding(&stack, "inbox");
            let deadline = Instant::now() + LONG;
            // Without a wait between two looks: the whole takes it a moment only.
            while victim.is_there().expect("asked") && reached().await.0 < point {
                assert!(Instant::now() < deadline, "it neither comes there nor ends: {}", victim.log_end());
            }
            // It can't come past that now.
            let hold = "BEGIN; LOCK TABLE rebuild_inbox.consumer_offset IN ACCESS EXCLUSIVE MODE";
            let is_held = holder.batch_execute(hold).await.is_ok();
            let was_killed = is_held && victim.kill().await.is_ok();
            holder.batch_execute("ROLLBACK").await.expect("let go");
            drop(victim);
            until("its lock is free", || async { !is_locked(&stack).await }).await;
            let (now, found) = reached().await;
            if !was_killed || now >= total {
                at = 0;
                continue;
            }
            assert!(now >= at, "it was at {at} and is at {now}");
            if at > 0 {
                assert_eq!(found, schema, "it began anew, though {at} of {total} were read");
                resumed += 1;
            }
            (hits, at, schema) = (hits + 1, now, found);
            if hits == 10 {
                break;
            }
        }
        assert!(hits == 10 && resumed >= 5, "{hits} were killed, {resumed} of them went on from another one");
        let whole = start(&stack, &["rebuild", "inbox", "--json"]);
        let told = whole.report("its end", LONG, |report| report["projection"] == "inbox").await.expect("ends");
        let records = told["records"].as_i64().expect("a number");
        assert!(at > 0 && records <= total - at, "{at} of {total} were read, then {told}");
        let verdict = verify(&stack, "inbox").await;
        assert!(verdict.is_equal() && verdict.tables[0].1.rows > 0, "{verdict:?}");
        assert!(!projector.is_finished(), "the projector gave up");
        projector.abort();
        no_schema_is_left(&stack).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_that_is_told_to_stop_takes_its_copies_away() {
    with_stack(|stack| async move {
        stack.events(&rest::events(100)).await;
        rebuild(&stack, "chat_head").await.expect("rebuilt");
        let holder = stack.another().await;
        let hold = "BEGIN; SELECT FROM consumer_offset WHERE consumer = 'chat_head' FOR UPDATE";
        holder.batch_execute(hold).await.expect("held");
        let mut comparing = start(&stack, &["verify", "chat_head"]);
        stack.until_count("SELECT count(*) FROM pg_namespace WHERE nspname = 'verify_chat_head'", 1).await;
        let told = Command::new("kill").args(["-TERM", &comparing.id().to_string()]).status().expect("kill");
        assert!(told.success());
        let status = comparing.ended().await.expect("ended");
        assert!(!status.success() && comparing.log_end().contains("stopped"), "{status} {}", comparing.log_end());
        no_schema_is_left(&stack).await;
        holder.batch_execute("ROLLBACK").await.expect("let go");
    })
    .await;
}
