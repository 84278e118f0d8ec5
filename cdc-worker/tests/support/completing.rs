//! `cdc resnapshot`, run by a test.

use std::sync::Arc;

use anyhow::Result;
use cdc_worker::failpoint::Failpoints;
use cdc_worker::resnapshot::{self, Options, Report, Summary};
use runtime::Shutdown;

use super::{PATIENCE, Stack};

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
