//! The CDC worker on real servers.

mod bulk;
mod capture;
mod commands;
mod failover;
mod faults;
mod generation;
mod handover;
mod processes;
mod producer;
mod publishing;
mod refusals;
mod resnapshot;
mod restore;
mod rights;
mod schema_changes;
mod server_checks;
mod slot;
mod status;
mod support;
mod takeovers;
mod tampering;
mod tls;
mod versions;
mod withhold;
