//! What makes a Rust type an Avro record of the contract.

use serde::{Serialize, de::DeserializeOwned};

use crate::topics::Topic;

/// A record of the contract: its schema and the topic that carries it.
///
/// The struct's name and fields equal the schema's, since values are written and read by serde directly.
pub trait Record: Serialize + DeserializeOwned + Sized + Send + Sync + 'static {
    /// Name of the record without its namespace.
    const NAME: &'static str;
    /// The schema as JSON text, as registered.
    const SCHEMA: &'static str;
    /// The one topic whose values are this record.
    const TOPIC: Topic;

    /// The record of a datum of this very schema, read by hand where that pays. `None` leaves it to Avro's own reader, which
    /// says what is wrong with it if something is.
    fn of_datum(_datum: &[u8]) -> Option<Self> {
        None
    }
}

/// Name and schema text of every record, in the order in which they are registered.
pub fn all() -> [(&'static str, &'static str, Topic); 10] {
    fn entry<R: Record>() -> (&'static str, &'static str, Topic) {
        (R::NAME, R::SCHEMA, R::TOPIC)
    }
    [
        entry::<crate::ChatCommand>(),
        entry::<crate::ChatEvent>(),
        entry::<crate::User>(),
        entry::<crate::Mark>(),
        entry::<crate::Cursor>(),
        entry::<crate::Notification>(),
        entry::<crate::Position>(),
        entry::<crate::ChatActivity>(),
        entry::<crate::ChatAbuse>(),
        entry::<crate::OperatorState>(),
    ]
}
