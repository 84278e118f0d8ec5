//! Looking again: who looked online, or of whom it couldn't be said, and hasn't taken the message since.
//!
//! A row says which message and whom. It is taken in the transaction that writes what follows, after `chat.notifications` has
//! it: a crash in between decides again, and what comes twice is known by its id.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Transaction;
use runtime::Shutdown;
use schemas::timestamp;

use super::Notifier;
use super::error::Error;
use super::tasks;
use super::verdict::judge;
use crate::decide::Look;

const PART: &str = "looks";
/// How often it is looked for those that are due.
const EVERY: Duration = Duration::from_millis(200);
/// Rows in one transaction.
const BATCH: i64 = 50;

const ADD: &str = "INSERT INTO notify_look (chat_id, seq, user_ids, is_bulk, due_at) VALUES ($1, $2, $3, $4, $5)";
const TAKE: &str = "
    DELETE FROM notify_look WHERE look_id IN (
           SELECT look_id FROM notify_look WHERE due_at <= clock_timestamp()
            ORDER BY is_bulk, due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING chat_id, seq, user_ids, is_bulk";

/// A row to be written.
#[derive(Debug)]
pub(crate) struct NewLook {
    pub(crate) chat_id: String,
    pub(crate) seq: i64,
    pub(crate) user_ids: Vec<String>,
    pub(crate) is_bulk: bool,
    pub(crate) due_ms: i64,
}

/// Writes rows.
pub(crate) async fn add(transaction: &Transaction<'_>, looks: &[NewLook]) -> Result<(), Error> {
    let adding = async {
        if looks.is_empty() {
            return Ok(());
        }
        let statement = transaction.prepare_cached(ADD).await?;
        // Pipelined: one round trip for all.
        let each = looks.iter().map(|look| {
            let statement = &statement;
            async move {
                let due_at = timestamp::to_offset(look.due_ms);
                transaction
                    .execute(statement, &[&look.chat_id, &look.seq, &look.user_ids, &look.is_bulk, &due_at])
                    .await
            }
        });
        futures_util::future::try_join_all(each).await.map(drop)
    };
    adding.await.map_err(Error::database("noting whom to look at again"))
}

/// Looks again until it is time to stop.
pub(crate) async fn run(notifier: &Arc<Notifier>, shutdown: &Shutdown) -> Result<(), Error> {
    notifier.repeat(PART, EVERY, shutdown, |notifier| Box::pin(async move { turn(&notifier).await })).await
}

/// Looks at what is due; says whether there may be more.
async fn turn(notifier: &Notifier) -> Result<bool, Error> {
    let mut client = notifier.read.get().await?;
    let transaction = client.transaction().await.map_err(Error::database("beginning"))?;
    let taking = async {
        let statement = transaction.prepare_cached(TAKE).await?;
        transaction.query(&statement, &[&BATCH]).await
    };
    let rows = taking.await.map_err(Error::database("taking whom to look at again"))?;
    if rows.is_empty() {
        return Ok(false);
    }
    let mut notifications = Vec::new();
    for row in &rows {
        let (chat_id, seq, user_ids, is_bulk): (String, i64, Vec<String>, bool) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        // Deleted, or withheld: nothing to tell of.
        let Some(sent) = notifier.messages.one(&chat_id, seq).await? else { continue };
        let members = notifier.people.some(&chat_id, &user_ids).await?;
        let (verdicts, pushed) = judge(notifier, (&chat_id, seq), &sent, &members, Look::Again).await?;
        for (due_ms, user_ids) in verdicts.look {
            add(&transaction, &[NewLook { chat_id: chat_id.clone(), seq, user_ids, is_bulk, due_ms }]).await?;
        }
        if is_bulk {
            tasks::add_messages(notifier, &transaction, &pushed, true).await?;
        } else {
            notifications.extend(pushed);
        }
    }
    notifier.publisher.publish(&notifications).await?;
    transaction.commit().await.map_err(Error::database("committing"))?;
    notifier.wake.notify_one();
    Ok(rows.len() as i64 == BATCH)
}
