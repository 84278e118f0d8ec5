//! The consumer's context: where its partitions start, and which assignment is the present one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use super::{Batch, OffsetStore, Place, Start};
use crate::retry::Backoff;
use crate::shutdown::Shutdown;

/// What a reader has of its topics just now.
#[derive(Clone)]
pub struct Assignment {
    pub(super) generation: Arc<AtomicU64>,
    pub(super) reload: Arc<AtomicBool>,
}

impl Assignment {
    /// Whether a batch belongs to it.
    pub fn is_present(&self, batch: &Batch) -> bool {
        // In this order: whoever takes up a reload raises the generation before the mark is taken away.
        !self.reload.load(Ordering::Acquire) && batch.generation == self.generation.load(Ordering::Acquire)
    }

    /// As [`Reader::reload`](super::Reader::reload).
    pub fn reload(&self) {
        self.reload.store(true, Ordering::Release);
    }
}

pub(super) struct Context {
    pub(super) life: CancellationToken,
    pub(super) store: Arc<dyn OffsetStore>,
    pub(super) handle: tokio::runtime::Handle,
    pub(super) generation: Arc<AtomicU64>,
    pub(super) shutdown: Shutdown,
    pub(super) lag_metric: &'static str,
}

impl Context {
    /// Sets each partition's start from the store, asking until it answers or it is time to stop.
    pub(super) fn fill(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) -> bool {
        let places: Vec<Place> =
            partitions.elements().iter().map(|part| (part.topic().to_owned(), part.partition())).collect();
        let mut backoff = Backoff::default();
        let starts = loop {
            match self.handle.block_on(self.ask(&places)) {
                None => return false,
                Some(Ok(starts)) => break starts,
                Some(Err(problem)) => {
                    tracing::warn!(error = %problem, "offsets can't be read; asking again");
                    if !self.pause(&mut backoff) {
                        return false;
                    }
                }
            }
        };
        let Some(committed) = self.committed(consumer, &starts) else { return false };
        for (topic, partition) in places {
            let offset = match starts.get(&(topic.clone(), partition)) {
                Some(Start::At(offset)) => Offset::Offset(*offset),
                // The group's own reset rule stays `error`, for offsets that are there and out of range.
                Some(Start::Committed) => match committed.find_partition(&topic, partition).map(|part| part.offset()) {
                    Some(Offset::Offset(offset)) => Offset::Offset(offset),
                    _ => Offset::End,
                },
                Some(Start::Beginning) | None => Offset::Beginning,
            };
            if partitions.set_partition_offset(&topic, partition, offset).is_err() {
                return false;
            }
        }
        true
    }

    /// What the store says; `None` when it is time to stop, however long the answer takes.
    async fn ask(&self, places: &[Place]) -> Option<Result<HashMap<Place, Start>, String>> {
        tokio::select! {
            biased;
            () = self.life.cancelled() => None,
            () = self.shutdown.begun() => None,
            answer = self.store.load(places) => Some(answer),
        }
    }

    /// `false` when it is time to stop instead of asking again.
    fn pause(&self, backoff: &mut Backoff) -> bool {
        let pause = self.shutdown.pause(backoff.next_pause());
        self.handle.block_on(async {
            tokio::select! {
                biased;
                () = self.life.cancelled() => false,
                goes_on = pause => goes_on,
            }
        })
    }

    /// What waits in partitions that others read from now on is theirs to tell.
    fn forget(&self, partitions: &TopicPartitionList) {
        for partition in partitions.elements() {
            let labels = [("topic", partition.topic().to_owned()), ("partition", partition.partition().to_string())];
            metrics::gauge!(self.lag_metric, &labels).set(0.0);
        }
    }

    /// The group's offsets in Kafka of the partitions that start there, asking until there is an answer.
    fn committed(&self, consumer: &BaseConsumer<Self>, starts: &HashMap<Place, Start>) -> Option<TopicPartitionList> {
        let mut wanted = TopicPartitionList::new();
        for ((topic, partition), _) in starts.iter().filter(|(_, start)| **start == Start::Committed) {
            wanted.add_partition(topic, *partition);
        }
        if wanted.count() == 0 {
            return Some(wanted);
        }
        let mut backoff = Backoff::default();
        loop {
            match consumer.committed_offsets(wanted.clone(), Duration::from_secs(5)) {
                Ok(committed) => return Some(committed),
                Err(error) => {
                    tracing::warn!(error = %error, "the group's offsets can't be read from Kafka; asking again");
                    if !self.pause(&mut backoff) {
                        return None;
                    }
                }
            }
        }
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        for topic in statistics.topics.values() {
            for (number, partition) in &topic.partitions {
                // What was fetched and waits is not read; what is fetched next is past the transactions' markers, which
                // nobody reads.
                let next = if partition.fetchq_cnt > 0 { partition.app_offset } else { partition.next_offset };
                if *number >= 0 && next >= 0 && partition.ls_offset >= 0 {
                    let labels = [("topic", topic.topic.clone()), ("partition", number.to_string())];
                    metrics::gauge!(self.lag_metric, &labels).set((partition.ls_offset - next).max(0) as f64);
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "Kafka's client reports");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let outcome = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && self.fill(consumer, partitions)
        {
            consumer.assign(partitions)
        } else {
            self.forget(partitions);
            consumer.unassign()
        };
        if let Err(error) = outcome {
            tracing::error!(error = %error, "an assignment could not be taken");
        }
    }
}
