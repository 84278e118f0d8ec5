//! A gateway node and the publisher on real servers.

mod delivery;
mod presence;
mod publisher;
mod sockets;
mod support;
