//! A client, many to a process.
//!
//! ```no_run
//! # async fn example() {
//! use waltalkie_client::{Command, Observation, Options, connect};
//!
//! let (alice, mut seen) = connect(Options::new("http://127.0.0.1:8080", "alice", "a token"));
//! let chat_id = "launch".into();
//! let message_id = alice.send(&chat_id, "hello").await;
//! alice.command(Command::edit(&chat_id, message_id, "hello!")).await;
//! while let Some(observed) = seen.recv().await {
//!     match observed.what {
//!         Observation::Persisted { op_id, seq } if op_id == message_id => println!("certain, at {seq:?}"),
//!         Observation::Event(event) => println!("{} {} {:?}", event.chat_id, event.seq, event.content),
//!         _ => {}
//!     }
//! }
//! alice.close().await;
//! # }
//! ```
//!
//! It does what the contract asks of clients: a cursor a chat that only events and `skipped` move; early events wait by
//! `seq`; `resume` at a jump, at a head unmet for a second, and after each reconnect; heartbeats; marks at most once a
//! second, all chats in a frame; reconnects with backoff as close codes and `reconnect` say; sends kept, and sent again
//! in order with the same id, until `persisted` or a definite refusal.
//!
//! - [`connect`] gives a [`Client`] and a bounded channel of [`Observed`]; [`spawn`] takes any [`Sink`], such as a
//!   closure, or [`Both`] of two.
//! - [`Client`] and its clonable [`Sender`] send ([`Sender::send`], [`Sender::command`], [`Sender::raw`]), break
//!   ([`Sender::reset`]) and tell where they stand ([`Sender::snapshot`]).
//! - [`api`] is HTTP: chats, members, messages, pages of history, and files, which a message names
//!   ([`Command::with_attachments`]).
//!
//! The sync core (`sync`) is pure; `connection` is the I/O around it: one task and one timer a client.

pub mod api;
mod backoff;
mod client;
mod command;
mod connection;
mod cursor;
mod files;
mod frames;
mod marks;
mod observation;
mod outbox;
mod resume;
mod sync;

pub use client::{Client, Options, Sender, Snapshot, TokenSource, connect, spawn};
pub use command::{Action, Command};
pub use files::NewFile;
pub use frames::{Attachment, Marked, Member};
pub use observation::{Anomaly, Both, Channel, Event, Observation, Observed, Sink, Via};
pub use sync::{Receipts, Start};

/// TLS needs one provider of cryptography a process; one that is there already is kept.
fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
