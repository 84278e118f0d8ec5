//! What somebody changes behind the worker's back so that rows would be left out or put elsewhere: it stops, keeps that in
//! mind, and names the way out, which is tried here too.

use crate::support::completing::{complete, goes_on};
use crate::support::history::check_when_arrived;
use crate::support::{PATIENCE, Stack, eventually, read_events};
use anyhow::{Result, ensure};
use local_stack::{LonePostgres, PostgresVersion};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use schemas::Position;
use schemas::registry::Registry;
use schemas::topics::Topic;

/// The `seq`s of the one chat in the order of the log.
async fn seqs(stack: &Stack) -> Result<Vec<i64>> {
    Ok(read_events(&stack.config).await?.iter().map(|logged| logged.event.seq).collect())
}

async fn arrived(stack: &Stack, count: usize) -> Result<()> {
    eventually(&format!("{count} events"), async || Ok(read_events(&stack.config).await?.len() >= count)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_table_stops_and_is_no_stranger() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.send("c", 1, "one").await?;
    arrived(&stack, 1).await?;
    // In one transaction, so that the row is there before anybody looks.
    stack
        .sql
        .batch_execute(
            "BEGIN; ALTER TABLE message RENAME TO message_before;
             INSERT INTO message_before (message_id, chat_id, sender_id, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'c', 'alice', 'text', 2, now()); COMMIT",
        )
        .await?;
    let why = running.refusal().await?;
    ensure!(why.contains("public.message_before") && why.contains("cdc resnapshot"), "{why}");
    // Renamed back, a start finds nothing wrong; the stream still shows the row under the other name.
    stack.sql.batch_execute("ALTER TABLE message_before RENAME TO message").await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("cdc resnapshot"), "{why}");
    complete(&stack).await?;
    assert_eq!(seqs(&stack).await?, [1, 2]);
    goes_on(&stack, 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_publication_left_out_is_not_forgotten() -> Result<()> {
    let stack = Stack::new().await?;
    let publication = stack.config.names().publication();
    let running = stack.start();
    stack.send("c", 1, "one").await?;
    arrived(&stack, 1).await?;
    stack.sql.batch_execute(&format!("ALTER PUBLICATION \"{publication}\" DROP TABLE message")).await?;
    stack.send("c", 2, "left out").await?;
    let why = running.refusal().await?;
    ensure!(why.contains("changed by somebody") && why.contains("cdc resnapshot"), "{why}");
    stack.sql.batch_execute(&format!("ALTER PUBLICATION \"{publication}\" ADD TABLE message")).await?;
    // Nothing looks wrong any more, and publishing the next row would make the hole one for good.
    stack.send("c", 3, "after it").await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("may have left rows out") && why.contains("cdc resnapshot"), "{why}");
    assert_eq!(seqs(&stack).await?, [1]);
    complete(&stack).await?;
    assert_eq!(seqs(&stack).await?, [1, 2, 3]);
    goes_on(&stack, 4).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_is_put_back_before_anybody_looks_leaves_no_hole() -> Result<()> {
    let stack = Stack::new().await?;
    let publication = stack.config.names().publication();
    let change = |change: &str| format!("ALTER PUBLICATION \"{publication}\" {change} TABLE message");
    let row = |seq: i64| {
        format!(
            "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'c', 'alice', 'text', {seq}, now())"
        )
    };
    let running = stack.start();
    stack.send("c", 1, "one").await?;
    arrived(&stack, 1).await?;
    // In one transaction, so that nobody looks between.
    let at_once = [change("DROP"), row(2), change("ADD"), row(3)].join(";");
    stack.sql.batch_execute(&format!("BEGIN; {at_once}; COMMIT")).await?;
    let why = running.refusal().await?;
    ensure!(why.contains("chat c: seq 3 comes after 1") && why.contains("cdc resnapshot"), "{why}");
    let why = stack.start().refusal().await?;
    ensure!(why.contains("may have left rows out") && why.contains("cdc resnapshot"), "{why}");
    complete(&stack).await?;
    assert_eq!(seqs(&stack).await?, [1, 2, 3]);

    // While no worker runs, the last events of the history are what the next rows are held against.
    for statement in [change("DROP"), row(4), change("ADD"), row(5)] {
        stack.sql.batch_execute(&statement).await?;
    }
    let why = stack.start().refusal().await?;
    ensure!(why.contains("chat c: seq 5 comes after 3"), "{why}");
    complete(&stack).await?;
    assert_eq!(seqs(&stack).await?, [1, 2, 3, 4, 5]);
    goes_on(&stack, 6).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_is_dropped_ends_the_stream_of_17_with_a_way_out() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = LonePostgres::start(PostgresVersion::V17, dir.path(), &[]).await?;
    let stack = Stack::on(server.url("postgres")).await?;
    let running = stack.start();
    stack.send("c", 1, "one").await?;
    arrived(&stack, 1).await?;
    // In one transaction, so that the stream comes to the row before anybody looks.
    stack
        .sql
        .batch_execute(&format!(
            "BEGIN; DROP PUBLICATION \"{}\";
             INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'c', 'alice', 'text', 2, now()); COMMIT",
            stack.config.names().publication()
        ))
        .await?;
    let why = running.refusal().await?;
    ensure!(why.contains("refuses to go on streaming without its publication") && why.contains("42704"), "{why}");
    ensure!(why.contains("`waltalkie migrate` makes it. Then run `waltalkie cdc resnapshot`"), "{why}");
    migrations::ensure_publication(&stack.sql, &stack.config.names()).await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("may have left rows out") && why.contains("cdc resnapshot"), "{why}");
    complete(&stack).await?;
    assert_eq!(seqs(&stack).await?, [1, 2]);
    goes_on(&stack, 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_whose_schema_the_registry_does_not_know_are_refused() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.send("c", 1, "one").await?;
    arrived(&stack, 1).await?;
    running.stop().await?;
    stack.send("c", 2, "waits").await?;
    // As events are after the registry was made anew: their ids are nobody's, or those of other schemas.
    let registry = Registry::new(stack.config.registry.url.expose(), stack.config.names().prefix())?;
    let other = registry.id_of::<Position>().await?;
    let datum = [0x06, b'c', b'/', b'1', 0x02, b'c'];
    for (id, expected) in [
        (0x7fff_fff0, "schema id 2147483632 could not be had from the registry".to_owned()),
        (other, format!("schema id {other}")),
    ] {
        let framed = [schemas::codec::header(id).as_slice(), &datum].concat();
        append(&stack, &framed).await?;
        let why = stack.start().refusal().await?;
        ensure!(why.contains(&expected) && why.contains("Restore the registry's storage"), "{why}");
        let why = complete(&stack).await.expect_err("it can't be read").to_string();
        ensure!(why.contains("can't be read") && why.contains("Restore the registry's storage"), "{why}");
    }
    // Nor is what isn't framed at all taken for a matter of the registry.
    append(&stack, b"hello").await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("is none of ours") && why.contains("ACLs"), "{why}");
    Ok(())
}

/// Writes a record into the history's partition of chat `c`, as nobody should.
async fn append(stack: &Stack, value: &[u8]) -> Result<()> {
    let topic = stack.config.names().topic(Topic::ChatEvents);
    let producer: FutureProducer = runtime::kafka::producer_config(&stack.config.kafka).create()?;
    let record = FutureRecord::to(&topic).key("c").payload(value);
    producer.send(record, Timeout::After(PATIENCE)).await.map_err(|(error, _)| error)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_given_more_partitions_is_refused_by_the_next_worker_and_by_resnapshot() -> Result<()> {
    let stack = Stack::new().await?;
    stack.busy_chat("a", 0, 20).await?;
    let running = stack.start();
    check_when_arrived(&stack).await?;
    let topic = stack.config.names().topic(Topic::ChatEvents);
    stack.add_partitions(&topic, 6).await?;
    // The one that streams keeps to the partitions that it began with: no key moves.
    stack.busy_chat("a", 20, 30).await?;
    check_when_arrived(&stack).await?;
    running.stop().await?;
    let published = read_events(&stack.config).await?.len();
    stack.busy_chat("a", 30, 40).await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("has 6 partitions, and had 3"), "{why}");
    let why = complete(&stack).await.expect_err("keys have moved").to_string();
    ensure!(why.contains("has 6 partitions, and had 3"), "{why}");
    ensure!(read_events(&stack.config).await?.len() == published, "something was published");
    Ok(())
}
