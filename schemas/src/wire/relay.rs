//! The envelope of what goes over a chat's or a person's Redis channel: where the record stands in Kafka, then the
//! framed record unchanged; or what nodes tell each other.
//!
//! Layout, big-endian: kind `u8`, partition `i32`, offset `i64`, time of publishing in milliseconds `i64`, of a sampled event its
//! trace and span (16 and 8 bytes), value.

use crate::trace::TraceContext;

/// What an envelope holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A framed `ChatEvent`.
    Event,
    /// Cursors that moved, as the JSON payload of a `receipt` frame: latest ones stand for all before.
    Receipts,
    /// The id of a person who types; from a node, not from Kafka.
    Typing,
    /// Who is connected, as JSON of one node to the others; not from Kafka.
    Presence,
}

/// A record as nodes receive it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed<'a> {
    /// What the value is.
    pub kind: Kind,
    /// Partition of `chat.events` or `chat.cursors`.
    pub partition: i32,
    /// Offset in that partition.
    pub offset: i64,
    /// When the publisher sent it, in milliseconds since 1970.
    pub relayed_at_ms: i64,
    /// The trace of an event, if it is sampled.
    pub trace: Option<TraceContext>,
    /// The Kafka record's value, framed Avro; or JSON, as the kind says.
    pub value: &'a [u8],
}

const HEADER_BYTES: usize = 21;
/// An event with its trace.
const TRACED: u8 = 4;

impl<'a> Relayed<'a> {
    /// What nodes tell each other, which stands nowhere in Kafka.
    pub fn of_node(kind: Kind, value: &'a [u8]) -> Self {
        Self { kind, partition: 0, offset: 0, relayed_at_ms: 0, trace: None, value }
    }

    /// The bytes to publish.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + TraceContext::BYTES + self.value.len());
        bytes.push(match (self.kind, self.trace) {
            (Kind::Event, None) => 0,
            (Kind::Receipts, _) => 1,
            (Kind::Typing, _) => 2,
            (Kind::Presence, _) => 3,
            (Kind::Event, Some(_)) => TRACED,
        });
        bytes.extend_from_slice(&self.partition.to_be_bytes());
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        bytes.extend_from_slice(&self.relayed_at_ms.to_be_bytes());
        if let (Kind::Event, Some(trace)) = (self.kind, self.trace) {
            bytes.extend_from_slice(&trace.to_bytes());
        }
        bytes.extend_from_slice(self.value);
        bytes
    }

    /// The envelope in published bytes; `None` if they aren't one.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let kind = match *tag {
            0 | TRACED => Kind::Event,
            1 => Kind::Receipts,
            2 => Kind::Typing,
            3 => Kind::Presence,
            _ => return None,
        };
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (relayed_at_ms, rest) = rest.split_first_chunk::<8>()?;
        let (trace, value) = if *tag == TRACED {
            let (trace, value) = rest.split_first_chunk::<{ TraceContext::BYTES }>()?;
            (Some(TraceContext::from_bytes(trace)), value)
        } else {
            (None, rest)
        };
        Some(Self {
            kind,
            partition: i32::from_be_bytes(*partition),
            offset: i64::from_be_bytes(*offset),
            relayed_at_ms: i64::from_be_bytes(*relayed_at_ms),
            trace,
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back(
            partition: i32, offset: i64, relayed_at_ms: i64, trace: Option<([u8; 16], [u8; 8])>, value: Vec<u8>,
        ) {
            let trace = trace.map(|(trace_id, span_id)| TraceContext { trace_id, span_id });
            let relayed = Relayed { kind: Kind::Event, partition, offset, relayed_at_ms, trace, value: &value };
            let bytes = relayed.to_bytes();
            prop_assert_eq!(Relayed::from_bytes(&bytes), Some(relayed));
        }
    }

    #[test]
    fn short_bytes_are_none() {
        assert_eq!(Relayed::from_bytes(&[0; 20]), None);
        assert_eq!(Relayed::from_bytes(&[TRACED; 44]), None);
    }
}
