//! The operators' commands as processes, killed with SIGKILL between their steps and run again.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use crate::support::completing::goes_on;
use crate::support::moving::copy_tables;
use crate::support::program::waltalkie;
use crate::support::{Stack, connect, eventually, read_positions, start};
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

/// Waits until somebody on the server waits for a lock, or for a transaction to end.
async fn somebody_waits(client: &Client, query: &str) -> Result<()> {
    eventually(&format!("{query} waits"), async || {
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1)";
        Ok(client.query_one(sql, &[&format!("%{query}%")]).await?.get(0))
    })
    .await
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
    // A server of which nobody waits for an answer would give it all the same.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND query LIKE '%DELETE FROM installation%' AND pid <> pg_backend_pid()";
    ensure!(new_sql.query(end, &[]).await?.len() == 1, "nobody waits");
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
