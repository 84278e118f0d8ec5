//! The backlog: rows of `message` in transactions of a given size, written by the server itself.

use anyhow::{Result, ensure};
use cdc_worker::Lsn;
use rand::{SeedableRng, rngs::StdRng};
use tokio_postgres::Client;

use super::{CdcArgs, Workload};
use crate::bench::progress;
use crate::bench::text::body;

/// Different bodies; more than fit into one compressed batch.
const BODIES: usize = 50_000;
/// Rows between two looks at the progress.
const STEP_ROWS: u64 = 50_000;
/// Writes the rows; `seq` is dense in each chat. Returns a place of the log inside the last transaction, after its rows:
/// whoever has seen everything before a later place has seen them all. (The log's end wouldn't do: what the server writes
/// for itself lies before it, and nobody is told of that at once.)
pub(super) async fn write(client: &Client, args: &CdcArgs, workload: Workload) -> Result<Lsn> {
    let mut random = StdRng::seed_from_u64(1);
    client
        .batch_execute(
            "SET synchronous_commit = off;
             CREATE TEMP TABLE body (n bigint PRIMARY KEY, content text NOT NULL)",
        )
        .await?;
    let bodies: Vec<String> = (0..BODIES).map(|_| body(&mut random, args.content_bytes)).collect();
    let numbers: Vec<i64> = (0..BODIES as i64).collect();
    client.execute("INSERT INTO body SELECT * FROM unnest($1::bigint[], $2::text[])", &[&numbers, &bodies]).await?;
    let rows = workload.transaction_rows(args.events).min(args.events);
    let transactions = args.events / rows;
    ensure!(transactions * rows == args.events, "--events must be a multiple of {rows}");
    let bar = progress(args.events, "writing the backlog");
    let in_step = (STEP_ROWS / rows).max(1);
    for first in (0..transactions).step_by(in_step as usize) {
        let last = (first + in_step).min(transactions) - 1;
        client.batch_execute(&block(first, last, rows, args.chats)).await?;
        bar.set_position((last + 1) * rows);
    }
    bar.finish_and_clear();
    let row = client.query_one("SELECT (current_setting('bench.written')::pg_lsn - '0/0')::bigint", &[]).await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(Lsn::from_bits(row.get(0)))
}

/// A block of transactions. Row `i` of all belongs to chat `i % chats`.
fn block(first: u64, last: u64, rows: u64, chats: u64) -> String {
    format!(
        "DO $$ BEGIN
           FOR t IN {first}..{last} LOOP
             INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
             SELECT gen_random_uuid(), 'bench-' || i % {chats}, 'user-' || i % 97,
                    (SELECT content FROM body WHERE n = i % {BODIES}), i / {chats} + 1, clock_timestamp()
               FROM generate_series(t * {rows}::bigint, (t + 1) * {rows}::bigint - 1) i;
             PERFORM set_config('bench.written', pg_current_wal_insert_lsn()::text, false);
             COMMIT;
           END LOOP;
         END $$"
    )
}
