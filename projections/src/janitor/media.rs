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
//! *Failure.* A row goes after its objects. Where the store is away nothing is removed, and the next turn tries again.

use deadpool_postgres::Pool;
use runtime::config::Media;
use runtime::s3::Store;
use runtime::{Config, RoleHealth, Shutdown};

use crate::error::Error;
use crate::metrics;

/// Files of one turn, each some requests to the store.
const MOST_FILES: i64 = 100;
/// Objects that one request of a turn removes.
const MOST_OBJECTS: usize = 1_000;

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
        for row in client.query(&statement, &[&MOST_FILES]).await.map_err(failed)? {
            if shutdown.has_begun() {
                return Ok(());
            }
            let (media_id, folder): (&str, Option<&str>) = (row.get(0), row.get(1));
            let (upload_key, upload_id): (&str, Option<&str>) = (row.get(2), row.get(3));
            let upload_folder = folder_of(upload_key);
            let mut is_empty = self.empty(upload_folder, Some(upload_key).zip(upload_id)).await?;
            if let Some(folder) = folder {
                is_empty &= self.empty(folder, None).await?;
            }
            if is_empty {
                let statement = client.prepare_cached(FORGET).await.map_err(failed)?;
                client
                    .execute(&statement, &[&media_id, &upload_folder, &upload_id.map(|_| upload_key), &upload_id])
                    .await
                    .map_err(failed)?;
                ::metrics::counter!(metrics::REMOVED_MEDIA).increment(1);
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
            if self.empty(folder, upload).await? {
                let sql = "DELETE FROM media_leftover WHERE folder = $1 AND due_at <= clock_timestamp()";
                client.execute(sql, &[&folder]).await.map_err(failed)?;
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

fn failed(source: tokio_postgres::Error) -> Error {
    Error::Database { what: "removing files", source }
}

/// The folder of a key, with its `/`.
fn folder_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| &key[..=folder.len()])
}
