//! Transactions of a million rows: published in parts with bounded memory, left out when aborted; state makes no events.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::victims;
use crate::support::{Stack, read_positions};
use anyhow::{Result, ensure};
use cdc_worker::audit;

const ROWS: i64 = 1_000_000;
const UPDATED: i64 = 200_000;
/// Far below what the rows take: about 300 MB as events.
const MEMORY_BYTES: u64 = 256 << 20;
/// For all of it, on a busy machine.
const DEADLINE: Duration = Duration::from_mins(8);

/// Half of them in each of two chats.
async fn insert(client: &impl tokio_postgres::GenericClient) -> Result<()> {
    let sql = "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
               SELECT gen_random_uuid(), 'c' || n % 2, 'alice', 'x', n / 2 + 1, now() FROM generate_series(0, $1::bigint - 1) n";
    client.execute(sql, &[&ROWS]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_rows_in_one_transaction() -> Result<()> {
    let stack = Stack::new().await?;
    let victim = victims::start(&stack.config, &[])?;
    stack.is_streamed().await?;
    let began = Instant::now();
    let mut writer = stack.connect().await?;
    let open = writer.transaction().await?;
    insert(&open).await?;
    open.rollback().await?;
    insert(&writer).await?;
    eprintln!("{ROWS} rows aborted and {ROWS} committed in {:?}", began.elapsed());
    let committed = Instant::now();
    let updated =
        writer.execute("UPDATE message SET edited_seq = 1 WHERE sequence_number <= $1", &[&(UPDATED / 2)]).await?;
    ensure!(updated == UPDATED as u64, "{updated} rows were updated");
    stack.send("after", 1, "the stream has come past all of it").await?;
    while !passed(&stack).await? {
        ensure!(committed.elapsed() < DEADLINE, "it takes too long\n{}", victim.log_end());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let took = committed.elapsed();
    let memory = victim.peak_memory()?;
    eprintln!(
        "published in {took:?}, {:.0} rows/s, with {} MiB at most",
        ROWS as f64 / took.as_secs_f64(),
        memory >> 20
    );
    let verdict = audit::audit(&stack.config).await?;
    ensure!(verdict.is_clean() && verdict.rows as i64 == ROWS + 1, "{verdict}");
    ensure!(stack.aborted().await? == 0, "records of an aborted transaction");
    ensure!(memory < MEMORY_BYTES, "{memory} bytes of memory");
    let mut transactions: BTreeMap<i64, usize> = BTreeMap::new();
    for position in read_positions(&stack.config).await? {
        *transactions.entry(position.commit_lsn).or_default() += 1;
    }
    let most = transactions.values().max().copied().unwrap_or_default();
    ensure!(most > 10, "published in {most} Kafka transactions");
    victims::end(victim).await
}

/// Whether everything that was written is committed in Kafka. The offsets in the position are cheap to ask, the count isn't.
async fn passed(stack: &Stack) -> Result<bool> {
    let mut ends = BTreeMap::new();
    for position in read_positions(&stack.config).await? {
        for end in position.partitions {
            ends.insert((end.topic_name, end.partition_number), end.last_offset);
        }
    }
    Ok(ends.values().sum::<i64>() >= ROWS && audit::records_of_all(&stack.config).await?.0 as i64 > ROWS)
}
