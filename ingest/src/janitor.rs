//! Removes results of commands that nobody can be waiting for any more.

use std::sync::Arc;
use std::time::Duration;

use runtime::{Config, RoleHealth, Shutdown, clock, postgres};
use schemas::timestamp;

use crate::error::Error;

/// Runs until it is time to stop: bounded batches, so that no lock is held long.
pub async fn run(config: Arc<Config>, health: RoleHealth, shutdown: Shutdown) -> Result<(), Error> {
    let pool = postgres::pool(&config.postgres.truth_url, "postgres.truth_url", 1)?;
    let interval = Duration::from_millis(config.janitor.interval_ms);
    let most = i64::from(config.janitor.batch_rows);
    loop {
        let before = timestamp::to_offset(clock::now_ms() - config.janitor.result_retention_ms as i64);
        match delete(&pool, before, most).await {
            Ok(deleted) if deleted == most as u64 => {
                health.ready();
                continue;
            }
            Ok(_) => health.ready(),
            Err(error) => {
                tracing::warn!(error = %error, "old results of commands can't be removed now");
                health.not_ready(format!("Postgres: {error}"));
            }
        }
        if !shutdown.pause(interval).await {
            return Ok(());
        }
    }
}

async fn delete(pool: &deadpool_postgres::Pool, before: time::OffsetDateTime, most: i64) -> Result<u64, String> {
    let client = pool.get().await.map_err(|error| error.to_string())?;
    client
        .execute(
            "DELETE FROM command_result WHERE command_id IN
               (SELECT command_id FROM command_result WHERE decided_at < $1 ORDER BY decided_at LIMIT $2)",
            &[&before, &most],
        )
        .await
        .map_err(|error| error.to_string())
}
