//! The projector, the cursor writer and the janitor on real servers.

mod comparisons;
mod faults;
mod janitor;
mod kills;
mod more;
mod poison;
mod rebuild;
mod registry;
mod rest;
mod shapes;
mod support;
mod swaps;
mod tables;
