//! The previewer with its child, as a program uses it.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod media;
mod pictures;
mod properties;
mod sandbox;
#[path = "../shared/mod.rs"]
mod shared;
