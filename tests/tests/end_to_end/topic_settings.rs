//! Topics that somebody has changed: what records would be lost by is set again, the rest is told and left alone.

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use runtime::kafka::admin::Admin;
use runtime::kafka::client_config;
use schemas::topics::Topic;
use serde_json::Value;
use waltalkie_tests::harness::Installation;

async fn run(installation: &Installation, arguments: &[&str]) -> Result<String> {
    let mut command = installation.command()?;
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    Ok(String::from_utf8(output.stdout)?)
}

/// What `doctor` says of Kafka.
async fn kafka(installation: &Installation) -> Result<(bool, Vec<String>)> {
    let found: Value = serde_json::from_str(&run(installation, &["doctor", "--json"]).await?)?;
    let parts = found.as_array().context("no parts")?;
    let part = parts.iter().find(|part| part["part"] == "Kafka").context("no Kafka")?;
    let details = part["details"].as_array().into_iter().flatten();
    let details = details.filter_map(|detail| Some(detail.as_str()?.to_owned())).collect();
    Ok((part["is_well"] == true, details))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_records_would_be_lost_by_is_told_and_set_and_the_rest_is_told() -> Result<()> {
    let installation = Installation::make("topic-settings").await?;
    let config = installation.config()?;
    let (is_well, seen) = kafka(&installation).await?;
    ensure!(is_well && !seen.iter().any(|line| line.contains(" instead of ")), "{seen:?}");

    let events = config.names().topic(Topic::ChatEvents);
    let admin: AdminClient<DefaultClientContext> = client_config(&config.kafka).create()?;
    // The whole of what the topic has of its own: what isn't named here is gone.
    let change = AlterConfig::new(ResourceSpecifier::Topic(&events))
        .set("retention.ms", "604800000")
        .set("message.timestamp.type", "LogAppendTime")
        .set("segment.bytes", "104857600")
        .set("max.message.bytes", "2000000");
    let answers = admin.alter_configs([&change], &AdminOptions::new()).await?;
    ensure!(answers.iter().all(Result::is_ok), "{answers:?}");

    let (is_well, wrong) = kafka(&installation).await?;
    for setting in ["retention.ms=-1", "message.timestamp.type=CreateTime", "message.timestamp.after.max.ms="] {
        let command = format!(
            "kafka-configs.sh --bootstrap-server {} --alter --topic {events} --add-config {setting}",
            config.kafka.brokers
        );
        ensure!(wrong.iter().any(|line| line.contains(&command)), "nothing mends {setting}: {wrong:?}");
    }
    ensure!(!is_well && !wrong.iter().any(|line| line.contains("segment.bytes")), "{wrong:?}");

    let done = run(&installation, &["migrate"]).await?;
    ensure!(done.contains(&format!("topic {events} has retention.ms = 604800000 instead of -1: set")), "{done}");
    let (is_well, seen) = kafka(&installation).await?;
    ensure!(is_well, "{seen:?}");
    ensure!(seen.iter().any(|line| line.contains("segment.bytes = 104857600 instead of")), "{seen:?}");
    let settings = Admin::new(&config.kafka)?.topic_config(&events).await?;
    ensure!(settings["segment.bytes"] == "104857600" && settings["max.message.bytes"] == "2000000", "{settings:?}");
    ensure!(!run(&installation, &["migrate"]).await?.contains("instead of"), "set twice");
    Ok(())
}
