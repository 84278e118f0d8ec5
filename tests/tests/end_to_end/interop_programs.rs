//! Programs that others write read the history: Flink SQL, Kafka Streams, Kafka Connect, plain consumers in Java, JavaScript and
//! Python. Each is a folder of `tests/interop/`, unchanged from what its own documentation tells people to do.
//!
//! One history for all of them (`history`): in each codec, with an aborted transaction, with an event of a version of the
//! schema that doesn't exist yet, and with the golden records of each one that did (`golden`). What they print is compared with the
//! tables (`tables`).

mod golden;
mod history;
mod tables;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use schemas::timestamp;
use schemas::topics::Topic;
use serde_json::{Value, json};
use waltalkie_tests::harness::{
    Installation, LONG, Lines, java_program, javascript_packages, python, repository, target_dir, until, within,
};

use self::tables::Tables;

/// A Flink cluster starts within it, beside other tests.
const PATIENCE: Duration = Duration::from_mins(4);

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_others_read_the_history() -> Result<()> {
    let goldens = golden::goldens()?;
    let (installation, said) = history::make("interop-programs", &goldens).await?;
    let tables = Tables::read(&installation, &said, &goldens).await?;
    let folder = tempfile::tempdir_in(target_dir()?)?;
    let readers = Readers { installation, tables, folder };
    // One after the other, for the machine's sake; all of them, so that one run tells about each.
    let outcomes = [
        ("java-consumer", readers.java_consumer().await),
        ("javascript", readers.javascript().await),
        ("python", readers.python().await),
        ("kafka-connect", readers.kafka_connect().await),
        ("kafka-streams", readers.kafka_streams().await),
        ("flink-sql", readers.flink_sql().await),
    ];
    let failed: Vec<String> = outcomes
        .iter()
        .filter_map(|(name, outcome)| outcome.as_ref().err().map(|error| format!("{name}: {error:#}")))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

struct Readers {
    installation: Installation,
    tables: Tables,
    folder: tempfile::TempDir,
}

impl Readers {
    async fn java_consumer(&self) -> Result<()> {
        let mut command = java_program("java-consumer")?;
        command.arg("example.ReadEvents");
        self.check_consumer(&self.run("java-consumer", command).await?)
    }

    async fn javascript(&self) -> Result<()> {
        // Node looks for packages in the folders above a program.
        std::os::unix::fs::symlink(javascript_packages()?, self.folder.path().join("node_modules"))?;
        for file in ["package.json", "consumer.js"] {
            std::fs::copy(repository().join("tests/interop/javascript").join(file), self.folder.path().join(file))?;
        }
        let mut command = Command::new("node");
        command.arg("consumer.js").current_dir(self.folder.path());
        self.check_consumer(&self.run("javascript", command).await?)
    }

    /// It goes on until it is stopped, so it is when it has printed all.
    async fn python(&self) -> Result<()> {
        let (names, servers) = (self.installation.names(), self.installation.servers());
        let mut command = Command::new(python()?);
        command.arg(repository().join("tests/interop/python/consumer.py"));
        command.args(["-b", &servers.kafka, "-s", &servers.registry]);
        command.args(["-t", &names.topic(Topic::ChatEvents), "-g", &names.group("python")]);
        let mut consumer = Lines::of(command)?;
        // And the one of a type that isn't known yet.
        let wanted = self.tables.events.len() + 1;
        let printed = tokio::task::spawn_blocking(move || {
            for _ in 0..wanted {
                consumer.wait(|line| line.starts_with('{'), LONG)?;
            }
            Ok::<_, anyhow::Error>(std::mem::take(&mut consumer.printed))
        })
        .await??;
        let (mut events, mut later) = (Vec::new(), Vec::new());
        for line in printed.iter().filter(|line| line.starts_with('{')) {
            let printed: Value = serde_json::from_str(line).with_context(|| line.clone())?;
            let event = &printed["event"];
            ensure!(printed["key"] == event["chat_id"], "{line}");
            // As Python writes a time with its zone.
            let at = event["occurred_at"].as_str().context("no time")?.replacen(' ', "T", 1);
            let known = json!({
                "event_id": event["event_id"], "event_type": event["event_type"], "chat_id": event["chat_id"],
                "seq": event["seq"], "actor_id": event["actor_id"], "occurred_at": timestamp::parse(&at)?,
                "content": event["message"]["content"],
            });
            if event["event_type"] == "reaction.added" {
                later.push(event["reaction"].clone());
            } else {
                events.push(known);
            }
        }
        same(&events, &self.tables.events())?;
        ensure!(later == ["👍"], "{later:?}");
        Ok(())
    }

    /// Every event as the tables have it, counts too, and what isn't known yet skipped.
    fn check_consumer(&self, lines: &[Value]) -> Result<()> {
        let events = lines.iter().filter(|line| line.get("event_id").is_some());
        same(events, &self.tables.events()).context("events")?;
        same(lines.iter().filter(|line| line.get("minute").is_some()), &self.tables.counts).context("counts")?;
        let end = lines.last().context("nothing printed")?;
        ensure!(*end == json!({ "events": self.tables.events.len(), "skipped": 1 }), "{end}");
        Ok(())
    }

    async fn kafka_streams(&self) -> Result<()> {
        let mut command = java_program("kafka-streams")?;
        command.arg("example.MessagesPerMinute");
        same(&self.run("kafka-streams", command).await?, &self.tables.counts)
    }

    async fn flink_sql(&self) -> Result<()> {
        let mut command = java_program("flink-sql")?;
        command.args(["example.RunSql", "job.sql"]);
        let lines = self.run("flink-sql", command).await?;
        same(lines.iter().filter(|line| line.get("minute").is_some()), &self.tables.counts).context("counts")?;
        same(lines.iter().filter(|line| line.get("seq").is_some()), &self.tables.named).context("joined names")
    }

    /// A worker goes on until it is stopped, so it is when the file has all lines.
    async fn kafka_connect(&self) -> Result<()> {
        let mut command = java_program("kafka-connect")?;
        command
            .args(["-Dlog4j2.configurationFile=log4j2.properties", "org.apache.kafka.connect.cli.ConnectStandalone"])
            .args(["worker.properties", "sink.properties"]);
        self.set_environment("kafka-connect", &mut command);
        let mut worker = Lines::of(command)?;
        let file = self.folder.path().join("events.txt");
        let lines = || std::fs::read_to_string(&file).unwrap_or_default();
        // And the one of a type that isn't known yet.
        let wanted = self.tables.events.len() + 1;
        let is_complete = || lines().matches('\n').count() >= wanted;
        let seen = until("the sink to have written all", PATIENCE, async || {
            Ok((is_complete() || worker.ended()?.is_some()).then_some(()))
        });
        if seen.await.is_err() || !is_complete() {
            // Tells what the worker said.
            worker.wait(|_| false, Duration::from_secs(1)).with_context(|| format!("{wanted} lines:\n{}", lines()))?;
        }
        drop(worker);
        let mut written: Vec<String> = lines().lines().map(str::to_owned).collect();
        for event in &self.tables.events {
            let at = written.iter().position(|line| event.is_struct(line));
            let at = at.with_context(|| format!("no line fits {event:?}:\n{}", written.join("\n")))?;
            written.swap_remove(at);
        }
        ensure!(written.len() == 1 && written[0].contains("event_type=reaction.added"), "{written:?}");
        Ok(())
    }

    /// What a program prints, line by line; its errors are kept with the logs of the test.
    async fn run(&self, name: &str, mut command: Command) -> Result<Vec<Value>> {
        self.set_environment(name, &mut command);
        command.stdin(Stdio::null());
        let output = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = within(name, PATIENCE, output).await??;
        let log = self.installation.logs().join(format!("{name}.log"));
        std::fs::write(&log, &output.stderr)?;
        ensure!(output.status.success(), "{}: see {}", output.status, log.display());
        let printed = String::from_utf8(output.stdout)?;
        printed.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// All that these programs are told.
    fn set_environment(&self, name: &str, command: &mut Command) {
        let (names, servers) = (self.installation.names(), self.installation.servers());
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        command.envs(BTreeMap::from([
            ("BOOTSTRAP_SERVERS", servers.kafka.clone()),
            ("SCHEMA_REGISTRY_URL", servers.registry.clone()),
            ("APICURIO_REGISTRY_URL", servers.registry.replace("/apis/ccompat/v7", "/apis/registry/v2")),
            ("EVENTS_TOPIC", names.topic(Topic::ChatEvents)),
            ("USERS_TOPIC", names.topic(Topic::ChatUsers)),
            ("GROUP", names.group(name)),
            ("OUTPUT_TOPIC", format!("{}messages-per-minute", names.prefix())),
            ("STATE_DIR", file("state")),
            ("OUTPUT_FILE", file("events.txt")),
            ("OFFSETS_FILE", file("offsets")),
        ]));
    }
}

/// The same lines, in any order.
fn same<'a>(printed: impl IntoIterator<Item = &'a Value>, wanted: &[Value]) -> Result<()> {
    let sorted = |lines: Vec<&Value>| {
        let mut lines: Vec<String> = lines.into_iter().map(Value::to_string).collect();
        lines.sort_unstable();
        lines
    };
    let (printed, wanted) = (sorted(printed.into_iter().collect()), sorted(wanted.iter().collect()));
    let strange: Vec<&String> = printed.iter().filter(|line| !wanted.contains(line)).collect();
    let missing: Vec<&String> = wanted.iter().filter(|line| !printed.contains(line)).collect();
    ensure!(
        strange.is_empty() && missing.is_empty(),
        "not in the tables: {strange:?}; only in the tables: {missing:?}"
    );
    ensure!(printed.len() == wanted.len(), "{} lines instead of {}", printed.len(), wanted.len());
    Ok(())
}
