//! Cases in which a start would lose or repeat something, made on real servers: the worker says which it is, publishes
//! nothing, and goes on once the way out that it names has been taken.

use std::sync::{Arc, Mutex, mpsc};

use crate::support::completing::{complete, goes_on};
use crate::support::{self, Stack, connect, env, eventually, read_events, read_positions, start};
use anyhow::{Context, Result, anyhow, ensure};
use cdc_worker::failpoint::{Act, Failpoints, Point};
use local_stack::{LonePostgres, PostgresVersion};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use runtime::kafka::admin::Admin;
use runtime::names::Database;
use runtime::{Config, Secret};
use schemas::Position;
use schemas::topics::Topic;
use tokio_postgres::Client;

const RESNAPSHOT: &str = "`waltalkie cdc resnapshot`";

/// A worker refuses for what is expected, and the history stays as it is.
async fn refuses(stack: &Stack, expected: &[&str]) -> Result<()> {
    refuses_with(&stack.config, stack, expected).await
}

/// The same of a worker with another configuration.
async fn refuses_with(config: &Arc<Config>, stack: &Stack, expected: &[&str]) -> Result<()> {
    let before = read_events(&stack.config).await?.len();
    let why = start(Arc::clone(config), Failpoints::default()).refusal().await?;
    for expected in expected {
        ensure!(why.contains(expected), "{expected}: {why}");
    }
    let after = read_events(&stack.config).await?.len();
    ensure!(after == before, "{} events were published", after - before);
    Ok(())
}

/// Events `1..=count` of chat `c`, published by transactions of their own; nobody streams then.
async fn publish(stack: &Stack, count: i64) -> Result<()> {
    let running = stack.start();
    for seq in 1..=count {
        stack.send("c", seq, "published").await?;
        eventually("it is published", async || Ok(read_events(&stack.config).await?.len() as i64 == seq)).await?;
    }
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_under_its_name_that_are_none_of_ours() -> Result<()> {
    let stack = Stack::new().await?;
    stack.drop_slot().await?;
    stack.forget_topics().await?;
    let elsewhere = connect(&env("WALTALKIE_TEST_POSTGRES_URL")).await?;
    let cases: [(&Client, &str, bool, &[&str]); 3] = [
        (
            &stack.sql,
            "test_decoding",
            false,
            &["uses the plugin `test_decoding`", "drop it and run `waltalkie migrate`"],
        ),
        (&elsewhere, "pgoutput", false, &["belongs to another database of the server"]),
        (&stack.sql, "pgoutput", true, &["it is temporary", "docs/operators.md, \"Failover\""]),
    ];
    for (client, plugin, is_temporary, expected) in cases {
        let make = "SELECT pg_create_logical_replication_slot($1, $2, $3)";
        client.execute(make, &[&stack.slot(), &plugin, &is_temporary]).await?;
        refuses(&stack, expected).await?;
        client.execute("SELECT pg_drop_replication_slot($1)", &[&stack.slot()]).await?;
    }
    // As `migrate` makes it.
    stack.make_slot().await?;
    goes_on(&stack, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_the_server_gave_up_and_a_server_of_another_cluster() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = [("max_slot_wal_keep_size", "1MB"), ("min_wal_size", "32MB"), ("max_wal_size", "32MB")];
    let server = LonePostgres::start(PostgresVersion::V18, dir.path(), &settings).await?;
    given_up(&server).await?;
    of_another_cluster(&server).await
}

/// The server needs the WAL's place more than the slot does.
async fn given_up(server: &LonePostgres) -> Result<()> {
    let stack = Stack::on(server.url("postgres")).await?;
    publish(&stack, 1).await?;
    stack.send("c", 2, "in WAL that is removed").await?;
    stack.sql.batch_execute("CREATE TABLE noise (n int)").await?;
    eventually("the server gives the slot up", async || {
        // A batch is one transaction, and a checkpoint can't be in one.
        for statement in ["INSERT INTO noise VALUES (1)", "SELECT pg_switch_wal()", "CHECKPOINT"] {
            stack.sql.batch_execute(statement).await?;
        }
        let lost = "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = $1";
        Ok(stack.sql.query_one(lost, &[&stack.slot()]).await?.get(0))
    })
    .await?;
    refuses(&stack, &["has given it up (wal_removed)", "Raise max_slot_wal_keep_size", RESNAPSHOT]).await?;
    let status = cdc_worker::status(&stack.config).await?;
    ensure!(status.wal_status == "lost" && status.invalidation_reason.as_deref() == Some("wal_removed"), "{status:?}");
    ensure!(status.problems.iter().any(|problem| problem.contains("has given it up")), "{status:?}");
    let summary = complete(&stack).await?;
    ensure!(summary.makes_slot && summary.events_added == 1, "{summary:?}");
    goes_on(&stack, 3).await
}

/// The same tables and slot on a server that isn't the one of the position.
async fn of_another_cluster(server: &LonePostgres) -> Result<()> {
    let stack = Stack::new().await?;
    publish(&stack, 1).await?;
    let (names, mut config) = (stack.config.names(), (*stack.config).clone());
    let database = names.database(Database::Truth);
    config.postgres.truth_url = Secret::new(server.url(&database));
    migrations::ensure_database(&Secret::new(server.url("postgres")), &database).await?;
    migrations::migrate_truth(&config.postgres.truth_url).await?;
    let there = connect(config.postgres.truth_url.expose()).await?;
    migrations::ensure_publication(&there, &names).await?;
    migrations::ensure_slot(&there, &names).await?.context("the slot is there")?;
    support::insert(&there, "c", 2, "written there").await?;
    let expected =
        ["the stored position belongs to the Postgres cluster", "Point postgres.truth_url at the right server"];
    refuses_with(&Arc::new(config), &stack, &expected).await?;
    goes_on(&stack, 2).await
}

/// What a position becomes, from an early one and itself.
type Rewrite = fn(&Position, Position) -> Position;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_that_kafka_does_not_bear_out() -> Result<()> {
    let stack = Stack::new().await?;
    publish(&stack, 2).await?;
    let positions = read_positions(&stack.config).await?;
    let early = positions.into_iter().find(|position| position.commit_lsn > 0).context("no position of the first")?;
    // What Kafka shows after each of them was lost, copied or restored is what it shows beside such a position.
    let cases: [(&str, Rewrite); 3] = [
        ("the stored position belongs to the Kafka cluster another", |_, last| Position {
            cluster_id: "another".into(),
            ..last
        }),
        ("cdc.positions has lost its end", |early, last| Position {
            commit_lsn: early.commit_lsn,
            ordinal: early.ordinal,
            partitions: early.partitions.clone(),
            ..last
        }),
        ("Kafka has lost the end of the partition", |_, mut last| {
            last.partitions.iter_mut().for_each(|end| end.last_offset += 100);
            last
        }),
    ];
    let mut seq = 2;
    for (expected, forged) in cases {
        let last = read_positions(&stack.config).await?.pop().context("no position")?;
        stack.write_position(forged(&early, last)).await?;
        stack.send("c", seq + 1, "waits").await?;
        refuses(&stack, &[expected, RESNAPSHOT]).await.context(expected)?;
        let summary = complete(&stack).await.context(expected)?;
        ensure!(summary.refused_because.is_some() && summary.events_added == 1, "{expected}: {summary:?}");
        goes_on(&stack, seq + 2).await.context(expected)?;
        seq += 2;
    }
    made_anew(&stack, seq).await
}

/// Somebody deletes the topic, and `migrate` makes it again.
async fn made_anew(stack: &Stack, published: i64) -> Result<()> {
    let topic = stack.config.names().topic(Topic::ChatEvents);
    let client: AdminClient<DefaultClientContext> = runtime::kafka::client_config(&stack.config.kafka).create()?;
    for deleted in client.delete_topics(&[&topic], &AdminOptions::new()).await? {
        deleted.map_err(|(topic, code)| anyhow!("{topic}: {code}"))?;
    }
    let admin = Admin::new(&stack.config.kafka)?;
    eventually("the topic is made again", async || {
        // While it is being deleted, it can't be made.
        Ok(admin.make_topics(&stack.config.kafka, &stack.config.names()).await.is_ok_and(|made| made.contains(&topic)))
    })
    .await?;
    stack.send("c", published + 1, "waits").await?;
    refuses(stack, &[&format!("topic {topic} was made anew: its events are gone"), RESNAPSHOT]).await?;
    let summary = complete(stack).await?;
    ensure!(summary.events_before == 0 && summary.events_added as i64 == published + 1, "{summary:?}");
    goes_on(stack, published + 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_while_an_event_table_has_another_name() -> Result<()> {
    let stack = Stack::new().await?;
    publish(&stack, 1).await?;
    stack.sql.batch_execute("ALTER TABLE message RENAME TO message_before").await?;
    stack
        .sql
        .batch_execute(
            "INSERT INTO message_before (message_id, chat_id, sender_id, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'c', 'alice', 'under another name', 2, now())",
        )
        .await?;
    refuses(&stack, &["public.message_before", "Rename back what was renamed", RESNAPSHOT]).await?;
    stack.sql.batch_execute("ALTER TABLE message_before RENAME TO message").await?;
    // The row stands in the stream under the other name: only the tables can tell of it.
    refuses(&stack, &["may have left rows out", RESNAPSHOT]).await?;
    let summary = complete(&stack).await?;
    ensure!(summary.events_added == 1, "{summary:?}");
    goes_on(&stack, 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_dropped_while_a_worker_starts() -> Result<()> {
    let stack = Stack::new().await?;
    publish(&stack, 1).await?;
    // It has seen the slot, and is held before it asks for the stream.
    let (reached, at_point) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let (reached, gate) = (Mutex::new(reached), Mutex::new(gate));
    let failpoints = Failpoints::new(Arc::new(move |at| {
        if at == Point::Fencing {
            let _ = reached.lock().map(|reached| reached.send(()));
            let _ = gate.lock().map(|gate| gate.recv());
        }
        Act::Continue
    }));
    let running = stack.start_with(failpoints);
    tokio::task::spawn_blocking(move || at_point.recv_timeout(support::PATIENCE)).await?.context("the point")?;
    stack.drop_slot().await?;
    go_on.send(())?;
    let why = running.refusal().await?;
    ensure!(why.contains("not started: it isn't there; `waltalkie migrate`") && why.contains(RESNAPSHOT), "{why}");
    complete(&stack).await?;
    goes_on(&stack, 2).await
}
