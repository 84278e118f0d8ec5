//! What a caller may decide about a stack.

use std::env;
use std::path::PathBuf;

use crate::service::Service;

/// Whether a service is started here, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Somebody else runs it: it is neither started nor looked at.
    External,
    /// Started here, on the usual port or else a free one (see [`Options::usual_ports`]), the same at each start while
    /// nobody else takes it.
    Anywhere,
    /// Started here on exactly this port; an error if it is in use.
    Port(u16),
}

/// Where a stack lives and what belongs to it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything the servers keep, with logs and bookkeeping. Made if missing.
    pub data_dir: PathBuf,
    /// Where fetched servers are kept, shared by all stacks of a machine.
    pub cache_dir: PathBuf,
    /// `PostgreSQL`.
    pub postgres: Wanted,
    /// Kafka.
    pub kafka: Wanted,
    /// The schema registry.
    pub registry: Wanted,
    /// Redis.
    pub redis: Wanted,
    /// Whether the ports that people expect are tried before free ones. Tests that run beside other stacks say no.
    pub usual_ports: bool,
    /// The user `PostgreSQL` runs as when we are root (it refuses to run as root). Not used otherwise.
    pub postgres_os_user: String,
}

impl Options {
    /// All four services in `data_dir`, cache in [`default_cache_dir`].
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            cache_dir: default_cache_dir(),
            postgres: Wanted::Anywhere,
            kafka: Wanted::Anywhere,
            registry: Wanted::Anywhere,
            redis: Wanted::Anywhere,
            usual_ports: true,
            postgres_os_user: "nobody".to_owned(),
        }
    }

    /// What is wanted of one service.
    pub fn wanted(&self, service: Service) -> Wanted {
        match service {
            Service::Postgres => self.postgres,
            Service::Kafka => self.kafka,
            Service::Registry => self.registry,
            Service::Redis => self.redis,
        }
    }

    /// True if this stack starts the service itself.
    pub fn is_local(&self, service: Service) -> bool {
        self.wanted(service) != Wanted::External
    }
}

/// The data folder a person gets without asking: `/var/lib/waltalkie` for root (whose home `PostgreSQL`'s user cannot
/// enter), else `waltalkie` under the user's data folder.
pub fn default_data_dir() -> PathBuf {
    if is_root() {
        return PathBuf::from("/var/lib/waltalkie");
    }
    xdg("XDG_DATA_HOME", ".local/share").join("waltalkie")
}

/// Where fetched servers are kept: `WALTALKIE_CACHE_DIR`, else `/var/cache/waltalkie/stack` for root, else
/// `waltalkie/stack` under the user's cache folder.
pub fn default_cache_dir() -> PathBuf {
    if let Some(dir) = env::var_os("WALTALKIE_CACHE_DIR").filter(|dir| !dir.is_empty()) {
        return PathBuf::from(dir);
    }
    if is_root() {
        return PathBuf::from("/var/cache/waltalkie/stack");
    }
    xdg("XDG_CACHE_HOME", ".cache").join("waltalkie").join("stack")
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The folder a variable of the XDG base directory specification names, else its default under the home folder.
fn xdg(variable: &str, default: &str) -> PathBuf {
    // The specification says that relative paths are to be ignored.
    if let Some(dir) = env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return dir;
    }
    env::home_dir().unwrap_or_else(env::temp_dir).join(default)
}
