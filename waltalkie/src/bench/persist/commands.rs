//! The backlog: commands as gateways write them, put into Kafka beforehand.

use anyhow::Result;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rdkafka::producer::BaseRecord;
use runtime::config::Compression;
use runtime::{Config, clock};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{ChatCommand, ChatSettings, Encoder, command_type};
use uuid::Uuid;

use crate::bench::progress;
use crate::bench::text::body;
use crate::bench::writer::Writer;

/// Different bodies; more than fit into one compressed batch.
const BODIES: usize = 10_000;
/// People of each chat that send in turn.
const SENDERS: u64 = 4;

/// What is sent.
pub(super) struct Backlog {
    pub(super) chats: u64,
    pub(super) sends: u64,
    pub(super) content_bytes: usize,
}

/// Writes a command to make each chat, then the sends, round the chats. Returns once Kafka has them all.
pub(super) async fn write(backlog: &Backlog, config: &Config) -> Result<()> {
    let names = config.names();
    let registry = Registry::new(config.registry.url.expose(), names.prefix())?;
    let encoder = Encoder::new(registry.id_of::<ChatCommand>().await?);
    let topic = names.topic(Topic::ChatCommands);
    let writer = Writer::new(config, Compression::Lz4)?;
    let mut random = StdRng::seed_from_u64(1);
    let bodies: Vec<String> = (0..BODIES).map(|_| body(&mut random, backlog.content_bytes)).collect();
    let bar = progress(backlog.sends, "writing the backlog");
    tokio::task::block_in_place(|| {
        let put = |command: &ChatCommand| -> Result<()> {
            let value = encoder.encode(command)?;
            writer.put(BaseRecord::to(&topic).key(command.chat_id.as_str()).payload(&value))
        };
        for chat in 0..backlog.chats {
            put(&creation(chat))?;
        }
        for number in 0..backlog.sends {
            put(&send(number, backlog.chats, &bodies))?;
            if number % 1_000 == 0 {
                bar.set_position(number);
            }
        }
        writer.finish()
    })?;
    bar.finish_and_clear();
    Ok(())
}

fn chat_id(chat: u64) -> String {
    format!("bench-{chat}")
}

fn sender_id(number: u64) -> String {
    format!("user-{number}")
}

fn creation(chat: u64) -> ChatCommand {
    let others = (1..SENDERS).map(|number| schemas::CommandMember { user_id: sender_id(number), member_role: None });
    ChatCommand {
        command_type: command_type::CHAT_CREATE.into(),
        chat_id: chat_id(chat),
        user_id: sender_id(0),
        members: others.collect(),
        chat: Some(ChatSettings { is_group: Some(true), ..ChatSettings::default() }),
        ..by_nobody()
    }
}

fn send(number: u64, chats: u64, bodies: &[String]) -> ChatCommand {
    ChatCommand {
        command_type: command_type::MESSAGE_SEND.into(),
        chat_id: chat_id(number % chats),
        user_id: sender_id(number / chats % SENDERS),
        message_id: Some(Uuid::now_v7().to_string()),
        content: Some(bodies[number as usize % bodies.len()].clone()),
        ..by_nobody()
    }
}

/// Nobody waits for the answer, which is sent all the same.
fn by_nobody() -> ChatCommand {
    ChatCommand {
        command_id: Uuid::now_v7().to_string(),
        session_id: "bench".into(),
        node_id: "bench".into(),
        issued_at: clock::now_ms(),
        ..ChatCommand::default()
    }
}
