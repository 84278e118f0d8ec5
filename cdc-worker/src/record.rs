//! From a change to the Kafka record that it becomes: key, value, timestamp and what its headers say.
//!
//! Records of a batch lie in one buffer, one after another: what is made of a million rows is not a million small
//! pieces of memory.

use std::ops::Range;

use runtime::{Names, trace};
use schemas::codec::HEADER_BYTES;
use schemas::history::{MessageRow, RowError};
use schemas::topics::Topic;
use schemas::{ChatEvent, Encoder, FrameError, Origin, User};

use crate::mapping::Change;

/// Type in the headers of a profile.
const USER_CHANGED: &str = "user.changed";
/// Type in the headers of a tombstone.
const USER_REMOVED: &str = "user.removed";
/// About what the headers hold.
const HEADERS_BYTES: usize = 200;

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// The history.
    Events,
    /// The profiles.
    Users,
}

/// A record that is ready to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Topic.
    pub destination: Destination,
    /// Key.
    pub key: &'a [u8],
    /// Framed value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The record's timestamp; also the time in its headers.
    pub timestamp_ms: i64,
    /// Identity of the event, for the headers.
    pub id: &'a [u8],
    /// Type of the event, for the headers.
    pub kind: &'a [u8],
}

impl Outgoing<'_> {
    /// About what it holds in memory and on the wire.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.map_or(0, <[u8]>::len) + HEADERS_BYTES
    }
}

/// Records in the order of the stream.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<Span>,
    /// Spans of sampled events, with the places of their records.
    traced: Vec<(usize, trace::Span)>,
}

/// Where a record's parts stand in the batch's bytes. Parts may overlap: an event's id is also in its value.
#[derive(Debug, Clone)]
struct Span {
    destination: Destination,
    key: Range<usize>,
    value: Option<Range<usize>>,
    timestamp_ms: i64,
    id: Range<usize>,
    kind: Range<usize>,
}

impl Batch {
    /// An empty batch with room.
    pub fn with_capacity(records: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), records: Vec::with_capacity(records), traced: Vec::new() }
    }

    /// Id of the last record's event.
    pub(crate) fn last_id(&self) -> Option<&[u8]> {
        self.records.last().map(|span| &self.bytes[span.id.clone()])
    }

    /// The last record is sampled.
    pub(crate) fn trace_last(&mut self, span: trace::Span) {
        if let Some(place) = self.records.len().checked_sub(1) {
            self.traced.push((place, span));
        }
    }

    /// Spans of sampled events, with the places of their records, in order.
    pub(crate) fn take_traced(&mut self) -> Vec<(usize, trace::Span)> {
        std::mem::take(&mut self.traced)
    }

    /// Number of records.
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// About what the records hold in memory and on the wire.
    pub const fn bytes(&self) -> usize {
        self.bytes.len() + self.records.len() * HEADERS_BYTES
    }

    /// The records, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Outgoing<'_>> + Clone {
        self.records.iter().map(|span| Outgoing {
            destination: span.destination,
            key: &self.bytes[span.key.clone()],
            value: span.value.clone().map(|range| &self.bytes[range]),
            timestamp_ms: span.timestamp_ms,
            id: &self.bytes[span.id.clone()],
            kind: &self.bytes[span.kind.clone()],
        })
    }

    fn append(&mut self, part: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(part);
        start..self.bytes.len()
    }
}

/// What keeps a change from being written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The row's JSON.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The value.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Makes records.
pub struct Writer {
    event_header: [u8; HEADER_BYTES],
    events: Encoder<ChatEvent>,
    users: Encoder<User>,
}

impl Writer {
    /// A writer for the ids that the registry gave the schemas.
    pub fn new(event_schema_id: u32, user_schema_id: u32) -> Self {
        Self {
            event_header: schemas::codec::header(event_schema_id),
            events: Encoder::new(event_schema_id),
            users: Encoder::new(user_schema_id),
        }
    }

    /// Appends the record of a change.
    pub fn write(&self, change: Change<'_>, batch: &mut Batch) -> Result<(), WriteError> {
        match change {
            Change::Send { row, origin } => self.write_send(row, origin, batch),
            Change::Event(event) => self.write_event(&event, batch),
            Change::User { user_id, version, changed_at_ms, profile } => {
                let kind = if profile.is_some() { USER_CHANGED } else { USER_REMOVED };
                let value = profile.map(|profile| self.users.encode(&profile)).transpose()?;
                let id = format!("{user_id}/{version}");
                let value = value.map(|value| batch.append(&value));
                let id = batch.append(id.as_bytes());
                let span = Span {
                    destination: Destination::Users,
                    key: id.start..id.start + user_id.len(),
                    value,
                    timestamp_ms: changed_at_ms,
                    kind: batch.append(kind.as_bytes()),
                    id,
                };
                batch.records.push(span);
                Ok(())
            }
        }
    }

    fn write_send(&self, row: MessageRow<'_>, origin: Origin, batch: &mut Batch) -> Result<(), WriteError> {
        let start = batch.append(&self.event_header).start;
        let Some(encoded) = row.encode_event(origin, &mut batch.bytes) else {
            batch.bytes.truncate(start);
            return self.write_event(&row.into_event(origin)?, batch);
        };
        batch.records.push(Span {
            destination: Destination::Events,
            key: encoded.event_id.start..encoded.event_id.start + row.chat_id.len(),
            value: Some(start..batch.bytes.len()),
            timestamp_ms: row.created_at_ms,
            id: encoded.event_id,
            kind: encoded.event_type,
        });
        Ok(())
    }

    fn write_event(&self, event: &ChatEvent, batch: &mut Batch) -> Result<(), WriteError> {
        let value = self.events.encode(event)?;
        let value = batch.append(&value);
        let span = Span {
            destination: Destination::Events,
            key: batch.append(event.chat_id.as_bytes()),
            value: Some(value),
            timestamp_ms: event.occurred_at,
            id: batch.append(event.event_id.as_bytes()),
            kind: batch.append(event.event_type.as_bytes()),
        };
        batch.records.push(span);
        Ok(())
    }
}

/// Topics by their names in Kafka.
#[derive(Debug, Clone)]
pub struct Topics {
    /// The history.
    pub events: String,
    /// The profiles.
    pub users: String,
    /// The positions.
    pub positions: String,
}

impl Topics {
    /// The topics of an installation.
    pub fn new(names: &Names) -> Self {
        Self {
            events: names.topic(Topic::ChatEvents),
            users: names.topic(Topic::ChatUsers),
            positions: names.topic(Topic::CdcPositions),
        }
    }

    /// The topic of a destination.
    pub fn of(&self, destination: Destination) -> &str {
        match destination {
            Destination::Events => &self.events,
            Destination::Users => &self.users,
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
