//! How far a rebuild is, told in the read database, where any process' pipeline page finds it.
//!
//! The row goes when the tables are swapped. Where a rebuild stops, it stays and grows old, as its tables do, until it is gone
//! on with. Nothing waits for it, and nothing fails for it.

use std::sync::Arc;
use std::time::Duration;

use runtime::{Secret, postgres};
use tokio_postgres::{Client, Error};

use super::Progress;

/// How often.
const EVERY: Duration = Duration::from_secs(1);

const TELL: &str = "
    INSERT INTO rebuild_progress AS told
           (projection, version, phase, records_read, records_expected, started_at, told_at)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp(), clock_timestamp())
    ON CONFLICT (projection) DO UPDATE
       SET version = excluded.version, phase = excluded.phase, records_read = excluded.records_read,
           records_expected = excluded.records_expected, told_at = excluded.told_at,
           started_at = CASE WHEN $6 THEN excluded.started_at ELSE told.started_at END";

/// Tells of one rebuild. Whoever has it holds the lock of the rebuild's schema, so that there is one a projection.
pub(super) struct Teller {
    pub(super) url: Secret,
    pub(super) projection: &'static str,
    pub(super) version: u32,
    pub(super) progress: Arc<Progress>,
}

impl Teller {
    /// Tells while there is work, and no more once that has succeeded.
    pub(super) async fn during<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let outcome = tokio::select! {
            biased;
            outcome = work => outcome?,
            () = self.tell() => unreachable!("it tells until it is dropped"),
        };
        let forgotten = async {
            let client = self.connect().await?;
            client.execute("DELETE FROM rebuild_progress WHERE projection = $1", &[&self.projection]).await.ok()
        };
        if tokio::time::timeout(EVERY, forgotten).await.ok().flatten().is_none() {
            tracing::debug!(projection = self.projection, "the row of a rebuild's progress stays");
        }
        Ok(outcome)
    }

    async fn tell(&self) {
        let mut turn = tokio::time::interval(EVERY);
        let (mut client, mut is_first) = (None, true);
        loop {
            turn.tick().await;
            if client.is_none() {
                client = self.connect().await;
            }
            let Some(connected) = &client else { continue };
            match self.tell_once(connected, is_first).await {
                Ok(()) => is_first = false,
                Err(error) => {
                    tracing::debug!(projection = self.projection, %error, "how far the rebuild is can't be told now");
                    client = None;
                }
            }
        }
    }

    async fn tell_once(&self, client: &Client, is_first: bool) -> Result<(), Error> {
        let (phase, read, expected) = self.progress.now();
        let (version, read, expected) = (self.version as i32, read as i64, expected as i64);
        client.execute(TELL, &[&self.projection, &version, &phase, &read, &expected, &is_first]).await.map(drop)
    }

    async fn connect(&self) -> Option<Client> {
        let parsed = postgres::parse(&self.url, "postgres.read_url").ok()?;
        postgres::connect(&parsed).await.ok()
    }
}
