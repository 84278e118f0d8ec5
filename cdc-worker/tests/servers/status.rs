//! `status`: what operators are told while all is well, while nobody streams, and when the slot is gone.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{self, Running, Stack, eventually, read_events};
use anyhow::{Result, ensure};
use cdc_worker::{LagKind, Status};
use runtime::Config;

async fn is_streaming(running: &Running) -> Result<()> {
    eventually("it streams", async || Ok(running.health.is_ready())).await
}

fn says(status: &Status, what: &str) -> bool {
    status.problems.iter().any(|problem| problem.contains(what))
}

fn lsn(text: &str) -> u64 {
    text.parse::<cdc_worker::Lsn>().expect("an LSN").0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_traffic_all_is_well_and_events_are_counted() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    is_streaming(&running).await?;
    let (writer, more) = (stack.connect().await?, runtime::Shutdown::new());
    let told = more.clone();
    let writing = tokio::spawn(async move {
        let mut seq = 0;
        while !told.has_begun() {
            seq += 1;
            support::insert(&writer, "c", seq, "hello").await?;
        }
        Ok::<_, anyhow::Error>(seq)
    });
    let before = running_total(&stack).await?;
    let status = cdc_worker::status(&stack.config).await?;
    let after = running_total(&stack).await?;
    more.begin();
    let written = writing.await??;
    ensure!(status.problems.is_empty(), "{status:#?}");
    ensure!(status.exists && status.is_active && status.plugin == "pgoutput" && status.wal_status == "reserved");
    ensure!(status.lease_holder.is_some() && status.lease_left_ms.is_some_and(|ms| ms > 0), "{status:#?}");
    let streamer = status.streamer.clone().expect("a connection");
    ensure!(
        streamer.client.is_some() && streamer.sent_lsn.is_some() && streamer.received_lsn.is_some(),
        "{streamer:?}"
    );
    let lag = status.lag.expect("a lag");
    ensure!(lag.is == LagKind::Measured && (0..1_000).contains(&lag.ms), "{lag:?}");
    let counted = status.events_per_s.expect("a rate") * status.window_ms as f64 / 1_000.0;
    ensure!(counted >= 1.0 && counted <= (after - before) as f64 + 0.5, "{counted} of {} events", after - before);
    let position = status.position.clone().expect("a position");
    let (restart, confirmed) = (status.restart_lsn.as_deref().expect("WAL"), &status.confirmed_flush_lsn);
    ensure!(lsn(restart) <= lsn(confirmed) && lsn(&position.confirmable_lsn) <= lsn(&status.server_lsn), "{status:#?}");
    ensure!(status.lag_bytes == lsn(&status.server_lsn) - lsn(&position.confirmable_lsn), "{status:#?}");
    eventually("all is published", async || Ok(read_events(&stack.config).await?.len() as i64 == written)).await?;
    running.stop().await
}

async fn running_total(stack: &Stack) -> Result<usize> {
    Ok(read_events(&stack.config).await?.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_slot_lags_by_no_time() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    // Long ago: a bound by the newest event would say so.
    let old = "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
               VALUES (gen_random_uuid(), 'c', 'alice', 'old', 1, now() - interval '1 hour')";
    stack.sql.batch_execute(old).await?;
    eventually("it is published", async || Ok(read_events(&stack.config).await?.len() == 1)).await?;
    // WAL of an unpublished table, of which the worker has nothing to say.
    stack.sql.batch_execute("CREATE TABLE noise AS SELECT generate_series(1, 1000)").await?;
    let status = cdc_worker::status(&stack.config).await?;
    ensure!(status.problems.is_empty(), "{status:#?}");
    ensure!(status.last_event_age_ms.is_some_and(|ms| ms > 3_000_000), "{status:#?}");
    ensure!(status.lag.is_some_and(|lag| lag.is != LagKind::AtMost && lag.ms < 1_000), "{status:#?}");
    ensure!(status.events_per_s == Some(0.0), "{status:#?}");
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nobody_streams_lag_grows_and_it_says_who_should() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    is_streaming(&running).await?;
    stack.send("c", 1, "published").await?;
    eventually("it is published", async || Ok(read_events(&stack.config).await?.len() == 1)).await?;
    running.stop().await?;
    stack.send_many("c", 2, 5_000).await?;
    let status = cdc_worker::status(&stack.config).await?;
    ensure!(says(&status, "no worker holds the lease") && says(&status, "`waltalkie run cdc`"), "{status:#?}");
    ensure!(status.problems.len() == 1 && status.exists && !status.is_active, "{status:#?}");
    ensure!(status.lease_holder.is_none() && status.streamer.is_none(), "{status:#?}");
    ensure!(status.lag_bytes > 500_000 && status.wal_retained_bytes >= status.lag_bytes, "{status:#?}");
    let lag = status.lag.expect("a lag");
    ensure!(lag.is == LagKind::AtMost && lag.ms <= status.last_event_age_ms.unwrap_or_default(), "{lag:?}");

    // A stream without a lease, as a worker that was stopped has it.
    let parsed = runtime::postgres::parse(&stack.config.postgres.truth_url, "postgres.truth_url")?;
    let connection = cdc_worker::replication::Connection::open(&parsed).await?;
    let held = connection.start(&stack.slot(), &stack.config.names().publication(), "0/0".parse()?).await?;
    let status = cdc_worker::status(&stack.config).await?;
    ensure!(status.is_active && says(&status, "doesn't hold the lease"), "{status:#?}");
    drop(held);

    // A lease without a stream, as a worker that starts over again and again has it.
    eventually("the slot is free", async || {
        let active = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
        Ok(!stack.sql.query_one(active, &[&stack.slot()]).await?.get::<_, bool>(0))
    })
    .await?;
    stack
        .sql
        .execute("INSERT INTO cdc_lease VALUES ($1, 'somebody', now() + interval '1 minute')", &[&stack.slot()])
        .await?;
    let status = cdc_worker::status(&stack.config).await?;
    ensure!(says(&status, "worker somebody holds the lease but doesn't stream"), "{status:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_slot_and_one_that_was_made_anew_are_told() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    is_streaming(&running).await?;
    stack.send("c", 1, "published").await?;
    eventually("it is published", async || Ok(read_events(&stack.config).await?.len() == 1)).await?;
    running.stop().await?;
    stack.drop_slot().await?;
    let status = cdc_worker::status(&stack.config).await?;
    ensure!(!status.exists && !status.is_active && status.wal_retained_bytes == 0, "{status:#?}");
    ensure!(says(&status, "isn't there") && says(&status, "`waltalkie cdc resnapshot`"), "{status:#?}");
    ensure!(status.position.is_some() && status.restart_lsn.is_none(), "{status:#?}");

    stack.send("c", 2, "in no slot").await?;
    stack.make_slot().await.expect_err("the first position would hide a hole");
    let status = cdc_worker::status(&stack.config).await?;
    ensure!(status.exists && says(&status, "made anew"), "{status:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_kafka_it_still_tells_of_the_slot() -> Result<()> {
    let stack = Stack::new().await?;
    let mut config = Config::clone(&stack.config);
    // A port that nobody listens on.
    config.kafka.brokers = "127.0.0.1:1".into();
    let status = tokio::time::timeout(Duration::from_secs(50), cdc_worker::status(&Arc::new(config))).await??;
    ensure!(status.exists && status.lag.is_none() && status.events_per_s.is_none(), "{status:#?}");
    ensure!(says(&status, "what is published can't be told: Kafka"), "{status:#?}");
    Ok(())
}

/// What programs hold on to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_json_has_the_names_that_programs_know() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    is_streaming(&running).await?;
    stack.send("c", 1, "published").await?;
    eventually("it is published", async || Ok(read_events(&stack.config).await?.len() == 1)).await?;
    let status = serde_json::to_value(cdc_worker::status(&stack.config).await?)?;
    running.stop().await?;
    let keys = |value: &serde_json::Value| {
        value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>().join(" ")).unwrap_or_default()
    };
    let expected = "confirmed_flush_lsn events_per_s exists invalidation_reason is_active is_failover lag lag_bytes \
                    last_event_age_ms lease_holder lease_left_ms plugin position problems restart_lsn safe_wal_bytes \
                    server_lsn slot streamer wal_retained_bytes wal_status window_ms";
    let mut found: Vec<_> = keys(&status).split(' ').map(str::to_owned).collect();
    found.sort();
    ensure!(found.join(" ") == expected, "{status:#}");
    for (part, expected) in [
        ("position", vec!["age_ms", "commit_lsn", "confirmable_lsn", "ordinal"]),
        ("lag", vec!["is", "ms"]),
        ("streamer", vec!["client", "connected_ms", "pid", "received_lsn", "sent_lsn"]),
    ] {
        let mut found: Vec<_> = keys(&status[part]).split(' ').map(str::to_owned).collect();
        found.sort();
        ensure!(found == expected, "{part}: {status:#}");
    }
    Ok(())
}
