//! Files that go: uploads that nobody completed, files that nobody posted or whose last message was deleted, and what checks
//! left in the store.
//!
//! ```text
//!   media: unfinished, refused, unposted for too long ──▶ `removing` ──▶ objects removed ──▶ row removed
//!   media_leftover, once due ─────────────────────────────────────────▶ objects removed ──▶ note removed
//! ```
//!
//! *Order.* A row is marked under its lock first. The persister takes that lock too and posts nothing that is marked, so no
//! message can come to name a file whose objects are being removed. Unposted files are kept longer than `chat.commands` keeps a
//! send that may name them.
//!
//! *Failure.* A row goes after its objects. What can't be removed goes behind everything else and is tried again; three in a row
//! mean that the store is away, and the next turn tries again.

use deadpool_postgres::Pool;
use runtime::config::Media;
use runtime::s3::{Store, folder_of};
use runtime::{Config, RoleHealth, Shutdown};

use crate::error::Error;
use crate::metrics;

/// Files of one turn, each some requests to the store.
const MOST_FILES: i64 = 100;
/// Objects that one request of a turn removes.
const MOST_OBJECTS: usize = 1_000;

/// Failures in a row after which the store counts as away.
const MOST_FAILURES: usize = 3;

const MARK: &str = "
    UPDATE media SET state = 'removing', changed_at = clock_timestamp() WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM media
         WHERE NOT is_posted AND (
               state IN ('uploading', 'refused') AND changed_at < clock_timestamp() - make_interval(secs => $1)
               AND urls_until < clock_timestamp()
            OR state = 'checking' AND claimed_at < clock_timestamp() - make_interval(secs => $1)
            OR state = 'ready' AND changed_at < clock_timestamp() - make_interval(secs => $2))
         LIMIT $3 FOR UPDATE SKIP LOCKED))";
const MARKED: &str = "
    SELECT id, folder, upload_key, upload_id FROM media WHERE state = 'removing' ORDER BY changed_at LIMIT $1";
/// What may come under the upload's key later, by a URL that still counts, is removed then.
const FORGET: &str = "
    WITH gone AS (DELETE FROM media WHERE id = $1 AND state = 'removing' RETURNING urls_until)
    INSERT INTO media_leftover (folder, upload_key, upload_id, due_at)
    SELECT $2, $3, $4, urls_until FROM gone WHERE urls_until > clock_timestamp()
    ON CONFLICT (folder) DO UPDATE SET due_at = greatest(media_leftover.due_at, excluded.due_at)";
const DUE: &str = "
    SELECT folder, upload_key, upload_id FROM media_leftover WHERE due_at <= clock_timestamp() ORDER BY due_at LIMIT $1";

const LATER: &str = "UPDATE media SET changed_at = clock_timestamp() WHERE id = $1 AND state = 'removing'";
const NOTE_LATER: &str = "UPDATE media_leftover SET due_at = clock_timestamp() + interval '1 minute' WHERE folder = $1 AND due_at <= clock_timestamp()";

/// The files' part of the janitor.
pub(super) struct MediaJanitor {
    truth: Pool,
    store: Store,
    unfinished_s: f64,
    unposted_s: f64,
}

impl MediaJanitor {
    /// `None` where there is no store.
    pub(super) fn new(config: &Config, truth: Pool) -> Result<Option<Self>, Error> {
        let Some(store) = Store::open(&config.media, &config.names()).map_err(Error::Store)? else { return Ok(None) };
        let Media { unfinished_retention_ms, unposted_retention_ms, .. } = config.media;
        let seconds = |ms: u64| ms as f64 / 1_000.0;
        let (unfinished_s, unposted_s) = (seconds(unfinished_retention_ms), seconds(unposted_retention_ms));
        Ok(Some(Self { truth, store, unfinished_s, unposted_s }))
    }

    /// Marks, removes what is marked, and empties what was left.
    pub(super) async fn turn(&self, health: &RoleHealth, shutdown: &Shutdown) -> Result<(), Error> {
        let client = self.truth.get().await?;
        let statement = client.prepare_cached(MARK).await.map_err(failed)?;
        client.execute(&statement, &[&self.unfinished_s, &self.unposted_s, &MOST_FILES]).await.map_err(failed)?;
        let statement = client.prepare_cached(MARKED).await.map_err(failed)?;
        let mut failures = 0;
        for row in client.query(&statement, &[&MOST_FILES]).await.map_err(failed)? {
            if shutdown.has_begun() {
                return Ok(());
            }
            let (media_id, folder): (&str, Option<&str>) = (row.get(0), row.get(1));
            let (upload_key, upload_id): (&str, Option<&str>) = (row.get(2), row.get(3));
            let upload_folder = folder_of(upload_key);
            let emptied = async {
                let is_empty = self.empty(upload_folder, Some(upload_key).zip(upload_id)).await?;
                Ok::<_, Error>(match folder {
                    Some(folder) => is_empty & self.empty(folder, None).await?,
                    None => is_empty,
                })
            };
            match emptied.await {
                Ok(true) => {
                    let statement = client.prepare_cached(FORGET).await.map_err(failed)?;
                    client
                        .execute(&statement, &[&media_id, &upload_folder, &upload_id.map(|_| upload_key), &upload_id])
                        .await
                        .map_err(failed)?;
                    ::metrics::counter!(metrics::REMOVED_MEDIA).increment(1);
                    failures = 0;
                }
                Ok(false) => failures = 0,
                Err(error) => {
                    client.execute(LATER, &[&media_id]).await.map_err(failed)?;
                    failures = passed_over(failures, error)?;
                }
            }
            health.turn();
        }
        let statement = client.prepare_cached(DUE).await.map_err(failed)?;
        for row in client.query(&statement, &[&MOST_FILES]).await.map_err(failed)? {
            if shutdown.has_begun() {
                return Ok(());
            }
            let folder: &str = row.get(0);
            let upload = row.get::<_, Option<&str>>(1).zip(row.get::<_, Option<&str>>(2));
            match self.empty(folder, upload).await {
                Ok(true) => {
                    let sql = "DELETE FROM media_leftover WHERE folder = $1 AND due_at <= clock_timestamp()";
                    client.execute(sql, &[&folder]).await.map_err(failed)?;
                    failures = 0;
                }
                Ok(false) => failures = 0,
                Err(error) => {
                    client.execute(NOTE_LATER, &[&folder]).await.map_err(failed)?;
                    failures = passed_over(failures, error)?;
                }
            }
            health.turn();
        }
        Ok(())
    }

    /// Gives an upload in parts up and removes the folder's objects; says whether nothing is left.
    async fn empty(&self, folder: &str, upload: Option<(&str, &str)>) -> Result<bool, Error> {
        if let Some((key, upload_id)) = upload {
            self.store.abort_parts(key, upload_id).await.map_err(Error::Store)?;
        }
        self.store.delete_folder(folder, MOST_OBJECTS).await.map_err(Error::Store)
    }
}

/// Counts a failure; the error is given back where there were too many of them in a row.
fn passed_over(failures: usize, error: Error) -> Result<usize, Error> {
    if failures + 1 >= MOST_FAILURES {
        return Err(error);
    }
    tracing::warn!(error = %runtime::chain(&error), "a file can't be removed from the store; it is tried again later");
    Ok(failures + 1)
}

fn failed(source: tokio_postgres::Error) -> Error {
    Error::Database { what: "removing files", source }
}
