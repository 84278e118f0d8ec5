//! Names of what the stream operators count. Labels are named beside each.

/// Events taken in, counted when their transaction is committed.
pub const EVENTS: &str = "waltalkie_operators_events_total";
/// Rows written, by `topic`.
pub const ROWS: &str = "waltalkie_operators_rows_total";
/// Events that came after their window was closed, by `window` and `outcome`: `counted` or `dropped`.
pub const LATE: &str = "waltalkie_operators_late_events_total";
/// Windows that aren't done with, by `window` and `partition`.
pub const OPEN_WINDOWS: &str = "waltalkie_operators_open_windows";
/// Times that the watermark was pushed forward because too much was open.
pub const PUSHED: &str = "waltalkie_operators_pushed_watermarks_total";
/// Events of types that this program doesn't know; passed over.
pub const UNKNOWN: &str = "waltalkie_operators_unknown_events_total";
/// Events that can't be read, put aside.
pub const DEAD_LETTERS: &str = "waltalkie_operators_dead_letters_total";
/// When the last of them was, in seconds since 1970.
pub const DEAD_LETTER_AT: &str = "waltalkie_operators_dead_letter_at_seconds";
/// Age of the newest event of a transaction when it is committed.
pub const LAG: &str = "waltalkie_operators_lag_seconds";
/// Records of chat.events that wait, by `topic` and `partition`.
pub const LAG_RECORDS: &str = "waltalkie_operators_lag_records";
/// Kafka transactions committed.
pub const TRANSACTIONS: &str = "waltalkie_operators_transactions_total";
/// Kafka transactions that failed: nothing of them counts, and their events are read again.
pub const FAILED: &str = "waltalkie_operators_failed_transactions_total";
/// Time of a transaction, from its events in hand to its commit.
pub const TRANSACTION: &str = "waltalkie_operators_transaction_seconds";
/// Times that a partition was taken over: fenced, and its state read from the changelog.
pub const TAKEOVERS: &str = "waltalkie_operators_takeovers_total";
