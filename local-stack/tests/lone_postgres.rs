//! Single servers beside the stack: two versions side by side, kept over a kill and a stop, gone when dropped.

use std::path::Path;

use anyhow::{Result, ensure};
use local_stack::{Error, LonePostgres, PostgresVersion};
use tokio_postgres::NoTls;

/// The first column of the one row.
async fn ask(url: &str, sql: &str) -> Result<String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client.query_one(sql, &[]).await?.get(0))
}

#[tokio::test]
async fn versions_run_side_by_side_and_keep_what_they_have() -> Result<()> {
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let settings = [("wal_level", "replica"), ("work_mem", "5MB")];
    let mut old = LonePostgres::start(PostgresVersion::V15, dirs[0].path(), &[]).await?;
    let mut new = LonePostgres::start(PostgresVersion::V17, dirs[1].path(), &settings).await?;
    ensure!(old.port() != new.port());
    for (server, version) in [(&old, "15"), (&new, "17")] {
        let url = server.url("postgres");
        let found = ask(&url, "SHOW server_version").await?;
        ensure!(found.starts_with(version), "{found}");
        ensure!(server.cluster_dir().join("PG_VERSION").exists());
        ensure!(ask(&url, "SHOW fsync").await? == "on");
    }
    ensure!(ask(&old.url("postgres"), "SHOW wal_level").await? == "logical");
    ensure!(ask(&new.url("postgres"), "SHOW wal_level").await? == "replica", "a setting of its own");
    ensure!(ask(&new.url("postgres"), "SHOW work_mem").await? == "5MB");

    let url = old.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('kept')").await?;
    old.kill().await?;
    ensure!(connection.await?.is_err(), "a killed server cuts its clients off");
    old.start_again().await?;
    ensure!(old.url("postgres") == url, "the port stays");
    ensure!(ask(&url, "SELECT word FROM kept").await? == "kept");
    old.stop().await?;
    ensure!(ask(&url, "SELECT word FROM kept").await.is_err());
    old.start_again().await?;
    ensure!(ask(&url, "SELECT word FROM kept").await? == "kept");

    // One holder at a time; dropped, it is gone, and the next has its data and port.
    let second = LonePostgres::start(PostgresVersion::V15, dirs[0].path(), &[]).await;
    ensure!(matches!(second, Err(Error::AlreadyRunning { .. })));
    drop(old);
    ensure!(ask(&url, "SELECT 1").await.is_err());
    let old = LonePostgres::start(PostgresVersion::V15, dirs[0].path(), &[]).await?;
    ensure!(old.url("postgres") == url);
    ensure!(ask(&url, "SELECT word FROM kept").await? == "kept");
    new.stop().await?;
    ensure!(!Path::new(&new.cluster_dir()).join("postmaster.pid").exists(), "stopped in an orderly way");
    Ok(())
}
