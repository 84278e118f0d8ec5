//! Names of the worker's metrics.

/// Rows published.
pub const ROWS: &str = "waltalkie_cdc_rows_total";
/// Rows dropped because they had been published before.
pub const REPEATED_ROWS: &str = "waltalkie_cdc_repeated_rows_total";
/// Kafka transactions committed.
pub const TRANSACTIONS: &str = "waltalkie_cdc_transactions_total";
/// Kafka transactions that failed.
pub const FAILED_TRANSACTIONS: &str = "waltalkie_cdc_failed_transactions_total";
/// Rows in one Kafka transaction.
pub const BATCH: &str = "waltalkie_cdc_batch_records";
/// From the beginning of a Kafka transaction to its commit; under load the next one is sent before that.
pub const PUBLISH: &str = "waltalkie_cdc_publish_seconds";
/// From a transaction's commit in Postgres to its arrival here, by the two machines' clocks.
pub const ARRIVAL: &str = "waltalkie_cdc_arrival_seconds";
/// Bytes of WAL received and not yet confirmable.
pub const UNCONFIRMED: &str = "waltalkie_cdc_unconfirmed_bytes";
/// Bytes of WAL that the slot keeps on the server.
pub const RETAINED: &str = "waltalkie_cdc_wal_retained_bytes";
/// 1 while this process streams the slot, 0 while it stands by.
pub const STREAMING: &str = "waltalkie_cdc_is_streaming";
/// Times that streaming was started.
pub const STARTS: &str = "waltalkie_cdc_starts_total";
