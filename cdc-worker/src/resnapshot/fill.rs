//! From the tables into the history: rows in bounded pages, through the worker's own publisher.

use std::collections::HashMap;
use std::pin::pin;

use futures_util::TryStreamExt;
use schemas::Origin;
use schemas::history::{self, HistoryError, Range};
use tokio_postgres::{Client, Row};

use super::Fault;
use super::report::{Report, Step};
use super::tables;
use crate::error::Error;
use crate::lsn::Lsn;
use crate::mapping::{Change, Key};
use crate::progress::Mark;
use crate::publisher::{Chunk, Publisher};
use crate::record::{Batch, WriteError, Writer};
use crate::transaction::Place;
use crate::withheld;

/// Rows that one statement reads: its snapshot lasts no longer than they take to be handed over.
const PAGE_ROWS: i64 = 1_000;
/// Chats that one statement reads of.
const PAGE_CHATS: usize = 250;
/// Most rows in a chunk.
const CHUNK_ROWS: usize = 1_000;
/// Most bytes in a chunk, give or take a row.
const CHUNK_BYTES: usize = 1 << 20;

/// Publishes what the tables hold, as one transaction in front of the slot's start: its place is the slot's start minus
/// one, its ordinals count up over all runs.
pub(super) struct Filling {
    publisher: Publisher,
    writer: Writer,
    start: Lsn,
    ordinal: i64,
    records: Batch,
    handed: u64,
}

impl Filling {
    /// Goes on after an ordinal.
    pub(super) fn new(publisher: Publisher, writer: Writer, start: Lsn, ordinal: i64) -> Self {
        Self { publisher, writer, start, ordinal, records: Batch::default(), handed: 0 }
    }

    /// Where what is read from the tables stands.
    pub(super) const fn place(start: Lsn, ordinal: i64) -> Place {
        Place { commit_lsn: Lsn(start.0.saturating_sub(1)), ordinal }
    }

    /// Publishes ranges of chats.
    pub(super) async fn chats(&mut self, client: &Client, missing: &[Range], report: &Report) -> Result<(), Error> {
        let total = missing.iter().map(Range::len).sum::<i64>() as u64;
        let mut done = 0;
        report.tell(Step::Adding { done, total });
        let statement = client.prepare(history::RANGES_SQL).await.map_err(|error| unreadable(error.into()))?;
        for page in pages(missing) {
            let rows = history::read_ranges(client, &statement, &page).await.map_err(unreadable)?;
            let mut rows = pin!(rows);
            let mut expected =
                page.iter().flat_map(|range| (range.from_seq..=range.to_seq).map(|seq| (range.chat_id.as_str(), seq)));
            while let Some(row) = rows.try_next().await.map_err(|error| unreadable(error.into()))? {
                let (_, mut event) = history::event_in(&row).map_err(|source| unreadable_row(&row, source))?;
                match expected.next() {
                    Some((chat_id, seq)) if chat_id == event.chat_id && seq == event.seq => {}
                    other => return Err(hole(other, event.seq).into()),
                }
                event.origin = self.next_origin();
                self.add(Change::Event(Box::new(event))).await?;
                done += 1;
            }
            if let other @ Some((_, seq)) = expected.next() {
                return Err(hole(other, seq + 1).into());
            }
            report.tell(Step::Adding { done, total });
        }
        Ok(())
    }

    /// Publishes profiles that are missing or old; notes their versions. Returns how many.
    pub(super) async fn users(&mut self, client: &Client, known: &mut HashMap<String, i64>) -> Result<u64, Error> {
        let (mut after, mut count) = (String::new(), 0);
        while let Some(missing) = tables::missing_users(client, known, &mut after).await? {
            for user in missing {
                // Counted like an event, as in the stream.
                self.next_origin();
                if let Change::User { user_id, .. } = &user.change {
                    known.insert(user_id.clone(), user.version);
                }
                self.add(user.change).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Waits until everything is committed.
    pub(super) async fn finish(mut self) -> Result<(), Error> {
        self.flush().await?;
        let mut committed = 0;
        while committed < self.handed {
            committed = self.publisher.news.next().await?.number;
        }
        Ok(())
    }

    fn next_origin(&mut self) -> Origin {
        self.ordinal += 1;
        let place = Self::place(self.start, self.ordinal);
        Origin { shard: 0, commit_lsn: place.commit_lsn.to_bits(), ordinal: place.ordinal }
    }

    async fn add(&mut self, change: Change<'_>) -> Result<(), Error> {
        match self.writer.write(change, &mut self.records) {
            Ok(()) => {}
            Err(WriteError::Row(source)) => {
                return Err(Fault::Row { row: "a row".into(), source: source.into() }.into());
            }
            Err(WriteError::Frame(source)) => return Err(source.into()),
        }
        if self.records.len() >= CHUNK_ROWS || self.records.bytes() >= CHUNK_BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.records.is_empty() {
            return Ok(());
        }
        let Some(permit) = self.publisher.queue.reserve().await else {
            return Err(self.publisher.news.reason().await);
        };
        self.handed += 1;
        permit.send(Chunk {
            number: self.handed,
            is_followed: false,
            records: std::mem::take(&mut self.records),
            mark: Mark { place: Self::place(self.start, self.ordinal), confirmable: self.start },
        });
        Ok(())
    }
}

fn unreadable(error: HistoryError) -> Error {
    match error {
        HistoryError::Database(source) => Error::Query { what: "reading message and chat_change", source },
        source @ HistoryError::Row(_) => Fault::Row { row: "a row".into(), source }.into(),
    }
}

/// A row that arrived, and isn't what it should be.
fn unreadable_row(row: &Row, source: HistoryError) -> Error {
    let named = (row.try_get("chat_id"), row.try_get("sequence_number"), row.try_get::<_, Option<&str>>("event_type"));
    let row = match named {
        (Ok(chat_id), Ok(seq), Ok(changed)) => {
            withheld::with_way_out(&Key::Chat { is_message: changed.is_none(), chat_id, seq })
        }
        _ => "a row".into(),
    };
    Fault::Row { row, source }.into()
}

fn hole(expected: Option<(&str, i64)>, found: i64) -> Fault {
    let (chat_id, expected) = expected.unwrap_or_default();
    Fault::Hole { chat_id: chat_id.to_owned(), expected, found }
}

/// Cuts ranges into pages of bounded size, in their order.
fn pages(ranges: &[Range]) -> impl Iterator<Item = Vec<Range>> {
    let mut left = ranges.iter();
    let mut rest: Option<Range> = None;
    std::iter::from_fn(move || {
        let (mut page, mut room) = (Vec::new(), PAGE_ROWS);
        while room > 0
            && page.len() < PAGE_CHATS
            && let Some(range) = rest.take().or_else(|| left.next().cloned())
        {
            let to_seq = range.to_seq.min(range.from_seq + room - 1);
            room -= to_seq - range.from_seq + 1;
            if to_seq < range.to_seq {
                rest = Some(Range { from_seq: to_seq + 1, ..range.clone() });
            }
            page.push(Range { to_seq, ..range });
        }
        (!page.is_empty()).then_some(page)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_hold_every_seq_once_and_are_bounded(lengths in proptest::collection::vec(1_i64..3_000, 0..600)) {
            let ranges: Vec<Range> = lengths
                .iter()
                .enumerate()
                .map(|(number, length)| Range { chat_id: number.to_string(), from_seq: 5, to_seq: 4 + length })
                .collect();
            let mut joined: Vec<Range> = Vec::new();
            for page in pages(&ranges) {
                prop_assert!(page.len() <= PAGE_CHATS);
                prop_assert!(page.iter().map(Range::len).sum::<i64>() <= PAGE_ROWS);
                for range in page {
                    match joined.last_mut() {
                        Some(last) if last.chat_id == range.chat_id => {
                            prop_assert_eq!(last.to_seq + 1, range.from_seq);
                            last.to_seq = range.to_seq;
                        }
                        _ => joined.push(range),
                    }
                }
            }
            prop_assert_eq!(joined, ranges);
        }
    }
}
