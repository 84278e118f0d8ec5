//! What breaks things on purpose: a TCP proxy that cuts and freezes, and a process that is killed and stopped at a point of
//! its own work. Knows nothing of what it breaks. For tests and for the benches that check.
//!
//! A fault that didn't hit proves nothing. So the proxy counts what it cut and what it held back, and a victim reports the
//! point that it reached before anything is done to it.

mod kafka;
mod proxy;
mod victim;

pub use proxy::Proxy;
pub use victim::Victim;
