//! Places at which a fault test stops the operators, to show that nothing is lost or repeated there.

use std::sync::Arc;

/// A place in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// Every record is at the brokers, and the transaction is open.
    Produced,
    /// The offsets are in it too, and it isn't committed.
    Prepared,
    /// It is committed, and nobody here knows.
    Committed,
}

impl Point {
    /// Every point, in order.
    pub const ALL: [Self; 3] = [Self::Produced, Self::Prepared, Self::Committed];
}

/// What to do at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Go on.
    Continue,
    /// End at once, as if killed: no commit, no abort.
    Die,
}

/// Asked at each place, on a thread that may block.
pub type Hook = Arc<dyn Fn(Point) -> Act + Send + Sync>;

/// The hook of operators under test; none in service.
#[derive(Clone, Default)]
pub struct Failpoints(Option<Hook>);

impl Failpoints {
    /// With a hook.
    pub fn new(hook: Hook) -> Self {
        Self(Some(hook))
    }

    /// Whether to die here.
    pub(crate) fn dies_at(&self, point: Point) -> bool {
        self.0.as_ref().is_some_and(|hook| hook(point) == Act::Die)
    }
}
