//! The right to check a file, held in its row by one node at a time.

use std::time::Duration;

use runtime::s3::folder_of;
use schemas::wire::Rejection;
use uuid::Uuid;

use super::row::COLUMNS;
use super::{MediaService, Row};
use crate::users::unavailable;

/// A claim that wasn't renewed for so long is a dead node's.
const CLAIM_S: f64 = 30.0;
const RENEWAL: Duration = Duration::from_secs(5);
/// How long a check may take at the very most, before what it writes counts as left over.
const LEFTOVER_S: f64 = 3_600.0;

/// A file that is this node's to check.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub(super) row: Row,
    pub(super) claim: Uuid,
    /// Where the copy and its previews go.
    pub(super) folder: String,
}

impl MediaService {
    /// Claims a file, and notes the folder that will be written to; `None` if somebody else has it, or it is no upload.
    pub(super) async fn claim(&self, media_id: &str) -> Result<Option<Claimed>, Rejection> {
        let claim = Uuid::now_v7();
        let folder = self.store.key(&format!("media/{media_id}/{claim}/"));
        let mut client = self.pool.get().await.map_err(unavailable)?;
        let transaction = client.transaction().await.map_err(unavailable)?;
        let sql = format!(
            "UPDATE media m SET state = 'checking', claim = $2, claimed_at = clock_timestamp(), folder = $3,
                                changed_at = clock_timestamp()
              WHERE m.id = $1 AND (m.state = 'uploading' OR m.state = 'checking'
                    AND m.claimed_at < clock_timestamp() - make_interval(secs => $4)) RETURNING {COLUMNS}"
        );
        let claimed =
            transaction.query_opt(&sql, &[&media_id, &claim, &folder, &CLAIM_S]).await.map_err(unavailable)?;
        let Some(row) = claimed.as_ref().and_then(Row::of) else { return Ok(None) };
        let sql = "INSERT INTO media_leftover (folder, due_at)
                   VALUES ($1, clock_timestamp() + make_interval(secs => $2))";
        transaction.execute(sql, &[&folder, &LEFTOVER_S]).await.map_err(unavailable)?;
        transaction.commit().await.map_err(unavailable)?;
        Ok(Some(Claimed { row, claim, folder }))
    }

    /// Renews a claim until it is lost.
    pub(super) async fn hold(&self, claimed: &Claimed) {
        let mut renewals = tokio::time::interval(RENEWAL);
        renewals.tick().await;
        loop {
            renewals.tick().await;
            let renewed = async {
                let client = self.pool.get().await.map_err(unavailable)?;
                let sql = "UPDATE media SET claimed_at = clock_timestamp() WHERE id = $1 AND claim = $2 AND state = 'checking'";
                client.execute(sql, &[&claimed.row.media_id, &claimed.claim]).await.map_err(unavailable)
            };
            // A database that is away for a moment takes no claim: nobody else can get it either.
            if let Ok(0) = renewed.await {
                return;
            }
        }
    }

    /// Lets go of a file that couldn't be checked: it may be tried again.
    pub(super) async fn give_back(&self, claimed: &Claimed) {
        let given_back = async {
            let client = self.pool.get().await.map_err(unavailable)?;
            let sql =
                "UPDATE media SET state = 'uploading', claim = NULL, folder = NULL, changed_at = clock_timestamp()
                        WHERE id = $1 AND claim = $2 AND state = 'checking'";
            client.execute(sql, &[&claimed.row.media_id, &claimed.claim]).await.map_err(unavailable)
        };
        if given_back.await.is_err() {
            tracing::warn!("a file stays claimed for {CLAIM_S} s: its check failed, and then Postgres was away");
        }
    }

    /// Counts a check that ended for want of time or memory; how many there were, with this one.
    pub(super) async fn count_failed_check(&self, claimed: &Claimed) -> Result<i32, Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        let sql =
            "UPDATE media SET failed_checks = failed_checks + 1 WHERE id = $1 AND claim = $2 AND state = 'checking'
                   RETURNING failed_checks";
        let counted = client.query_opt(sql, &[&claimed.row.media_id, &claimed.claim]).await.map_err(unavailable)?;
        Ok(counted.map_or(0, |row| row.get(0)))
    }

    /// What may still come under the upload's key is removed once nobody has a URL for it any more.
    pub(super) async fn note_upload_leftover(
        transaction: &deadpool_postgres::Transaction<'_>,
        row: &Row,
    ) -> Result<(), tokio_postgres::Error> {
        let sql = "INSERT INTO media_leftover (folder, upload_key, upload_id, due_at)
                   SELECT $2, $3, $4, greatest(m.urls_until, clock_timestamp()) FROM media m WHERE m.id = $1
                   ON CONFLICT (folder) DO NOTHING";
        let upload_key = row.upload_id.as_ref().map(|_| &row.upload_key);
        let folder = folder_of(&row.upload_key);
        transaction.execute(sql, &[&row.media_id, &folder, &upload_key, &row.upload_id]).await.map(drop)
    }
}
