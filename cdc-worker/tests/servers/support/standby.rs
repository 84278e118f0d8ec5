//! A primary and a physical standby of it, servers of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use local_stack::{LonePostgres, PostgresVersion};
use tempfile::TempDir;
use tokio_postgres::Client;

use super::{connect, eventually};

/// The standby's physical slot on the primary.
pub const STANDBY_SLOT: &str = "standby_slot";

/// Small servers that shouldn't weigh on each other.
const SETTINGS: [(&str, &str); 3] =
    [("shared_buffers", "32MB"), ("max_wal_size", "256MB"), ("wal_receiver_status_interval", "1s")];

pub struct Pair {
    pub primary: LonePostgres,
    pub standby: LonePostgres,
    // Dropped after the servers.
    _dirs: [TempDir; 2],
}

impl Pair {
    /// A primary, and a standby that streams from it and copies its failover slots.
    pub async fn start(version: PostgresVersion) -> Result<Self> {
        let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
        let primary = LonePostgres::start(version, dirs[0].path(), &SETTINGS).await?;
        let standby = make_standby(&primary, version, dirs[1].path()).await?;
        Ok(Self { primary, standby, _dirs: dirs })
    }

    /// A URL of both, in which the primary is to be found.
    pub fn url(&self, database: &str) -> String {
        let url = self.primary.url(database);
        let (front, _) = url.rsplit_once('@').expect("a URL with a host");
        let (primary, standby) = (self.primary.port(), self.standby.port());
        // The standby first: connections must pass it over.
        format!("{front}@127.0.0.1:{standby},127.0.0.1:{primary}/{database}?target_session_attrs=read-write")
    }

    /// Has the primary wait for the standby: with commits, and with what it gives to logical slots.
    pub async fn keep_in_step(&self) -> Result<()> {
        let client = connect(&self.primary.url("postgres")).await?;
        for (setting, value) in [("synchronous_standby_names", "*"), ("synchronized_standby_slots", STANDBY_SLOT)] {
            set(&client, setting, value).await?;
        }
        eventually("the standby is synchronous", async || {
            let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            Ok(client.query_one(sql, &[]).await?.get::<_, i64>(0) == 1)
        })
        .await
    }

    /// Waits until the standby has a copy of a logical slot that would survive a promotion.
    pub async fn slot_is_kept(&self, slot: &str) -> Result<()> {
        let client = connect(&self.standby.url("postgres")).await?;
        eventually("the standby keeps the slot", async || {
            let sql = "SELECT synced AND NOT temporary AND invalidation_reason IS NULL FROM pg_replication_slots
                        WHERE slot_name = $1";
            Ok(client.query_opt(sql, &[&slot]).await?.is_some_and(|row| row.get(0)))
        })
        .await
    }

    /// Kills the primary as a power cut would, and promotes the standby.
    pub async fn fail_over(&mut self) -> Result<()> {
        self.primary.kill().await?;
        promote(&self.standby).await
    }
}

/// Ends recovery, and waits until the server takes writes.
pub async fn promote(standby: &LonePostgres) -> Result<()> {
    let client = connect(&standby.url("postgres")).await?;
    ensure!(client.query_one("SELECT pg_promote()", &[]).await?.get::<_, bool>(0), "it isn't promoted");
    Ok(())
}

/// `ALTER SYSTEM`, in force at once.
pub async fn set(client: &Client, setting: &str, value: &str) -> Result<()> {
    client.batch_execute(&format!("ALTER SYSTEM SET {setting} = '{value}'")).await?;
    client.batch_execute("SELECT pg_reload_conf()").await?;
    eventually(&format!("{setting} is in force"), async || {
        let now: String = client.query_one("SELECT current_setting($1)", &[&setting]).await?.get(0);
        Ok(now == value)
    })
    .await
}

/// Copies a running primary's cluster, as pg_basebackup would, and starts it as a standby.
async fn make_standby(primary: &LonePostgres, version: PostgresVersion, dir: &Path) -> Result<LonePostgres> {
    // Roles come with the data, and so does the password.
    fs::create_dir_all(dir)?;
    fs::copy(primary.data_dir().join("postgres.password"), dir.join("postgres.password"))?;
    let mut standby = LonePostgres::start(version, dir, &SETTINGS).await?;
    standby.stop().await?;

    let client = connect(&primary.url("postgres")).await?;
    client.execute("SELECT pg_create_physical_replication_slot($1, true)", &[&STANDBY_SLOT]).await?;
    client.execute("SELECT pg_backup_start('standby', true)", &[]).await?;
    let (from, to) = (primary.cluster_dir(), standby.cluster_dir());
    fs::remove_dir_all(&to)?;
    // Files may change and go while they are copied: the WAL mends them.
    Command::new("cp").arg("-a").arg(&from).arg(&to).output().context("cp")?;
    let label: String = client.query_one("SELECT labelfile FROM pg_backup_stop(false)", &[]).await?.get(0);

    for file in ["postmaster.pid", "postmaster.opts"] {
        let _ = fs::remove_file(to.join(file));
    }
    for folder in ["pg_replslot", "pg_wal"] {
        for entry in fs::read_dir(to.join(folder))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name() != "archive_status" && entry.file_name() != "summaries"
            {
                fs::remove_dir_all(entry.path())?;
            } else if entry.file_type()?.is_file() && !entry.file_name().to_string_lossy().ends_with(".history") {
                fs::remove_file(entry.path())?;
            }
        }
    }
    let url = primary.url("postgres");
    let settings = format!(
        "primary_conninfo = '{url}'\nprimary_slot_name = '{STANDBY_SLOT}'\nhot_standby_feedback = on\nsync_replication_slots = on\n\
         synchronous_standby_names = ''\nsynchronized_standby_slots = ''\n"
    );
    // Over what stands there, so that the server's user goes on owning it.
    fs::write(to.join("postgresql.auto.conf"), settings)?;
    fs::write(to.join("backup_label"), label)?;
    fs::write(to.join("standby.signal"), "")?;
    for file in ["backup_label", "standby.signal"] {
        let owner = Command::new("chown").arg("--reference").arg(to.join("PG_VERSION")).arg(to.join(file)).output()?;
        ensure!(owner.status.success(), "{}", String::from_utf8_lossy(&owner.stderr));
    }
    standby.start_again().await?;
    eventually("the standby streams", async || {
        let sql = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
        Ok(client.query_one(sql, &[&STANDBY_SLOT]).await?.get(0))
    })
    .await?;
    Ok(standby)
}
