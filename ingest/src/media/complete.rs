//! The end of an upload: claimed, checked, and ready or refused.
//!
//! The work outlives the request that asked for it: a client that loses its connection asks again, and hears how it went.

use std::sync::Arc;
use std::time::Instant;

use runtime::s3::folder_of;
use schemas::wire::{Code, Rejection};
use tokio_postgres::types::Json;

use super::check::{Failure, Found};
use super::claim::Claimed;
use super::row::ORIGINAL;
use super::{MediaService, Row, State, store_away};
use crate::metrics;
use crate::users::unavailable;

/// Checks that may end for want of time or memory before it is the file's fault.
const MOST_FAILED_CHECKS: i32 = 3;
/// Objects of one file, with room for more previews.
const MOST_OBJECTS: usize = 100;

impl MediaService {
    /// Checks an upload of one's own. The same again is answered the same: ready, or refused for the same reason.
    pub(crate) async fn complete(self: &Arc<Self>, user_id: &str, media_id: &str) -> Result<Row, Rejection> {
        let row = self.own(user_id, media_id).await?;
        match row.state {
            State::Ready => return Ok(row),
            State::Refused => return Err(refused(row.refusal.as_deref().unwrap_or_default())),
            State::Uploading | State::Checking => {}
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let text = "Too many files are being looked into; the upload is kept, call complete again.";
            return Err(Rejection::new(Code::Overloaded, text).retry_after(2_000));
        };
        let Some(claimed) = self.claim(media_id).await? else { return Err(busy()) };
        let service = Arc::clone(self);
        let work = self.shutdown.spawn(async move {
            let _place = place;
            service.work(&claimed).await
        });
        work.await.map_err(|error| {
            tracing::error!(error = %error, "checking a file ended in a panic");
            Rejection::new(Code::Internal, "The file could not be looked into; operators were told.")
        })??;
        self.own(user_id, media_id).await
    }

    async fn work(&self, claimed: &Claimed) -> Result<(), Rejection> {
        let began = Instant::now();
        let outcome = tokio::select! {
            biased;
            // The claim went to somebody else, or the file to the janitor.
            () = self.hold(claimed) => Err(Failure::Lost),
            outcome = self.check(claimed) => outcome,
        };
        let name = match &outcome {
            Ok(_) => "ready",
            Err(Failure::Refused(_)) => "refused",
            Err(Failure::Incomplete(_)) => "incomplete",
            Err(_) => "failed",
        };
        metrics::media_checked(name, began.elapsed());
        match outcome {
            Ok(found) => self.accept(claimed, &found).await,
            Err(Failure::Refused(reason)) => self.refuse(claimed, &reason).await,
            Err(Failure::Incomplete(text)) => {
                self.give_back(claimed).await;
                Err(Rejection::new(Code::UploadIncomplete, text))
            }
            Err(Failure::Lost) => Err(busy()),
            Err(Failure::Store(error)) => {
                self.give_back(claimed).await;
                Err(store_away(&error))
            }
            Err(Failure::Machine(problem)) => {
                tracing::error!(error = problem, "a file could not be looked into on this machine");
                self.give_back(claimed).await;
                Err(not_now())
            }
            Err(Failure::Exhausted(reason)) => {
                let failed = self.count_failed_check(claimed).await;
                if failed.as_ref().is_ok_and(|failed| *failed >= MOST_FAILED_CHECKS) {
                    return self.refuse(claimed, &reason).await;
                }
                tracing::warn!(error = reason, "looking into a file took too much; it may be tried again");
                self.give_back(claimed).await;
                Err(failed.err().unwrap_or_else(not_now))
            }
        }
    }

    async fn accept(&self, claimed: &Claimed, found: &Found) -> Result<(), Rejection> {
        let Claimed { row, claim, folder } = claimed;
        let mut client = self.pool.get().await.map_err(unavailable)?;
        let transaction = client.transaction().await.map_err(unavailable)?;
        let sql =
            "UPDATE media SET state = 'ready', attachment = $3, details = $4, sha256 = $5, url = $6, upload_id = NULL,
                                    changed_at = clock_timestamp()
                    WHERE id = $1 AND claim = $2 AND state = 'checking'";
        let url = self.store.place(&format!("{folder}{ORIGINAL}"));
        let (attachment, details) = (Json(&found.attachment), Json(&found.details));
        let sha256 = found.sha256.as_slice();
        let is_ours = transaction
            .execute(sql, &[&row.media_id, claim, &attachment, &details, &sha256, &url])
            .await
            .map_err(unavailable)?;
        if is_ours == 0 {
            return Err(busy());
        }
        // The note is the right to what is in the folder: without it, or once it is due, the janitor has emptied it or is about to.
        let sql = "DELETE FROM media_leftover WHERE folder = $1 AND due_at > clock_timestamp()";
        if transaction.execute(sql, &[folder]).await.map_err(unavailable)? != 1 {
            transaction.rollback().await.map_err(unavailable)?;
            tracing::warn!(
                "a file was checked for so long that what was made of it is removed; it is to be checked again"
            );
            self.give_back(claimed).await;
            return Err(not_now());
        }
        Self::note_upload_leftover(&transaction, row).await.map_err(unavailable)?;
        transaction.commit().await.map_err(unavailable)?;
        self.clear(folder_of(&row.upload_key)).await;
        Ok(())
    }

    async fn refuse(&self, claimed: &Claimed, reason: &str) -> Result<(), Rejection> {
        let Claimed { row, claim, folder } = claimed;
        let mut client = self.pool.get().await.map_err(unavailable)?;
        let transaction = client.transaction().await.map_err(unavailable)?;
        let sql = "UPDATE media SET state = 'refused', refusal = $3, folder = NULL, changed_at = clock_timestamp()
                    WHERE id = $1 AND claim = $2 AND state = 'checking'";
        let is_ours = transaction.execute(sql, &[&row.media_id, claim, &reason]).await.map_err(unavailable)?;
        if is_ours == 0 {
            return Err(busy());
        }
        let sql = "UPDATE media_leftover SET due_at = clock_timestamp() WHERE folder = $1";
        transaction.execute(sql, &[folder]).await.map_err(unavailable)?;
        Self::note_upload_leftover(&transaction, row).await.map_err(unavailable)?;
        transaction.commit().await.map_err(unavailable)?;
        for left in [folder.as_str(), folder_of(&row.upload_key)] {
            self.clear(left).await;
        }
        Err(refused(reason))
    }

    /// Empties a folder now; the janitor comes by later in any case.
    async fn clear(&self, folder: &str) {
        if let Err(error) = self.store.delete_folder(folder, MOST_OBJECTS).await {
            tracing::warn!(error = %error, "a file's leftovers are left to the janitor");
        }
    }
}

fn refused(reason: &str) -> Rejection {
    Rejection::new(Code::MediaRefused, format!("The file is refused: {reason}.")).at("media_id")
}

fn not_now() -> Rejection {
    let text = "The file could not be looked into just now; the upload is kept, call complete again.";
    Rejection::new(Code::Unavailable, text).retry_after(5_000)
}

fn busy() -> Rejection {
    Rejection::new(Code::MediaBusy, "The file is being looked into; call complete again to hear how it went.")
        .retry_after(1_000)
}
