//! How many dead letters nobody has settled, counted now and then for those who watch: `waltalkie dlq` settles them, from any
//! machine, so that the persister can't know it otherwise.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use runtime::kafka::admin::Admin;
use runtime::{Config, Shutdown};
use schemas::topics::Topic;

use crate::metrics;

const EVERY: Duration = Duration::from_secs(10);
/// The topic has one partition.
const PARTITION: i32 = 0;

/// Counts until it is time to stop. While that can't be done the last count stands.
pub(super) async fn watch(config: Arc<Config>, pool: Pool, shutdown: Shutdown) {
    let Ok(admin) = Admin::new(&config.kafka) else { return };
    let topic = config.names().topic(Topic::ChatCommandsDlq);
    loop {
        let counted = tokio::select! {
            biased;
            () = shutdown.begun() => return,
            counted = count(&admin, &topic, &pool) => counted,
        };
        match counted {
            Ok(open) => metrics::open_dead_letters(open),
            Err(error) => tracing::debug!(error, "dead letters can't be counted now"),
        }
        if !shutdown.pause(EVERY).await {
            return;
        }
    }
}

/// Records that the topic still has, without those that are settled. Nobody writes to it in transactions, so that each offset is
/// a record.
async fn count(admin: &Admin, topic: &str, pool: &Pool) -> Result<i64, String> {
    let ends = admin.ends(topic).await.map_err(|error| error.to_string())?;
    let (first, end) = ends.get(&PARTITION).copied().unwrap_or_default();
    if first == end {
        return Ok(0);
    }
    let log_id = admin.log_id(topic).await.map_err(|error| error.to_string())?;
    let client = pool.get().await.map_err(|error| error.to_string())?;
    let sql = "SELECT count(*) FROM dead_letter_settled WHERE log_id = $1 AND partition = $2 AND record_offset >= $3";
    let settled = client.query_one(sql, &[&log_id, &PARTITION, &first]).await.map_err(|error| error.to_string())?;
    Ok((end - first - settled.get::<_, i64>(0)).max(0))
}
