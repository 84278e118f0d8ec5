//! The configuration: one `waltalkie.toml`, every key also as `WALTALKIE_<SECTION>__<KEY>`, secrets also from files.

mod clients;
mod load;
mod media;
mod notify;
mod operations;
mod proxies;
mod roles;
mod secret;
mod servers;

use schemas::registry::{Registry, RegistryError};
use serde::{Deserialize, Serialize};

pub use clients::{Auth, Gateway, LimitsConfig, People, StartChats};
pub use load::{ConfigError, load};
pub use media::Media;
pub use notify::{Notify, NotifyContent, SmtpTls};
pub use operations::{Log, LogFormat, Ops, Trace};
pub use proxies::TrustedProxies;
pub use roles::{Cdc, Compression, Janitor, Operators, Persister, Projector};
pub use secret::Secret;
pub use servers::{Kafka, Postgres, Redis, RegistryConfig, Stack};

use crate::names::Names;

/// The effective configuration. The operators' page says the same of each key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Relaxes what durability needs and opens development's conveniences: tokens for demonstration people, the way of
    /// each message in its frames.
    pub development: bool,
    /// Names that installations on the same servers must not share.
    pub names: NamesConfig,
    /// HTTP and WebSocket towards clients.
    pub gateway: Gateway,
    /// HTTP towards operators.
    pub ops: Ops,
    /// Who may come in.
    pub auth: Auth,
    /// What people may do with one another.
    pub people: People,
    /// The two databases.
    pub postgres: Postgres,
    /// Kafka.
    pub kafka: Kafka,
    /// The schema registry.
    pub registry: RegistryConfig,
    /// Redis.
    pub redis: Redis,
    /// Limits towards clients.
    pub limits: LimitsConfig,
    /// Files in messages.
    pub media: Media,
    /// Commands into Postgres.
    pub persister: Persister,
    /// Postgres' log into the history.
    pub cdc: Cdc,
    /// Read models.
    pub projector: Projector,
    /// Stream operators.
    pub operators: Operators,
    /// Push and mail.
    pub notify: Notify,
    /// Cleaning up.
    pub janitor: Janitor,
    /// Logs.
    pub log: Log,
    /// Traces.
    pub trace: Trace,
    /// The servers that `waltalkie up` starts.
    pub stack: Stack,
}

impl Config {
    /// The installation's names.
    pub fn names(&self) -> Names {
        Names::new(self.names.prefix.clone())
    }

    /// A client of the registry for a role: it starts with what it knows if the registry is away.
    pub fn registry_client(&self) -> Result<Registry, RegistryError> {
        let client = Registry::new(self.registry.url.expose(), &self.names.prefix)?;
        let folder = &self.registry.cache_dir;
        Ok(if folder.is_empty() { client } else { client.keeping(folder) })
    }
}

/// `[names]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamesConfig {
    /// Goes before every topic, subject, group, transactional id, slot, publication and Redis key: lower-case letters,
    /// digits and `-`. Recorded at the first start; a later change is refused.
    pub prefix: String,
}
