//! A physical standby is promoted: publishing goes on where nothing was lost, and is refused where something was. Real
//! pairs of servers, killed as by a power cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use crate::support::moving::{Persister, send_commands};
use crate::support::program::waltalkie;
use crate::support::standby::{Pair, promote, set};
use crate::support::{self, Running, Stack, connect, eventually, read_events, read_positions, start};
use anyhow::{Result, ensure};
use cdc_worker::Lsn;
use cdc_worker::failpoint::Failpoints;
use local_stack::PostgresVersion;
use migrations::FailoverFacts;
use runtime::names::Database;
use runtime::{Config, Secret, Shutdown};
use tokio_postgres::Client;

const CHAT: &str = "c";

/// The same installation by another URL.
fn reached_by(stack: &Stack, url: String) -> Arc<Config> {
    let mut config = (*stack.config).clone();
    config.postgres.truth_url = Secret::new(url);
    Arc::new(config)
}

/// Sends one message after the other, whatever becomes of the server, as a persister does: after a failure it looks how
/// far the chat is and goes on from there. What a commit has confirmed it counts in `sent`.
async fn send_on(url: String, sent: Arc<AtomicI64>, until: Shutdown) -> Result<()> {
    let mut client: Option<Client> = None;
    let mut next = 1;
    while !until.has_begun() {
        let Some(connected) = &client else {
            // Servers may be away: asked again until one is there.
            let Ok(fresh) = connect(&url).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let sql = "SELECT coalesce(max(sequence_number), 0) FROM message WHERE chat_id = $1";
            if let Ok(row) = fresh.query_one(sql, &[&CHAT]).await {
                let last: i64 = row.get(0);
                ensure!(last >= sent.load(Ordering::SeqCst), "message {} was confirmed, {last} is there", next - 1);
                next = last + 1;
                client = Some(fresh);
            }
            continue;
        };
        match support::insert(connected, CHAT, next, "text").await {
            Ok(()) => {
                sent.store(next, Ordering::SeqCst);
                next += 1;
            }
            Err(_) => client = None,
        }
    }
    Ok(())
}

/// The history is the table: dense, each once, the same messages.
async fn equals_the_table(stack: &Stack, client: &Client) -> Result<()> {
    let rows = client.query("SELECT message_id::text FROM message ORDER BY sequence_number", &[]).await?;
    eventually("all rows are published", async || Ok(read_events(&stack.config).await?.len() >= rows.len())).await?;
    let events = read_events(&stack.config).await?;
    ensure!(events.len() == rows.len(), "{} events of {} rows", events.len(), rows.len());
    for ((number, row), logged) in (1_i64..).zip(&rows).zip(&events) {
        let message_id = logged.event.message.as_ref().map(|message| message.message_id.as_str());
        ensure!(logged.event.seq == number && message_id == Some(row.get(0)), "{number}: {:?}", logged.event);
    }
    Ok(())
}

fn problem(running: &Running) -> String {
    running.health.statuses().into_iter().find_map(|status| status.problem).unwrap_or_default()
}

async fn promoted_in_step(version: PostgresVersion) -> Result<()> {
    let mut pair = Pair::start(version).await?;
    let stack = Stack::on(pair.primary.url("postgres")).await?;
    let database = stack.config.names().database(Database::Truth);
    let both = reached_by(&stack, pair.url(&database));
    let first = start(Arc::clone(&both), Failpoints::default());
    // One that was told the wrong host waits until it is the right one.
    let second = start(reached_by(&stack, pair.standby.url(&database)), Failpoints::default());
    let (sent, enough) = (Arc::new(AtomicI64::new(0)), Shutdown::new());
    let sending = tokio::spawn(send_on(pair.url(&database), Arc::clone(&sent), enough.clone()));
    let reaches = async |least: i64| {
        eventually(&format!("{least} messages"), async || Ok(sent.load(Ordering::SeqCst) >= least)).await
    };
    reaches(100).await?;
    eventually("the second says why it waits", async || Ok(problem(&second).contains("wasn't promoted"))).await?;

    let names = stack.config.names();
    // The standby's own feedback may be on its way.
    eventually("only the setting is missing", async || {
        let wrong = FailoverFacts::ask(&stack.sql, &names).await?.verdict().wrong;
        Ok(wrong.len() == 1 && wrong[0].contains("synchronized_standby_slots doesn't name"))
    })
    .await?;
    pair.keep_in_step().await?;
    pair.slot_is_kept(&stack.slot()).await?;
    eventually("nothing is wrong any more", async || {
        let verdict = FailoverFacts::ask(&stack.sql, &names).await?.verdict();
        Ok(verdict.wrong.is_empty() && verdict.seen.len() == 1)
    })
    .await?;

    let before = sent.load(Ordering::SeqCst);
    pair.fail_over().await?;
    reaches(before + 200).await?;
    enough.begin();
    sending.await??;
    let client = connect(&pair.standby.url(&database)).await?;
    equals_the_table(&stack, &client).await?;
    let timelines: Vec<i32> = read_positions(&stack.config).await?.iter().map(|position| position.timeline).collect();
    ensure!(timelines.first() == Some(&1) && timelines.last() == Some(&2), "{timelines:?}");

    // Either goes on alone.
    ensure!(!first.task.is_finished() && !second.task.is_finished());
    first.stop().await?;
    let last: i64 = client.query_one("SELECT max(sequence_number) FROM message", &[]).await?.get(0);
    support::insert(&client, CHAT, last + 1, "after it").await?;
    equals_the_table(&stack, &client).await?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_kept_up_is_promoted_under_writes_and_nothing_is_lost_on_18() -> Result<()> {
    promoted_in_step(PostgresVersion::V18).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_kept_up_is_promoted_under_writes_and_nothing_is_lost_on_17() -> Result<()> {
    promoted_in_step(PostgresVersion::V17).await
}

/// What the primary shows of a standby whose settings were changed, and what `waltalkie doctor` says of it.
async fn settings_that_a_standby_lacks_are_named(stack: &Stack, standby: &Client) -> Result<()> {
    let says = async |what: &str| {
        eventually(&format!("the primary shows {what}"), async || {
            let wrong = FailoverFacts::ask(&stack.sql, &stack.config.names()).await?.verdict().wrong;
            Ok(wrong.iter().any(|wrong| wrong.contains(what)))
        })
        .await
    };
    set(standby, "hot_standby_feedback", "off").await?;
    says("hot_standby_feedback = on there").await?;
    set(standby, "sync_replication_slots", "off").await?;
    says("set sync_replication_slots = on").await?;
    let mut doctor = waltalkie(&stack.config, &["doctor"])?;
    let told = tokio::task::spawn_blocking(move || doctor.output()).await??;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for setting in ["hot_standby_feedback = on there", "set sync_replication_slots = on", "synchronized_standby_slots"]
    {
        ensure!(told.contains(setting), "{setting}: {told}");
    }
    // Its copy of the slot would be given up without.
    set(standby, "hot_standby_feedback", "on").await
}

async fn promoted_while_lagging(version: PostgresVersion) -> Result<()> {
    let mut pair = Pair::start(version).await?;
    let mut stack = Stack::on(pair.primary.url("postgres")).await?;
    let database = stack.config.names().database(Database::Truth);
    stack.config = reached_by(&stack, pair.url(&database));
    let running = stack.start();
    stack.send(CHAT, 1, "on both").await?;
    pair.slot_is_kept(&stack.slot()).await?;

    // It stops following, and nobody waits for it.
    let standby = connect(&pair.standby.url(&database)).await?;
    let primary = connect(&pair.primary.url(&database)).await?;
    settings_that_a_standby_lacks_are_named(&stack, &standby).await?;
    set(&standby, "primary_conninfo", "").await?;
    eventually("nobody streams from the primary", async || {
        let sql = "SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical' AND active";
        Ok(primary.query_one(sql, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await?;
    stack.send_many(CHAT, 2, 50).await?;
    eventually("all are published", async || Ok(read_events(&stack.config).await?.len() == 50)).await?;
    let replayed: String = standby.query_one("SELECT pg_last_wal_replay_lsn()::text", &[]).await?.get(0);
    pair.primary.kill().await?;
    promote(&pair.standby).await?;
    // It reuses the LSNs of what was published.
    standby
        .execute(
            "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
             SELECT gen_random_uuid(), 'other', 'alice', 'new', seq, now() FROM generate_series(1, 2000) seq",
            &[],
        )
        .await?;

    let error = tokio::time::timeout(support::PATIENCE, running.task).await??.expect_err("the worker ends");
    let why = error.chain();
    ensure!(!error.is_transient(), "{why}");
    let positions = read_positions(&stack.config).await?;
    let last = positions.last().expect("a position");
    let commit = Lsn::from_bits(last.commit_lsn);
    ensure!(replayed.parse::<Lsn>()? < commit, "the standby lacks it: {replayed} {commit}");
    for number in [replayed, commit.to_string(), Lsn::from_bits(last.confirmable_lsn).to_string()] {
        ensure!(why.contains(&number), "{number}: {why}");
    }
    ensure!(read_events(&stack.config).await?.len() == 50, "nothing of the new timeline");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lacks_what_was_published_is_refused_with_the_numbers_on_18() -> Result<()> {
    promoted_while_lagging(PostgresVersion::V18).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lacks_what_was_published_is_refused_with_the_numbers_on_17() -> Result<()> {
    promoted_while_lagging(PostgresVersion::V17).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persister_decides_nothing_on_a_server_that_takes_no_writes() -> Result<()> {
    let stack = Stack::new().await?;
    let mut config = (*stack.config).clone();
    config.redis.url = Secret::new(support::env("WALTALKIE_TEST_REDIS"));
    let (config, database) = (Arc::new(config), stack.config.names().database(Database::Truth));
    let persister = Persister::start(Arc::clone(&config));
    let (accepted, enough) = (Arc::new(AtomicUsize::new(0)), Shutdown::new());
    let sending = tokio::spawn(send_commands(config, Arc::clone(&accepted), enough.clone()));
    let persisted = async || {
        Ok::<_, anyhow::Error>(stack.sql.query_one("SELECT count(*) FROM message", &[]).await?.get::<_, i64>(0))
    };
    eventually("messages are persisted", async || Ok(persisted().await? >= 20)).await?;

    // As a standby would answer, to connections that were made before and after.
    let reconnect = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
    stack.sql.batch_execute(&format!("ALTER DATABASE \"{database}\" SET default_transaction_read_only = on")).await?;
    stack.sql.batch_execute(reconnect).await?;
    eventually("it says why it waits", async || Ok(persister.problem().contains("read-only"))).await?;
    let more = accepted.load(Ordering::SeqCst) + 50;
    eventually("commands go on coming", async || Ok(accepted.load(Ordering::SeqCst) >= more)).await?;
    stack.sql.batch_execute(&format!("ALTER DATABASE \"{database}\" RESET default_transaction_read_only")).await?;
    stack.sql.batch_execute(reconnect).await?;
    enough.begin();
    let message_ids = sending.await??;
    eventually("all are persisted, none is put aside", async || Ok(persisted().await? == message_ids.len() as i64))
        .await?;
    persister.stop().await
}
