//! `waltalkie tail`: follows `chat.events`, decoded, one JSON line an event.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use runtime::{Config, kafka};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::wire::json::lsn_text;
use schemas::{ChatEvent, Decoder, timestamp};
use serde_json::{Value, json};

use crate::stop_signal::StopSignal;

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Only this chat
    #[arg(long)]
    chat: Option<String>,
    /// Only this type, such as message.persisted
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Where to begin
    #[arg(long, value_enum, default_value_t = From::End)]
    from: From,
    /// Stop after this many events
    #[arg(long, value_name = "COUNT")]
    max: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// At the first event that is kept
    Beginning,
    /// At what comes from now on
    End,
}

pub(crate) async fn run(config: Config, args: TailArgs) -> Result<ExitCode> {
    let registry = Arc::new(Registry::new(config.registry.url.expose(), &config.names.prefix)?);
    let own_id =
        registry.id_of::<ChatEvent>().await.context("the schema of chat.events; `waltalkie migrate` registers it")?;
    let decoder = Decoder::<ChatEvent>::new(registry, own_id);
    let handle = tokio::runtime::Handle::current();
    let mut stop = StopSignal::listen()?;
    // The consumer blocks its thread; the process ends under it when the signal comes.
    let following = tokio::task::spawn_blocking(move || follow(&config, &args, &decoder, &handle));
    tokio::select! {
        biased;
        () = stop.told() => {}
        followed = following => followed??,
    }
    Ok(ExitCode::SUCCESS)
}

fn follow(
    config: &Config,
    args: &TailArgs,
    decoder: &Decoder<ChatEvent>,
    handle: &tokio::runtime::Handle,
) -> Result<()> {
    let topic = config.names().topic(Topic::ChatEvents);
    let consumer: BaseConsumer = kafka::client_config(&config.kafka)
        // No group: nothing is committed, and nobody's partitions are taken.
        .set("group.id", "waltalkie-tail")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .context("Kafka's client")?;
    let metadata = consumer.fetch_metadata(Some(&topic), Duration::from_secs(10)).context("Kafka doesn't answer")?;
    let partitions = metadata.topics().first().map(|topic| topic.partitions().len()).unwrap_or_default();
    anyhow::ensure!(partitions > 0, "there is no topic {topic}; `waltalkie migrate` makes it");
    let start = if args.from == From::Beginning { Offset::Beginning } else { Offset::End };
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(&topic, partition as i32, start)?;
    }
    consumer.assign(&assignment)?;
    let mut shown = 0;
    let mut out = std::io::stdout().lock();
    while args.max.is_none_or(|most| shown < most) {
        let Some(message) = consumer.poll(Duration::from_millis(500)) else { continue };
        let message = message.context("reading chat.events")?;
        if args.chat.as_deref().is_some_and(|chat| message.key() != Some(chat.as_bytes())) {
            continue;
        }
        let line = match handle.block_on(decoder.decode(message.payload().unwrap_or_default())) {
            Ok(event) if args.event_type.as_deref().is_some_and(|wanted| wanted != event.event_type) => continue,
            Ok(event) => line_of(&event, &message),
            Err(error) => {
                let place = format!("{topic}/{}/{}", message.partition(), message.offset());
                json!({ "error": error.to_string(), "place": place })
            }
        };
        // A reader that has seen enough closes the pipe.
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        shown += 1;
    }
    Ok(())
}

/// The event as its schema has it, with times and LSN for people, and where it stands in Kafka.
fn line_of(event: &ChatEvent, message: &BorrowedMessage<'_>) -> Value {
    let mut line = serde_json::to_value(event).unwrap_or_default();
    readable(&mut line);
    line["origin"]["commit_lsn"] = lsn_text(event.origin.commit_lsn).into();
    line["partition"] = message.partition().into();
    line["offset"] = message.offset().into();
    line
}

fn readable(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_i64() {
                    Some(epoch_ms) if name.ends_with("_at") => *field = timestamp::rfc3339(epoch_ms).into(),
                    _ => readable(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(readable),
        _ => {}
    }
}
