//! The previewer with its child, as a program uses it.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

// All of it is for tests; said once more, since lints ask each module.
#[cfg(test)]
mod media;
#[cfg(test)]
mod pictures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
#[path = "../shared/mod.rs"]
mod shared;
