//! Places at which a fault test stops the operators, to show that nothing is lost or repeated there.

use std::sync::Arc;

/// A place in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// The transaction is begun here, and the broker hasn't heard of it.
    Begun,
    /// Every record is at the brokers, and the transaction is open.
    Produced,
    /// The offsets are in it too, and it isn't committed.
    Prepared,
    /// It is committed, and nobody here knows.
    Committed,
}

impl Point {
    /// Every point, in order.
    pub const ALL: [Self; 4] = [Self::Begun, Self::Produced, Self::Prepared, Self::Committed];
}

/// What to do at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Go on.
    Continue,
    /// Go on without the proof of membership in the group, so that only the transactional id is in the way.
    WithoutGroup,
    /// End at once, as if killed: no commit, no abort.
    Die,
}

/// Asked at each place with the partition, on a thread that may block.
pub type Hook = Arc<dyn Fn(Point, i32) -> Act + Send + Sync>;

/// The hook of operators under test; none in service.
#[derive(Clone, Default)]
pub struct Failpoints(Option<Hook>);

impl Failpoints {
    /// With a hook.
    pub fn new(hook: Hook) -> Self {
        Self(Some(hook))
    }

    /// What to do here.
    pub(crate) fn at(&self, point: Point, partition: i32) -> Act {
        self.0.as_ref().map_or(Act::Continue, |hook| hook(point, partition))
    }
}
