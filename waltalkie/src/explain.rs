//! `waltalkie explain`, and the same on the pipeline page: the way of one message, from the command to every member. Never its
//! body.
//!
//! ```text
//!   message_key ─▶ message ─▶ chat.commands ─▶ chat.events ─▶ consumer_offset ─▶ chat_member × chat_cursor × inbox
//!    (its seq)     (stored)     (accepted)       (history)      (read models)       (each member, and why)
//! ```

mod log;
mod members;
mod unpersisted;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use runtime::{Config, Secret, postgres};
use schemas::timestamp;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::Client;
use uuid::Uuid;

use members::Member;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The message's id
    message_id: Uuid,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// Where it has come to.
struct Station {
    name: &'static str,
    at_ms: Option<i64>,
    place: String,
}

/// What the source of truth says of it.
struct Stored {
    chat_id: String,
    sender_id: String,
    seq: i64,
    created_at_ms: i64,
    deleted_at_ms: Option<i64>,
    is_withheld: bool,
}

const STORED: &str = "
    SELECT k.chat_id, k.sender_id, k.sequence_number, m.created_at, m.deleted_at, EXISTS (
               SELECT FROM cdc_withheld w
                WHERE w.chat_id = k.chat_id AND w.sequence_number = k.sequence_number)
      FROM message_key k JOIN message m ON m.chat_id = k.chat_id AND m.sequence_number = k.sequence_number
     WHERE k.message_id = $1";
const CHANGES: &str = "
    SELECT sequence_number, event_type, occurred_at FROM chat_change
     WHERE chat_id = $1 AND message_seq = $2 ORDER BY sequence_number";
const OFFSETS: &str = "
    SELECT consumer, next_offset FROM consumer_offset WHERE topic = $1 AND partition = $2 ORDER BY consumer";

/// What there is to say of a message.
pub(crate) struct Explained {
    message_id: Uuid,
    found: Found,
}

enum Found {
    /// It isn't stored, and why.
    Nowhere(String),
    Stored {
        stored: Stored,
        stations: Vec<Station>,
        members: Vec<Member>,
        count: usize,
    },
}

pub(crate) async fn run(config: Config, args: ExplainArgs) -> Result<ExitCode> {
    let explained = explain(&config, args.message_id).await?;
    println!("{}", if args.json { explained.as_json().to_string() } else { explained.as_text() });
    Ok(if explained.is_stored() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks everybody who knows something of a message.
pub(crate) async fn explain(config: &Config, message_id: Uuid) -> Result<Explained> {
    let truth = open(&config.postgres.truth_url, "postgres.truth_url").await?;
    let Some(stored) = stored(&truth, message_id).await? else {
        let why = Box::pin(unpersisted::why(config, &truth, message_id)).await?;
        return Ok(Explained { message_id, found: Found::Nowhere(why) });
    };
    let read = open(&config.postgres.read_url, "postgres.read_url").await?;
    let stations = stations(config, &truth, &read, message_id, &stored).await?;
    let (members, count) = members::of(&truth, &read, &stored, config.projector.inbox_members).await?;
    Ok(Explained { message_id, found: Found::Stored { stored, stations, members, count } })
}

async fn stations(
    config: &Config,
    truth: &Client,
    read: &Client,
    message_id: Uuid,
    stored: &Stored,
) -> Result<Vec<Station>> {
    let mut stations = vec![Station {
        name: "persisted",
        at_ms: Some(stored.created_at_ms),
        place: format!("PostgreSQL, message, chat {} seq {}", stored.chat_id, stored.seq),
    }];
    if let Some(accepted) = log::command_of(config, &stored.chat_id, message_id, stored.created_at_ms).await? {
        stations.insert(0, accepted);
    }
    for row in truth.query(CHANGES, &[&stored.chat_id, &stored.seq]).await? {
        let (seq, event_type): (i64, String) = (row.get(0), row.get(1));
        let name = if event_type == schemas::event_type::MESSAGE_DELETED { "deleted" } else { "edited" };
        let at_ms = Some(timestamp::from_offset(row.get(2)));
        stations.push(Station { name, at_ms, place: format!("PostgreSQL, chat_change, seq {seq}") });
    }
    let Some((station, partition, offset)) = log::event_of(config, stored).await? else {
        stations.push(Station {
            name: "history",
            at_ms: None,
            place: "NOT in chat.events yet: `waltalkie cdc status` says what holds it back".to_owned(),
        });
        return Ok(stations);
    };
    let topic = config.names().topic(schemas::topics::Topic::ChatEvents);
    stations.push(station);
    for row in read.query(OFFSETS, &[&topic, &partition]).await? {
        let (consumer, next): (String, i64) = (row.get(0), row.get(1));
        let place = if next > offset {
            format!("{consumer}: applied (it is at offset {next})")
        } else {
            format!("{consumer}: not yet, it is at offset {next} of {topic}/{partition}")
        };
        stations.push(Station { name: "read model", at_ms: None, place });
    }
    Ok(stations)
}

async fn open(url: &Secret, setting: &'static str) -> Result<Client> {
    Ok(postgres::connect(&postgres::parse(url, setting)?).await?)
}

async fn stored(truth: &Client, message_id: Uuid) -> Result<Option<Stored>> {
    let row = truth.query_opt(STORED, &[&message_id]).await.context("looking the message up")?;
    Ok(row.map(|row| Stored {
        chat_id: row.get(0),
        sender_id: row.get(1),
        seq: row.get(2),
        created_at_ms: timestamp::from_offset(row.get(3)),
        deleted_at_ms: row.get::<_, Option<OffsetDateTime>>(4).map(timestamp::from_offset),
        is_withheld: row.get(5),
    }))
}

impl Explained {
    fn is_stored(&self) -> bool {
        matches!(self.found, Found::Stored { .. })
    }

    /// For people.
    pub(crate) fn as_text(&self) -> String {
        let Self { message_id, found } = self;
        let (stored, stations, members, count) = match found {
            Found::Nowhere(why) => return format!("{message_id}: {why}"),
            Found::Stored { stored, stations, members, count } => (stored, stations, members, *count),
        };
        let mut lines = vec![format!("{message_id}: {}/{} of {}", stored.chat_id, stored.seq, stored.sender_id)];
        if stored.is_withheld {
            lines.push("  withheld: it could not be published, and somebody gave it up; its seq says so".to_owned());
        }
        for Station { name, at_ms, place } in stations {
            let at = at_ms.map_or_else(String::new, timestamp::rfc3339);
            lines.push(format!("  {at:<24}  {name:<10}  {place}"));
        }
        let rest = if members.len() < count { format!(", the first {}", members.len()) } else { String::new() };
        lines.push(format!("  {count} people who were there or came later{rest}:"));
        for Member { user_id, delivered_seq, read_seq, why, .. } in members {
            lines.push(format!("  {user_id:<24}  delivered {delivered_seq}, read {read_seq}: {why}"));
        }
        lines.join("\n")
    }

    fn as_json(&self) -> Value {
        let Self { message_id, found } = self;
        let (stored, stations, members, count) = match found {
            Found::Nowhere(why) => return json!({ "message_id": message_id, "is_persisted": false, "why": why }),
            Found::Stored { stored, stations, members, count } => (stored, stations, members, *count),
        };
        let stations = stations.iter().map(|Station { name, at_ms, place }| {
            json!({ "station": name, "at": at_ms.map(timestamp::rfc3339), "place": place })
        });
        let members = members.iter().map(|Member { user_id, state, delivered_seq, read_seq, why }| {
            json!({ "user_id": user_id, "state": state, "delivered_seq": delivered_seq, "read_seq": read_seq, "why": why })
        });
        json!({
            "message_id": message_id,
            "is_persisted": true,
            "chat_id": stored.chat_id,
            "seq": stored.seq,
            "sender_id": stored.sender_id,
            "is_withheld": stored.is_withheld,
            "deleted_at": stored.deleted_at_ms.map(timestamp::rfc3339),
            "members_count": count,
            "stations": stations.collect::<Vec<_>>(),
            "members": members.collect::<Vec<_>>(),
        })
    }
}
