//! Both sides, read from beginning to end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::message::Message;
use runtime::Config;
use schemas::registry::Registry;
use schemas::{ChatEvent, Decoder, history};
use tokio::sync::mpsc;
use tokio_postgres::Client;

use super::verdict::{Fingerprint, Verdict, compare};
use crate::checks;
use crate::error::Error;
use crate::position::{self, Looker, visit};
use crate::record::Topics;

/// Events that are read from the tables at once.
const PAGE: i64 = 5_000;
/// When the history doesn't have everything yet.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Why history and tables couldn't be compared.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log.
    #[error("reading the history from Kafka")]
    Log(#[from] Error),
    /// The tables.
    #[error(transparent)]
    Tables(#[from] history::HistoryError),
}

/// Compares the committed history with the tables as they are now.
pub async fn audit(config: &Arc<Config>) -> Result<Verdict, AuditError> {
    let registry = Arc::new(Registry::new(config.registry.url.expose(), config.names().prefix()).map_err(Error::from)?);
    let own_id = registry.id_of::<ChatEvent>().await.map_err(Error::from)?;
    let decoder = Decoder::<ChatEvent>::new(registry, own_id);
    let log = committed(config, &decoder).await?;
    let client = checks::connect(config).await?;
    let tables = tables(&client).await?;
    Ok(compare(log, tables))
}

/// The same while people go on writing: what was in the tables when they were read, which the history has within this time.
pub async fn audit_running(config: &Arc<Config>, patience: Duration) -> Result<Verdict, AuditError> {
    let registry = Arc::new(Registry::new(config.registry.url.expose(), config.names().prefix()).map_err(Error::from)?);
    let own_id = registry.id_of::<ChatEvent>().await.map_err(Error::from)?;
    let decoder = Decoder::<ChatEvent>::new(registry, own_id);
    let client = checks::connect(config).await?;
    let mut rows = tables(&client).await?;
    let began = Instant::now();
    loop {
        let log = committed(config, &decoder).await?;
        // What was written after the tables were read is there by now, if it was ever.
        rows.extend(rows_since(&client, &rows, &log).await?);
        let verdict = compare(log, rows.iter().cloned());
        if !verdict.is_late() || began.elapsed() >= patience {
            return Ok(verdict);
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// Rows of the events that are past what was read of their chats.
async fn rows_since(
    client: &Client,
    rows: &[Fingerprint],
    log: &[Vec<Fingerprint>],
) -> Result<Vec<Fingerprint>, AuditError> {
    let mut read = HashMap::<&str, i64>::new();
    for row in rows {
        let head = read.entry(&row.chat_id).or_default();
        *head = row.seq.max(*head);
    }
    let mut heads = HashMap::<&str, i64>::new();
    for event in log.iter().flatten() {
        let head = heads.entry(&event.chat_id).or_default();
        *head = event.seq.max(*head);
    }
    let mut found = Vec::new();
    for (chat_id, head) in heads {
        let mut from = read.get(chat_id).copied().unwrap_or(0) + 1;
        while from <= head {
            let page = history::read_range(client, chat_id, from, head, PAGE).await?;
            let Some(last) = page.last() else { break };
            from = last.seq + 1;
            found.extend(page.into_iter().map(Fingerprint::of));
        }
    }
    Ok(found)
}

/// Records of the history, those of committed transactions, and those of all. The difference was aborted, or is undecided.
pub async fn records_of_all(config: &Arc<Config>) -> Result<(usize, usize), Error> {
    let topic = Topics::new(&config.names()).events;
    count(config, topic, config.kafka.partitions).await
}

/// Aborted transactions, as far as they came to their position, and as far as compaction has left it.
pub async fn aborted_transactions(config: &Arc<Config>) -> Result<usize, Error> {
    let topic = Topics::new(&config.names()).positions;
    let (committed, all) = count(config, topic, 1).await?;
    Ok(all - committed)
}

async fn count(config: &Arc<Config>, topic: String, partitions: u16) -> Result<(usize, usize), Error> {
    let config = Arc::clone(config);
    let count = move || {
        let partitions: Vec<(&str, i32)> = (0..i32::from(partitions)).map(|number| (topic.as_str(), number)).collect();
        let of = |looker: Looker| {
            let mut records = 0;
            visit(&looker, &partitions, Offset::Beginning, |_| {
                records += 1;
                true
            })?;
            Ok::<_, Error>(records)
        };
        Ok((of(position::looker(&config)?)?, of(position::looker_at_all(&config)?)?))
    };
    tokio::task::spawn_blocking(count).await.unwrap_or(Err(Error::PublisherGone))
}

/// The committed events by partition, decoded while they are read.
async fn committed(config: &Arc<Config>, decoder: &Decoder<ChatEvent>) -> Result<Vec<Vec<Fingerprint>>, Error> {
    let mut log = vec![Vec::new(); usize::from(config.kafka.partitions)];
    let config = Arc::clone(config);
    let (sender, mut values) = mpsc::channel(1_024);
    let reading = tokio::task::spawn_blocking(move || {
        let topic = Topics::new(&config.names()).events;
        let looker = position::looker(&config)?;
        let partitions: Vec<(&str, i32)> =
            (0..i32::from(config.kafka.partitions)).map(|number| (topic.as_str(), number)).collect();
        visit(&looker, &partitions, Offset::Beginning, |message| {
            let value = message.payload().unwrap_or_default().to_vec();
            sender.blocking_send((message.partition(), value)).is_ok()
        })
    });
    while let Some((partition, value)) = values.recv().await {
        if let Some(events) = log.get_mut(partition as usize) {
            events.push(Fingerprint::of(decoder.decode(&value).await?));
        }
    }
    reading.await.unwrap_or(Err(Error::PublisherGone))?;
    Ok(log)
}

async fn tables(client: &Client) -> Result<Vec<Fingerprint>, AuditError> {
    let chats = client
        .query("SELECT chat_id FROM message UNION SELECT chat_id FROM chat_change", &[])
        .await
        .map_err(Error::query("reading the chats"))?;
    let mut found = Vec::new();
    for chat in &chats {
        let chat_id: String = chat.get(0);
        let mut from = 1;
        loop {
            let page = history::read_range(client, &chat_id, from, i64::MAX, PAGE).await?;
            let Some(last) = page.last() else { break };
            from = last.seq + 1;
            found.extend(page.into_iter().map(Fingerprint::of));
        }
    }
    Ok(found)
}
