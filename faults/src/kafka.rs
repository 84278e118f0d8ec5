//! Keeping Kafka's clients on a proxy.
//!
//! A broker tells its clients where brokers are, and they connect there, past any proxy. So the answers that pass through
//! the proxy get its port in place of the broker's. In every version of the protocol a broker's place is its host, as text,
//! followed by its port in four bytes; only answers of the same length can be changed without knowing more.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

/// Changes the broker's address in a stream of its answers.
pub(crate) struct Readdress {
    from: Vec<u8>,
    to: Vec<u8>,
    /// The beginning of an answer whose rest hasn't come.
    pending: Vec<u8>,
}

impl Readdress {
    /// From a broker as it is advertised, `host:port`, to a proxy.
    pub(crate) fn new(broker: &str, proxy: SocketAddr) -> Result<Self> {
        let (host, port) = broker.rsplit_once(':').with_context(|| format!("{broker} is no host:port"))?;
        let port: u16 = port.parse().with_context(|| format!("{broker} has no port"))?;
        let new_host = proxy.ip().to_string();
        ensure!(
            host.len() == new_host.len(),
            "a proxy at {new_host} can only stand before a broker that is advertised as 127.0.0.1 or localhost, not {host}"
        );
        Ok(Self { from: place(host, port), to: place(&new_host, proxy.port()), pending: Vec::new() })
    }

    /// Every answer that is whole now, changed.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(bytes);
        let mut whole = 0;
        while let Some(length) = self.pending.get(whole..).and_then(<[u8]>::first_chunk) {
            let end = whole + 4 + u32::from_be_bytes(*length) as usize;
            if end > self.pending.len() {
                break;
            }
            self.change(whole + 4, end);
            whole = end;
        }
        self.pending.drain(..whole).collect()
    }

    fn change(&mut self, mut start: usize, end: usize) {
        while let Some(at) = self.pending[start..end].windows(self.from.len()).position(|found| found == self.from) {
            let at = start + at;
            self.pending[at..at + self.to.len()].copy_from_slice(&self.to);
            start = at + self.to.len();
        }
    }
}

fn place(host: &str, port: u16) -> Vec<u8> {
    [host.as_bytes(), &u32::from(port).to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes(), body].concat()
    }

    #[test]
    fn addresses_change_however_the_answers_are_cut() {
        let proxy = "127.0.0.1:4000".parse().unwrap();
        let answer = [framed(b"a1"), framed(&[b"x".as_slice(), &place("localhost", 9092), b"y"].concat()), framed(b"")];
        let expected =
            [framed(b"a1"), framed(&[b"x".as_slice(), &place("127.0.0.1", 4000), b"y"].concat()), framed(b"")];
        for size in 1..30 {
            let mut readdress = Readdress::new("localhost:9092", proxy).unwrap();
            let changed: Vec<u8> = answer.concat().chunks(size).flat_map(|piece| readdress.take(piece)).collect();
            assert_eq!(changed, expected.concat(), "pieces of {size}");
        }
    }

    #[test]
    fn another_broker_is_left_alone_and_a_longer_name_refused() {
        let proxy = "127.0.0.1:4000".parse().unwrap();
        let other = framed(&place("127.0.0.1", 9093));
        assert_eq!(Readdress::new("127.0.0.1:9092", proxy).unwrap().take(&other), other);
        assert!(Readdress::new("kafka.example:9092", proxy).is_err());
    }
}
