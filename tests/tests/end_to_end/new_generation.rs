//! A new generation of the history by the steps of the operators' page, cut from it, after the tables came back from a backup:
//! no role is left behind, and what was lost and is still among the commands comes back.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use runtime::kafka::admin::Admin;
use serde_json::json;
use waltalkie_tests::harness::{Installation, LONG, Person, Servers, read_events, repository, until};

const EPOCH: &str = "SELECT value FROM installation WHERE name = 'epoch'";

/// The blocks of the page's section, each with its language, in order.
fn blocks() -> Result<Vec<(String, String)>> {
    let page = fs::read_to_string(repository().join("docs/operators.md"))?;
    let title = "\n## A new generation of the history\n";
    let (_, rest) = page.split_once(title).with_context(|| format!("the page lacks {title}"))?;
    let section = rest.split("\n## ").next().unwrap_or_default();
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in section.lines().map(str::trim) {
        match (line.strip_prefix("```"), open.take()) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some((language, text))) => open = Some((language, format!("{text}{line}\n"))),
            (None, None) => {}
        }
    }
    Ok(blocks)
}

async fn run(installation: &Installation, arguments: &[&str]) -> Result<Output> {
    let mut command: Command = installation.command()?;
    command.args(arguments);
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

async fn succeeds(installation: &Installation, arguments: &[&str]) -> Result<()> {
    let output = run(installation, arguments).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {}\n{said}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// What the page's lines ask Kafka's tool to delete.
fn topics_of(step: &str, prefix: &str) -> Result<Vec<String>> {
    let step = step.replace("kafka-topics.sh", "echo");
    let output = Command::new("sh").arg("-euc").arg(step).env("P", prefix).env("KAFKA", "kafka:9092").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout)?;
    let named = said.lines().map(|line| line.strip_prefix("--bootstrap-server kafka:9092 --delete --topic "));
    named.map(|topic| topic.map(str::to_owned).with_context(|| said.clone())).collect()
}

/// Deletes topics, and has `migrate` make them.
async fn make_anew(installation: &Installation, topics: &[String]) -> Result<()> {
    let config = installation.config()?;
    let admin = Admin::new(&config.kafka)?;
    let mut former = BTreeMap::new();
    for topic in topics {
        former.insert(topic, admin.log_id(topic).await?);
    }
    let client: AdminClient<DefaultClientContext> = runtime::kafka::client_config(&config.kafka).create()?;
    let named: Vec<&str> = topics.iter().map(String::as_str).collect();
    for deleted in client.delete_topics(&named, &AdminOptions::new()).await? {
        deleted.map_err(|(topic, code)| anyhow!("{topic}: {code}"))?;
    }
    until("the topics to be made again", LONG, async || {
        let output = run(installation, &["migrate"]).await?;
        for (topic, former) in &former {
            let now = admin.log_id(topic).await;
            ensure!(now.is_ok_and(|now| now != *former), "{topic}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_the_page_leave_no_role_behind() -> Result<()> {
    let settings = [("operators.enabled", "true")];
    let installation = Installation::make_on(Servers::shared()?, "new-generation", &settings).await?;
    let config = installation.config()?;
    let process = installation.run(&["all"]).await?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    alice.say(&chat_id, "one").await?;
    bob.say(&chat_id, "two").await?;
    let truth = installation.truth().await?;
    truth.batch_execute("CREATE TABLE backup AS TABLE consumer_offset").await?;
    let lost = alice.say(&chat_id, "lost for a while").await?["seq"].as_i64().context("a seq")?;
    until("the lost one in the history", LONG, async || {
        let events = read_events(&config).await?;
        Ok(events.iter().any(|(event, _)| event.chat_id == chat_id && event.seq == lost).then_some(()))
    })
    .await?;
    ensure!(process.stop().await?.success(), "it ended badly");

    // As a backup brings it back.
    truth
        .batch_execute(&format!(
            "DELETE FROM message WHERE chat_id = '{chat_id}' AND sequence_number = {lost};
             DELETE FROM message_key WHERE chat_id = '{chat_id}' AND sequence_number = {lost};
             UPDATE chat_counter SET last_seq = {lost} - 1 WHERE chat_id = '{chat_id}';
             UPDATE consumer_offset AS o SET next_offset = backup.next_offset FROM backup
              WHERE (o.consumer, o.topic, o.partition) = (backup.consumer, backup.topic, backup.partition);
             DROP TABLE backup"
        ))
        .await?;
    let refused = run(&installation, &["cdc", "resnapshot"]).await?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && why.contains("\"A new generation of the history\""), "{why}");

    let blocks = blocks()?;
    let [(sh, delete), (sql, epoch), (sql_too, offsets), (sh_too, rebuild)] = blocks.as_slice() else {
        bail!("other steps than expected: {blocks:?}");
    };
    ensure!([sh, sh_too, sql, sql_too] == ["sh", "sh", "sql", "sql"], "{blocks:?}");
    let topics = topics_of(delete, installation.names().prefix())?;
    ensure!(topics.len() == 6, "{topics:?}");
    make_anew(&installation, &topics).await?;
    succeeds(&installation, &["cdc", "resnapshot"]).await?;
    let former: String = truth.query_one(EPOCH, &[]).await?.get(0);
    truth.batch_execute(epoch).await?;
    ensure!(truth.query_one(EPOCH, &[]).await?.get::<_, String>(0) != former, "the epoch is the former one");
    installation.read().await?.batch_execute(offsets).await?;
    let words: Vec<&str> = rebuild.split_whitespace().collect();
    ensure!(words.first() == Some(&"waltalkie"), "{rebuild}");
    succeeds(&installation, &words[1..]).await?;

    // Every role is ready, and what the persister has decided again is in its place.
    let process = installation.run(&["all"]).await?;
    let after = alice.at(process.gateway()?).say(&chat_id, "after").await?["seq"].as_i64();
    ensure!(after == Some(lost + 1), "{after:?}");
    let sql = "SELECT content FROM message WHERE chat_id = $1 ORDER BY sequence_number";
    let rows = truth.query(sql, &[&chat_id]).await?;
    let said: Vec<&str> = rows.iter().filter_map(|row| row.get(0)).collect();
    ensure!(said == ["one", "two", "lost for a while", "after"], "{said:?}");
    until("the history and the read models to be what the tables say", LONG, async || {
        succeeds(&installation, &["verify", "history"]).await?;
        succeeds(&installation, &["verify", "membership", "chat_head", "cursor", "inbox"]).await?;
        Ok(Some(()))
    })
    .await?;
    ensure!(process.is_ready().await, "{}", process.log_end());
    ensure!(process.stop().await?.success(), "it ended badly");
    Ok(())
}
