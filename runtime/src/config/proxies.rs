//! Proxies whose word on where a request came from is believed.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The addresses of `gateway.trusted_proxies`.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Addresses and networks, such as `10.0.0.7` or `10.0.0.0/8`; the error is the first that is neither.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let network = |text: &String| {
            let text = text.trim();
            text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| text.to_owned())
        };
        texts.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// The client's address: the peer's, unless that is a trusted proxy. Then the last address of `X-Forwarded-For` (its
    /// values in order) that isn't one: what stands before it may be written by anybody.
    pub fn client<'a>(&self, peer: IpAddr, forwarded_for: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        for text in forwarded_for.flat_map(|value| value.split(',')).rev() {
            if !self.0.iter().any(|network| network.contains(&client)) {
                break;
            }
            let text = text.trim();
            let address = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
            match address {
                Ok(address) => client = IpAddr::to_canonical(&address),
                Err(_) => break,
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded_for: &[&str]) -> String {
        let trusted: Vec<String> = trusted.iter().map(ToString::to_string).collect();
        let proxies = TrustedProxies::parse(&trusted).unwrap();
        proxies.client(peer.parse().unwrap(), forwarded_for.iter().copied()).to_string()
    }

    #[test]
    fn only_what_trusted_proxies_say_is_believed() {
        let proxies = ["10.0.0.0/8", "::1"];
        assert_eq!(client(&[], "10.0.0.1", &["203.0.113.9"]), "10.0.0.1");
        assert_eq!(client(&proxies, "192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(client(&proxies, "10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        // What the client wrote itself stands before what the proxy added.
        assert_eq!(client(&proxies, "10.0.0.1", &["198.51.100.7, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(&proxies, "10.0.0.1", &["198.51.100.7", "203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(client(&proxies, "::1", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(client(&proxies, "::ffff:10.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(client(&proxies, "10.0.0.1", &["nonsense, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client(&proxies, "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn what_is_no_network_is_named() {
        assert_eq!(TrustedProxies::parse(&["10.0.0.0/8".into(), "proxy".into()]).unwrap_err(), "proxy");
    }
}
