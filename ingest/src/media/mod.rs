//! Files: from the wish to upload one until it may be posted, and who may read it then.
//!
//! ```text
//!   POST /media ──▶ begin ──▶ row `uploading`, URLs ──▶ client ──PUT──▶ S3, a key that the URLs name
//!   complete ─────▶ claim `checking` ──▶ copy to a key that no URL names ──▶ look into the copy ──▶ previews
//!                        │                                                       │
//!                        └─ failed: `uploading` again                            └─▶ `ready`, or `refused`
//!   send_message ─▶ persister: only `ready`, under the row's lock ──▶ media_use
//!   GET /media ───▶ who may see a message in media_use gets URLs for five minutes
//! ```
//!
//! - **What is checked is what is served**: the copy. Whoever still has a URL to upload with can't change it.
//! - **Progress.** A check is claimed in the row and the claim is renewed while it lasts, so that one node at a time works on a
//!   file, and another takes over when it dies. What a dead one left in the store was noted before
//!   (`media_leftover`), and the janitor removes it.
//! - **Failure.** A store or database that is away gives the claim back, and `complete` may be called again. A file that is not
//!   what it should be is refused for good and its objects are removed.

mod access;
mod begin;
mod check;
mod claim;
mod complete;
mod row;
mod urls;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use deadpool_postgres::Pool;
use previews::{Previewer, Settings};
use runtime::config::Media as MediaConfig;
use runtime::s3::{S3Error, Store};
use runtime::{Config, Shutdown};
use schemas::wire::{Code, Rejection};
use tokio::sync::Semaphore;

pub(crate) use begin::Wanted;
pub(crate) use row::{Row, State};
pub(crate) use urls::{MediaUrls, UploadUrls};

/// Checks that may wait for their turn at a gateway.
const MOST_WAITING: usize = 64;

/// Why there is no service for files.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The store can't be asked.
    #[error(transparent)]
    Store(#[from] S3Error),
    /// Uploads can't be looked into.
    #[error("this executable can't be found, so no file can be looked into")]
    Program(#[source] io::Error),
}

/// The files of one gateway.
pub struct MediaService {
    pool: Pool,
    store: Store,
    config: MediaConfig,
    previewer: Arc<Previewer>,
    scratch: Option<PathBuf>,
    /// Turns to look into a file, and places to wait for one.
    turns: Semaphore,
    places: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl MediaService {
    /// With the configured store; `None` if there is none.
    pub fn start(config: &Config, pool: Pool, shutdown: &Shutdown) -> Result<Option<Arc<Self>>, MediaError> {
        let Some(store) = Store::open(&config.media, &config.names())? else { return Ok(None) };
        let media = config.media.clone();
        let settings = Settings { max_file_bytes: media.max_file_bytes, ..Settings::default() };
        Ok(Some(Arc::new(Self {
            pool,
            store,
            previewer: Arc::new(Previewer::new(settings).map_err(MediaError::Program)?),
            scratch: Some(PathBuf::from(&media.scratch_dir)).filter(|folder| !folder.as_os_str().is_empty()),
            turns: Semaphore::new(media.checks_at_once),
            places: Arc::new(Semaphore::new(MOST_WAITING)),
            shutdown: shutdown.clone(),
            config: media,
        })))
    }
}

/// The refusal where no store is configured.
pub(crate) fn not_configured() -> Rejection {
    Rejection::new(Code::NotSupported, "There is no store for files here; operators set media.bucket.")
}

/// The client's refusal for an error of the store, which is logged here and shown to nobody.
fn store_away(error: &S3Error) -> Rejection {
    tracing::warn!(error = %error, "a request about a file found the store failing");
    let text = "The store of files is away for a moment; nothing is lost, try again.";
    Rejection::new(Code::Unavailable, text).retry_after(2_000)
}
