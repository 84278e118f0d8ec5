//! Whether the committed history is the tables: every event once, dense, in the order of commits, with the content that the
//! tables have. Reads everything, disturbs nobody.

mod read;
mod verdict;

pub use read::{AuditError, aborted_transactions, audit, audit_running, records_of_all};
pub use verdict::{Fingerprint, Verdict, compare};
