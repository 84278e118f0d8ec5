//! Benches (being written by the owner of this folder: replace these two files).
pub mod chat;
