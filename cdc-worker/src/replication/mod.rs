//! Client of Postgres' streaming replication protocol
//! (<https://www.postgresql.org/docs/current/protocol-replication.html>), as far as a logical slot needs it.
//!
//! Our own, since `tokio-postgres` has no CopyBoth. Parts of `postgres-protocol` are used for startup and passwords; the
//! stream itself is framed here, in one large buffer out of which messages are read where they lie.

mod auth;
mod connect;
mod error;
mod stream;
mod timeline;

pub use connect::{Connection, System};
pub use error::{ReplicationError, ServerError};
pub use stream::{Incoming, ReplicationStream};
pub use timeline::Switch;
