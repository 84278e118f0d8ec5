//! Installations on real servers, roles as processes, people as clients.
//!
//! ```text
//!   Servers ── Installation ──┬── RoleProcess   `waltalkie run …`, killed, frozen, started again
//!   (shared,   (prefix,       ├── Person        HTTP and a raw WebSocket
//!    or own)    databases,    └── log, dump     what is in Kafka and Postgres, for the checker
//!               slot, topics)
//! ```
//!
//! Everything that an installation makes goes away when it is dropped, also when a test panics. Logs of processes stay
//! in `target/test-logs/<test>/`.

mod balancer;
mod collector;
mod dump;
mod installation;
mod keys;
mod lines;
mod log;
mod object_store;
mod person;
mod process;
mod program;
mod servers;
mod socket;
mod store_front;
mod wait;

pub use balancer::Balancer;
pub use collector::{Collected, Collector};
pub use dump::{chats, evidence_of, fingerprint};
pub use installation::Installation;
pub use keys::{KeyServer, SigningKey};
pub use lines::Lines;
pub use log::{Logged, read_all, read_events, read_topic};
pub use object_store::{ObjectStore, store_client};
pub use person::{Answer, Person};
pub use process::{RoleProcess, signal};
pub use program::{
    data_dir, java_program, javascript_packages, logs_dir, node_packages, program, python, repository, target_dir,
};
pub use servers::Servers;
pub use socket::Socket;
pub use store_front::{Mood, StoreFront};
pub use wait::{LONG, SHORT, until, within};
