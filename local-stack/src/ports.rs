//! Which port a server gets: the configured one or none; else the remembered, the usual, a free one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::time::Duration;

use rand::Rng;

/// Below the ranges from which Linux (32768) and macOS (49152) give ports to outgoing connections, so that a
/// remembered port is not taken by chance.
const FREE_RANGE: Range<u16> = 20_000..32_000;
const TRIES: usize = 200;

/// A port kept from others while ports are being chosen. Let go of before anything is started: a process forked
/// meanwhile would hold a copy of the listener for a moment, and keep the port from its own server.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) port: u16,
    /// `None` where a server of ours already listens.
    _listener: Option<TcpListener>,
}

impl Reserved {
    /// The port of a server that already runs.
    pub(crate) fn running(port: u16) -> Self {
        Self { port, _listener: None }
    }
}

/// Takes a port if nobody has it.
pub(crate) fn reserve(port: u16) -> Option<Reserved> {
    // A listener on all addresses does not hinder ours on macOS: only a connection tells.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).ok()?;
    drop(listener);
    if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
        return None;
    }
    Some(Reserved { port, _listener: Some(TcpListener::bind(address).ok()?) })
}

/// The first of the remembered port, the usual one and some free ones that `take` accepts.
pub(crate) fn choose<T>(
    remembered: Option<u16>,
    usual: Option<u16>,
    free: impl Iterator<Item = u16>,
    mut take: impl FnMut(u16) -> Option<T>,
) -> Option<T> {
    remembered.into_iter().chain(usual).chain(free).find_map(&mut take)
}

/// Ports to try when neither the remembered nor the usual one is to be had.
pub(crate) fn free() -> impl Iterator<Item = u16> {
    let mut random = rand::rng();
    (0..TRIES).map(move |_| random.random_range(FREE_RANGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(remembered: Option<u16>, taken: &[u16]) -> Option<u16> {
        choose(remembered, Some(5432), [20_001, 20_002].into_iter(), |port| (!taken.contains(&port)).then_some(port))
    }

    #[test]
    fn remembered_then_usual_then_free() {
        assert_eq!(choice(None, &[]), Some(5432));
        assert_eq!(choice(Some(20_007), &[]), Some(20_007));
        assert_eq!(choice(Some(20_007), &[20_007]), Some(5432));
        assert_eq!(choice(None, &[5432, 20_001]), Some(20_002));
        assert_eq!(choice(None, &[5432, 20_001, 20_002]), None);
    }

    #[test]
    fn a_port_in_use_or_reserved_is_not_had() {
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(reserve(everywhere.local_addr().unwrap().port()).is_none());

        let reserved = choose(None, None, free(), reserve).unwrap();
        assert!(reserve(reserved.port).is_none());
        let port = reserved.port;
        drop(reserved);
        assert!(reserve(port).is_some());
    }

    #[test]
    fn free_ports_are_outside_the_range_of_outgoing_connections() {
        assert!(free().all(|port| FREE_RANGE.contains(&port)));
        assert_eq!(free().count(), TRIES);
    }
}
