//! Event to person: everything between `chat.events` and the sockets.
//!
//! ```text
//!  chat.events ─┐                     Redis                        node
//!               ├▶ publisher ─SPUBLISH─▶ chat:{id} ──▶ hub ──one frame an event──▶ outgoing queues ─▶ writers ─▶ sockets
//!  chat.cursors ┘                     user:{id}      │  ▲                            ▲                     │
//!                                                    │  │ ranges, heads, stays       │ fills of resumes    ▼
//!                                                    └──┴──────── Postgres ──────────┘            connection (one a socket)
//!                                                                                                     │ commands, marks
//!                                                                                                     ▼
//!                                                                                                  Inbound
//! ```
//!
//! [`publisher`] is a role of its own. A [`Node`] is the hub and the sockets of one gateway process.
//!
//! *Progress.* Nothing here is stored. A node holds, for each chat with a connected member, the `seq` up to which it has
//! delivered, without a hole; a client holds a cursor. Pub/Sub only makes it fast: whatever it loses shows as a gap in
//! `seq` or as a head in Postgres that isn't reached, and is read from Postgres.
//!
//! *Failure.* Redis away: delivery goes on by heads, once a heartbeat. Postgres away: live delivery goes on, gaps and
//! resumes wait. A node that dies loses nothing: its clients resume elsewhere.
//!
//! Frames and close codes are those of [`schemas::wire`], which describes them in `/asyncapi.json`.

mod connection;
mod error;
mod frames;
mod handshake;
mod hub;
pub mod inbound;
pub mod metrics;
mod node;
mod order;
pub mod publisher;
mod roll;
mod session;
mod socket;
mod websocket;
mod whisper;
mod writer;

pub use error::Error;
pub use inbound::{Caller, Identity, Inbound, KnownChat, MarkKind, Standing, Submitted};
pub use node::Node;
pub use socket::router;
