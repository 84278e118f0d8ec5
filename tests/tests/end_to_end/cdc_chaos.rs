//! `bench cdc --chaos`, short: it runs on given servers, its faults hit, its runs are clean, and it leaves nothing behind.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use waltalkie_tests::harness::{Servers, program};

#[tokio::test(flavor = "multi_thread")]
async fn workers_survive_random_faults() -> Result<()> {
    let servers = Servers::shared()?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program()?);
    command
        .args(["bench", "cdc", "--chaos", "--runs", "5", "--json"])
        .current_dir(folder.path())
        .env("WALTALKIE_DEVELOPMENT", "true")
        .env("WALTALKIE_POSTGRES__TRUTH_URL", servers.database("postgres"))
        .env("WALTALKIE_KAFKA__BROKERS", &servers.kafka)
        .env("WALTALKIE_KAFKA__PARTITIONS", "3")
        .env("WALTALKIE_KAFKA__REPLICATION_FACTOR", "1")
        .env("WALTALKIE_KAFKA__MIN_INSYNC_REPLICAS", "1")
        .env("WALTALKIE_REGISTRY__URL", &servers.registry);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    eprintln!("{said}");
    ensure!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
    ensure!(report["clean_runs"] == 5 && report["runs"] == 5, "{report}");
    let hits: i64 = report["hits"].as_object().context("hits")?.values().filter_map(Value::as_i64).sum();
    ensure!(hits >= 5 && report["events"].as_i64() > Some(0), "{report}");
    ensure!(!said.contains("leaving"), "{said}");
    Ok(())
}
