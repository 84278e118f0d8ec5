//! WebSocket (RFC 6455) as a server that mostly writes needs it.
//!
//! A library would keep buffers for each connection and copy every frame into them. Here a frame is made once, header and all,
//! and its bytes go to every socket by vectored writes ([`Frame`]); what a client sends is read into a buffer on the stack, so
//! that a connection that rests holds none ([`Reader`]). Compression (RFC 7692) is done once a frame too, which is why both
//! sides must forget their context after each message.

mod deflate;
mod frame;
mod parser;
mod reader;
mod upgrade;

pub(crate) use frame::{FirstWrite, Frame, Writing};
pub(crate) use parser::{Broken, Message};
pub(crate) use reader::Reader;
pub(crate) use upgrade::Upgrade;

/// What a connection was opened on.
pub(crate) type Socket = hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>;
