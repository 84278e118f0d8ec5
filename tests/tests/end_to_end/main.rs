//! The whole program on the servers that `scripts/test` starts: one program of tests, so that it is linked once.

mod addresses;
mod applied_by_others;
mod bad_frames;
mod bad_requests;
mod browser;
mod cdc_chaos;
mod conversation;
mod interop;
mod large_group;
mod limits;
mod membership;
mod minting;
mod model;
mod offline;
mod openapi;
mod poison;
mod published_keys;
mod races;
mod repeated_requests;
mod revocation;
mod services;
mod startup;
mod strangers;
mod token_attacks;
mod token_commands;
mod visitors;
