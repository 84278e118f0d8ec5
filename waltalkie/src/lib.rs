//! The executable's parts: roles wired to one another, the commands of the CLI, and the benches.

pub mod bench;
mod cdc;
pub mod cli;
mod config_page;
mod demonstration;
mod dlq;
mod doctor;
mod durability;
mod explain;
mod gateway;
pub mod history;
mod inbound;
mod migrate;
mod notifications;
mod notify_commands;
mod object_store;
mod ops;
mod pages;
mod rebuild;
mod roles;
mod schema_commands;
mod stop_signal;
mod tail;
mod token;
mod up;
