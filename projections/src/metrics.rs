//! Names of what the projections and the janitor count. Labels: `projection`, nothing else.

/// Records applied, counted when their transaction is committed.
pub const RECORDS: &str = "waltalkie_projector_applied_records_total";
/// Records in one transaction.
pub const BATCH: &str = "waltalkie_projector_batch_records";
/// Time from a batch in hand to its commit.
pub const TRANSACTION: &str = "waltalkie_projector_transaction_seconds";
/// Age of the newest record of a batch when it is committed.
pub const LAG: &str = "waltalkie_projector_lag_seconds";
/// Batches that another runner had applied already: rolled back, read again.
pub const MISMATCHES: &str = "waltalkie_projector_offset_mismatches_total";
/// Transactions that failed for a while and were tried again.
pub const RETRIES: &str = "waltalkie_projector_retries_total";
/// Events of types that this program doesn't know; passed over.
pub const UNKNOWN: &str = "waltalkie_projector_unknown_records_total";
/// Records that stopped a projection.
pub const POISON: &str = "waltalkie_projector_poison_records_total";
/// Records of chat.events that are no events, put aside.
pub const DEAD_LETTERS: &str = "waltalkie_projector_dead_letters_total";
/// When the last of them was, in seconds since 1970.
pub const DEAD_LETTER_AT: &str = "waltalkie_projector_dead_letter_at_seconds";
/// Merged cursors written to chat.cursors.
pub const CURSORS: &str = "waltalkie_projector_published_cursors_total";

/// Records of chat.events that `membership` has not read.
pub const MEMBERSHIP_LAG: &str = "waltalkie_projector_membership_lag_records";
/// Records of chat.events that `chat_head` has not read.
pub const CHAT_HEAD_LAG: &str = "waltalkie_projector_chat_head_lag_records";
/// Records of chat.marks that `cursor` has not read.
pub const CURSOR_LAG: &str = "waltalkie_projector_cursor_lag_records";
/// Records of chat.events that `inbox` has not read.
pub const INBOX_EVENTS_LAG: &str = "waltalkie_projector_inbox_events_lag_records";
/// Records of chat.cursors that `inbox` has not read.
pub const INBOX_CURSORS_LAG: &str = "waltalkie_projector_inbox_cursors_lag_records";

/// Records of chat.events that `timeline` has not read.
pub const TIMELINE_LAG: &str = "waltalkie_projector_timeline_lag_records";
/// Records of chat.events that `chat_activity` has not read.
pub const CHAT_ACTIVITY_LAG: &str = "waltalkie_projector_chat_activity_lag_records";
/// Records of chat.events that `user_export` has not read.
pub const USER_EXPORT_LAG: &str = "waltalkie_projector_user_export_lag_records";

/// Inbox rows that the sweep found delivered.
pub const SWEPT: &str = "waltalkie_janitor_swept_rows_total";
/// Delivered inbox rows removed.
pub const REMOVED: &str = "waltalkie_janitor_removed_inbox_rows_total";
/// Old results of commands removed.
pub const REMOVED_RESULTS: &str = "waltalkie_janitor_removed_result_rows_total";
/// Answers removed that were kept for repeated requests.
pub const REMOVED_ANSWERS: &str = "waltalkie_janitor_removed_answer_rows_total";
/// Files removed, with their objects.
pub const REMOVED_MEDIA: &str = "waltalkie_janitor_removed_media_total";
/// Turns that failed and are tried again.
pub const FAILURES: &str = "waltalkie_janitor_failures_total";
