//! The envelope of what goes over a chat's or a person's Redis channel: where the record stands in Kafka, then the
//! framed record unchanged; or what nodes tell each other.
//!
//! Layout, big-endian: kind `u8`, partition `i32`, offset `i64`, time of publishing in milliseconds `i64`, value.

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
    /// The Kafka record's value, framed Avro; or JSON, as the kind says.
    pub value: &'a [u8],
}

const HEADER_BYTES: usize = 21;

impl<'a> Relayed<'a> {
    /// What nodes tell each other, which stands nowhere in Kafka.
    pub fn of_node(kind: Kind, value: &'a [u8]) -> Self {
        Self { kind, partition: 0, offset: 0, relayed_at_ms: 0, value }
    }

    /// The bytes to publish.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.value.len());
        bytes.push(match self.kind {
            Kind::Event => 0,
            Kind::Receipts => 1,
            Kind::Typing => 2,
            Kind::Presence => 3,
        });
        bytes.extend_from_slice(&self.partition.to_be_bytes());
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        bytes.extend_from_slice(&self.relayed_at_ms.to_be_bytes());
        bytes.extend_from_slice(self.value);
        bytes
    }

    /// The envelope in published bytes; `None` if they aren't one.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let kind = match kind {
            0 => Kind::Event,
            1 => Kind::Receipts,
            2 => Kind::Typing,
            3 => Kind::Presence,
            _ => return None,
        };
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (relayed_at_ms, value) = rest.split_first_chunk::<8>()?;
        Some(Self {
            kind,
            partition: i32::from_be_bytes(*partition),
            offset: i64::from_be_bytes(*offset),
            relayed_at_ms: i64::from_be_bytes(*relayed_at_ms),
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
        fn comes_back(partition: i32, offset: i64, relayed_at_ms: i64, value: Vec<u8>) {
            let relayed = Relayed { kind: Kind::Event, partition, offset, relayed_at_ms, value: &value };
            let bytes = relayed.to_bytes();
            prop_assert_eq!(Relayed::from_bytes(&bytes), Some(relayed));
        }
    }

    #[test]
    fn short_bytes_are_none() {
        assert_eq!(Relayed::from_bytes(&[0; 20]), None);
    }
}
