//! The whole program on the servers that `scripts/test` starts: one program of tests, so that it is linked once.

mod applied_by_others;
mod bad_frames;
mod bad_requests;
mod browser;
mod cdc_chaos;
mod conversation;
mod interop;
mod membership;
mod offline;
mod openapi;
mod poison;
mod repeated_requests;
mod startup;
mod visitors;
