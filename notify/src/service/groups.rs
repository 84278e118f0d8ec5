//! Large chats: one task a message, worked through page by page, beside everything else.
//!
//! *Bounded.* One page of members is in memory, and a page is taken only while few enough pushes of large chats wait. *Not in
//! anybody's way.* What a page leads to is claimed after everything that isn't of a large chat. *Survives.* A page's tasks and
//! the place up to which the chat is done are written in one transaction.

use std::sync::Arc;
use std::time::Duration;

use runtime::Shutdown;
use serde_json::{Value, json};
use tokio_postgres::types::Json;

use super::Notifier;
use super::adding;
use super::digests::{self, Addition};
use super::error::Error;
use super::looks::{self, NewLook};
use super::transaction::begin;
use super::verdict::{Question, judge};
use crate::decide::Look;

const PART: &str = "groups";
/// Members in a page.
const PAGE: i64 = 500;
/// Pushes of large chats that may wait, beside those to services that are down.
const MOST_WAITING: i64 = 2_000;
/// How often it looks while there is nothing to do, or too much waits.
const EVERY: Duration = Duration::from_millis(250);

const WAITING: &str = "SELECT count(*) FROM (
    SELECT 1 FROM notify_task WHERE is_bulk AND kind = 'push' AND NOT service = ANY($2::text[]) LIMIT $1) few";
const HOLD: &str = "
    SELECT task_id, chat_id, seq, message_id, payload FROM notify_task
     WHERE kind = 'group' AND due_at <= statement_timestamp() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED";
const END: &str = "DELETE FROM notify_task WHERE task_id = $1";
const ON: &str = "UPDATE notify_task SET payload = $2, due_at = clock_timestamp() WHERE task_id = $1";

/// Works through large chats until it is time to stop.
pub(crate) async fn run(notifier: &Arc<Notifier>, shutdown: &Shutdown) -> Result<(), Error> {
    notifier.repeat(PART, EVERY, shutdown, |notifier| Box::pin(async move { page(&notifier).await })).await
}

/// One page; says whether to go on at once. Of several messages their pages take turns.
async fn page(notifier: &Notifier) -> Result<bool, Error> {
    let mut client = notifier.read.get().await?;
    // What a service holds back that is down would keep everybody else's waiting.
    let held_back = notifier.held_back();
    let waiting =
        client.query_one(WAITING, &[&MOST_WAITING, &held_back]).await.map_err(Error::database("counting tasks"))?;
    if waiting.get::<_, i64>(0) >= MOST_WAITING {
        return Ok(false);
    }
    let transaction = begin(&mut client).await?;
    let held = transaction.query_opt(HOLD, &[]).await.map_err(Error::database("taking a large chat"))?;
    let Some(row) = held else { return Ok(false) };
    let (task_id, chat_id, seq): (i64, String, i64) = (row.get(0), row.get(1), row.get(2));
    let payload: Option<Json<Value>> = row.get(4);
    let after = payload.and_then(|Json(payload)| payload["after"].as_str().map(str::to_owned)).unwrap_or_default();
    let members = notifier.people.page(&chat_id, &after, PAGE).await?;
    let last = members.last().map(|member| member.stay.user_id.clone());
    let sent = notifier.messages.one(&chat_id, seq).await?;
    if let (Some(sent), false) = (&sent, members.is_empty()) {
        let question = Question { chat_id: &chat_id, sent, members: &members };
        let judged = judge(notifier, &[question], Look::First).await?;
        let (verdicts, pushed) = judged.into_iter().next().unwrap_or_default();
        adding::add_messages(notifier, &transaction, &pushed, true).await?;
        let looks = verdicts.look.into_iter();
        let looks: Vec<NewLook> = looks
            .map(|(due_ms, user_ids)| NewLook { chat_id: chat_id.clone(), seq, user_ids, is_bulk: true, due_ms })
            .collect();
        looks::add(&transaction, &looks).await?;
        let mails = verdicts.mail.into_iter();
        let additions: Vec<Addition> = mails
            .map(|(user_id, at_ms, quiet)| Addition { user_id, chat_id: chat_id.clone(), seq, at_ms, quiet })
            .collect();
        digests::add(&transaction, &additions, &notifier.digest_policy).await?;
    }
    match last.filter(|_| members.len() as i64 == PAGE && sent.is_some()) {
        Some(last) => {
            let place = Json(json!({ "after": last }));
            transaction.execute(ON, &[&task_id, &place]).await.map_err(Error::database("noting the page"))?;
        }
        None => {
            transaction.execute(END, &[&task_id]).await.map_err(Error::database("ending a large chat"))?;
        }
    }
    transaction.commit().await.map_err(Error::database("committing"))?;
    tracing::debug!(members = members.len(), "a page of a large chat is done");
    notifier.wake.notify_one();
    Ok(true)
}
