//! Benches, small: they run on given servers, their clients get everything once and in order, also from the
//! floor, and they leave nothing behind. How fast it is isn't looked at.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use waltalkie_tests::harness::{Servers, program};

/// Runs a bench; what it says as JSON.
async fn bench(arguments: &'static str) -> Result<Value> {
    let servers = Servers::shared()?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program()?);
    command
        .arg("bench")
        .args(arguments.split(' '))
        .arg("--json")
        .current_dir(folder.path())
        .env("WALTALKIE_DEVELOPMENT", "true")
        .env("WALTALKIE_AUTH__HS256_SECRET", "a secret that only tests sign their tokens with")
        .env("WALTALKIE_POSTGRES__TRUTH_URL", servers.database("postgres"))
        .env("WALTALKIE_POSTGRES__READ_URL", servers.database("postgres"))
        .env("WALTALKIE_KAFKA__BROKERS", &servers.kafka)
        .env("WALTALKIE_KAFKA__PARTITIONS", "3")
        .env("WALTALKIE_KAFKA__REPLICATION_FACTOR", "1")
        .env("WALTALKIE_KAFKA__MIN_INSYNC_REPLICAS", "1")
        // Several transactions also of few commands.
        .env("WALTALKIE_PERSISTER__BATCH_COMMANDS", "100")
        .env("WALTALKIE_REGISTRY__URL", &servers.registry)
        .env("WALTALKIE_REDIS__URL", &servers.redis);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && !said.contains("leaving"), "{arguments}: {told}\n{said}");
    serde_json::from_str(&told).with_context(|| format!("{arguments}: {told}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_delivery_of_a_fanout_is_counted() -> Result<()> {
    let report = bench(
        "fanout --connections 40 --chats 8 --members 10 --deliveries-per-s 400,2000 --nodes 2 --warmup-s 0.5 --seconds 1 --floor",
    )
    .await?;
    let loads = report["loads"].as_array().context("no loads")?;
    ensure!(loads.len() == 2, "{report}");
    for (load, per_s) in loads.iter().zip([400, 2_000]) {
        for figures in [load, &load["floor"]] {
            ensure!(figures["deliveries"].as_u64() >= Some(per_s), "{figures}");
            ensure!(figures["lost"] == 0 && figures["repeated"] == 0 && figures["out_of_order"] == 0, "{figures}");
            ensure!(figures["p99_ms"].as_f64() > Some(0.0) && figures["frame_bytes"].as_u64() > Some(192), "{figures}");
        }
        ensure!(load["frame_bytes"] == load["floor"]["frame_bytes"], "not the same bytes: {load}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_stay_and_are_weighed() -> Result<()> {
    let report = bench(
        "idle --connections 60 --chats-each 4 --members 5 --settle-s 1 --seconds 1 --chats-on-node 50 --missed 5 --floor",
    )
    .await?;
    for figures in [&report, &report["floor"]] {
        ensure!(figures["standing"] == 60 && figures["added_connections"] == 30, "{report}");
        ensure!(figures["rss_after_bytes"].as_u64() > Some(1_000_000), "{report}");
    }
    // Servers that aren't its own are left alone.
    let followed = &report["chats_on_node"];
    ensure!(followed["chats"] == 50 && followed["restart"].is_null(), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_comes_back_from_a_storm() -> Result<()> {
    let report = bench(
        "storm --clients 60 --chats-each 2 --members 10 --missed 3 --others 20 --rate 50 --calm-s 1 --seconds 2 --settle-s 0.5 --floor",
    )
    .await?;
    for returned in [&report, &report["floor"]] {
        let (half, all) = (returned["half_resumed_s"].as_f64(), returned["all_resumed_s"].as_f64());
        ensure!(half > Some(0.0) && all >= half, "{report}");
        ensure!(returned["lost"] == 0 && returned["repeated"] == 0 && returned["closed_connections"] == 60, "{report}");
    }
    ensure!(report["others_lost"] == 0 && report["others_calm"]["p50_ms"].as_f64() > Some(0.0), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_on_disk_are_those_of_the_log_with_its_markers() -> Result<()> {
    let report = bench(
        "cdc --workload disk --events 2000 --chats 10 --content-bytes 40 --rate 100 --seconds 1 --compression lz4 --partitions 3",
    )
    .await?;
    let one = &report["on_disk"][0];
    ensure!(one["compression"] == "lz4" && report["drains"] == serde_json::json!([]), "{report}");
    for (load, events) in [("full_batches", 2_000), ("steady", 200)] {
        let taken = &one[load];
        ensure!(taken["events"] == events && taken["markers"].as_u64() > Some(0), "{report}");
        ensure!(taken["bytes_an_event"].as_f64().is_some_and(|bytes| (40.0..2_000.0).contains(&bytes)), "{report}");
    }
    let each = |load: &str| one[load]["bytes_an_event"].as_f64();
    ensure!(each("full_batches") < each("steady"), "small batches cost nothing: {report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cdc_worker_drains_is_measured_and_taken_over_from() -> Result<()> {
    let report = bench(
        "cdc --workload a --workload latency --workload idle --workload takeover --events 2000 --chats 10 --runs 1 --rate 100 --seconds 1 --takeovers 1 --partitions 3",
    )
    .await?;
    let drain = &report["drains"][0];
    ensure!(drain["counted"]["events"] == 2_000 && drain["counted"]["lost"] == 0, "{report}");
    for figure in ["events_per_s", "null_reader_per_s", "bare_producer_per_s", "peak_rss_bytes", "transactions"] {
        ensure!(drain[figure].as_f64() > Some(0.0), "{figure}: {report}");
    }
    let latencies = report["latencies"].as_array().context("no latencies")?;
    ensure!(latencies.len() == 2, "{report}");
    for figures in latencies.iter().flat_map(|latency| [latency, &latency["bare_producer"]]) {
        let (p50, p99) = (figures["p50_ms"].as_f64(), figures["p99_ms"].as_f64());
        // Who commits may hear of it after who reads it: that is no time at all.
        ensure!(p50 >= Some(0.0) && p99 > Some(0.0) && p99 >= p50, "{report}");
    }
    let takeovers = &report["takeovers"][0];
    ensure!(takeovers["history"]["rows"].as_u64() > Some(0), "{report}");
    for (took, fault) in takeovers["faults"].as_array().context("no takeovers")?.iter().zip(["SIGKILL", "SIGSTOP"]) {
        ensure!(took["fault"] == fault && took["takeovers"] == 1, "{report}");
        let (read, committed) = (took["first_read"]["max_ms"].as_f64(), took["first_commit"]["max_ms"].as_f64());
        ensure!(read > Some(0.0) && committed >= read, "{report}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_commands_become_rows_and_have_a_budget() -> Result<()> {
    let report =
        bench("persist --workload spread --commands 3000 --chats 20 --content-bytes 40 --partitions 3 --runs 1")
            .await?;
    let drain = &report["drains"][0];
    let counted = &drain["counted"];
    ensure!(counted["rows"] == 3_000 && counted["lost"] == 0 && counted["gaps"] == 0, "{report}");
    let budget = &drain["budget"];
    ensure!(budget["commands_per_transaction"].as_f64() >= Some(1.0), "{report}");
    for phase in ["decode", "begin", "lock", "lookup", "decide", "insert", "commit"] {
        let us = budget["us_per_command"][phase].as_f64();
        ensure!(us.is_some_and(|us| us > 0.0), "no time in {phase}: {report}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_measured_beside_what_could_be_quicker_and_beside_peers() -> Result<()> {
    let report = bench(
        "rebuild --projection chat_activity --events 4000 --chats 20 --members 3 --partitions 3 --runs 1 --peer nobody=true",
    )
    .await?;
    for figure in [&report["bare"]["events_per_s"], &report["in_memory"]["events_per_s"], &report["of_bare"]] {
        ensure!(figure.as_f64() > Some(0.0), "{report}");
    }
    let rebuild = &report["rebuilds"][0];
    ensure!(rebuild["projection"] == "chat_activity" && rebuild["is_right"] == true, "{report}");
    ensure!(rebuild["records"] == 4_000 && rebuild["copy"]["rows"].as_u64() > Some(0), "{report}");
    ensure!(rebuild["of_copy"].as_f64() > Some(0.0) && rebuild["peak_rss_bytes"].as_u64() > Some(0), "{report}");
    let peer = &report["peers"][0];
    ensure!(peer["name"] == "nobody" && peer["records_per_s"].as_f64() > Some(0.0), "{report}");

    // One that fails is named.
    let failed = bench("rebuild --projection chat_head --events 40 --chats 20 --runs 1 --peer broken=false").await;
    let told = failed.err().context("it didn't fail")?.to_string();
    ensure!(told.contains("peer \"broken\": it ended with exit status: 1"), "{told}");
    Ok(())
}
