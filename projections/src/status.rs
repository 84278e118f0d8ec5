//! From the loops' states to the health of the role: ready when every loop is, healthy while every loop turns.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use runtime::RoleHealth;

/// A loop that hasn't turned for this long keeps the role from counting as healthy.
const STALLED_AFTER: Duration = Duration::from_secs(15);

/// The states of all loops of the role.
#[derive(Debug, Clone, Default)]
pub struct Board {
    loops: Arc<Mutex<BTreeMap<&'static str, State>>>,
    told: Arc<Mutex<String>>,
}

#[derive(Debug)]
struct State {
    turned_at: Instant,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    NotReady(String),
    Ready,
    Ended,
    Stopped(String),
}

/// One loop's own entry.
#[derive(Debug, Clone)]
pub struct Status {
    name: &'static str,
    board: Board,
}

impl Board {
    /// An entry for a loop, not ready at first.
    pub fn entry(&self, name: &'static str) -> Status {
        let status = Status { name, board: self.clone() };
        status.set(Phase::NotReady("starting".into()));
        status
    }

    /// Tells the role's health. It isn't told of a turn while a loop has stopped or stalls.
    pub fn report(&self, health: &RoleHealth) {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = |state: &State| match state.phase {
            Phase::Stopped(_) => true,
            Phase::Ended => false,
            _ => state.turned_at.elapsed() > STALLED_AFTER,
        };
        if loops.values().any(stands) {
            let (text, mut told) = (problems(&loops), self.told.lock().unwrap_or_else(PoisonError::into_inner));
            // Telling counts as a turn, so it is told once and then left to go stale.
            if *told != text {
                health.not_ready(text.clone());
                *told = text;
            }
        } else if loops.values().all(|state| matches!(state.phase, Phase::Ready | Phase::Ended)) {
            health.ready();
        } else {
            health.not_ready(problems(&loops));
        }
    }

    /// What is in the way, by loop; empty if nothing is.
    pub fn problems(&self) -> String {
        problems(&self.loops.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether every loop does its work.
    pub fn is_ready(&self) -> bool {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.values().all(|state| state.phase == Phase::Ready)
    }
}

fn problems(loops: &BTreeMap<&'static str, State>) -> String {
    let mut text = String::new();
    for (name, state) in loops {
        let problem = match &state.phase {
            Phase::Stopped(problem) | Phase::NotReady(problem) => problem.as_str(),
            Phase::Ready if state.turned_at.elapsed() > STALLED_AFTER => "its loop hasn't turned for a while",
            Phase::Ready | Phase::Ended => continue,
        };
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(name);
        text.push_str(": ");
        text.push_str(problem);
    }
    text
}

impl Status {
    /// The loop turned.
    pub fn turn(&self) {
        let mut loops = self.board.loops.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = loops.get_mut(self.name) {
            state.turned_at = Instant::now();
        }
    }

    /// The loop turned and does its work.
    pub fn ready(&self) {
        self.set(Phase::Ready);
    }

    /// The loop turned, and something is in its way.
    pub fn not_ready(&self, problem: impl Into<String>) {
        self.set(Phase::NotReady(problem.into()));
    }

    /// The loop ended because it was told to.
    pub fn ended(&self) {
        self.set(Phase::Ended);
    }

    /// The loop ended because it can't go on.
    pub fn stopped(&self, problem: &str) {
        self.set(Phase::Stopped(problem.to_owned()));
    }

    /// Sees to it that a loop which ends without saying so counts as stopped.
    pub(crate) fn guard(&self) -> Guard {
        Guard(self.clone())
    }

    fn set(&self, phase: Phase) {
        let mut loops = self.board.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.insert(self.name, State { turned_at: Instant::now(), phase });
    }
}

/// See [`Status::guard`].
pub(crate) struct Guard(Status);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut loops = self.0.board.loops.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = loops.get_mut(self.0.name)
            && !matches!(state.phase, Phase::Ended | Phase::Stopped(_))
        {
            state.phase = Phase::Stopped("its loop broke off".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::Health;

    #[test]
    fn the_role_is_ready_when_all_are_and_names_who_is_not() {
        let health = Health::default();
        let role = health.role("projector");
        let board = Board::default();
        let (first, second) = (board.entry("first"), board.entry("second"));
        first.ready();
        board.report(&role);
        assert!(!health.is_ready() && health.is_healthy());
        second.ready();
        board.report(&role);
        assert!(health.is_ready() && board.is_ready());
        second.not_ready("Postgres is away");
        board.report(&role);
        assert!(!health.is_ready());
        assert_eq!(health.statuses()[0].problem.as_deref(), Some("second: Postgres is away"));
        first.ready();
        second.stopped("poison");
        first.turn();
        board.report(&role);
        assert!(!health.is_ready());
        assert_eq!(board.problems(), "second: poison");
    }
}
