//! The one place where the wall clock is read, so that everything that depends on it can be found.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 UTC by this machine's clock. For people and for limits; order comes from the database.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Nanoseconds since 1970 UTC by this machine's clock. For spans.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
