//! What makes a projection.
//!
//! `apply` is pure: its result depends on the state and the record alone. The state is rows of the projection's own
//! tables; it remembers which of them changed, which is the change set that `store` writes. Everything else, that is
//! batches, offsets, assignment, failures and metrics, is the runner's.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Transaction;
use rdkafka::consumer::ConsumerGroupMetadata;
use schemas::{ChatEvent, MessageState, Record, event_type};

use crate::cursor_writer::PublishError;

/// A read model.
pub trait Projection: Send + Sync + 'static {
    /// Its name; also the consumer in the table of offsets.
    const NAME: &'static str;
    /// Changes whenever `apply` would make other rows of the same history.
    const VERSION: u32;
    /// The tables that it owns. SQL names them without a schema, so that they can be made again in another one.
    const TABLES: &'static [&'static str];

    /// Condition, on a row `r` of one of its tables, for the rows that the history alone decides. Others come and go with
    /// time, such as those that only wait to be removed; they don't count when live and rebuilt tables are compared.
    fn decided(_table: &str) -> &'static str {
        "true"
    }
}

/// A topic that a projection reads, with a loop of its own. Records of one partition are applied in order; between
/// inputs and partitions there is no order, so their changes must not depend on one.
pub trait Input<R: Record>: Projection {
    /// Name of the loop: differs between the inputs of a projection.
    const LOOP: &'static str;
    /// Metric that takes the records not yet read.
    const LAG_METRIC: &'static str;
    /// Least time from the beginning of one transaction to that of the next, unless a whole batch waits: a small one costs
    /// brokers and database as much as a large one. Zero for what people look at right after they changed it.
    const EVERY: Duration = Duration::ZERO;
    /// Whether the state holds each message that was sent, until it is written. A rebuild then counts bytes beside rows.
    const HOLDS_BODIES: bool = false;
    /// Rows that a batch needs and changes.
    type State: Send + Sync;

    /// How long after its timestamp a record is applied.
    fn stays_behind(&self) -> Duration {
        Duration::ZERO
    }

    /// A state in which nothing is loaded.
    fn state(&self) -> Self::State;

    /// Adds the rows that these records can need and that the state doesn't have.
    fn load(
        &self,
        transaction: &Transaction<'_>,
        records: &[R],
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), tokio_postgres::Error>> + Send;

    /// Applies one record. Pure.
    fn apply(state: &mut Self::State, record: &R) -> Result<Applied, Refusal>;

    /// Whether so much has changed that this had better be a transaction of its own. Bounds memory where one record
    /// changes many rows.
    fn is_full(_state: &Self::State) -> bool {
        false
    }

    /// Writes the rows that changed, with one statement a table and kind of change.
    fn store(
        &self,
        transaction: &Transaction<'_>,
        state: &Self::State,
    ) -> impl Future<Output = Result<(), tokio_postgres::Error>> + Send;

    /// Rows that the state holds, about. A rebuild keeps a state over many batches, as long as it isn't too large.
    fn size(state: &Self::State) -> usize;

    /// The changes are in the tables: the rows stay known, and are changes no more.
    fn settle(state: &mut Self::State);

    /// Whether the state is of use for another batch; if not, that one begins with an empty one.
    fn lasts(_state: &Self::State) -> bool {
        true
    }

    /// What must be in Kafka before the rows are in Postgres. A crash in between repeats it, so a repetition must be
    /// harmless. Not called when the tables are made again from the history.
    fn publish(
        &self,
        _state: &Self::State,
        _fence: &Arc<Fence>,
    ) -> impl Future<Output = Result<(), PublishError>> + Send {
        async { Ok(()) }
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was understood, whether or not it changed something.
    Understood,
    /// Its type is newer than this program.
    UnknownType,
}

impl Applied {
    /// Whether this program knows an event's type.
    pub fn of(event: &ChatEvent) -> Self {
        if event_type::is_known(&event.event_type) { Self::Understood } else { Self::UnknownType }
    }
}

/// The state of the message that an event is about; none if it is about none, or of a type that this program doesn't know.
pub(crate) fn message_of(event: &ChatEvent) -> Result<Option<&MessageState>, Refusal> {
    const OF_MESSAGES: [&str; 3] =
        [event_type::MESSAGE_PERSISTED, event_type::MESSAGE_EDITED, event_type::MESSAGE_DELETED];
    if !OF_MESSAGES.contains(&event.event_type.as_str()) {
        return Ok(None);
    }
    let missing = || Refusal(format!("{} {} has no message", event.event_type, event.event_id));
    event.message.as_ref().ok_or_else(missing).map(Some)
}

/// Why a record that could be read makes no sense. Stops the projection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Proof of who may publish for a batch: the group membership under which it was read, and the offsets after it. Kafka
/// refuses it once the partitions have another owner.
pub struct Fence {
    /// Membership when the batch was taken.
    pub group: Option<Arc<ConsumerGroupMetadata>>,
    /// Topic, partition and the offset after the records of this transaction.
    pub offsets: Vec<(String, i32, i64)>,
}
