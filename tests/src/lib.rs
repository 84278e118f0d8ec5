//! End to end: what the tests of the whole program share.
//!
//! [`checker`] judges the history of a run; [`faults`] makes runs that are broken on purpose; [`harness`] makes
//! installations of their own on real servers, starts roles as processes, and cleans up also when a test panics.
//!
//! The servers are started once for a whole test run by `scripts/test` (program `stack`), which tells tests where they
//! are by `WALTALKIE_TEST_…` variables; tests that break servers start some of their own.

pub mod checker;
pub mod faults;
pub mod harness;
