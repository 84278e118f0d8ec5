//! From the parts' states to the health of the role: ready when every part is, healthy while every part turns.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use runtime::RoleHealth;

/// A part that hasn't turned for this long keeps the role from counting as healthy. Longer than a provider's time-out.
const STALLED_AFTER: Duration = Duration::from_mins(3);

/// The states of all parts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<&'static str, State>>>);

#[derive(Debug)]
struct State {
    turned_at: Instant,
    problem: Option<String>,
}

impl Board {
    /// A part turned and does its work.
    pub(crate) fn ready(&self, part: &'static str) {
        self.set(part, None);
    }

    /// A part turned, and something is in its way.
    pub(crate) fn not_ready(&self, part: &'static str, problem: impl Into<String>) {
        self.set(part, Some(problem.into()));
    }

    fn set(&self, part: &'static str, problem: Option<String>) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part, State { turned_at: Instant::now(), problem });
    }

    /// Tells the role's health. It isn't told of a turn while a part stalls.
    pub(crate) fn report(&self, health: &RoleHealth) {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.values().any(|state| state.turned_at.elapsed() > STALLED_AFTER) {
            return;
        }
        let problems: Vec<String> =
            parts.iter().filter_map(|(part, state)| Some(format!("{part}: {}", state.problem.as_ref()?))).collect();
        if problems.is_empty() { health.ready() } else { health.not_ready(problems.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use runtime::Health;

    use super::*;

    #[test]
    fn the_role_is_ready_when_all_parts_are_and_names_who_is_not() {
        let health = Health::default();
        let (role, board) = (health.role("notifier"), Board::default());
        board.ready("decider");
        board.not_ready("sender", "Postgres is away");
        board.report(&role);
        assert!(!health.is_ready() && health.is_healthy());
        assert_eq!(health.statuses()[0].problem.as_deref(), Some("sender: Postgres is away"));
        board.ready("sender");
        board.report(&role);
        assert!(health.is_ready());
    }
}
