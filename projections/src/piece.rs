//! Batches come in the sizes that Kafka gives; transactions in those that Postgres should get.

use std::ops::Range;

use runtime::kafka::{Batch, Received};

use crate::checkpoint;
use crate::decode::Decoded;

/// The part of a batch that is one transaction.
pub(crate) struct Piece<'a, R> {
    /// Index of its first record in the batch.
    pub(crate) first: usize,
    /// As they came.
    pub(crate) received: &'a [Received],
    /// Those with a value, decoded.
    pub(crate) records: &'a [R],
    /// Index in the batch, by record.
    pub(crate) places: &'a [usize],
}

impl<'a, R> Piece<'a, R> {
    /// This part of the batch.
    pub(crate) fn of(batch: &'a Batch, decoded: &'a Decoded<R>, part: Range<usize>) -> Self {
        let index = |end: usize| decoded.places.partition_point(|&place| place < end);
        let records = index(part.start)..index(part.end);
        Self {
            first: part.start,
            received: &batch.records[part],
            records: &decoded.records[records.clone()],
            places: &decoded.places[records],
        }
    }

    /// Topic, partition and the offset to go on from.
    pub(crate) fn offsets(&self) -> Vec<(String, i32, i64)> {
        let ranges = checkpoint::ranges(self.received);
        ranges.into_iter().map(|((topic, partition), (_, next))| (topic.to_owned(), partition, next)).collect()
    }
}
