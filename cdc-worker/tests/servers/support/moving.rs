//! What a planned move needs: commands that come all the time, a persister, and tables that are copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use futures_util::{SinkExt, StreamExt, pin_mut};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use runtime::health::Health;
use runtime::{Config, Shutdown, kafka};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{ChatCommand, Encoder, command_type};
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::PATIENCE;

/// Chats that the commands go to.
pub const CHATS: usize = 4;

/// A persister in a task.
pub struct Persister {
    task: tokio::task::JoinHandle<Result<(), ingest::Error>>,
    shutdown: Shutdown,
    pub health: Health,
}

impl Persister {
    pub fn start(config: Arc<Config>) -> Self {
        let (shutdown, health) = (Shutdown::new(), Health::default());
        let task = tokio::spawn(ingest::persister::run(config, health.role("persister"), shutdown.clone()));
        Self { task, shutdown, health }
    }

    pub async fn stop(self) -> Result<()> {
        self.shutdown.begin();
        Ok(self.task.await??)
    }

    /// What it says is in its way.
    pub fn problem(&self) -> String {
        self.health.statuses().into_iter().find_map(|status| status.problem).unwrap_or_default()
    }
}

/// Sends messages without an end; each counts once Kafka has acknowledged it, as a gateway does.
pub async fn send_commands(config: Arc<Config>, accepted: Arc<AtomicUsize>, until: Shutdown) -> Result<Vec<Uuid>> {
    let registry = Registry::new(config.registry.url.expose(), config.names().prefix())?;
    let encoder = Encoder::new(registry.id_of::<ChatCommand>().await?);
    let topic = config.names().topic(Topic::ChatCommands);
    let producer: FutureProducer = kafka::producer_config(&config.kafka).create()?;
    let mut message_ids = Vec::new();
    for number in 0.. {
        if until.has_begun() {
            break;
        }
        let message_id = (number >= CHATS).then(Uuid::new_v4);
        let kind = if message_id.is_some() { command_type::MESSAGE_SEND } else { command_type::CHAT_CREATE };
        let command = ChatCommand {
            command_id: Uuid::new_v4().to_string(),
            command_type: kind.into(),
            chat_id: format!("chat-{}", number % CHATS),
            user_id: "alice".into(),
            session_id: "session".into(),
            session_counter: number as i64,
            node_id: "node".into(),
            message_id: message_id.map(|id| id.to_string()),
            content: message_id.map(|_| format!("message {number}")),
            ..ChatCommand::default()
        };
        let value = encoder.encode(&command)?;
        let record = FutureRecord::to(&topic).key(&command.chat_id).payload(&value);
        producer.send(record, Timeout::After(PATIENCE)).await.map_err(|(error, _)| error)?;
        message_ids.extend(message_id);
        accepted.store(message_ids.len(), Ordering::SeqCst);
    }
    Ok(message_ids)
}

/// Copies every table from one database into the same, empty ones of another, in one snapshot.
pub async fn copy_tables(from: &mut Client, to: &mut Client) -> Result<()> {
    let from = from.transaction().await?;
    let to = to.transaction().await?;
    let tables = from
        .query(
            "SELECT quote_ident(relname) FROM pg_class
              WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1",
            &[],
        )
        .await?;
    ensure!(tables.len() >= 10, "tables are missing");
    for table in &tables {
        let table: String = table.get(0);
        to.batch_execute(&format!("TRUNCATE {table}")).await?;
        copy(&from, &to, &table).await?;
    }
    to.commit().await?;
    Ok(())
}

async fn copy(from: &Transaction<'_>, to: &Transaction<'_>, table: &str) -> Result<()> {
    let rows = from.copy_out(&format!("COPY (SELECT * FROM {table}) TO STDOUT (FORMAT binary)")).await?;
    let sink = to.copy_in(&format!("COPY {table} FROM STDIN (FORMAT binary)")).await?;
    pin_mut!(rows, sink);
    while let Some(bytes) = rows.next().await {
        sink.send(bytes?).await?;
    }
    sink.finish().await?;
    Ok(())
}
