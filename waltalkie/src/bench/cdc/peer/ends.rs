//! Where a peer's topic ends, and with it how far the peer has come, without reading it.

use std::time::Instant;

use anyhow::Result;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use runtime::kafka::Quiet;

use super::{CALL, LOOK, Task};

/// Where a topic ends for readers of one isolation level.
pub(super) struct Ends {
    consumer: BaseConsumer<Quiet>,
    topic: String,
    partitions: u16,
}

impl Ends {
    pub(super) async fn of(task: &Task<'_>, level: &str) -> Result<Self> {
        let consumer = runtime::kafka::client_config(&task.config.kafka)
            .set("group.id", task.config.names().group("bench"))
            .set("isolation.level", level)
            .create_with_context(Quiet)?;
        let ends = Self { consumer, topic: task.topic.clone(), partitions: task.config.kafka.partitions };
        ends.until_it_is_there().await?;
        Ok(ends)
    }

    /// A topic that was just made is known to the broker a moment later, and has its leaders yet a moment later.
    async fn until_it_is_there(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            // Asked for by name, so that the client doesn't go on taking it for unknown.
            tokio::task::block_in_place(|| self.consumer.fetch_metadata(Some(&self.topic), CALL))?;
            match self.total() {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() > CALL => return Err(error),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Sum over the partitions: records, and markers of transactions.
    pub(super) fn total(&self) -> Result<u64> {
        let mut ends = TopicPartitionList::new();
        for partition in 0..self.partitions {
            // Asked for in the place of a time, it is the end; one request for all partitions.
            ends.add_partition_offset(&self.topic, i32::from(partition), Offset::End)?;
        }
        let ends = tokio::task::block_in_place(|| self.consumer.offsets_for_times(ends, CALL))?;
        let mut total = 0;
        for element in ends.elements() {
            element.error()?;
            total += element.offset().to_raw().and_then(|offset| u64::try_from(offset).ok()).unwrap_or(0);
        }
        Ok(total)
    }
}
