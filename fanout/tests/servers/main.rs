//! A gateway node and the publisher on real servers.

mod crowd;
mod delivery;
mod presence;
mod publisher;
mod queues;
mod sockets;
mod support;
