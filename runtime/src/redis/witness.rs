//! Witnesses of what Redis remembers of sessions: kept by those who write sessions, asked for by those who ask who is online.
//!
//! A witness ends sooner than any session that was there when it was kept last. So where sessions may have run out or been
//! forgotten, whatever the reason, the witness is missing too. One that is written anew is young for [`UNSURE`]: by then each
//! gateway has written its sessions again.

use std::time::Duration;

/// How often gateways extend sessions.
pub const SESSION_ROUND: Duration = Duration::from_secs(5);
/// How long a session lives that isn't extended.
pub const SESSION_TTL: Duration = Duration::from_secs(10);
/// How often witnesses are kept.
pub const ROUND: Duration = Duration::from_secs(1);
/// How long one lives that isn't kept: less than is left of the session of another gateway that was extended a round ago.
pub const TTL: Duration = Duration::from_secs(4);
/// How long nothing is relied on: two rounds of the gateways.
pub const UNSURE: Duration = Duration::from_secs(2 * SESSION_ROUND.as_secs());
/// With so many keys, spread by their hash, no master of a cluster is left without one.
const OF_CLUSTERS: usize = 256;

/// How many there are.
pub fn count(masters: usize) -> usize {
    if masters > 1 { OF_CLUSTERS } else { 1 }
}
