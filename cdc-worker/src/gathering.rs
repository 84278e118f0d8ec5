//! Rows on their way into a chunk, and when they go: at once if nothing else is known to come, in full chunks if more is.
//!
//! A Kafka transaction costs the brokers a marker for each partition, so few large ones are cheaper. More is known to come
//! while the server is ahead, and within a transaction: the end of one is worth waiting for, since a chunk that has it
//! needs no other to confirm it. The publisher may be promised another chunk. Nothing waits for long, whatever comes.

use std::time::{Duration, Instant};

use crate::record::Batch;

/// Most rows in a chunk.
const CHUNK_ROWS: usize = 1_024;
/// Most bytes in a chunk, give or take a row.
const CHUNK_BYTES: usize = 1 << 20;
/// How long rows or a promise wait for what is known to come: it may be other people's, or on a slow line.
const LONGEST: Duration = Duration::from_millis(25);

/// What was read since the last chunk.
#[derive(Default)]
pub(crate) struct Gathering {
    records: Batch,
    /// The publisher was told that another chunk follows.
    is_promised: bool,
    /// Since when something has been owed to the publisher.
    since: Option<Instant>,
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

    /// Whether there are records, or the publisher waits for a chunk.
    pub(crate) const fn is_owed(&self) -> bool {
        self.is_promised || !self.records.is_empty()
    }

    /// Whether a chunk should go now. To be asked after each reading.
    pub(crate) fn is_ripe(&mut self, more_comes: bool) -> bool {
        if self.is_owed() && self.since.is_none() {
            self.since = Some(Instant::now());
        }
        self.is_full() || self.is_owed() && (!more_comes || self.is_late())
    }

    /// Waits until nothing more is waited for. Never returns where nothing is owed, or nothing has been waited for since
    /// the last time: whoever has no room for the chunk yet would turn in vain.
    pub(crate) async fn must_end(&self) {
        match self.since {
            Some(since) if !self.is_late() => tokio::time::sleep_until((since + LONGEST).into()).await,
            _ => std::future::pending().await,
        }
    }

    /// Takes the chunk out. Says whether another one is promised: if more comes, unless this one has waited for it in vain.
    pub(crate) fn cut(&mut self, more_comes: bool) -> (Batch, bool) {
        self.is_promised = more_comes && !self.is_late();
        self.since = None;
        // Room at once for what is known to follow, instead of growing again.
        let next = if self.is_promised { Batch::with_capacity(CHUNK_ROWS, CHUNK_BYTES) } else { Batch::default() };
        (std::mem::replace(&mut self.records, next), self.is_promised)
    }

    fn is_late(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= LONGEST)
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
        assert!(!gathering.is_ripe(false) && !gathering.is_ripe(true) && !gathering.is_owed());
        add(&mut gathering, 1);
        assert!(gathering.is_ripe(false));
        let (records, is_followed) = gathering.cut(false);
        assert_eq!((records.len(), is_followed), (1, false));
        assert!(!gathering.is_owed());
    }

    #[test]
    fn only_full_chunks_go_while_more_comes() {
        let mut gathering = Gathering::default();
        add(&mut gathering, 10);
        assert!(!gathering.is_ripe(true), "more is known to come");
        assert!(gathering.is_ripe(false), "it came no more");
        add(&mut gathering, CHUNK_ROWS - 10);
        assert!(gathering.is_full() && gathering.is_ripe(true));
        let (records, is_followed) = gathering.cut(true);
        assert_eq!((records.len(), is_followed), (CHUNK_ROWS, true));
        assert!(gathering.is_owed() && gathering.is_ripe(false), "the publisher waits");
        assert_eq!(gathering.cut(false).0.len(), 0);
    }

    #[tokio::test]
    async fn what_was_promised_comes_before_long_and_ends_the_transaction() {
        let mut gathering = Gathering::default();
        add(&mut gathering, 1);
        assert!(gathering.cut(true).1 && !gathering.is_ripe(true));
        gathering.must_end().await;
        assert!(gathering.is_ripe(true), "nothing came");
        tokio::select! {
            biased;
            () = gathering.must_end() => panic!("said twice: the loop would spin until there is room for the chunk"),
            () = std::future::ready(()) => {}
        }
        let (records, is_followed) = gathering.cut(true);
        assert_eq!((records.len(), is_followed), (0, false));
    }
}
