//! Passes over the history in this process: a bare consumer that throws everything away, and one projection in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use projections::{ChatHead, Input};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use runtime::kafka::partition::{self, PartitionReader, Span};
use runtime::{Config, kafka};
use schemas::registry::Registry;
use schemas::{ChatEvent, Decoder, Record};
use tokio::task::JoinSet;

use super::report::Pass;
use crate::bench::processes::cpu_s;

/// How long Kafka may be silent in the middle.
const PATIENCE: Duration = Duration::from_secs(30);
/// Records in one chunk, as a rebuild reads them.
const CHUNK: usize = 1_000;

/// librdkafka's consumer on all partitions at once: each message is taken and dropped.
pub(super) async fn bare(config: &Config, events: u64) -> Result<Pass> {
    let (config, topic) = (config.clone(), config.names().topic(ChatEvent::TOPIC));
    let reading = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = kafka::client_config(&config.kafka)
            .set("group.id", "bench-bare")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..config.kafka.partitions {
            assignment.add_partition_offset(&topic, i32::from(partition), Offset::Beginning)?;
        }
        let clock = Clock::start();
        consumer.assign(&assignment)?;
        let mut read = 0;
        while read < events {
            consumer.poll(PATIENCE).context("Kafka falls silent in the middle")??;
            read += 1;
        }
        Ok(clock.stop(read))
    });
    reading.await?
}

/// Decodes each event and applies it to `chat_head` in memory; partitions side by side, as many as there are cores.
pub(super) async fn applied(config: &Config, events: u64) -> Result<Pass> {
    let topic = config.names().topic(ChatEvent::TOPIC);
    let registry = Arc::new(Registry::new(config.registry.url.expose(), config.names().prefix())?);
    let decoder = Arc::new(Decoder::<ChatEvent>::new(Arc::clone(&registry), registry.id_of::<ChatEvent>().await?));
    let ends = partition::ends(&config.kafka, &topic).await?;
    let turns = Arc::new(tokio::sync::Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)));
    let clock = Clock::start();
    let mut partitions = JoinSet::new();
    for partition in ends.into_keys() {
        let span = Span { topic: topic.clone(), partition, from: 0, until: None, chunk_records: CHUNK };
        let (decoder, turns) = (Arc::clone(&decoder), Arc::clone(&turns));
        let client = kafka::client_config(&config.kafka);
        partitions.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let mut reader = PartitionReader::start(client, "bench-memory", span)?;
            let mut state = ChatHead.state();
            let mut read = 0;
            while let Some(chunk) = reader.next().await? {
                for record in &chunk.records {
                    let value = record.value.as_deref().context("an event without a value")?;
                    let event = decoder.decode(value).await?;
                    ChatHead::apply(&mut state, &event)?;
                    read += 1;
                }
            }
            anyhow::Ok(read)
        });
    }
    let mut read = 0;
    while let Some(ended) = partitions.join_next().await {
        read += ended??;
    }
    let pass = clock.stop(read);
    ensure!(read == events, "{read} of {events} events were read");
    Ok(pass)
}

struct Clock {
    began: Instant,
    cpu_s: f64,
}

impl Clock {
    fn start() -> Self {
        Self { began: Instant::now(), cpu_s: cpu_s(std::process::id()) }
    }

    fn stop(&self, events: u64) -> Pass {
        let millions = events as f64 / 1e6;
        Pass {
            events_per_s: events as f64 / self.began.elapsed().as_secs_f64(),
            cpu_s_per_million: (cpu_s(std::process::id()) - self.cpu_s) / millions,
        }
    }
}
