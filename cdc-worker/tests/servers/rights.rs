//! The worker with the least rights that the operators' page names: it reads the grants from that page and gives no more.

use std::sync::Arc;

use crate::support::{self, Stack, eventually, history_is_the_tables, read_events};
use anyhow::{Context, Result, ensure};
use cdc_worker::failpoint::Failpoints;
use cdc_worker::replication::Connection;
use cdc_worker::resnapshot::{self, Options, Report};
use cdc_worker::withhold::withhold;
use local_stack::{LoneKafka, LonePostgres, PostgresVersion};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use runtime::kafka::admin::Admin;
use runtime::names::Database;
use runtime::{Config, Secret, Shutdown};
use schemas::topics::Topic;

const PASSWORD: &str = "secret";
const OPERATORS: &str = include_str!("../../../docs/operators.md");

/// Lines of the operators' page between two texts.
fn lines_of_the_page(from: &str, to: &str) -> Result<String> {
    let (_, rest) = OPERATORS.split_once(from).with_context(|| format!("the page lacks {from}"))?;
    let (found, _) = rest.split_once(to).with_context(|| format!("the page lacks {to} after {from}"))?;
    Ok(found.replace('…', PASSWORD))
}

/// The configuration with another login.
fn as_user(config: &Config, server: &LonePostgres, user: &str) -> Config {
    let database = config.names().database(Database::Truth);
    let url = format!("postgres://{user}:{PASSWORD}@127.0.0.1:{}/{database}", server.port());
    let mut config = config.clone();
    config.postgres.truth_url = Secret::new(url);
    config
}

async fn published(stack: &Stack, count: usize) -> Result<()> {
    eventually(&format!("{count} events"), async || Ok(read_events(&stack.config).await?.len() >= count)).await
}

/// An installation that `migrate`'s role has made in its own database, as the page says.
async fn made_by_its_owner(server: &LonePostgres, config: Config) -> Result<Stack> {
    let database = config.names().database(Database::Truth);
    let roles = lines_of_the_page("CREATE ROLE waltalkie_migrate", "-- cdc, in that database")?;
    let admin = support::connect(&server.url("postgres")).await?;
    for statement in format!("CREATE ROLE waltalkie_migrate{roles}").split_terminator(';') {
        admin.batch_execute(&statement.replace("DATABASE waltalkie ", &format!("DATABASE {database} "))).await?;
    }
    let stack = Stack::of(as_user(&config, server, "waltalkie_migrate"), server.url("postgres")).await?;
    let row = stack.sql.query_one("SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = user", &[]).await?;
    ensure!(!row.get::<_, bool>(0), "the role may more than the page says");
    Ok(stack)
}

/// The role that owns the database makes everything, streams and takes over; then the one that owns nothing streams.
async fn least_rights_on(version: PostgresVersion) -> Result<()> {
    let dir = tempfile::tempdir()?;
    // The server itself would end a holder that is silent, after a minute.
    let settings = [("wal_sender_timeout", "0")];
    let server = LonePostgres::start(version, dir.path(), &settings).await?;
    let stack = made_by_its_owner(&server, Stack::draft(&server.url("postgres"))).await?;
    let names = stack.config.names();
    // As a worker that was stopped holds the slot: its connection doesn't go away by itself.
    let parsed = runtime::postgres::parse(&stack.config.postgres.truth_url, "postgres.truth_url")?;
    let held = Connection::open(&parsed).await?.start(&names.slot(), &names.publication(), "0/0".parse()?).await?;
    let held_by = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1";
    let holder: Option<i32> = stack.sql.query_one(held_by, &[&names.slot()]).await?.get(0);
    ensure!(holder.is_some(), "nobody holds the slot");

    let running = stack.start();
    stack.send_many("c", 1, 100).await?;
    published(&stack, 100).await?;
    let streams: Option<i32> = stack.sql.query_one(held_by, &[&names.slot()]).await?.get(0);
    ensure!(streams.is_some() && streams != holder, "the holder was not ended");
    drop(held);
    running.stop().await?;

    grant_the_least(&stack, &server).await?;
    let running = support::start(Arc::new(as_user(&stack.config, &server, "waltalkie_cdc")), Failpoints::default());
    stack.send_many("c", 101, 200).await?;
    published(&stack, 200).await?;
    running.stop().await?;
    ensure!(history_is_the_tables(&stack).await? == 200);
    Ok(())
}

/// The page's grants for a worker of its own.
async fn grant_the_least(stack: &Stack, server: &LonePostgres) -> Result<()> {
    let grants = lines_of_the_page("-- cdc, in that database, after the first migrate\n", "```")?;
    let database = stack.config.names().database(Database::Truth);
    Ok(support::connect(&server.url(&database)).await?.batch_execute(&grants).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_rights_of_the_page_are_enough_on_15() -> Result<()> {
    least_rights_on(PostgresVersion::V15).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_rights_of_the_page_are_enough_on_17_whose_slots_are_kept_on_standbys() -> Result<()> {
    least_rights_on(PostgresVersion::V17).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_rights_of_the_page_are_enough_on_18() -> Result<()> {
    least_rights_on(PostgresVersion::V18).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_owns_nothing_and_may_make_no_topics_streams() -> Result<()> {
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let server = LonePostgres::start(PostgresVersion::V15, dirs[0].path(), &[]).await?;
    let kafka = LoneKafka::start(dirs[1].path(), &[("waltalkie_cdc", PASSWORD), ("analyst", PASSWORD)]).await?;
    let mut config = Stack::draft(&server.url("postgres"));
    config.kafka.brokers = kafka.admin_brokers();
    let stack = made_by_its_owner(&server, config).await?;
    grant_the_least(&stack, &server).await?;
    let mut least = as_user(&stack.config, &server, "waltalkie_cdc");
    log_in(&mut least, &kafka, "waltalkie_cdc");
    let least = Arc::new(least);

    // Without rights it says so, and ends.
    let refused = support::start(Arc::clone(&least), Failpoints::default());
    let error = tokio::time::timeout(support::PATIENCE, refused.task).await??.expect_err("it may nothing in Kafka");
    let said = error.chain();
    ensure!(!error.is_transient() && said.contains("authorization failed") && said.contains("operators.md"), "{said}");

    allow(&kafka, &stack.config, "waltalkie_cdc").await?;
    let mut another = Config::clone(&least);
    another.names.prefix = format!("{}another-", another.names.prefix);
    let made = Admin::new(&least.kafka)?.make_topics(&another.kafka, &another.names()).await;
    ensure!(made.is_err(), "it may make topics");

    for round in 0..2 {
        let running = support::start(Arc::clone(&least), Failpoints::default());
        stack.send_many("c", round * 5_000 + 1, round * 5_000 + 5_000).await?;
        stack.change_user("alice", round + 1, "Alice", false).await?;
        published(&stack, (round as usize + 1) * 5_000).await?;
        let status = cdc_worker::status(&least).await?;
        ensure!(status.is_active && status.problems.is_empty(), "{status:?}");
        running.stop().await?;
    }
    ensure!(history_is_the_tables(&stack).await? == 10_000);
    commands_need_no_more(&stack, &least).await?;

    let mut analyst = Config::clone(&stack.config);
    log_in(&mut analyst, &kafka, "analyst");
    let names = analyst.names();
    let (events, users) = (names.topic(Topic::ChatEvents), names.topic(Topic::ChatUsers));
    ensure!(consume(&analyst, "analyst-1", &events, 1).await.is_err(), "it may read before it was allowed to");
    allow(&kafka, &stack.config, "analyst").await?;
    consume(&analyst, "analyst-1", &events, 10_000).await.context("a consumer of the history")?;
    for (group, topic) in [("analyst-1", &users), ("another", &events)] {
        let refused = consume(&analyst, group, topic, 1).await.err().context("it may more than the page says")?;
        ensure!(format!("{refused:#}").contains("uthorization"), "{refused:#}");
    }
    let producer: FutureProducer = runtime::kafka::client_config(&analyst.kafka).create()?;
    let written = producer.send(FutureRecord::to(&events).key("k").payload("forged"), support::PATIENCE).await;
    ensure!(written.is_err(), "a consumer may write into the history");
    Ok(())
}

/// What completes the history and what gives a message up work with the worker's rights.
async fn commands_need_no_more(stack: &Stack, least: &Arc<Config>) -> Result<()> {
    stack.drop_slot().await?;
    stack.send_many("c", 10_001, 10_010).await?;
    stack.change_user("alice", 3, "Alice", false).await?;
    let (options, report, shutdown) = (Options::default(), Report::default(), Shutdown::new());
    let summary = Box::pin(resnapshot::run(Arc::clone(least), options, report, &shutdown)).await?;
    ensure!(summary.makes_slot && (summary.events_added, summary.users) == (10, 1), "{summary:?}");
    ensure!(history_is_the_tables(stack).await? == 10_010);
    stack.send("c", 10_011, "given up").await?;
    let decided = Box::pin(withhold(Arc::clone(least), "c", 10_011, &shutdown)).await?;
    ensure!(!decided.was_decided, "{decided:?}");
    Ok(())
}

/// The broker's other listener, where each has the rights that they were given.
fn log_in(config: &mut Config, kafka: &LoneKafka, user: &str) {
    config.kafka.brokers = kafka.brokers();
    config.kafka.security_protocol = "sasl_plaintext".into();
    config.kafka.sasl_mechanism = "SCRAM-SHA-512".into();
    config.kafka.sasl_username = user.into();
    config.kafka.sasl_password = Secret::new(PASSWORD);
}

/// Reads so many records as a member of a group; fails with what the broker refuses.
async fn consume(config: &Config, group: &str, topic: &str, count: usize) -> Result<()> {
    let consumer: StreamConsumer = runtime::kafka::client_config(&config.kafka)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .create()?;
    consumer.subscribe(&[topic])?;
    let reading = async {
        for _ in 0..count {
            consumer.recv().await?;
        }
        Ok(())
    };
    tokio::time::timeout(support::PATIENCE, reading).await.context("nothing came")?
}

/// Runs the page's `kafka-acls.sh` lines for a user.
async fn allow(kafka: &LoneKafka, config: &Config, user: &str) -> Result<()> {
    let lines: Vec<&str> = OPERATORS
        .lines()
        .filter(|line| line.starts_with("kafka-acls.sh ") && line.contains(&format!(" User:{user} ")))
        .collect();
    ensure!(!lines.is_empty(), "the page has no ACLs");
    for line in lines {
        let line = line.replace("${P}", config.names().prefix()).replace("$SLOT", &config.names().slot());
        let (_, arguments) = line.split_once("\"$KAFKA\" ").context("another line than expected")?;
        let arguments: Vec<&str> = arguments.split(' ').map(|argument| argument.trim_matches('"')).collect();
        kafka.run_tool("org.apache.kafka.tools.AclCommand", &arguments).await?;
    }
    Ok(())
}
