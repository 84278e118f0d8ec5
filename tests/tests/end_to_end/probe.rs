//! `waltalkie probe` sees what people see, and misses what they miss.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use waltalkie_tests::harness::{Installation, LONG, Lines};

async fn run(mut command: Command, arguments: &[&str]) -> Result<(Output, Vec<Value>)> {
    command.arg("probe").args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    let lines = lines.with_context(|| format!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output, lines))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_sees_what_people_see() -> Result<()> {
    let installation = Installation::make("probe").await?;
    let gateway = installation.run(&["gateway"]).await?;
    let mut rear = installation.run(&["persister", "cdc", "publisher"]).await?;
    let url = gateway.gateway()?;
    // On a machine that is busy with other tests: the times are the bench's to measure.
    let arguments = [url, "--count", "3", "--every-ms", "200", "--patience-ms", "60000", "--json"];
    let (output, probes) = run(installation.command()?, &arguments).await?;
    ensure!(output.status.success() && probes.len() == 3, "{probes:?} {}", String::from_utf8_lossy(&output.stderr));
    for probe in &probes {
        ensure!(probe["is_missed"] == false && probe["seen_ms"].as_f64() > Some(0.0), "{probe}");
    }

    // A token that an application made, as a file; its metrics.
    let token = Command::new(installation.command()?.get_program())
        .envs(installation.command()?.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .args(["token", "--user", "bird"])
        .output()?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &token.stdout)?;
    let mut command = installation.command()?;
    command.args(["probe", url, "--user", "bird", "--every-ms", "200", "--listen", "127.0.0.1:0"]);
    command.arg("--token-file").arg(file.path());
    let mut probing = Lines::of(command)?;
    let first = probing.wait(|line| line.starts_with("metrics on "), LONG)?;
    let metrics = first.trim_start_matches("metrics on ").trim().to_owned();
    probing.wait(|line| line.contains("seen") && !line.contains("never"), LONG)?;
    let text = reqwest::get(&metrics).await?.text().await?;
    ensure!(text.contains("waltalkie_probe_seen_seconds_count") && !text.contains("bird"), "{text}");
    drop(probing);

    // Nobody persists: accepted, and seen by nobody.
    rear.kill()?;
    let arguments = [url, "--count", "2", "--every-ms", "200", "--patience-ms", "2000", "--json"];
    let (output, probes) = run(installation.command()?, &arguments).await?;
    ensure!(!output.status.success() && probes.len() == 2, "{probes:?}");
    ensure!(probes.iter().all(|probe| probe["is_missed"] == true && probe["seen_ms"].is_null()), "{probes:?}");
    let refused = run(installation.command()?, &[url, "--token-file", "/nowhere", "--count", "1"]).await?.0;
    ensure!(String::from_utf8_lossy(&refused.stderr).contains("--token-file"), "{refused:?}");
    Ok(())
}
