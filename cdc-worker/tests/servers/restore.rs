//! The database comes back from a copy of its volume that is older than the history. Whatever was written to it before a
//! worker starts, nothing is published over what was lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::completing::{complete, goes_on};
use crate::support::standby::set;
use crate::support::{self, Stack, eventually, read_events, read_positions, read_users};
use anyhow::{Context, Result, ensure};
use local_stack::{LonePostgres, PostgresVersion};
use tempfile::TempDir;

const SETTINGS: [(&str, &str); 2] = [("shared_buffers", "32MB"), ("max_wal_size", "256MB")];

/// An installation on a server whose volume is copied and put back.
struct Site {
    stack: Stack,
    server: LonePostgres,
    copy: PathBuf,
    // Dropped after the server.
    _dirs: [TempDir; 2],
}

impl Site {
    async fn start() -> Result<Self> {
        let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
        let server = LonePostgres::start(PostgresVersion::V18, dirs[0].path(), &SETTINGS).await?;
        let stack = Stack::on(server.url("postgres")).await?;
        Ok(Self { stack, server, copy: dirs[1].path().join("copy"), _dirs: dirs })
    }

    /// Copies the volume while the server is down.
    async fn snapshot(&mut self) -> Result<()> {
        self.server.stop().await?;
        copy_over(&self.server.cluster_dir(), &self.copy)?;
        self.start_again().await
    }

    /// Puts the copy back in place of the volume.
    async fn put_back(&mut self) -> Result<()> {
        self.server.stop().await?;
        copy_over(&self.copy, &self.server.cluster_dir())
    }

    async fn start_again(&mut self) -> Result<()> {
        self.server.start_again().await?;
        self.stack.sql = self.stack.connect().await?;
        Ok(())
    }

    /// WAL of no event.
    async fn write_wal(&self) -> Result<()> {
        let table = format!("noise_{:08x}", rand::random::<u32>());
        let sql = format!("CREATE TABLE {table} AS SELECT generate_series(1, 20000)");
        Ok(self.stack.sql.batch_execute(&sql).await?)
    }

    /// The same until all that was published lies before it.
    async fn write_wal_past_the_position(&self) -> Result<()> {
        let confirmable = self.confirmable().await?;
        ensure!(self.stack.wal_lsn().await? < confirmable, "nothing was written over");
        while self.stack.wal_lsn().await? <= confirmable {
            self.write_wal().await?;
        }
        Ok(())
    }

    async fn confirmable(&self) -> Result<u64> {
        let last = read_positions(&self.stack.config).await?.pop().context("a position")?;
        Ok(last.confirmable_lsn as u64)
    }

    async fn published(&self, count: usize) -> Result<()> {
        let config = &self.stack.config;
        eventually(&format!("{count} events"), async || Ok(read_events(config).await?.len() == count)).await
    }

    /// A worker refuses, and has published nothing more.
    async fn is_refused(&self, expected: &[&str]) -> Result<()> {
        let before = read_events(&self.stack.config).await?.len();
        let why = self.stack.start().refusal().await?;
        for expected in expected {
            ensure!(why.contains(expected), "{expected}: {why}");
        }
        ensure!(read_events(&self.stack.config).await?.len() == before, "something was published");
        Ok(())
    }
}

fn copy_over(from: &Path, to: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(to);
    let done = Command::new("cp").arg("-a").arg(from).arg(to).output().context("cp")?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_lacks_published_events_is_refused_whatever_was_written_since() -> Result<()> {
    let mut site = Site::start().await?;
    let running = site.stack.start();
    site.stack.send_many("c", 1, 5).await?;
    site.published(5).await?;
    running.stop().await?;
    a_row_that_is_not_visible_yet_is_waited_for(&site).await?;
    site.snapshot().await?;

    let running = site.stack.start();
    site.write_wal().await?;
    site.stack.send_many("c", 7, 10).await?;
    site.published(10).await?;
    running.stop().await?;
    site.put_back().await?;
    site.start_again().await?;
    site.is_refused(&["WAL ends at", "older backup"]).await?;

    // What persisters would write, and WAL of anything: the end of the WAL says nothing any more.
    site.stack.send_many("c", 7, 9).await?;
    site.write_wal_past_the_position().await?;
    let place = "the tables aren't the ones that were published from: chat c";
    site.is_refused(&[place, "the history goes to seq 10, the tables to 9", "A new generation"]).await?;
    site.stack.send("c", 10, "in place of another").await?;
    site.is_refused(&[place, "the event of seq 10 has another message_id"]).await?;
    let problems = cdc_worker::status(&site.stack.config).await?.problems;
    ensure!(problems.iter().any(|problem| problem.contains(place)), "{problems:?}");
    let why = complete(&site.stack).await.expect_err("nothing can complete it").to_string();
    ensure!(why.contains("another message_id") && why.contains("new generation"), "{why}");

    // The same copy as a backup that is recovered: on a timeline of its own.
    site.put_back().await?;
    recover_from_archive(&site.server.cluster_dir())?;
    site.start_again().await?;
    eventually("recovery has ended", async || {
        Ok(site.stack.sql.query_one("SELECT NOT pg_is_in_recovery()", &[]).await?.get(0))
    })
    .await?;
    site.stack.send("c", 7, "on another timeline").await?;
    site.is_refused(&["left timeline 1 at"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_lacks_only_what_made_no_events_shows_by_its_log() -> Result<()> {
    let mut site = Site::start().await?;
    let running = site.stack.start();
    site.stack.send_many("c", 1, 5).await?;
    site.published(5).await?;
    running.stop().await?;
    site.snapshot().await?;

    // The position moves past WAL of no event; a server that shuts down waits for just that.
    let running = site.stack.start();
    eventually("it streams", async || Ok(running.health.is_ready())).await?;
    site.write_wal().await?;
    let passed = site.stack.wal_lsn().await?;
    site.put_back().await?;
    running.stop().await?;
    ensure!(site.confirmable().await? >= passed, "the position has not moved");
    site.start_again().await?;

    // Committed where everything was seen already: no worker would be shown it by the position alone.
    site.stack.send("c", 6, "where nothing was").await?;
    site.write_wal_past_the_position().await?;
    site.stack.send("c", 7, "past it").await?;
    site.is_refused(&["isn't the log that was published from", "`waltalkie cdc resnapshot`"]).await?;
    site.is_refused(&["may have left rows out", "`waltalkie cdc resnapshot`"]).await?;
    complete(&site.stack).await?;
    goes_on(&site.stack, 8).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_lacks_only_changes_of_people_is_refused() -> Result<()> {
    let mut site = Site::start().await?;
    let running = site.stack.start();
    // So many others after it that this chat's event is the last of no partition: no next row of it tells of a hole.
    site.stack.send("d", 1, "in the copy").await?;
    site.published(1).await?;
    for chat in 0..30 {
        site.stack.send(&format!("chat-{chat}"), 1, "in the copy").await?;
    }
    site.published(31).await?;
    running.stop().await?;
    site.snapshot().await?;

    let running = site.stack.start();
    site.write_wal().await?;
    site.stack.change_user("alice", 1, "Alice", false).await?;
    let config = &site.stack.config;
    eventually("the profile", async || Ok(!read_users(config).await?.is_empty())).await?;
    running.stop().await?;
    site.put_back().await?;
    site.start_again().await?;

    // One row where the profile's was, and so one that no worker publishes; one behind it.
    site.stack.send("d", 2, "in place of a profile").await?;
    site.write_wal_past_the_position().await?;
    site.stack.send("d", 3, "past it").await?;
    let place = "the tables aren't the ones that were published from: user alice";
    site.is_refused(&[place, "the table has no such change", "A new generation"]).await?;
    let problems = cdc_worker::status(&site.stack.config).await?.problems;
    ensure!(problems.iter().any(|problem| problem.contains(place)), "{problems:?}");
    site.stack.change_user("alice", 1, "Another", false).await?;
    site.is_refused(&[place, "the change of version 1 has another time", "A new generation"]).await?;
    let why = complete(&site.stack).await.expect_err("nothing can complete it").to_string();
    ensure!(why.contains("user alice: the change of version 1") && why.contains("new generation"), "{why}");
    Ok(())
}

/// Published from the WAL while its commit waits for a standby that nobody has, a row can't be read by others.
async fn a_row_that_is_not_visible_yet_is_waited_for(site: &Site) -> Result<()> {
    set(&site.stack.sql, "synchronous_standby_names", "nobody").await?;
    let writer = site.stack.connect().await?;
    let writing = tokio::spawn(async move { support::insert(&writer, "c", 6, "waits for nobody").await });
    let running = site.stack.start();
    site.published(6).await?;
    running.stop().await?;
    let count = "SELECT count(*) FROM message WHERE sequence_number = 6";
    ensure!(site.stack.sql.query_one(count, &[]).await?.get::<_, i64>(0) == 0, "it is visible");
    let running = site.stack.start();
    eventually("the next worker waits for it", async || {
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%pg_snapshot_xmin%'
                                       AND datname = current_database() AND pid <> pg_backend_pid())";
        Ok(site.stack.sql.query_one(waits, &[]).await?.get(0))
    })
    .await?;
    set(&site.stack.sql, "synchronous_standby_names", "").await?;
    writing.await??;
    eventually("it streams", async || Ok(site.stack.streams().await?.is_some())).await?;
    running.stop().await
}

/// Has the server recover from an archive that has nothing for it, and go on from there.
fn recover_from_archive(cluster: &Path) -> Result<()> {
    let settings = cluster.join("postgresql.auto.conf");
    fs::write(&settings, format!("{}\nrestore_command = 'false'\n", fs::read_to_string(&settings)?))?;
    let signal = cluster.join("recovery.signal");
    fs::write(&signal, "")?;
    let owner = Command::new("chown").arg("--reference").arg(cluster.join("PG_VERSION")).arg(&signal).output()?;
    ensure!(owner.status.success(), "{}", String::from_utf8_lossy(&owner.stderr));
    Ok(())
}
