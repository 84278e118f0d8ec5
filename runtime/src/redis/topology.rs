//! Who serves which hash slot. Source: the Redis Cluster specification, "Keys distribution model" and `CLUSTER SLOTS`.

use redis::{ConnectionAddr, Value};

/// Where a server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Address {
    Tcp(String, u16),
    /// A Unix socket, or whatever else a URL may name: never a cluster's node.
    Other(String),
}

impl Address {
    pub(super) fn of(addr: &ConnectionAddr) -> Self {
        match addr {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Self::Tcp(host.clone(), *port)
            }
            other => Self::Other(other.to_string()),
        }
    }

    fn host(&self) -> &str {
        match self {
            Self::Tcp(host, _) | Self::Other(host) => host,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Other(path) => f.write_str(path),
        }
    }
}

/// The masters and their slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topology {
    /// First slot, last slot, master; in order.
    ranges: Vec<(u16, u16, Address)>,
}

impl Topology {
    /// One server for everything.
    pub(super) fn single(address: Address) -> Self {
        Self { ranges: vec![(0, u16::MAX, address)] }
    }

    /// Reads the answer to `CLUSTER SLOTS` of a node; `None` if it has another shape, or serves nothing yet.
    pub(super) fn parse(slots: &Value, answering: &Address) -> Option<Self> {
        let Value::Array(rows) = slots else { return None };
        let mut ranges = Vec::with_capacity(rows.len());
        for row in rows {
            let Value::Array(row) = row else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = row.as_slice() else { return None };
            let [host, Value::Int(port), ..] = master.as_slice() else { return None };
            let host = match host {
                Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
                _ => String::new(),
            };
            // Empty: the node that answers doesn't know how it is reached, but we do. "?": nobody knows.
            let host = if host.is_empty() { answering.host().to_owned() } else { host };
            if host != "?" {
                ranges.push((
                    u16::try_from(*first).ok()?,
                    u16::try_from(*last).ok()?,
                    Address::Tcp(host, u16::try_from(*port).ok()?),
                ));
            }
        }
        ranges.sort_unstable_by_key(|(first, ..)| *first);
        (!ranges.is_empty()).then_some(Self { ranges })
    }

    /// The only server, if there is just one.
    pub(super) fn only(&self) -> Option<&Address> {
        match self.ranges.as_slice() {
            [(_, _, address)] => Some(address),
            _ => None,
        }
    }

    /// The master of a key or channel; `None` while nobody serves its slot.
    pub(super) fn owner(&self, key: &[u8]) -> Option<&Address> {
        let slot = slot(key);
        let place = self.ranges.partition_point(|(first, ..)| *first <= slot).checked_sub(1)?;
        let (_, last, address) = &self.ranges[place];
        (slot <= *last).then_some(address)
    }

    /// Any master.
    pub(super) fn any(&self) -> Option<&Address> {
        self.ranges.first().map(|(_, _, address)| address)
    }

    /// All masters; one may come more than once.
    pub(super) fn masters(&self) -> impl Iterator<Item = &Address> {
        self.ranges.iter().map(|(_, _, address)| address)
    }
}

/// The hash slot of a key: CRC16 (XMODEM) of its hash tag, or of all of it, modulo 16,384.
fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let length = rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
        Some(&rest[..length])
    });
    crc16::State::<crc16::XMODEM>::calculate(tag.unwrap_or(key)) % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16::State::<crc16::XMODEM>::calculate(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), crc16::State::<crc16::XMODEM>::calculate(b"foo{}{bar}") % 16_384);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
    }

    #[test]
    fn ranges_find_their_master_and_holes_find_none() {
        let node = |host: &str, port| Value::Array(vec![Value::BulkString(host.into()), Value::Int(port)]);
        let row =
            |first, last, master| Value::Array(vec![Value::Int(first), Value::Int(last), master, node("replica", 9)]);
        let answer = Value::Array(vec![
            row(10_000, 16_383, node("", 7_002)),
            row(0, 8_000, node("a", 7_001)),
            row(8_001, 9_000, node("?", 1)),
        ]);
        let topology = Topology::parse(&answer, &Address::Tcp("seed".into(), 7_000)).expect("a topology");
        // 12,182 and, of "bar", 5,061.
        assert_eq!(topology.owner(b"foo"), Some(&Address::Tcp("seed".into(), 7_002)));
        assert_eq!(topology.owner(b"bar"), Some(&Address::Tcp("a".into(), 7_001)));
        let hole = (0..100_000)
            .map(|number: u32| number.to_string())
            .find(|key| (8_001..10_000).contains(&slot(key.as_bytes())));
        assert_eq!(topology.owner(hole.expect("a key").as_bytes()), None);
        assert_eq!((topology.only(), topology.masters().count()), (None, 2));
        assert_eq!(Topology::parse(&Value::Array(Vec::new()), &Address::Tcp("seed".into(), 1)), None);
        let single = Topology::single(Address::Other("/socket".into()));
        assert_eq!(single.owner(b"foo"), single.only());
    }
}
