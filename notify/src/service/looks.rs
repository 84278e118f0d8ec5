//! Looking again: who looked online, or of whom it couldn't be said, and hasn't taken the message since.
//!
//! A row says which message and whom. It is taken in the transaction that writes what follows, after `chat.notifications` has
//! it: a crash in between decides again, and what comes twice is known by its id. Where the cursors' projection is behind, what
//! is due waits for it, for five minutes at most: everybody who is online would be pushed to otherwise.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Transaction;
use runtime::Shutdown;
use schemas::{Notification, timestamp};

use super::Notifier;
use super::adding;
use super::error::Error;
use super::people::Member;
use super::transaction::begin;
use super::verdict::{Question, Verdicts, judge};
use crate::decide::Look;

const PART: &str = "looks";
/// How often it is looked for those that are due.
const EVERY: Duration = Duration::from_millis(200);
/// Rows in one transaction.
const BATCH: i64 = 200;
/// How much longer it is waited for cursors that are behind: the projector may be gone for good.
const PATIENCE_MS: i64 = 300_000;

const ADD: &str = "INSERT INTO notify_look (chat_id, seq, user_ids, is_bulk, due_at) VALUES ($1, $2, $3, $4, $5)";
const TAKE: &str = "
    DELETE FROM notify_look WHERE look_id IN (
           SELECT look_id FROM notify_look
            WHERE due_at <= statement_timestamp() - $2::bigint * interval '1 millisecond'
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

/// A row that is due.
struct Due {
    chat_id: String,
    seq: i64,
    user_ids: Vec<String>,
    is_bulk: bool,
}

/// Looks at what is due; says whether there may be more.
async fn turn(notifier: &Notifier) -> Result<bool, Error> {
    // Who took a message is known by cursors only: while those are behind, it is waited for them.
    let patience_ms = if notifier.marks.are_projected(&notifier.read).await? { 0 } else { PATIENCE_MS };
    let mut client = notifier.read.get().await?;
    let transaction = begin(&mut client).await?;
    let taking = async {
        let statement = transaction.prepare_cached(TAKE).await?;
        transaction.query(&statement, &[&BATCH, &patience_ms]).await
    };
    let rows = taking.await.map_err(Error::database("taking whom to look at again"))?;
    if rows.is_empty() {
        return Ok(false);
    }
    let due: Vec<Due> = rows
        .iter()
        .map(|row| Due { chat_id: row.get(0), seq: row.get(1), user_ids: row.get(2), is_bulk: row.get(3) })
        .collect();
    let mut notifications = Vec::new();
    let mut looks = Vec::new();
    for (is_bulk, judged) in Box::pin(look(notifier, due)).await? {
        let (verdicts, pushed, chat_id, seq) = judged;
        for (due_ms, user_ids) in verdicts.look {
            looks.push(NewLook { chat_id: chat_id.clone(), seq, user_ids, is_bulk, due_ms });
        }
        if is_bulk {
            adding::add_messages(notifier, &transaction, &pushed, true).await?;
        } else {
            notifications.extend(pushed);
        }
    }
    add(&transaction, &looks).await?;
    notifier.publisher.publish(&notifications).await?;
    transaction.commit().await.map_err(Error::database("committing"))?;
    notifier.wake.notify_one();
    Ok(rows.len() as i64 == BATCH)
}

type Judged = (Verdicts, Vec<Notification>, String, i64);

/// Decides about all of them with a few queries; most have taken the message and cost no more than their cursor.
async fn look(notifier: &Notifier, mut due: Vec<Due>) -> Result<Vec<(bool, Judged)>, Error> {
    let cursors = {
        let pairs = || {
            due.iter().flat_map(|row| row.user_ids.iter().map(move |user_id| (row.chat_id.as_str(), user_id.as_str())))
        };
        let (chats, users): (Vec<&str>, Vec<&str>) = pairs().unzip();
        notifier.people.cursors(&chats, &users).await?
    };
    for row in &mut due {
        let (chat_id, seq) = (&row.chat_id, row.seq);
        row.user_ids.retain(|user_id| {
            let (delivered_seq, read_seq) =
                cursors.get(&(chat_id.clone(), user_id.clone())).copied().unwrap_or_default();
            delivered_seq.max(read_seq) < seq
        });
    }
    due.retain(|row| !row.user_ids.is_empty());
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let chats: Vec<&str> = due.iter().map(|row| row.chat_id.as_str()).collect();
    let seqs: Vec<i64> = due.iter().map(|row| row.seq).collect();
    let sent = notifier.messages.all(&chats, &seqs).await?;
    let pairs: BTreeSet<(&str, &str)> = due
        .iter()
        .flat_map(|row| row.user_ids.iter().map(move |user_id| (row.chat_id.as_str(), user_id.as_str())))
        .collect();
    let (chats, users): (Vec<&str>, Vec<&str>) = pairs.into_iter().unzip();
    let members = notifier.people.some(&chats, &users).await?;
    let of_rows: Vec<(&Due, Vec<Member>)> = due
        .iter()
        .map(|row| {
            let of_chat = members.get(&row.chat_id).into_iter().flatten();
            (row, of_chat.filter(|member| row.user_ids.contains(&member.stay.user_id)).cloned().collect())
        })
        .collect();
    let mut questions = Vec::with_capacity(of_rows.len());
    let mut asked = Vec::with_capacity(of_rows.len());
    for (row, members) in &of_rows {
        // Deleted, or withheld: nothing to tell of.
        let Some(sent) = sent.get(&(row.chat_id.clone(), row.seq)) else { continue };
        questions.push(Question { chat_id: &row.chat_id, sent, members });
        asked.push(*row);
    }
    let judged = judge(notifier, &questions, Look::Again).await?;
    let of_row = |((verdicts, pushed), row): ((Verdicts, Vec<Notification>), &Due)| {
        (row.is_bulk, (verdicts, pushed, row.chat_id.clone(), row.seq))
    };
    Ok(judged.into_iter().zip(asked).map(of_row).collect())
}
