//! Places at which a fault test stops the worker, to show that nothing is lost or repeated there.

use std::sync::Arc;

/// A place in the worker's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// The lease is held, the server is known, and earlier producers are about to be fenced.
    Fencing,
    /// A transaction of Postgres has begun to arrive.
    Begun,
    /// A row within a transaction has been read.
    Row,
    /// A logical message that belongs to no transaction has been read; the worker's own heartbeats don't count.
    Message,
    /// Every record of a Kafka transaction is at the brokers, and the transaction is open.
    Produced,
    /// The Kafka transaction is committed, and nobody has been told.
    Committed,
    /// The server has been told how far we are.
    Reported,
}

impl Point {
    /// Every point, in the order in which a start, and then a row, passes them.
    pub const ALL: [Self; 7] =
        [Self::Fencing, Self::Begun, Self::Row, Self::Message, Self::Produced, Self::Committed, Self::Reported];

    /// The name by which fault tests order it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fencing => "fencing",
            Self::Begun => "begun",
            Self::Row => "row",
            Self::Message => "message",
            Self::Produced => "produced",
            Self::Committed => "committed",
            Self::Reported => "reported",
        }
    }
}

/// What to do at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Go on.
    Continue,
    /// End at once, as if killed: no commit, no abort, no feedback.
    Die,
}

/// Asked at each place. May block where it is asked on a thread that may ([`Point::Fencing`], [`Point::Produced`],
/// [`Point::Committed`]).
pub type Hook = Arc<dyn Fn(Point) -> Act + Send + Sync>;

/// The hook of a worker under test; none in service.
#[derive(Clone, Default)]
pub struct Failpoints(Option<Hook>);

impl Failpoints {
    /// With a hook.
    pub fn new(hook: Hook) -> Self {
        Self(Some(hook))
    }

    /// Whether to die here.
    pub fn dies_at(&self, point: Point) -> bool {
        self.0.as_ref().is_some_and(|hook| hook(point) == Act::Die)
    }
}
