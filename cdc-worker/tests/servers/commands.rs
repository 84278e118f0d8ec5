//! The operators' commands as processes, killed with SIGKILL between their steps and run again.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use crate::support::completing::goes_on;
use crate::support::moving::copy_tables;
use crate::support::program::waltalkie;
use crate::support::victims::Proxied;
use crate::support::{Stack, connect, eventually, history_is_the_tables, read_events, read_positions, start};
use anyhow::{Context, Result, ensure};
use cdc_worker::failpoint::Failpoints;
use local_stack::{LonePostgres, PostgresVersion};
use runtime::names::Database;
use runtime::{Config, Secret};
use tokio_postgres::Client;

/// Runs a command to its end.
async fn output(mut command: Command) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process that is killed if nobody waits for it.
struct Process(Child);

impl Process {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    /// SIGKILL, with the proof that it ended of that.
    fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        let status = self.0.wait()?;
        ensure!(status.signal() == Some(9), "it had ended before: {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody in the database waits for a lock, or for a transaction to end.
async fn somebody_waits(client: &Client, query: &str) -> Result<()> {
    eventually(&format!("{query} waits"), async || {
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1
                                     AND datname = current_database())";
        Ok(client.query_one(sql, &[&format!("%{query}%")]).await?.get(0))
    })
    .await
}

/// Ends the one who waits. The server would do what a process asked for that is gone meanwhile.
async fn end_who_waits(client: &Client, query: &str) -> Result<()> {
    let sql = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND query LIKE $1 AND datname = current_database()
                  AND pid <> pg_backend_pid()";
    ensure!(client.query(sql, &[&format!("%{query}%")]).await?.len() == 1, "nobody waits");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_that_is_killed_between_its_steps_is_run_again() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = LonePostgres::start(PostgresVersion::V18, dir.path(), &[]).await?;
    let mut stack = Stack::new().await?;
    let database = stack.config.names().database(Database::Truth);
    let mut config = (*stack.config).clone();
    config.postgres.truth_url = Secret::new(server.url(&database));
    let new: Arc<Config> = Arc::new(config);
    stack.send("c", 1, "before").await?;
    stack.sql.execute("INSERT INTO chat_counter (chat_id, last_seq, last_at) VALUES ('c', 1, now())", &[]).await?;

    // Paused, and not handed over yet: without a worker it waits there.
    let begin = || waltalkie(&stack.config, &["cdc", "handover", "begin"]);
    let first = Process::start(begin()?)?;
    eventually("writing is paused", async || Ok(migrations::find_pause(&stack.sql).await?.is_some())).await?;
    first.kill()?;
    ensure!(stack.send("c", 2, "in the pause").await.is_err(), "somebody may write");
    let worker = stack.start();
    let output_of_begin = output(begin()?).await?;
    ensure!(output_of_begin.status.success(), "{}", text(&output_of_begin.stderr));
    ensure!(worker.refusal().await?.contains("cdc handover finish"));

    migrations::ensure_database(&Secret::new(server.url("postgres")), &database).await?;
    migrations::migrate_truth(&new.postgres.truth_url).await?;
    let mut new_sql = connect(new.postgres.truth_url.expose()).await?;
    copy_tables(&mut stack.sql, &mut new_sql).await?;
    let finish = || waltalkie(&new, &["cdc", "handover", "finish"]);
    let mut blocker = connect(new.postgres.truth_url.expose()).await?;

    // The data are compared, the slot isn't made: it waits for a transaction that is open.
    let open = blocker.transaction().await?;
    open.batch_execute("SELECT pg_current_xact_id()").await?;
    let process = Process::start(finish()?)?;
    somebody_waits(&new_sql, "pg_create_logical_replication_slot").await?;
    process.kill()?;
    let why = start(Arc::clone(&new), Failpoints::default()).refusal().await?;
    ensure!(why.contains("cdc handover finish"), "{why}");
    open.rollback().await?;
    eventually("the server has given up what the killed one asked for", async || {
        let sql = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%pg_create_logical%'
                                       AND state = 'active' AND pid <> pg_backend_pid())";
        Ok(new_sql.query_one(sql, &[]).await?.get(0))
    })
    .await?;

    // The position is this server's, and writing is still paused: letting writers go on is held up.
    new_sql
        .batch_execute(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN OLD; END $$;
             CREATE TRIGGER hold BEFORE DELETE ON installation FOR EACH ROW EXECUTE FUNCTION hold()",
        )
        .await?;
    blocker.batch_execute("SELECT pg_advisory_lock(1)").await?;
    let process = Process::start(finish()?)?;
    somebody_waits(&new_sql, "DELETE FROM installation").await?;
    process.kill()?;
    end_who_waits(&new_sql, "DELETE FROM installation").await?;
    blocker.batch_execute("SELECT pg_advisory_unlock(1)").await?;
    ensure!(migrations::find_pause(&new_sql).await?.is_some(), "it was killed too late");
    let last = read_positions(&new).await?.pop().context("a position")?;
    ensure!(last.handed_over_at.is_none() && last.commit_lsn == 0, "{last:?}");

    let output_of_finish = output(finish()?).await?;
    let said = text(&output_of_finish.stderr);
    ensure!(output_of_finish.status.success() && text(&output_of_finish.stdout).contains("finished before"), "{said}");
    ensure!(migrations::find_pause(&new_sql).await?.is_none(), "writing is paused for good");
    stack.config = new;
    stack.sql = new_sql;
    goes_on(&stack, 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resnapshot_that_is_killed_between_its_steps_is_gone_on_with() -> Result<()> {
    const ROWS: i64 = 3_000;
    const OPEN: &str = "SELECT pg_current_xact_id()";
    const MAKING: &str = "pg_create_logical_replication_slot";
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.send("c", 1, "published").await?;
    eventually("it is published", async || Ok(read_events(&stack.config).await?.len() == 1)).await?;
    running.stop().await?;
    stack.drop_slot().await?;
    stack.send_many("c", 2, ROWS).await?;
    let positions = read_positions(&stack.config).await?;
    let proxied = Proxied::of(&stack.config).await?;
    let resnapshot = || waltalkie(&proxied.config, &["cdc", "resnapshot"]);
    let mut blocker = stack.connect().await?;

    // The slot isn't made: it waits for a transaction that is open.
    let open = blocker.transaction().await?;
    open.batch_execute(OPEN).await?;
    let process = Process::start(resnapshot()?)?;
    somebody_waits(&stack.sql, MAKING).await?;
    process.kill()?;
    end_who_waits(&stack.sql, MAKING).await?;
    open.rollback().await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("isn't there") && why.contains("`waltalkie cdc resnapshot`"), "{why}");
    ensure!(read_positions(&stack.config).await? == positions, "the position was touched");

    // The slot is made and the position marked. The tables aren't read before what began until then has ended; with Kafka
    // away, that is what begins before the mark is there.
    let open = blocker.transaction().await?;
    open.batch_execute(OPEN).await?;
    let process = Process::start(resnapshot()?)?;
    somebody_waits(&stack.sql, MAKING).await?;
    proxied.kafka.freeze();
    open.rollback().await?;
    eventually("the slot is made", async || {
        let sql = "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NULL
                                     AND confirmed_flush_lsn IS NOT NULL)";
        Ok(stack.sql.query_one(sql, &[&stack.slot()]).await?.get(0))
    })
    .await?;
    let open = blocker.transaction().await?;
    open.batch_execute(OPEN).await?;
    proxied.kafka.heal();
    eventually("the position is marked", async || {
        let last = read_positions(&stack.config).await?.pop();
        Ok(last.is_some_and(|last| last.resnapshot_until_lsn.is_some()))
    })
    .await?;
    process.kill()?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("isn't whole yet") && why.contains("`waltalkie cdc resnapshot`"), "{why}");
    ensure!(read_events(&stack.config).await?.len() == 1, "it was killed too late");
    open.rollback().await?;

    let done = output(resnapshot()?).await?;
    ensure!(done.status.success(), "{}", text(&done.stderr));
    ensure!(history_is_the_tables(&stack).await? as i64 == ROWS);
    goes_on(&stack, ROWS + 1).await
}
