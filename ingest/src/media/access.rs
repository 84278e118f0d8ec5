//! Who may see a file: its uploader until it is posted, then whoever may see a message that names it.

use schemas::wire::{Code, Rejection};

use super::row::COLUMNS;
use super::{MediaService, Row};
use crate::users::unavailable;

/// Whether `$2` may see file `m` in a message: a member of today, and of the time when it was said, since hidden history stays
/// hidden.
const IN_A_MESSAGE: &str = "EXISTS (
    SELECT 1 FROM media_use u
      JOIN chat_member now ON now.chat_id = u.chat_id AND now.user_id = $2 AND now.left_seq IS NULL
      JOIN chat_member seen ON seen.chat_id = u.chat_id AND seen.user_id = $2
       AND u.sequence_number >= seen.visible_from_seq
       AND u.sequence_number <= coalesce(seen.left_seq, u.sequence_number)
     WHERE u.media_id = m.id AND NOT EXISTS (
           SELECT 1 FROM cdc_withheld w WHERE w.chat_id = u.chat_id AND w.sequence_number = u.sequence_number))";

impl MediaService {
    /// A file for its reader. One query, and one answer, for a file that isn't there and for one that isn't theirs.
    pub(crate) async fn readable(&self, user_id: &str, media_id: &str) -> Result<Row, Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        let sql = format!(
            "SELECT {COLUMNS} FROM media m
              WHERE m.id = $1 AND m.state <> 'removing' AND (NOT m.is_posted AND m.user_id = $2 OR {IN_A_MESSAGE})"
        );
        let statement = client.prepare_cached(&sql).await.map_err(unavailable)?;
        let found = client.query_opt(&statement, &[&media_id, &user_id]).await.map_err(unavailable)?;
        found.as_ref().and_then(Row::of).ok_or_else(Rejection::media_not_found)
    }

    /// A file for its uploader: once it is posted, only while they may see it in a message, as anybody else.
    pub(crate) async fn own(&self, user_id: &str, media_id: &str) -> Result<Row, Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        let sql = format!(
            "SELECT {COLUMNS} FROM media m
              WHERE m.id = $1 AND m.user_id = $2 AND (NOT m.is_posted OR {IN_A_MESSAGE})"
        );
        let statement = client.prepare_cached(&sql).await.map_err(unavailable)?;
        let found = client.query_opt(&statement, &[&media_id, &user_id]).await.map_err(unavailable)?;
        found.as_ref().and_then(Row::of).ok_or_else(Rejection::media_not_found)
    }

    /// Gives up a file of one's own that was never posted; the janitor removes it.
    pub(crate) async fn give_up(&self, user_id: &str, media_id: &str) -> Result<(), Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        let sql = "WITH own AS (SELECT is_posted FROM media WHERE id = $1 AND user_id = $2 AND state <> 'removing'),
                        given_up AS (UPDATE media SET state = 'removing', changed_at = clock_timestamp()
                                      WHERE id = $1 AND user_id = $2 AND NOT is_posted AND state <> 'removing' RETURNING 1)
                   SELECT (SELECT is_posted FROM own), EXISTS (SELECT 1 FROM given_up)";
        let row = client.query_one(sql, &[&media_id, &user_id]).await.map_err(unavailable)?;
        match (row.get::<_, Option<bool>>(0), row.get::<_, bool>(1)) {
            (_, true) => Ok(()),
            (None, false) => Err(Rejection::media_not_found()),
            (Some(_), false) => {
                let rule = "The file is posted: it goes when the last message with it is deleted.";
                Err(Rejection::new(Code::Conflict, rule).at("media_id"))
            }
        }
    }
}
