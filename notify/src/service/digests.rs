//! Mails: what stays unread gathers in a person's row, and becomes one task when it is due.
//!
//! *At most once.* A digest is taken in the transaction that writes the task. What was read, left or muted meanwhile is looked
//! up in that same turn, so that reading cancels a mail even where its receipt hasn't come through the decider yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Transaction;
use runtime::{Shutdown, clock};
use schemas::{DigestChat, Notification, notification_type, timestamp};
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::{Json, ToSql};

use super::Notifier;
use super::adding;
use super::error::Error;
use super::people::settings_of;
use super::transaction::begin;
use crate::digest::{Digest, Due, Policy};
use crate::quiet::QuietHours;
use crate::settings::Settings;

const PART: &str = "digests";
const EVERY: Duration = Duration::from_secs(1);
/// People in one transaction.
const BATCH: i64 = 20;

const MAKE: &str = "
    INSERT INTO notify_digest (user_id, digest) SELECT user_id, '{}' FROM unnest($1::text[]) AS u (user_id)
     ORDER BY user_id ON CONFLICT DO NOTHING";
const HOLD: &str = "SELECT user_id, digest FROM notify_digest WHERE user_id = ANY($1) ORDER BY user_id FOR UPDATE";
const HOLD_WAITING: &str = "
    SELECT user_id, digest FROM notify_digest
     WHERE user_id = ANY($1) AND due_at IS NOT NULL ORDER BY user_id FOR UPDATE";
const STORE: &str = "UPDATE notify_digest SET digest = $2, due_at = $3 WHERE user_id = $1";
const STORE_SHRUNK: &str =
    "UPDATE notify_digest SET digest = $2, due_at = CASE WHEN $3 THEN NULL ELSE due_at END WHERE user_id = $1";
const DUE: &str = "
    SELECT user_id, digest FROM notify_digest WHERE due_at <= clock_timestamp()
     ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED";
const PERSON: &str = "
    SELECT coalesce(u.email, '') <> '', s.settings FROM \"user\" u
      LEFT JOIN user_settings s ON s.user_id = u.id WHERE u.id = $1";
const CHATS: &str = "SELECT chat_id FROM chat_member WHERE user_id = $1 AND chat_id = ANY($2) AND left_seq IS NULL";

/// A message that may be mailed.
#[derive(Debug)]
pub(crate) struct Addition {
    pub(crate) user_id: String,
    pub(crate) chat_id: String,
    pub(crate) seq: i64,
    pub(crate) at_ms: i64,
    pub(crate) quiet: Option<QuietHours>,
}

/// Adds messages to people's digests.
pub(crate) async fn add(transaction: &Transaction<'_>, additions: &[Addition], policy: &Policy) -> Result<(), Error> {
    if additions.is_empty() {
        return Ok(());
    }
    let users: BTreeSet<&str> = additions.iter().map(|addition| addition.user_id.as_str()).collect();
    let users: Vec<&str> = users.into_iter().collect();
    let failed = || Error::database("adding to digests");
    // Made first and then held, in one order for all: two processes may add for the same person.
    transaction.execute(MAKE, &[&users]).await.map_err(failed())?;
    let mut digests = held(transaction, HOLD, &users).await?;
    for addition in additions {
        let Some(digest) = digests.get_mut(&addition.user_id) else { continue };
        if !digest.add(&addition.chat_id, addition.seq, addition.at_ms) {
            tracing::debug!("a digest has no room for a further chat");
        }
    }
    let quiet: BTreeMap<&str, Option<&QuietHours>> =
        additions.iter().map(|addition| (addition.user_id.as_str(), addition.quiet.as_ref())).collect();
    let store = transaction.prepare_cached(STORE).await.map_err(failed())?;
    for (user_id, digest) in &digests {
        let due_at = digest.due_at(policy, quiet.get(user_id.as_str()).copied().flatten()).map(timestamp::to_offset);
        transaction.execute(&store, &[user_id, &Json(digest), &due_at]).await.map_err(failed())?;
    }
    Ok(())
}

/// Takes what was read out of people's digests. With nothing left there is no mail.
pub(crate) async fn read(transaction: &Transaction<'_>, read: &BTreeMap<(String, String), i64>) -> Result<(), Error> {
    let users: BTreeSet<&str> = read.keys().map(|(user_id, _)| user_id.as_str()).collect();
    let users: Vec<&str> = users.into_iter().collect();
    let mut digests = held(transaction, HOLD_WAITING, &users).await?;
    let mut changed = BTreeSet::new();
    for ((user_id, chat_id), read_seq) in read {
        if digests.get_mut(user_id).is_some_and(|digest| digest.read(chat_id, *read_seq)) {
            changed.insert(user_id);
        }
    }
    digests.retain(|user_id, _| changed.contains(user_id));
    for (user_id, digest) in &digests {
        let (kept, is_empty) = (Json(digest), digest.is_empty());
        let values: [&(dyn ToSql + Sync); 3] = [user_id, &kept, &is_empty];
        transaction.execute(STORE_SHRUNK, &values).await.map_err(Error::database("shrinking digests"))?;
    }
    Ok(())
}

async fn held(transaction: &Transaction<'_>, sql: &str, users: &[&str]) -> Result<BTreeMap<String, Digest>, Error> {
    let holding = async {
        let statement = transaction.prepare_cached(sql).await?;
        transaction.query(&statement, &[&users]).await
    };
    let rows = holding.await.map_err(Error::database("holding digests"))?;
    Ok(rows.iter().map(|row| (row.get(0), digest_of(row.get(1)))).collect())
}

/// What can't be read any more is let go: it is a mail, and the messages are still there.
fn digest_of(Json(kept): Json<Value>) -> Digest {
    serde_json::from_value(kept).unwrap_or_else(|error| {
        tracing::error!(%error, "a digest can't be read and begins anew");
        Digest::default()
    })
}

/// Takes what is due until it is time to stop.
pub(crate) async fn run(notifier: &Arc<Notifier>, shutdown: &Shutdown) -> Result<(), Error> {
    notifier.repeat(PART, EVERY, shutdown, |notifier| Box::pin(async move { turn(&notifier).await })).await
}

async fn turn(notifier: &Notifier) -> Result<bool, Error> {
    let mut client = notifier.read.get().await?;
    let transaction = begin(&mut client).await?;
    let rows = transaction.query(DUE, &[&BATCH]).await.map_err(Error::database("looking for digests that are due"))?;
    if rows.is_empty() {
        return Ok(false);
    }
    let now_ms = clock::now_ms();
    for row in &rows {
        let (user_id, mut digest): (String, Digest) = (row.get(0), digest_of(row.get(1)));
        let settings = clear_up(notifier, &user_id, &mut digest).await?;
        let quiet = settings.do_not_disturb.as_ref();
        if let Some(due) = digest.take(now_ms, &notifier.digest_policy, quiet) {
            adding::add_mail(&transaction, &notification_of(user_id.clone(), due, now_ms)).await?;
        }
        let due_at: Option<OffsetDateTime> = digest.due_at(&notifier.digest_policy, quiet).map(timestamp::to_offset);
        let kept = Json(&digest);
        let values: [&(dyn ToSql + Sync); 3] = [&user_id, &kept, &due_at];
        transaction.execute(STORE, &values).await.map_err(Error::database("storing digests"))?;
    }
    transaction.commit().await.map_err(Error::database("committing"))?;
    notifier.wake.notify_one();
    Ok(rows.len() as i64 == BATCH)
}

/// Takes out what isn't to be mailed any more, as things are now.
async fn clear_up(notifier: &Notifier, user_id: &str, digest: &mut Digest) -> Result<Settings, Error> {
    let truth = notifier.truth.get().await?;
    let failed = || Error::database("reading who gets a digest");
    let person = truth.query_opt(PERSON, &[&user_id]).await.map_err(failed())?;
    let (has_address, settings) =
        person.map_or((false, Settings::default()), |row| (row.get(0), settings_of(row.get(1))));
    if !(has_address && settings.email && notifier.outlets.mail.is_some()) {
        digest.clear();
        return Ok(settings);
    }
    let chats: Vec<String> = digest.chat_ids().map(str::to_owned).collect();
    let rows = truth.query(CHATS, &[&user_id, &chats]).await.map_err(failed())?;
    let present: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let users: Vec<&str> = chats.iter().map(|_| user_id).collect();
    let ids: Vec<&str> = chats.iter().map(String::as_str).collect();
    let cursors = notifier.people.cursors(&ids, &users).await?;
    for chat_id in &chats {
        if !present.contains(chat_id) || settings.muted_chat_ids.contains(chat_id) {
            digest.forget(chat_id);
        } else if let Some((_, read_seq)) = cursors.get(&(chat_id.clone(), user_id.to_owned())) {
            digest.read(chat_id, *read_seq);
        }
    }
    Ok(settings)
}

fn notification_of(user_id: String, due: Due, now_ms: i64) -> Notification {
    let chats = due.chats.into_iter().map(|chat| DigestChat {
        chat_id: chat.chat_id,
        seqs: chat.seqs,
        unread_count: chat.count as i64,
    });
    Notification {
        notification_id: format!("{user_id}/{}", due.id),
        notification_type: notification_type::DIGEST.into(),
        user_id: Some(user_id),
        digest_id: Some(due.id),
        digest_chats: chats.collect(),
        occurred_at: now_ms,
        decided_at: now_ms,
        ..Notification::default()
    }
}
