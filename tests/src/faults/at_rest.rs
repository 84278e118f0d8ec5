//! What the history itself proves once everything is at rest: it is dense and equal to the tables, each read model is what it says,
//! and so are the rows of the stream operators.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use runtime::Config;
use schemas::registry::Registry;
use schemas::{ChatActivity, Decoder, Record};
use tokio_postgres::Client;

use crate::harness::{Installation, LONG, RoleProcess, read_all, until};

/// The program's own comparisons, which read the history from its first event.
const COMPARISONS: [&[&str]; 2] = [&["verify", "history"], &["verify", "membership", "chat_head", "cursor", "inbox"]];

/// Asks the program whether history, tables and read models agree.
pub(super) async fn verify(installation: &Installation) -> Result<()> {
    for arguments in COMPARISONS {
        let mut command = installation.command()?;
        command.args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{arguments:?}: {}\n{said}\n{why}", output.status);
    }
    Ok(())
}

/// Waits until the stream operators have told of every minute that is over, and holds what they told of against the tables; says
/// how many rows that were.
pub(super) async fn numbers(installation: &Installation, operators: &RoleProcess) -> Result<usize> {
    until("the operators to have read all", LONG, async || {
        Ok((operators.metric("waltalkie_operators_lag_records").await? == 0.0).then_some(()))
    })
    .await?;
    let config = installation.config()?;
    let truth = installation.truth().await?;
    let over = minutes_over(&truth, config.operators.watermark_delay_ms as f64 / 1_000.0).await?;
    let last = until("a row of every minute that is over", LONG, async || {
        let last = told(&config).await?;
        if let Some(missing) = over.iter().find(|minute| !last.contains_key(*minute)) {
            bail!("none of {missing:?}");
        }
        Ok(Some(last))
    })
    .await?;
    let sql = "SELECT count(*), count(DISTINCT sender_id) FROM message
                WHERE chat_id = $1 AND created_at >= to_timestamp($2::bigint / 1000) AND created_at < to_timestamp($3::bigint / 1000)";
    for row in last.values() {
        let found = truth.query_one(sql, &[&row.chat_id, &row.window_start, &row.window_end]).await?;
        let found: (i64, i64) = (found.get(0), found.get(1));
        ensure!(found == (row.messages, row.senders), "the tables say {found:?}: {row:?}");
    }
    Ok(last.len())
}

/// Minutes of chats with messages, by chat and start, that the watermark has passed: a second more than it stays behind.
async fn minutes_over(truth: &Client, delay_s: f64) -> Result<Vec<(String, i64)>> {
    let sql = "SELECT DISTINCT m.chat_id, (extract(epoch FROM date_trunc('minute', m.created_at)) * 1000)::bigint
                 FROM message m JOIN (SELECT chat_id, max(created_at) AS newest FROM message GROUP BY chat_id) c ON c.chat_id = m.chat_id
                WHERE date_trunc('minute', m.created_at) + interval '61 seconds' + make_interval(secs => $1) < c.newest";
    Ok(truth.query(sql, &[&delay_s]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The last row of each minute of a chat.
async fn told(config: &Config) -> Result<BTreeMap<(String, i64), ChatActivity>> {
    let registry = Arc::new(Registry::new(config.registry.url.expose(), &config.names.prefix)?);
    let decoder = Decoder::<ChatActivity>::new(Arc::clone(&registry), registry.id_of::<ChatActivity>().await?);
    let mut last = BTreeMap::<(String, i64), ChatActivity>::new();
    for logged in read_all(config, ChatActivity::TOPIC).await? {
        let row = decoder.decode(logged.value.as_deref().context("no value")?).await?;
        let before = last.insert((row.chat_id.clone(), row.window_start), row.clone());
        ensure!(before.is_none_or(|before| before.revision < row.revision), "told twice: {row:?}");
    }
    Ok(last)
}
