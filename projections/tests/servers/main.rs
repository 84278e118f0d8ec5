//! The projector, the cursor writer and the janitor on real servers.

mod faults;
mod janitor;
mod more;
mod rebuild;
mod rest;
mod support;
mod tables;
