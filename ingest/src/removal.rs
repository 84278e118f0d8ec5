//! A person is removed: their profile and tokens end at once, their memberships by one command a chat.
//!
//! *Progress.* One transaction ends the profile, refuses all tokens and leaves a row in `user_removal`. Then each chat in
//! which the person still is gets a command, so that it has its event. *Failure.* Whoever dies between leaves the row;
//! every gateway looks at such rows now and then, and sends the commands that are still needed. A command too many finds
//! nobody to remove.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use futures_util::{StreamExt, TryStreamExt, stream};
use runtime::Shutdown;
use schemas::ids;
use schemas::wire::{Code, Rejection};
use uuid::Uuid;

use crate::chat_service::{Asker, ChatService, Wish};
use crate::gateway::Gateway;
use crate::profiles;
use crate::users::unavailable;

/// Commands of one removal under way at a time.
const AT_ONCE: usize = 16;
/// How often rows that are left are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Refuses a person's tokens so far; they needn't exist.
pub(crate) async fn revoke(pool: &Pool, user_id: &str) -> Result<(), Rejection> {
    let client = pool.get().await.map_err(unavailable)?;
    client.execute(REVOKE_SQL, &[&user_id, &false]).await.map_err(unavailable)?;
    Ok(())
}

const REVOKE_SQL: &str = "
    WITH next AS (UPDATE revocation_counter SET last_position = last_position + 1 RETURNING last_position)
    INSERT INTO user_revocation AS known (user_id, refused_before, is_removed, position)
    SELECT $1, clock_timestamp(), $2, last_position FROM next
    ON CONFLICT (user_id) DO UPDATE SET refused_before = greatest(known.refused_before, excluded.refused_before),
           is_removed = known.is_removed OR excluded.is_removed, position = excluded.position";

/// Ends a person's profile and tokens; refuses one who never was.
pub(crate) async fn begin(pool: &Pool, user_id: &str) -> Result<(), Rejection> {
    let mut client = pool.get().await.map_err(unavailable)?;
    let transaction = client.transaction().await.map_err(unavailable)?;
    if !profiles::end(&transaction, user_id).await? {
        return Err(Rejection::new(Code::UserNotFound, "There is no such person.").at("user_id"));
    }
    transaction.execute(REVOKE_SQL, &[&user_id, &true]).await.map_err(unavailable)?;
    let sql = "INSERT INTO user_removal (user_id, asked_at) VALUES ($1, clock_timestamp())
               ON CONFLICT (user_id) DO UPDATE SET asked_at = excluded.asked_at";
    transaction.execute(sql, &[&user_id]).await.map_err(unavailable)?;
    transaction.commit().await.map_err(unavailable)?;
    Ok(())
}

/// Ends a person's memberships; how many there were.
pub(crate) async fn end_memberships(chat: &ChatService, user_id: &str) -> Result<usize, Rejection> {
    let client = chat.pool().get().await.map_err(unavailable)?;
    let sql = "SELECT chat_id FROM chat_member WHERE user_id = $1 AND left_seq IS NULL";
    let rows = client.query(sql, &[&user_id]).await.map_err(unavailable)?;
    drop(client);
    let chats: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let session_id = Uuid::now_v7().to_string();
    let commands = chats.into_iter().enumerate().map(|(number, chat_id)| {
        let asker = Asker {
            user_id: ids::SYSTEM.to_owned(),
            session_id: session_id.clone(),
            session_counter: number as i64,
            is_service: true,
        };
        let wish = Wish::RemovePerson { chat_id, user_id: user_id.to_owned() };
        async move {
            let submitted = chat.submit(&asker, wish, true).await?;
            submitted.accepted.await?;
            submitted.decided.await
        }
    });
    let ended: Vec<_> = stream::iter(commands).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(ended.len())
}

/// Ends memberships that were left over, or that a late command has opened, until shutdown.
pub async fn sweep(gateway: Arc<Gateway>, shutdown: Shutdown) {
    while shutdown.pause(SWEEP_EVERY).await {
        let swept = tokio::select! {
            biased;
            () = shutdown.begun() => return,
            swept = sweep_once(&gateway.chat) => swept,
        };
        if let Err(rejection) = swept {
            tracing::warn!(reason = %rejection, "memberships of removed people can't be ended now; trying again");
        }
    }
}

async fn sweep_once(chat: &ChatService) -> Result<(), Rejection> {
    let client = chat.pool().get().await.map_err(unavailable)?;
    // The request itself has the first minute; after an hour no command from before the removal can still come.
    let sql = "SELECT r.user_id FROM user_removal r
                WHERE r.asked_at < clock_timestamp() - interval '1 minute'
                  AND EXISTS (SELECT 1 FROM chat_member m WHERE m.user_id = r.user_id AND m.left_seq IS NULL)
                ORDER BY r.asked_at LIMIT 100";
    let people = client.query(sql, &[]).await.map_err(unavailable)?;
    let sql = "DELETE FROM user_removal r WHERE r.asked_at < clock_timestamp() - interval '1 hour'
                  AND NOT EXISTS (SELECT 1 FROM chat_member m WHERE m.user_id = r.user_id AND m.left_seq IS NULL)";
    client.execute(sql, &[]).await.map_err(unavailable)?;
    drop(client);
    for row in &people {
        end_memberships(chat, row.get(0)).await?;
    }
    Ok(())
}
