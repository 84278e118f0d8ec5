//! Sampled commands: their traces go through Postgres' log beside their rows, in the same transaction and ahead of them.
//!
//! Not as a column: what isn't sampled costs nothing, and nothing of it is kept.

use deadpool_postgres::Transaction;
use schemas::trace::WAL_PREFIX;
use schemas::wire::Answer;

use super::Entry;
use super::sequencer::{Candidate, Decisions};
use super::write::WriteError;

/// Writes the traces of a batch's events; does nothing where none is sampled. To be called before the rows are written: the
/// worker reads the log in its order.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    candidates: &[&Candidate],
    decisions: &Decisions,
) -> Result<(), WriteError> {
    let sampled = candidates.iter().zip(&decisions.answers).filter_map(|(candidate, (answer, _))| {
        Some(candidate.span.as_ref()?.context().to_wal(&candidate.command.chat_id, answer.seq?))
    });
    let contents: Vec<String> = sampled.collect();
    if contents.is_empty() {
        return Ok(());
    }
    let sql = "SELECT pg_logical_emit_message(true, $1::text, content) FROM unnest($2::text[]) AS n(content)";
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&WAL_PREFIX, &contents]).await?;
    Ok(())
}

/// Ends the spans of a batch that is committed.
pub(super) fn end(part: &mut [Entry], answers: &[Answer]) {
    let candidates = part.iter_mut().filter_map(|entry| entry.candidate.as_mut());
    for (candidate, answer) in candidates.zip(answers) {
        let Some(mut span) = candidate.span.take() else { continue };
        match (&answer.rejection, answer.seq) {
            (Some(rejection), _) => span.end_refused(rejection.code.name()),
            (None, seq) => {
                if let Some(seq) = seq {
                    span.note("waltalkie.event_id", format!("{}/{seq}", candidate.command.chat_id));
                }
                span.end();
            }
        }
    }
}
