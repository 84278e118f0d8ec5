//! Redis, one server or a cluster: [`Commands`] for commands, [`subscriber`] for sharded channels, which says when it may
//! have missed something.
//!
//! Which it is, is asked of the servers themselves, once and again after each failure: the first address that answers
//! tells who serves which hash slot, and a server without cluster support serves them all.
//!
//! ```text
//!             ┌─▶ Topology (CLUSTER SLOTS) ◀─ asked anew after I/O errors, MOVED and the like
//!  Commands ──┴─▶ one connection a master: pipelines are split by slot, answers put together again
//!  Subscriber ──▶ one line a master: SSUBSCRIBE a channel at a time, pushes of all lines into one queue
//! ```

mod commands;
mod line;
mod subscriber;
mod topology;
pub mod witness;

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError, TlsCertificates};

use crate::config;

pub use commands::{Commands, commands};
pub use subscriber::{Heard, Subscriptions, subscriber};
use topology::Address;

/// The configured servers: the first to be asked who the others are, and how to log in to all of them.
#[derive(Debug, Clone)]
struct Servers {
    seeds: Vec<ConnectionInfo>,
}

impl Servers {
    /// Reads `redis.url` and `redis.ca_file`. RESP3, since messages of subscriptions come as pushes.
    fn new(config: &config::Redis) -> Result<Self, RedisError> {
        // Commands are small and wait for their answers: Nagle's algorithm would hold them back.
        let tcp = TcpSettings::default().set_nodelay(true);
        let mut seeds = Vec::new();
        for url in config.url.expose().split(',').map(str::trim) {
            let info = url.into_connection_info()?;
            let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            let info = info.set_redis_settings(redis).set_tcp_settings(tcp.clone());
            let info = match info.addr() {
                ConnectionAddr::TcpTls { .. } if !config.ca_file.is_empty() => {
                    let root_cert = Some(std::fs::read(&config.ca_file).map_err(|error| {
                        let words = format!("redis.ca_file = {} can't be read: {error}", config.ca_file);
                        RedisError::from((redis::ErrorKind::InvalidClientConfig, "certificates to trust", words))
                    })?);
                    let certificates = TlsCertificates { client_tls: None, root_cert };
                    Client::build_with_tls(info, certificates)?.get_connection_info().clone()
                }
                _ => info,
            };
            seeds.push(info);
        }
        Ok(Self { seeds })
    }

    /// Addresses of the seeds, for those that have one.
    fn addresses(&self) -> impl Iterator<Item = Address> {
        self.seeds.iter().map(|info| Address::of(info.addr()))
    }

    /// A client of any node, with the first seed's login and trust.
    fn client(&self, address: &Address) -> Result<Client, RedisError> {
        let same = self.seeds.iter().find(|info| Address::of(info.addr()) == *address);
        let Some(info) = same.or(self.seeds.first()) else {
            return Err((redis::ErrorKind::InvalidClientConfig, "redis.url is empty").into());
        };
        let addr = match (same, info.addr(), address) {
            (None, ConnectionAddr::Tcp(..), Address::Tcp(host, port)) => ConnectionAddr::Tcp(host.clone(), *port),
            (None, ConnectionAddr::TcpTls { insecure, tls_params, .. }, Address::Tcp(host, port)) => {
                let (insecure, tls_params) = (*insecure, tls_params.clone());
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure, tls_params }
            }
            (_, addr, _) => addr.clone(),
        };
        Client::open(info.clone().set_addr(addr))
    }
}
