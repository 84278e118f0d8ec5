//! Metrics of gateway and persister.

use std::time::Duration;

pub(crate) const PERSISTER_LAG: &str = "waltalkie_persister_lag_records";
const PERSISTED: &str = "waltalkie_persister_commands_total";
const BATCH_SECONDS: &str = "waltalkie_persister_batch_seconds";
const PHASE_SECONDS: &str = "waltalkie_persister_phase_seconds";
const BATCH_RECORDS: &str = "waltalkie_persister_batch_records";
const BATCH_RETRIES: &str = "waltalkie_persister_batch_retries_total";
const BATCH_SUPERSEDED: &str = "waltalkie_persister_batches_superseded_total";
const DEAD_LETTERS: &str = "waltalkie_persister_dead_letters_total";
const OPEN_DEAD_LETTERS: &str = "waltalkie_persister_open_dead_letters";
const ACCEPTED: &str = "waltalkie_gateway_commands_accepted_total";
const ACCEPT_SECONDS: &str = "waltalkie_gateway_accept_seconds";
const DECIDE_SECONDS: &str = "waltalkie_gateway_decide_seconds";
const REFUSED: &str = "waltalkie_gateway_refusals_total";
const LIMITED: &str = "waltalkie_gateway_limited_total";
const ANSWERS_FROM_TABLES: &str = "waltalkie_gateway_answers_from_tables_total";
const JWKS_FETCHES: &str = "waltalkie_gateway_jwks_fetches_total";
const MEDIA_CHECK_SECONDS: &str = "waltalkie_gateway_media_check_seconds";
const MARKS: &str = "waltalkie_gateway_marks_total";

pub(crate) fn batch_persisted(commands: usize, took: Duration) {
    metrics::counter!(PERSISTED).increment(commands as u64);
    metrics::histogram!(BATCH_RECORDS).record(commands as f64);
    metrics::histogram!(BATCH_SECONDS).record(took);
}

pub(crate) fn phase_passed(phase: &'static str, took: Duration) {
    metrics::histogram!(PHASE_SECONDS, "phase" => phase).record(took);
}

pub(crate) fn batch_retried() {
    metrics::counter!(BATCH_RETRIES).increment(1);
}

pub(crate) fn batch_superseded() {
    metrics::counter!(BATCH_SUPERSEDED).increment(1);
}

pub(crate) fn dead_letter() {
    metrics::counter!(DEAD_LETTERS).increment(1);
}

pub(crate) fn open_dead_letters(count: i64) {
    metrics::gauge!(OPEN_DEAD_LETTERS).set(count as f64);
}

pub(crate) fn accepted(took: Duration) {
    metrics::counter!(ACCEPTED).increment(1);
    metrics::histogram!(ACCEPT_SECONDS).record(took);
}

pub(crate) fn decided(took: Duration) {
    metrics::histogram!(DECIDE_SECONDS).record(took);
}

pub(crate) fn refused(code: schemas::wire::Code) {
    metrics::counter!(REFUSED, "code" => code.name()).increment(1);
}

pub(crate) fn limited(limit: &'static str) {
    metrics::counter!(LIMITED, "limit" => limit).increment(1);
}

pub(crate) fn answer_from_tables() {
    metrics::counter!(ANSWERS_FROM_TABLES).increment(1);
}

pub(crate) fn marks(count: usize) {
    metrics::counter!(MARKS).increment(count as u64);
}

pub(crate) fn jwks_fetched(is_good: bool) {
    metrics::counter!(JWKS_FETCHES, "outcome" => if is_good { "good" } else { "failed" }).increment(1);
}

pub(crate) fn media_checked(outcome: &'static str, took: Duration) {
    metrics::histogram!(MEDIA_CHECK_SECONDS, "outcome" => outcome).record(took);
}
