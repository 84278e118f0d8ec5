//! Health that tells the truth: a role is healthy while its loop turns, and ready once it does its work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::clock;

/// A loop that hasn't turned for this long is not healthy.
const STALLED_AFTER_MS: i64 = 30_000;

/// The roles of this process.
#[derive(Debug, Clone, Default)]
pub struct Health {
    roles: Arc<Mutex<BTreeMap<&'static str, Arc<State>>>>,
}

#[derive(Debug)]
struct State {
    last_turn_ms: AtomicI64,
    is_ready: AtomicBool,
    problem: Mutex<Option<String>>,
}

/// What is known of one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleStatus {
    /// Name of the role.
    pub role: &'static str,
    /// Its loop turns.
    pub is_healthy: bool,
    /// It does its work.
    pub is_ready: bool,
    /// What is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One role's own handle. A role whose handle is dropped has stopped, and says so.
#[derive(Debug)]
pub struct RoleHealth {
    state: Arc<State>,
}

impl Health {
    /// Registers a role; it is healthy and not ready at first.
    pub fn role(&self, role: &'static str) -> RoleHealth {
        let state = Arc::new(State {
            last_turn_ms: AtomicI64::new(clock::now_ms()),
            is_ready: AtomicBool::new(false),
            problem: Mutex::default(),
        });
        self.roles.lock().unwrap_or_else(PoisonError::into_inner).insert(role, Arc::clone(&state));
        RoleHealth { state }
    }

    /// Why a role has ended, for those who ask from then on.
    pub fn ended(&self, role: &str, reason: impl Into<String>) {
        let roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = roles.get(role) {
            *state.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.into());
        }
    }

    /// Every role, by name.
    pub fn statuses(&self) -> Vec<RoleStatus> {
        let now_ms = clock::now_ms();
        let roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        roles
            .iter()
            .map(|(&role, state)| {
                let last = state.last_turn_ms.load(Ordering::Relaxed);
                let is_healthy = last >= 0 && now_ms - last < STALLED_AFTER_MS;
                RoleStatus {
                    role,
                    is_healthy,
                    is_ready: is_healthy && state.is_ready.load(Ordering::Relaxed),
                    problem: state.problem.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                }
            })
            .collect()
    }

    /// Whether every role's loop turns.
    pub fn is_healthy(&self) -> bool {
        self.statuses().iter().all(|status| status.is_healthy)
    }

    /// Whether every role does its work.
    pub fn is_ready(&self) -> bool {
        self.statuses().iter().all(|status| status.is_ready)
    }
}

impl RoleHealth {
    /// The loop turned.
    pub fn turn(&self) {
        self.state.last_turn_ms.store(clock::now_ms(), Ordering::Relaxed);
    }

    /// The loop turned and the role does its work.
    pub fn ready(&self) {
        self.turn();
        if !self.state.is_ready.swap(true, Ordering::Relaxed) {
            *self.state.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// The loop turned, and something keeps the role from its work.
    pub fn not_ready(&self, problem: impl Into<String>) {
        self.turn();
        self.state.is_ready.store(false, Ordering::Relaxed);
        *self.state.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem.into());
    }
}

impl Drop for RoleHealth {
    fn drop(&mut self) {
        self.state.last_turn_ms.store(-1, Ordering::Relaxed);
        self.state.is_ready.store(false, Ordering::Relaxed);
        let mut problem = self.state.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if problem.is_none() {
            *problem = Some("its loop has ended".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_stopped_is_not_healthy() {
        let health = Health::default();
        let role = health.role("persister");
        assert!(health.is_healthy() && !health.is_ready());
        role.ready();
        assert!(health.is_ready());
        role.not_ready("Kafka is away");
        assert!(health.is_healthy() && !health.is_ready());
        drop(role);
        assert!(!health.is_healthy());
        assert_eq!(health.statuses()[0].problem.as_deref(), Some("Kafka is away"));
        health.ended("persister", "it can write nothing");
        health.ended("nobody", "there is no such role");
        assert_eq!(health.statuses()[0].problem.as_deref(), Some("it can write nothing"));
        assert!(!health.is_healthy());
    }
}
