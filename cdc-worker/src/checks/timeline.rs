//! Whether a server whose timeline isn't the position's has everything that was published, and nothing else in its place.

use schemas::Position;

use super::rules::WAY_OUT;
use crate::lsn::Lsn;
use crate::replication::{Switch, System};

/// Why streaming must not start on a later timeline than the position's, `None` if it may.
///
/// The new timeline shares the old one's WAL up to the switch. What was published must lie before it: the last commit
/// strictly, since its record begins at its LSN, and everything that the slot may have been confirmed for.
pub(super) fn refusal(system: &System, switches: &[Switch], stored: &Position) -> Option<String> {
    let (commit, confirmable) = (Lsn::from_bits(stored.commit_lsn), Lsn::from_bits(stored.confirmable_lsn));
    if stored.timeline == system.timeline {
        return None;
    }
    // However many switches followed: what comes after the first lies on timelines that the position knows nothing of.
    let Some(switch) = switches.iter().find(|switch| switch.timeline == stored.timeline) else {
        return Some(format!(
            "the server is on timeline {}, which doesn't come from timeline {} that the stored position is on: it is an old \
             primary, or was restored from a backup of another time. Point postgres.truth_url at the server that was \
             promoted last. {WAY_OUT}",
            system.timeline, stored.timeline
        ));
    };
    (switch.at <= commit || switch.at < confirmable).then(|| {
        format!(
            "the server is on timeline {}, which left timeline {} at {}, but a commit at {commit} was published and all up \
             to {confirmable}: the standby that was promoted lacked commits that are in the history, and its new ones \
             reuse their LSNs. Bring back the old primary if you can; docs/operators.md, \"Failover\", has the rest",
            system.timeline, stored.timeline, switch.at
        )
    })
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
