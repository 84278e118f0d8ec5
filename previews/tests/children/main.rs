//! The previewer with its child, as a program uses it.

mod media;
mod pictures;
mod properties;
mod sandbox;
#[path = "../shared/mod.rs"]
mod shared;
