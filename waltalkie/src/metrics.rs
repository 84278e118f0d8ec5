//! Names of what the probe counts.

/// Messages that the probe has sent.
pub(crate) const PROBES: &str = "waltalkie_probe_messages_total";
/// Messages that weren't seen in time.
pub(crate) const MISSED: &str = "waltalkie_probe_missed_messages_total";
/// From due time to `accepted`.
pub(crate) const ACCEPTED: &str = "waltalkie_probe_accepted_seconds";
/// From due time to `persisted`.
pub(crate) const PERSISTED: &str = "waltalkie_probe_persisted_seconds";
/// From due time to the message on the socket.
pub(crate) const SEEN: &str = "waltalkie_probe_seen_seconds";
