//! From bytes to records, and what to do with bytes that are none.

use runtime::kafka::{Batch, Received};
use schemas::{Decoder, FrameError, Record};

use crate::error::Error;
use crate::metrics;

/// The records of a batch, each with its place in it. Tombstones are left out where the topic is compacted.
pub(crate) struct Decoded<R> {
    /// Index in the batch, by record.
    pub(crate) places: Vec<usize>,
    /// The records, in order.
    pub(crate) records: Vec<R>,
}

/// What came of decoding.
pub(crate) enum DecodeError {
    /// The registry is away: wait, then try again.
    Waits(FrameError),
    /// Nothing can be done with a record.
    Poison(Error),
}

/// Decodes a batch from where an earlier attempt stopped.
pub(crate) async fn decode<R: Record>(
    decoder: &Decoder<R>,
    batch: &Batch,
    decoded: &mut Decoded<R>,
    projection: &'static str,
    next: &mut usize,
) -> Result<(), DecodeError> {
    while let Some(received) = batch.records.get(*next) {
        match &received.value {
            Some(value) => match decoder.decode(value).await {
                Ok(record) => {
                    decoded.places.push(*next);
                    decoded.records.push(record);
                }
                Err(error) if error.is_transient() => return Err(DecodeError::Waits(error)),
                Err(error) => return Err(DecodeError::Poison(poison(projection, received, error))),
            },
            None if is_compacted::<R>() => {}
            None => return Err(DecodeError::Poison(poison(projection, received, "it has no value"))),
        }
        *next += 1;
    }
    Ok(())
}

/// Counts and names a record that stops a projection.
pub(crate) fn poison(
    projection: &'static str,
    received: &Received,
    reason: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    ::metrics::counter!(metrics::POISON, "projection" => projection).increment(1);
    Error::Poison {
        projection,
        topic: received.topic.to_string(),
        partition: received.partition,
        offset: received.offset,
        source: reason.into(),
    }
}

fn is_compacted<R: Record>() -> bool {
    R::TOPIC.config().contains(&("cleanup.policy", "compact"))
}
