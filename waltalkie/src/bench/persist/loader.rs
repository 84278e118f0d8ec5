//! The same rows by COPY, without any rule: no lock, no look, no decision.

use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::commands::Backlog;
use crate::bench::progress;
use crate::bench::text::body;

/// Rows a second of a loader that writes keys and messages in transactions of as many rows as the persister's.
pub(super) async fn load(client: &Client, backlog: &Backlog, rows: usize) -> Result<f64> {
    let content = body(&mut StdRng::seed_from_u64(1), backlog.content_bytes);
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(runtime::clock::now_ms() as u64);
    let hash = vec![0_u8; 32];
    let bar = progress(backlog.sends, "loading the same rows by COPY");
    let began = Instant::now();
    let mut loaded = 0;
    while loaded < backlog.sends {
        let count = (rows as u64).min(backlog.sends - loaded);
        let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        let places: Vec<(String, i64)> = (loaded..loaded + count)
            .map(|number| (format!("loaded-{}", number % backlog.chats), (number / backlog.chats) as i64 + 1))
            .collect();
        client.batch_execute("BEGIN").await?;
        let keys: Vec<[&(dyn ToSql + Sync); 5]> = ids
            .iter()
            .zip(&places)
            .map(|(id, (chat, seq))| [id as &(dyn ToSql + Sync), chat, &"user-0", seq, &hash])
            .collect();
        let columns = "COPY message_key (message_id, chat_id, sender_id, sequence_number, body_hash) FROM STDIN BINARY";
        copy(client, columns, &[Type::UUID, Type::TEXT, Type::TEXT, Type::INT8, Type::BYTEA], &keys).await?;
        let messages: Vec<[&(dyn ToSql + Sync); 6]> = ids
            .iter()
            .zip(&places)
            .map(|(id, (chat, seq))| [id as &(dyn ToSql + Sync), chat, &"user-0", &content, seq, &now])
            .collect();
        let columns =
            "COPY message (message_id, chat_id, sender_id, content, sequence_number, created_at) FROM STDIN BINARY";
        let types = [Type::UUID, Type::TEXT, Type::TEXT, Type::TEXT, Type::INT8, Type::TIMESTAMPTZ];
        copy(client, columns, &types, &messages).await?;
        client.batch_execute("COMMIT").await?;
        loaded += count;
        bar.set_position(loaded);
    }
    bar.finish_and_clear();
    Ok(loaded as f64 / began.elapsed().as_secs_f64())
}

async fn copy<const N: usize>(
    client: &Client,
    columns: &str,
    types: &[Type; N],
    rows: &[[&(dyn ToSql + Sync); N]],
) -> Result<()> {
    let sink = client.copy_in(columns).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, types));
    for row in rows {
        writer.as_mut().write(row).await?;
    }
    writer.finish().await?;
    Ok(())
}
