//! Rows on their way into a chunk, and when they go: at once if nothing else is known to come, in full chunks if much is.
//!
//! A Kafka transaction costs the brokers a marker for each partition, so few large ones are cheaper. The publisher is
//! promised another chunk only while there is more, and the promise is kept before long whatever comes.

use std::time::{Duration, Instant};

use crate::record::Batch;

/// Most rows in a chunk.
const CHUNK_ROWS: usize = 1_024;
/// Most bytes in a chunk, give or take a row.
const CHUNK_BYTES: usize = 1 << 20;
/// How long a promised chunk may take to fill: what the server is known to have may be other people's.
const PROMISE: Duration = Duration::from_millis(25);

/// What was read since the last chunk.
#[derive(Default)]
pub(crate) struct Gathering {
    records: Batch,
    /// When the publisher was told that another chunk follows, if it was.
    promised_at: Option<Instant>,
}

impl Gathering {
    /// Where records go.
    pub(crate) const fn records(&mut self) -> &mut Batch {
        &mut self.records
    }

    /// Whether nothing more goes into this chunk.
    pub(crate) const fn is_full(&self) -> bool {
        self.records.len() >= CHUNK_ROWS || self.records.bytes() >= CHUNK_BYTES
    }

    /// Whether a chunk should go now. While the server has much more, only a full one is worth a hand-over.
    pub(crate) fn is_ripe(&self, is_behind: bool) -> bool {
        match self.promised_at {
            Some(_) => self.is_full() || !is_behind || self.is_late(),
            None => !self.records.is_empty(),
        }
    }

    /// Whether there are records, or the publisher waits for a chunk.
    pub(crate) const fn is_owed(&self) -> bool {
        self.promised_at.is_some() || !self.records.is_empty()
    }

    /// Waits until a promise has to be kept, with whatever is there; for ever if there is none.
    pub(crate) async fn must_end(&self) {
        match self.promised_at {
            Some(at) => tokio::time::sleep_until((at + PROMISE).into()).await,
            None => std::future::pending().await,
        }
    }

    /// Takes the chunk out. Says whether another one is promised: if there is more, unless this one was late.
    pub(crate) fn cut(&mut self, has_more: bool) -> (Batch, bool) {
        let is_followed = has_more && !self.is_late();
        self.promised_at = is_followed.then(Instant::now);
        // Room at once for what is known to follow, instead of growing again.
        let next = if is_followed { Batch::with_capacity(CHUNK_ROWS, CHUNK_BYTES) } else { Batch::default() };
        (std::mem::replace(&mut self.records, next), is_followed)
    }

    fn is_late(&self) -> bool {
        self.promised_at.is_some_and(|at| at.elapsed() >= PROMISE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Change;
    use crate::record::Writer;

    fn add(gathering: &mut Gathering, rows: usize) {
        let writer = Writer::new(1, 2);
        for number in 0..rows {
            let user_id = format!("user-{number}");
            let change = Change::User { user_id, version: 1, changed_at_ms: 0, profile: None };
            writer.write(change, gathering.records()).expect("a tombstone");
        }
    }

    #[test]
    fn one_row_goes_at_once_where_nothing_follows() {
        let mut gathering = Gathering::default();
        assert!(!gathering.is_ripe(false) && !gathering.is_owed());
        add(&mut gathering, 1);
        assert!(gathering.is_ripe(false) && gathering.is_ripe(true));
        let (records, is_followed) = gathering.cut(false);
        assert_eq!((records.len(), is_followed), (1, false));
        assert!(!gathering.is_owed());
    }

    #[test]
    fn behind_only_full_chunks_follow_the_first() {
        let mut gathering = Gathering::default();
        add(&mut gathering, 1);
        assert!(gathering.cut(true).1 && gathering.is_owed());
        add(&mut gathering, 10);
        assert!(!gathering.is_ripe(true), "more is known to come");
        assert!(gathering.is_ripe(false), "it came no more");
        add(&mut gathering, CHUNK_ROWS - 10);
        assert!(gathering.is_full() && gathering.is_ripe(true));
        assert_eq!(gathering.cut(true).0.len(), CHUNK_ROWS);
    }

    #[tokio::test]
    async fn a_promise_is_kept_with_nothing_and_ends_the_transaction() {
        let mut gathering = Gathering::default();
        add(&mut gathering, 1);
        assert!(gathering.cut(true).1);
        gathering.must_end().await;
        assert!(gathering.is_ripe(true), "nothing came, and the publisher waits");
        let (records, is_followed) = gathering.cut(true);
        assert_eq!((records.len(), is_followed), (0, false));
    }
}
