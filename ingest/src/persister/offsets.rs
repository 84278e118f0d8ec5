//! The persister's offsets, kept beside its rows.

use std::collections::HashMap;

use deadpool_postgres::Pool;
use runtime::kafka::reader::{Loading, OffsetStore, Place, Start};

use super::write::CONSUMER;

/// Reads `consumer_offset` of the source of truth.
pub(crate) struct Offsets {
    pub(crate) pool: Pool,
    pub(crate) log_id: String,
}

impl OffsetStore for Offsets {
    fn load<'a>(&'a self, places: &'a [Place]) -> Loading<'a> {
        Box::pin(async move {
            let client = self.pool.get().await.map_err(|error| error.to_string())?;
            let (topics, partitions): (Vec<&str>, Vec<i32>) =
                places.iter().map(|(topic, partition)| (topic.as_str(), *partition)).unzip();
            let rows = client
                .query(
                    "SELECT o.topic, o.partition, o.next_offset, o.log_id
                       FROM consumer_offset o
                       JOIN unnest($2::text[], $3::int[]) AS n(topic, partition) USING (topic, partition)
                      WHERE o.consumer = $1",
                    &[&CONSUMER, &topics, &partitions],
                )
                .await
                .map_err(|error| error.to_string())?;
            let mut starts = HashMap::new();
            for row in &rows {
                let (topic, log_id): (String, String) = (row.get(0), row.get(3));
                if log_id != self.log_id {
                    return Err(format!(
                        "the offsets of {topic} belong to the log {log_id} (cluster/topic id), but kafka.brokers has {}: \
                         point it back, or restore both from the same moment",
                        self.log_id
                    ));
                }
                starts.insert((topic, row.get(1)), Start::At(row.get(2)));
            }
            Ok(starts)
        })
    }
}
