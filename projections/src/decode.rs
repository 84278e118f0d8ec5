//! From bytes to records, and what to do with bytes that are none.

use runtime::kafka::Received;
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
    /// The registry is away, or doesn't know the id yet: wait, then ask again.
    Waits(FrameError),
    /// Nothing can be done with a record.
    Poison(Error),
}

/// Decodes a batch from where an earlier attempt stopped. Records without a value are passed over if they may be there.
pub(crate) async fn decode<R: Record>(
    decoder: &Decoder<R>,
    batch: &[Received],
    decoded: &mut Decoded<R>,
    projection: &'static str,
    next: &mut usize,
    may_be_empty: bool,
) -> Result<(), DecodeError> {
    while let Some(received) = batch.get(*next) {
        match &received.value {
            Some(value) => match decoder.decode(value).await {
                Ok(record) => {
                    decoded.places.push(*next);
                    decoded.records.push(record);
                }
                // Whatever the registry says: a record that can't be read yet isn't one that never can be.
                Err(error @ FrameError::Schema { .. }) => return Err(DecodeError::Waits(error)),
                Err(error) => return Err(DecodeError::Poison(poison(projection, received, error))),
            },
            None if may_be_empty || is_compacted::<R>() => {}
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use schemas::registry::Registry;
    use schemas::{Cursor, Encoder, Mark};

    fn received(value: Option<Vec<u8>>) -> Received {
        Received {
            topic: Arc::from("t"),
            partition: 2,
            offset: 7,
            timestamp_ms: 0,
            key: None,
            value,
            event_type: None,
            trace: None,
        }
    }

    async fn decoded<R: Record>(batch: &[Received]) -> Result<Decoded<R>, DecodeError> {
        // Nothing listens there: a registry that is away.
        let decoder = Decoder::new(Arc::new(Registry::new("http://127.0.0.1:1", "").expect("a URL")), 7);
        let mut decoded = Decoded { places: vec![], records: vec![] };
        decode(&decoder, batch, &mut decoded, "test", &mut 0, false).await.map(|()| decoded)
    }

    #[tokio::test]
    async fn an_unknown_schema_waits_for_the_registry_and_bad_bytes_stop() {
        let mark =
            Mark { chat_id: "c".into(), user_id: "u".into(), delivered_seq: Some(1), read_seq: None, marked_at: 0 };
        let framed = |id| Some(Encoder::<Mark>::new(id).encode(&mark).expect("fits"));
        let known = decoded::<Mark>(&[received(framed(7))]).await;
        assert!(known.is_ok_and(|known| known.records == [mark.clone()]));
        assert!(matches!(decoded::<Mark>(&[received(framed(8))]).await, Err(DecodeError::Waits(_))));
        for bad in [None, Some(vec![]), Some(b"xyzzy".to_vec()), framed(7).map(|bytes| bytes[..6].to_vec())] {
            let outcome = decoded::<Mark>(&[received(framed(7)), received(bad)]).await;
            assert!(matches!(outcome, Err(DecodeError::Poison(Error::Poison { partition: 2, offset: 7, .. }))));
        }
    }

    #[tokio::test]
    async fn tombstones_of_compacted_topics_are_passed_over() {
        let cursor = Cursor { chat_id: "c".into(), user_id: "u".into(), delivered_seq: 1, read_seq: 0, updated_at: 0 };
        let framed = Some(Encoder::<Cursor>::new(7).encode(&cursor).expect("fits"));
        let outcome = decoded::<Cursor>(&[received(None), received(framed)]).await;
        assert!(outcome.is_ok_and(|decoded| decoded.places == [1] && decoded.records == [cursor]));
    }
}
