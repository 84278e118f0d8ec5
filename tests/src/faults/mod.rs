//! A system that talks while it is broken, piece by piece.
//!
//! *Owns* servers of its own, one process a role, a crowd of load clients, and the record of what they saw. Each fault
//! proves that it hit, and returns when messages sent after it have reached everybody. [`World::judge`] brings all to
//! rest and asks the checker, and the program's own comparisons.

mod at_rest;
mod crowd;
mod world;

use local_stack::Service;

pub use crowd::Crowd;
pub use world::World;

/// Roles, each a process of its own.
pub const ROLES: [&str; 8] =
    ["persister", "cdc", "projector", "publisher", "operators", "notifier", "janitor", "gateway"];

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to a role, which is then started anew.
    KillRole(&'static str),
    /// SIGSTOP to a role until the others have gone on for a while, then SIGCONT.
    FreezeRole(&'static str),
    /// SIGKILL to a server, which is then started on its data. While the registry is away, a role starts without it.
    KillServer(Service),
    /// A server stops in an orderly way, and starts.
    RestartServer(Service),
    /// Redis cuts all subscribers off, as it does with slow ones, and forgets everything.
    FlushRedis,
}

/// Each fault once: what must be survived whatever else is tried.
pub const EACH: [Fault; 14] = [
    Fault::KillRole("persister"),
    Fault::KillRole("cdc"),
    Fault::KillRole("projector"),
    Fault::KillRole("gateway"),
    Fault::KillRole("publisher"),
    Fault::KillRole("operators"),
    Fault::KillRole("notifier"),
    Fault::FreezeRole("gateway"),
    Fault::KillServer(Service::Kafka),
    Fault::KillServer(Service::Postgres),
    Fault::KillServer(Service::Redis),
    Fault::KillServer(Service::Registry),
    Fault::RestartServer(Service::Postgres),
    Fault::FlushRedis,
];

/// What a long run draws from.
pub const ALL: [Fault; 21] = [
    Fault::KillRole("persister"),
    Fault::KillRole("cdc"),
    Fault::KillRole("projector"),
    Fault::KillRole("gateway"),
    Fault::KillRole("publisher"),
    Fault::KillRole("operators"),
    Fault::KillRole("notifier"),
    Fault::KillRole("janitor"),
    Fault::FreezeRole("persister"),
    Fault::FreezeRole("cdc"),
    Fault::FreezeRole("operators"),
    Fault::FreezeRole("gateway"),
    Fault::KillServer(Service::Kafka),
    Fault::KillServer(Service::Postgres),
    Fault::KillServer(Service::Redis),
    Fault::KillServer(Service::Registry),
    Fault::RestartServer(Service::Kafka),
    Fault::RestartServer(Service::Postgres),
    Fault::RestartServer(Service::Redis),
    Fault::RestartServer(Service::Registry),
    Fault::FlushRedis,
];
