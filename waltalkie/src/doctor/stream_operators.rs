//! The role `operators`: whether its numbers keep up with the history. Its topics are looked at with the others.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use runtime::Config;
use runtime::kafka::{self, admin::Admin};
use schemas::topics::Topic;

use super::Looked;

/// Events that they may have before them.
const BACKLOG: i64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn look(config: &Config) -> Looked {
    if !config.operators.enabled {
        return Ok((
            vec!["off: operators.enabled = false; `waltalkie run operators` runs them all the same".into()],
            Vec::new(),
        ));
    }
    let topic = config.names().topic(Topic::ChatEvents);
    let ends = Admin::new(&config.kafka)?.ends(&topic).await?;
    let mut client = kafka::client_config(&config.kafka);
    client.set("group.id", config.names().group("operators"));
    let mut places = TopicPartitionList::new();
    for &partition in ends.keys() {
        places.add_partition(&topic, partition);
    }
    let committed = tokio::task::spawn_blocking(move || -> Result<TopicPartitionList> {
        let consumer: BaseConsumer = client.create()?;
        consumer.committed_offsets(places, PATIENCE).context("Kafka doesn't say how far the operators are")
    })
    .await??;
    let behind: i64 = ends
        .iter()
        .map(|(&partition, &(first, end))| {
            let next = committed.find_partition(&topic, partition).map(|place| place.offset());
            let next = if let Some(Offset::Offset(next)) = next { next } else { first };
            // The last place of a partition is the end of a transaction, which no reader is given.
            (end - 1 - next.max(first)).max(0)
        })
        .sum();
    if behind > BACKLOG {
        return Ok((
            Vec::new(),
            vec![format!(
                "{behind} events wait for chat.activity and chat.abuse: start `waltalkie run operators`, or one more of them, or set \
                 operators.enabled = false"
            )],
        ));
    }
    Ok((vec![format!("{behind} events wait for chat.activity and chat.abuse")], Vec::new()))
}
