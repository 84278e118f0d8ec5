//! From a change to the Kafka record that it becomes: key, value, timestamp and `CloudEvents` headers.

use rdkafka::message::{Header, OwnedHeaders};
use runtime::Names;
use schemas::topics::Topic;
use schemas::{ChatEvent, Encoder, FrameError, User, timestamp};

use crate::mapping::Change;

/// Type in the headers of a profile.
const USER_CHANGED: &str = "user.changed";
/// Type in the headers of a tombstone.
const USER_REMOVED: &str = "user.removed";

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// The history.
    Events,
    /// The profiles.
    Users,
}

/// A record that is ready to be sent.
#[derive(Debug)]
pub struct Outgoing {
    /// Topic.
    pub destination: Destination,
    /// Key.
    pub key: String,
    /// Framed value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The record's timestamp.
    pub timestamp_ms: i64,
    /// Headers.
    pub headers: OwnedHeaders,
}

impl Outgoing {
    /// About what it holds in memory and on the wire.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len) + HEADER_BYTES
    }
}

/// About what the headers hold.
const HEADER_BYTES: usize = 200;

/// Makes records.
pub struct Writer {
    events: Encoder<ChatEvent>,
    users: Encoder<User>,
    source: String,
}

impl Writer {
    /// A writer for the ids that the registry gave the schemas.
    pub fn new(event_schema_id: u32, user_schema_id: u32, names: &Names) -> Self {
        Self {
            events: Encoder::new(event_schema_id),
            users: Encoder::new(user_schema_id),
            source: format!("/waltalkie/{}", names.slot()),
        }
    }

    /// The record of a change.
    pub fn write(&self, change: Change) -> Result<Outgoing, FrameError> {
        match change {
            Change::Event(event) => {
                let value = self.events.encode(&event)?;
                Ok(Outgoing {
                    destination: Destination::Events,
                    value: Some(value),
                    timestamp_ms: event.occurred_at,
                    headers: self.headers(&event.event_id, &event.event_type, event.occurred_at),
                    key: event.chat_id,
                })
            }
            Change::User { user_id, version, changed_at_ms, profile } => {
                let kind = if profile.is_some() { USER_CHANGED } else { USER_REMOVED };
                Ok(Outgoing {
                    destination: Destination::Users,
                    value: profile.map(|profile| self.users.encode(&profile)).transpose()?,
                    timestamp_ms: changed_at_ms,
                    headers: self.headers(&format!("{user_id}/{version}"), kind, changed_at_ms),
                    key: user_id,
                })
            }
        }
    }

    fn headers(&self, id: &str, kind: &str, at_ms: i64) -> OwnedHeaders {
        let time = timestamp::rfc3339(at_ms);
        let pairs = [
            ("ce_specversion", "1.0"),
            ("ce_id", id),
            ("ce_type", kind),
            ("ce_source", &self.source),
            ("ce_time", &time),
            ("content-type", "application/avro"),
        ];
        pairs.into_iter().fold(OwnedHeaders::new_with_capacity(pairs.len()), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        })
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
