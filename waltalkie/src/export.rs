//! `waltalkie export`: every message of a person, out of the projection `user_export`. For access requests.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use projections::Projection;
use projections::{Shipped, UserExport};
use runtime::{Config, postgres};
use schemas::MessageState;
use schemas::event::Attachment;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::types::Json;

/// Messages fetched at a time.
const PAGE: i64 = 1_000;

const MESSAGES: &str = "
    SELECT chat_id, message_seq, message FROM user_export
     WHERE user_id = $1 AND (chat_id, message_seq) > ($2, $3) ORDER BY chat_id, message_seq LIMIT $4";
const IS_KEPT: &str = "SELECT EXISTS (SELECT FROM consumer_offset WHERE consumer = $1)";

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The person
    #[arg(long, value_name = "ID")]
    user: String,
}

pub(crate) async fn run(config: Config, args: ExportArgs) -> Result<ExitCode> {
    let client = postgres::connect(&postgres::parse(&config.postgres.read_url, "postgres.read_url")?).await?;
    let is_kept: bool = client.query_one(IS_KEPT, &[&UserExport::NAME]).await.context("the read models")?.get(0);
    if !is_kept {
        bail!(
            "messages by person aren't kept here: run `waltalkie rebuild {0}`, and add \"{0}\" to projector.also to keep them \
             up to date",
            UserExport::NAME
        );
    }
    if !Shipped::kept(&config)?.contains(&Shipped::UserExport) {
        eprintln!("projector.also doesn't name {}: this is as old as the last rebuild", UserExport::NAME);
    }
    let mut out = std::io::stdout().lock();
    let mut after = (String::new(), 0_i64);
    loop {
        let rows = client.query(MESSAGES, &[&args.user, &after.0, &after.1, &PAGE]).await.context("messages")?;
        for row in &rows {
            let (chat_id, seq): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            let Json(message): Json<MessageState> = row.try_get(2)?;
            writeln!(out, "{}", line_of(&chat_id, &message)?)?;
            after = (chat_id, seq);
        }
        if (rows.len() as i64) < PAGE {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// A message as people read it: times in words, the application's data as JSON.
fn line_of(chat_id: &str, message: &MessageState) -> Result<String> {
    let time = |epoch_ms: Option<i64>| epoch_ms.map(schemas::timestamp::rfc3339);
    let app_data = message.app_data.clone().and_then(|text| RawValue::from_string(text).ok());
    Ok(serde_json::to_string(&Line {
        chat_id,
        seq: message.message_seq,
        message_id: &message.message_id,
        content: message.content.as_deref(),
        app_data,
        attachments: &message.attachments,
        parent_message_id: message.parent_message_id.as_deref(),
        created_at: time(Some(message.created_at)),
        edited_at: time(message.edited_at),
        deleted_at: time(message.deleted_at),
    })?)
}

#[derive(Serialize)]
struct Line<'a> {
    chat_id: &'a str,
    seq: i64,
    message_id: &'a str,
    content: Option<&'a str>,
    /// As it was written: numbers keep their digits.
    app_data: Option<Box<RawValue>>,
    attachments: &'a [Attachment],
    parent_message_id: Option<&'a str>,
    created_at: Option<String>,
    edited_at: Option<String>,
    deleted_at: Option<String>,
}
