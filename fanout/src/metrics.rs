//! Names of this crate's metrics.

/// Open WebSocket connections of this node.
pub const CONNECTIONS: &str = "waltalkie_fanout_connections";
/// Connections that ended, by close code.
pub const CLOSED: &str = "waltalkie_fanout_closed_total";
/// Handshakes refused, by code.
pub const REFUSED_HANDSHAKES: &str = "waltalkie_fanout_refused_handshakes_total";
/// Events put into queues of connections.
pub const DELIVERIES: &str = "waltalkie_fanout_deliveries_total";
/// Microseconds that the hub's loop has worked; a million a second is all that it can.
pub const HUB_BUSY: &str = "waltalkie_fanout_hub_busy_microseconds_total";
/// Events that came in by Pub/Sub.
pub const EVENTS: &str = "waltalkie_fanout_events_total";
/// Seconds from an event's `occurred_at` to this node, by their two clocks.
pub const EVENT_AGE: &str = "waltalkie_fanout_event_age_seconds";
/// Events of types that this program doesn't know, delivered or read for a resume: clients get `skipped`.
pub const UNKNOWN: &str = "waltalkie_fanout_unknown_events_total";
/// Gaps that were read from Postgres.
pub const GAPS: &str = "waltalkie_fanout_gaps_total";
/// Queries for events of gaps and resumes, each of many chats and for all who wait for them.
pub const RANGE_QUERIES: &str = "waltalkie_fanout_range_queries_total";
/// Queries for heads: of all chats of a node once a heartbeat, and of those whose subscription was lost.
pub const HEADS_QUERIES: &str = "waltalkie_fanout_heads_queries_total";
/// Events read from Postgres to close gaps.
pub const HEALED: &str = "waltalkie_fanout_healed_events_total";
/// Times that Pub/Sub may have lost something.
pub const LOSSES: &str = "waltalkie_fanout_pubsub_losses_total";
/// Chats that this node follows.
pub const CHATS: &str = "waltalkie_fanout_chats";
/// Cursors resumed.
pub const RESUMES: &str = "waltalkie_fanout_resumes_total";
/// Events read from Postgres for resumes.
pub const RESUMED_EVENTS: &str = "waltalkie_fanout_resumed_events_total";
/// Bytes that wait in queues of connections, as of the last look.
pub const QUEUED_BYTES: &str = "waltalkie_fanout_queued_bytes";
/// Connections closed because they read too slowly.
pub const SLOW: &str = "waltalkie_fanout_slow_connections_total";
/// Frames that were refused, by code.
pub const REFUSED_FRAMES: &str = "waltalkie_fanout_refused_frames_total";
/// Session keys that Redis had forgotten.
pub const SESSIONS_SET_AGAIN: &str = "waltalkie_fanout_sessions_set_again_total";
/// Typing and presence that didn't reach the other nodes.
pub const LOST_WHISPERS: &str = "waltalkie_fanout_lost_whispers_total";

/// Records that wait for the publisher.
pub const PUBLISHER_LAG: &str = "waltalkie_publisher_lag_records";
/// Events published to Redis.
pub const PUBLISHED: &str = "waltalkie_publisher_events_total";
/// Receipt envelopes published to Redis.
pub const PUBLISHED_RECEIPTS: &str = "waltalkie_publisher_receipts_total";
/// Batches that Redis did not take at the first try.
pub const PUBLISH_RETRIES: &str = "waltalkie_publisher_retries_total";
