//! Where a subscription's endpoint may lead. Endpoints come from clients: without a rule, anybody could make the server send
//! requests to hosts of its own network (OWASP, "Server Side Request Forgery Prevention").

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// What may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Addresses of the public Internet, on port 443.
    Public,
    /// Anything, for tests and closed networks with push services of their own.
    Anywhere,
}

/// Why an endpoint isn't used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL.
    #[error("the endpoint is no address")]
    Malformed,
    /// Not https.
    #[error("the endpoint doesn't begin with https://")]
    NotHttps,
    /// With a user's name or password.
    #[error("the endpoint has a user or password in it")]
    Credentials,
    /// Another port than 443.
    #[error("the endpoint has a port of its own")]
    Port,
    /// Inside.
    #[error("the endpoint isn't on the public Internet")]
    NotPublic,
}

impl Reach {
    /// Checks an endpoint as far as its text tells; what its name resolves to is checked when it is connected to.
    pub fn check(self, endpoint: &str) -> Result<Url, EndpointError> {
        let url = Url::parse(endpoint).map_err(|_| EndpointError::Malformed)?;
        if url.scheme() != "https" {
            return Err(EndpointError::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Credentials);
        }
        let host = url.host_str().ok_or(EndpointError::Malformed)?;
        if self == Self::Anywhere {
            return Ok(url);
        }
        if url.port_or_known_default() != Some(443) {
            return Err(EndpointError::Port);
        }
        // Whatever way a number is written in, the parser has made it the usual one.
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_inside = literal.is_ok_and(|address| !is_public(address)) || is_local_name(host);
        if is_inside { Err(EndpointError::NotPublic) } else { Ok(url) }
    }
}

fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    !host.contains(['.', ':']) || [".localhost", ".local", ".internal"].iter().any(|suffix| host.ends_with(suffix))
}

/// Whether an address is one of the public Internet (IANA's special-purpose registries).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let v4_at = |place: usize| {
        let ([w, x], [y, z]) = (parts[place].to_be_bytes(), parts[place + 1].to_be_bytes());
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match parts {
        // IPv4 in other clothes: mapped, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => v4_at(6),
        [0x2002, ..] => v4_at(1),
        // Teredo, ORCHID, benchmarks, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] => false,
        // Global unicast is 2000::/3.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves names to public addresses only, so that a name can't lead inside, also not on a second look.
#[derive(Debug, Clone)]
pub(super) struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(EndpointError::NotPublic.into());
            }
            let addresses: Addrs = Box::new(public.into_iter());
            Ok(addresses)
        })
    }
}

impl PublicResolver {
    pub(super) fn shared() -> Arc<Self> {
        Arc::new(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_lead_inside_are_refused() {
        for (endpoint, expected) in [
            ("https://updates.push.services.mozilla.com/wpush/v2/abc", Ok(())),
            ("https://fcm.googleapis.com/fcm/send/abc", Ok(())),
            ("https://8.8.8.8/x", Ok(())),
            ("http://push.example/1", Err(EndpointError::NotHttps)),
            ("ftp://push.example/1", Err(EndpointError::NotHttps)),
            ("file:///etc/passwd", Err(EndpointError::NotHttps)),
            ("push.example/1", Err(EndpointError::Malformed)),
            ("https://", Err(EndpointError::Malformed)),
            ("https://user:word@push.example/1", Err(EndpointError::Credentials)),
            ("https://push.example:8443/1", Err(EndpointError::Port)),
            ("https://push.example:22/1", Err(EndpointError::Port)),
            ("https://localhost/1", Err(EndpointError::NotPublic)),
            ("https://redis/1", Err(EndpointError::NotPublic)),
            ("https://kafka.internal/1", Err(EndpointError::NotPublic)),
            ("https://metadata.google.internal./1", Err(EndpointError::NotPublic)),
            ("https://127.0.0.1/1", Err(EndpointError::NotPublic)),
            ("https://0x7f.1/1", Err(EndpointError::NotPublic)),
            ("https://2130706433/1", Err(EndpointError::NotPublic)),
            ("https://0177.0.0.1/1", Err(EndpointError::NotPublic)),
            ("https://10.1.2.3/1", Err(EndpointError::NotPublic)),
            ("https://172.16.0.1/1", Err(EndpointError::NotPublic)),
            ("https://192.168.1.1/1", Err(EndpointError::NotPublic)),
            ("https://169.254.169.254/latest/meta-data", Err(EndpointError::NotPublic)),
            ("https://100.64.0.1/1", Err(EndpointError::NotPublic)),
            ("https://0.0.0.0/1", Err(EndpointError::NotPublic)),
            ("https://[::1]/1", Err(EndpointError::NotPublic)),
            ("https://[::ffff:127.0.0.1]/1", Err(EndpointError::NotPublic)),
            ("https://[64:ff9b::a00:1]/1", Err(EndpointError::NotPublic)),
            ("https://[2002:7f00:1::]/1", Err(EndpointError::NotPublic)),
            ("https://[fd00::1]/1", Err(EndpointError::NotPublic)),
            ("https://[fe80::1]/1", Err(EndpointError::NotPublic)),
            ("https://[2606:4700::1111]/1", Ok(())),
        ] {
            assert_eq!(Reach::Public.check(endpoint).map(|_| ()), expected, "{endpoint}");
        }
        assert!(Reach::Anywhere.check("https://127.0.0.1:8443/1").is_ok());
        assert_eq!(Reach::Anywhere.check("http://127.0.0.1/1").map(|_| ()), Err(EndpointError::NotHttps));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_resolves_to_nothing() {
        let name = "localhost".parse().unwrap();
        assert!(PublicResolver.resolve(name).await.is_err());
    }
}
