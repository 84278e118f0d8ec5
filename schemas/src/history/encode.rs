//! A send straight from its row to the event's bytes, without the structs between: the hot path of the CDC worker.
//!
//! Avro's binary encoding (<https://avro.apache.org/docs/1.12.0/specification/#binary-encoding>): longs zigzag in groups
//! of seven bits, lowest first; texts with their length before them; unions with the branch's number before them;
//! fields one after another as `avro/ChatEvent.avsc` lists them. The tests hold it against the slow way.

use std::io::Write;
use std::ops::Range;

use uuid::Uuid;

use super::MessageRow;
use crate::event::{Origin, event_type};

/// Branches of every union in the schema: null and one type.
const NULL: i64 = 0;
const SOME: i64 = 1;

/// Where texts that a record also carries outside its value stand in the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// `<chat_id>/<seq>`; begins with the chat's id.
    pub event_id: Range<usize>,
    /// Type of the event.
    pub event_type: Range<usize>,
}

impl MessageRow<'_> {
    /// Appends the datum of the `message.persisted` event of this row: what [`MessageRow::into_event`] makes, encoded.
    ///
    /// `None`, and nothing appended, if the row has attachments: those are texts to be parsed first.
    pub fn encode_event(&self, origin: Origin, out: &mut Vec<u8>) -> Option<Encoded> {
        let is_deleted = self.deleted_at_ms.is_some();
        if self.attachments.is_some() && !is_deleted {
            return None;
        }
        let (content, app_data) = (self.content.filter(|_| !is_deleted), self.app_data.filter(|_| !is_deleted));
        let event_id = event_id(self.chat_id, self.sequence_number, out);
        let event_type = text(event_type::MESSAGE_PERSISTED, out);
        text(self.chat_id, out);
        long(self.sequence_number, out);
        text(self.sender_id, out);
        long(self.created_at_ms, out);

        long(i64::from(origin.shard), out);
        long(origin.commit_lsn, out);
        long(origin.ordinal, out);

        long(SOME, out);
        uuid(self.message_id, out);
        long(self.sequence_number, out);
        text(self.sender_id, out);
        optional(content, out, text);
        optional(self.parent_message_id, out, uuid);
        optional(self.parent_seq, out, long);
        long(self.created_at_ms, out);
        long(NULL, out); // edited_at
        optional(self.deleted_at_ms, out, long);
        optional(app_data, out, text);
        long(0, out); // attachments: an array's last block has no items

        long(0, out); // memberships
        long(NULL, out); // chat
        Some(Encoded { event_id, event_type })
    }
}

fn long(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn text(value: &str, out: &mut Vec<u8>) -> Range<usize> {
    long(value.len() as i64, out);
    let start = out.len();
    out.extend_from_slice(value.as_bytes());
    start..out.len()
}

fn uuid(value: Uuid, out: &mut Vec<u8>) {
    let mut buffer = Uuid::encode_buffer();
    text(value.hyphenated().encode_lower(&mut buffer), out);
}

fn event_id(chat_id: &str, seq: i64, out: &mut Vec<u8>) -> Range<usize> {
    const MOST: usize = "-9223372036854775808".len();
    let mut digits = [0_u8; MOST];
    let mut rest = digits.as_mut_slice();
    // There is room for every number.
    let _ = write!(rest, "{seq}");
    let length = MOST - rest.len();
    let digits = &digits[..length];
    long((chat_id.len() + 1 + digits.len()) as i64, out);
    let start = out.len();
    out.extend_from_slice(chat_id.as_bytes());
    out.push(b'/');
    out.extend_from_slice(digits);
    start..out.len()
}

fn optional<T, R>(value: Option<T>, out: &mut Vec<u8>, write: impl FnOnce(T, &mut Vec<u8>) -> R) {
    match value {
        None => long(NULL, out),
        Some(value) => {
            long(SOME, out);
            write(value, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::HEADER_BYTES;
    use crate::{ChatEvent, Encoder};

    proptest! {
        #[test]
        fn a_send_has_the_same_bytes_either_way(
            ids in ("[A-Za-z0-9._:-]{1,64}", "[A-Za-z0-9._:-]{1,64}", any::<[u8; 16]>()),
            (seq, created_at_ms, commit_lsn, ordinal) in any::<(i64, i64, i64, i64)>(),
            texts in (proptest::option::of(".*"), proptest::option::of(".*")),
            parent in proptest::option::of((any::<[u8; 16]>(), any::<i64>())),
            deleted_at_ms in any::<Option<i64>>(),
            attachments in proptest::option::of(Just("[]")),
        ) {
            let row = MessageRow {
                chat_id: &ids.0,
                sequence_number: seq,
                message_id: Uuid::from_bytes(ids.2),
                sender_id: &ids.1,
                content: texts.0.as_deref(),
                parent_message_id: parent.map(|(id, _)| Uuid::from_bytes(id)),
                parent_seq: parent.map(|(_, seq)| seq),
                app_data: texts.1.as_deref(),
                attachments,
                created_at_ms,
                deleted_at_ms,
            };
            let origin = Origin { shard: 0, commit_lsn, ordinal };
            let mut datum = b"before".to_vec();
            match row.encode_event(origin, &mut datum) {
                None => prop_assert!(attachments.is_some() && datum == b"before"),
                Some(encoded) => {
                    let event = row.into_event(origin).expect("no JSON to be wrong");
                    prop_assert_eq!(&datum[encoded.event_id], event.event_id.as_bytes());
                    prop_assert_eq!(&datum[encoded.event_type], event.event_type.as_bytes());
                    let framed = Encoder::<ChatEvent>::new(7).encode(&event).expect("fits its schema");
                    prop_assert_eq!(&datum[6..], &framed[HEADER_BYTES..]);
                }
            }
        }
    }
}
