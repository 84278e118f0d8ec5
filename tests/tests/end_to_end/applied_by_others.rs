//! `migrate --print`: others apply what it prints, and `migrate` with the least of rights finds everything there.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use local_stack::{LoneKafka, LonePostgres, PostgresVersion};
use tokio_postgres::{Client, NoTls};
use waltalkie_tests::harness::{Servers, program, repository};

const USER: &str = "waltalkie_migrate";
const PASSWORD: &str = "secret";
const PREFIX: &str = "by-others-";
const SLOT: &str = "by_others_waltalkie";

struct Place {
    postgres: LonePostgres,
    kafka: LoneKafka,
    registry: String,
    folder: tempfile::TempDir,
}

impl Place {
    async fn start(version: PostgresVersion, folders: &[tempfile::TempDir; 2]) -> Result<Self> {
        let postgres = LonePostgres::start(version, folders[0].path(), &[]).await?;
        let kafka = LoneKafka::start(folders[1].path(), &[(USER, PASSWORD)]).await?;
        Ok(Self { postgres, kafka, registry: Servers::shared()?.registry, folder: tempfile::tempdir()? })
    }

    /// `waltalkie` as the least of logins.
    fn least(&self, arguments: &[&str]) -> Result<Output> {
        let port = self.postgres.port();
        let url = |database: &str| format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/{database}");
        let kafka = [
            ("WALTALKIE_KAFKA__BROKERS", self.kafka.brokers()),
            ("WALTALKIE_KAFKA__SECURITY_PROTOCOL", "sasl_plaintext".to_owned()),
            ("WALTALKIE_KAFKA__SASL_USERNAME", USER.to_owned()),
            ("WALTALKIE_KAFKA__SASL_PASSWORD", PASSWORD.to_owned()),
        ];
        self.run(arguments, &[("TRUTH", url("truth")), ("READ", url("read"))], &kafka)
    }

    /// `waltalkie` as the owner of everything.
    fn admin(&self, arguments: &[&str]) -> Result<Output> {
        let urls = [("TRUTH", self.postgres.url("truth")), ("READ", self.postgres.url("read"))];
        self.run(arguments, &urls, &[("WALTALKIE_KAFKA__BROKERS", self.kafka.admin_brokers())])
    }

    fn run(&self, arguments: &[&str], urls: &[(&str, String)], kafka: &[(&str, String)]) -> Result<Output> {
        let mut command = Command::new(program()?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WALTALKIE_") {
                command.env_remove(name);
            }
        }
        for (name, url) in urls {
            command.env(format!("WALTALKIE_POSTGRES__{name}_URL"), url);
        }
        command.envs(kafka.iter().map(|(name, value)| (*name, value)));
        command.env("WALTALKIE_REGISTRY__URL", &self.registry).env("WALTALKIE_NAMES__PREFIX", PREFIX);
        command.env("WALTALKIE_KAFKA__REPLICATION_FACTOR", "1").env("WALTALKIE_KAFKA__MIN_INSYNC_REPLICAS", "1");
        command.env("WALTALKIE_KAFKA__PARTITIONS", "3");
        // No waltalkie.toml there.
        Ok(command.args(arguments).current_dir(self.folder.path()).output()?)
    }

    fn printed(&self, part: &str) -> Result<String> {
        said(&self.least(&["migrate", "--print", part])?)
    }

    async fn sql(&self, database: &str) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.postgres.url(database), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// As the operators' page has it, for this principal.
    async fn allow(&self) -> Result<()> {
        let page = page()?;
        for line in page.lines().filter(|line| line.starts_with("kafka-acls.sh ") && line.contains(USER)) {
            self.kafka_line(&line.replace("${P}", PREFIX).replace("$SLOT", SLOT)).await?;
        }
        Ok(())
    }

    /// Runs a line of Kafka's shell tools, as the administrator.
    async fn kafka_line(&self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').map(|word| word.trim_matches(['"', '\''])).collect();
        let class = match words.first() {
            Some(&"kafka-topics.sh") => "org.apache.kafka.tools.TopicCommand",
            Some(&"kafka-acls.sh") => "org.apache.kafka.tools.AclCommand",
            other => anyhow::bail!("{other:?} is no tool of Kafka"),
        };
        ensure!(words.get(1) == Some(&"--bootstrap-server"), "{line}");
        Ok(self.kafka.run_tool(class, &words[3..]).await?)
    }
}

fn page() -> Result<String> {
    Ok(fs::read_to_string(repository().join("docs/operators.md"))?)
}

/// The page's grants under a comment.
fn grants(comment: &str) -> Result<String> {
    let page = page()?;
    let (_, rest) = page.split_once(comment).with_context(|| format!("the page lacks `{comment}`"))?;
    Ok(rest.lines().skip(1).take_while(|line| line.starts_with("GRANT")).collect())
}

fn said(output: &Output) -> Result<String> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout.clone())?)
}

/// Runs a script in a shell.
fn shell(script: &str, folder: &Path) -> Result<()> {
    let output = Command::new("sh").arg("-ec").arg(script).current_dir(folder).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// One after the other: both have the same names in one registry.
#[tokio::test(flavor = "multi_thread")]
async fn migrate_finds_what_others_have_applied() -> Result<()> {
    for version in [PostgresVersion::V16, PostgresVersion::V18] {
        Box::pin(finds_what_others_have_applied_on(version)).await.with_context(|| format!("{version:?}"))?;
    }
    Ok(())
}

async fn finds_what_others_have_applied_on(version: PostgresVersion) -> Result<()> {
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let place = Place::start(version, &folders).await?;
    let server = place.sql("postgres").await?;
    server.batch_execute(&format!("CREATE ROLE {USER} LOGIN REPLICATION PASSWORD '{PASSWORD}'")).await?;
    server.batch_execute("CREATE DATABASE truth").await?;
    server.batch_execute("CREATE DATABASE read").await?;

    // It can make nothing, and says who can.
    let refused = place.least(&["migrate"])?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && why.contains("migrate --print"), "{why}");

    let (truth, read) = (place.sql("truth").await?, place.sql("read").await?);
    truth.batch_execute(&place.printed("truth")?).await?;
    read.batch_execute(&place.printed("read")?).await?;
    truth.batch_execute(&place.printed("slot")?).await?;
    let slot: String = truth.query_one("SELECT to_jsonb(s)::text FROM pg_replication_slots s", &[]).await?.get(0);
    let keeps_on_standby = slot.contains("\"failover\": true");
    ensure!(keeps_on_standby == (version >= PostgresVersion::V17), "{slot}");
    truth.batch_execute(&grants("-- migrate, in the truth")?).await?;
    read.batch_execute(&grants("-- migrate, in the read models")?).await?;
    let refused = place.least(&["migrate"])?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(why.contains("migrate --print topics"), "{why}");

    for line in place.printed("topics")?.lines() {
        place.kafka_line(line).await?;
    }
    shell(&place.printed("schemas")?, place.folder.path())?;
    place.allow().await?;

    // What it writes are its own facts, and the first position.
    let done = said(&place.least(&["migrate"])?)?;
    let made: Vec<&str> = done.lines().filter(|line| !line.starts_with("schema ")).collect();
    ensure!(made == [format!("first position of slot {SLOT}")], "{done}");
    let facts: i64 = truth.query_one("SELECT count(*) FROM installation", &[]).await?.get(0);
    ensure!(facts >= 3, "{facts} facts");
    let looked = place.admin(&["cdc", "status", "--json"])?;
    let status: serde_json::Value = serde_json::from_slice(&looked.stdout)?;
    ensure!(status["exists"] == true && status["position"]["commit_lsn"] == "0/0", "{status}");
    // Nothing is wrong but that no worker runs.
    let problems = status["problems"].as_array().context("problems")?;
    ensure!(!looked.status.success() && problems.len() == 1, "{status}");
    let seen = place.admin(&["cdc", "status"])?;
    let text = String::from_utf8_lossy(&seen.stdout).into_owned();
    ensure!(
        seen.status.code() == Some(1) && text.contains("nobody holds the lease") && !text.contains('\x1b'),
        "{text}"
    );

    // Nothing the second time; for the owner of everything neither.
    for output in [place.least(&["migrate"])?, place.admin(&["migrate"])?] {
        let done = said(&output)?;
        ensure!(done.lines().all(|line| line.starts_with("schema ")), "{done}");
    }
    // Applied again, a migration changes nothing.
    let again = truth.batch_execute(&place.printed("truth")?).await;
    ensure!(again.is_err_and(|error| error.to_string().contains("db error")), "applied twice");
    let all = place.printed("all")?;
    for part in ["truth", "read", "slot", "topics", "schemas"] {
        ensure!(all.contains(&place.printed(part)?), "the whole lacks {part}");
    }
    Ok(())
}
