//! From bytes to records, and what to do with bytes that are none.
//!
//! The worker writes nothing into the history that isn't framed: what isn't is no event, of whatever version, and nothing is missing
//! without it. So it is passed over, by live runners and rebuilds alike. Bytes under the id of a schema may be an event, and stop
//! the projection if they can't be read.

use runtime::kafka::Received;
use schemas::topics::Topic;
use schemas::{Decoder, FrameError, Record};

use crate::error::{self, Error};
use crate::metrics;

const NO_VALUE: &str = "it has no value";

/// The records of a batch, each with its place in it. Tombstones are left out where the topic is compacted.
#[derive(Debug)]
pub(crate) struct Decoded<R> {
    /// Index in the batch, by record.
    pub(crate) places: Vec<usize>,
    /// The records, in order.
    pub(crate) records: Vec<R>,
    /// Index in the batch of what is no event, and why.
    pub(crate) strange: Vec<(usize, String)>,
}

impl<R> Decoded<R> {
    /// Nothing yet, and room for so many.
    pub(crate) fn with_room(records: usize) -> Self {
        Self { places: Vec::new(), records: Vec::with_capacity(records), strange: Vec::new() }
    }
}

/// What came of decoding.
#[derive(Debug)]
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
                Err(error @ FrameError::Framing { .. }) if is_history::<R>() => {
                    decoded.strange.push((*next, error::chain(&error)));
                }
                Err(error) => return Err(DecodeError::Poison(poison(projection, received, error))),
            },
            None if may_be_empty || is_compacted::<R>() => {}
            None if is_history::<R>() => decoded.strange.push((*next, NO_VALUE.to_owned())),
            None => return Err(DecodeError::Poison(poison(projection, received, NO_VALUE))),
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

fn is_history<R: Record>() -> bool {
    R::TOPIC == Topic::ChatEvents
}

fn is_compacted<R: Record>() -> bool {
    R::TOPIC.config().contains(&("cleanup.policy", "compact"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use schemas::registry::Registry;
    use schemas::{ChatEvent, Cursor, Encoder, Mark};

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
        let mut decoded = Decoded::with_room(batch.len());
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
    async fn what_is_no_event_is_passed_over_and_what_may_be_one_is_not() {
        let event = ChatEvent {
            event_id: "c/1".into(),
            event_type: schemas::event_type::CHAT_CREATED.into(),
            chat_id: "c".into(),
            seq: 1,
            actor_id: "u".into(),
            occurred_at: 0,
            origin: schemas::Origin::default(),
            message: None,
            memberships: vec![],
            chat: None,
        };
        let framed = Encoder::<ChatEvent>::new(7).encode(&event).expect("fits");
        let batch = [None, Some(b"xyzzy".to_vec()), Some(vec![]), Some(framed.clone())].map(received);
        let decoded_events = decoded::<ChatEvent>(&batch).await.expect("decoded");
        assert_eq!((decoded_events.places, decoded_events.records), (vec![3], vec![event]));
        assert!(decoded_events.strange.iter().map(|(place, _)| *place).eq(0..3), "{:?}", decoded_events.strange);
        for bad in [&framed[..9], &framed[..5]] {
            let outcome = decoded::<ChatEvent>(&[received(Some(bad.to_vec()))]).await;
            assert!(matches!(outcome, Err(DecodeError::Poison(_))), "{outcome:?}");
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
