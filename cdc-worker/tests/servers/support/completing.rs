//! `cdc resnapshot`, run by a test, and a worker after it.

use std::sync::Arc;

use anyhow::Result;
use cdc_worker::failpoint::Failpoints;
use cdc_worker::resnapshot::{self, Options, Report, Summary};
use runtime::Shutdown;

use super::{PATIENCE, Stack, eventually, history_is_the_tables, read_events};

pub async fn complete(stack: &Stack) -> Result<Summary> {
    complete_with(stack, Failpoints::default()).await
}

pub async fn complete_with(stack: &Stack, failpoints: Failpoints) -> Result<Summary> {
    let (options, report, shutdown) = (Options::default(), Report::default(), Shutdown::new());
    let run = Box::pin(resnapshot::run_with(Arc::clone(&stack.config), options, report, &shutdown, failpoints));
    match tokio::time::timeout(PATIENCE, run).await? {
        Ok(summary) => Ok(summary),
        Err(error) => Err(anyhow::Error::msg(error.chain())),
    }
}

/// A plain worker publishes the next row of chat `c`, the only one there is, and the history is what the tables hold.
pub async fn goes_on(stack: &Stack, seq: i64) -> Result<()> {
    let running = stack.start();
    stack.send("c", seq, "after it").await?;
    eventually("the next event", async || Ok(read_events(&stack.config).await?.len() as i64 >= seq)).await?;
    running.stop().await?;
    history_is_the_tables(stack).await.map(drop)
}
