//! Whether somebody is at the device, as its heartbeats say it. Whoever notifies asks Redis: a session that nobody is at stands
//! there under a name that says so ([`Names::IDLE`]) in place of the usual one.

use runtime::Names;

use super::allowance::Allowance;
use crate::session::{Session, Sessions};

/// A connection's session, and which of the two it is.
pub(super) struct Activity {
    session: Session,
    is_active: bool,
    /// Names so far: one that comes back could be taken out together with its forerunner.
    names: u32,
    changes: Allowance,
}

impl Activity {
    /// Somebody who connects is there until a heartbeat says otherwise.
    pub(super) fn begin(session: Session) -> Self {
        Self { session, is_active: true, names: 1, changes: Allowance::new(1.0, 5.0) }
    }

    /// Takes what a heartbeat says. Changes that come too fast wait for a later one, which says it again.
    pub(super) fn heard(&mut self, is_active: bool, sessions: &Sessions, user_id: &str, session_id: &str) {
        if is_active == self.is_active || !self.changes.take() {
            return;
        }
        self.is_active = is_active;
        self.names += 1;
        let mark = if is_active { "" } else { Names::IDLE };
        let session = sessions.open(user_id, &format!("{mark}{session_id}.{}", self.names));
        // The other one goes only now: nobody is away in between.
        drop(std::mem::replace(&mut self.session, session));
    }
}
