//! Connections to Postgres: pools for queries, single ones for those who need their own.

mod server;

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::Secret;
use crate::tls;

pub(crate) use server::with_ca;
pub use server::{Server, with_database};

/// What connecting can fail with. Never holds the URL, which has the password in it.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The URL can't be read.
    #[error("{setting} is not a Postgres URL like postgres://user:password@host:5432/database")]
    BadUrl {
        /// Key in the configuration.
        setting: &'static str,
        /// What is wrong with it.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The pool could not be made.
    #[error("the pool for {setting} could not be made")]
    Pool {
        /// Key in the configuration.
        setting: &'static str,
        /// What the pool says.
        #[source]
        source: deadpool_postgres::BuildError,
    },
    /// The certificates to trust can't be read.
    #[error(
        "{path}, the certificates to trust for {setting} (postgres.ca_file, or sslrootcert in the URL), can't be used"
    )]
    CaFile {
        /// Key in the configuration.
        setting: &'static str,
        /// File.
        path: String,
        /// Why.
        #[source]
        source: tls::CaError,
    },
    /// No connection.
    #[error("no connection to Postgres at {place}{}", hint(source))]
    Connect {
        /// Host, port and database.
        place: String,
        /// What the driver says.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// What is said beside the driver's words.
fn hint(error: &tokio_postgres::Error) -> &'static str {
    if tls::is_certificate_error(error) {
        tls::UNTRUSTED
    } else if error.source().is_some_and(|source| source.to_string().contains("server does not support TLS")) {
        ": sslmode=require in its URL asks for TLS; set ssl = on there"
    } else {
        ""
    }
}

/// The parsed URL, with keepalives and a timeout so that a dead peer is noticed.
pub fn parse(url: &Secret, setting: &'static str) -> Result<Server, PostgresError> {
    Server::parse(url, setting)
}

/// An identifier as SQL has it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `host:port/database`, for people; several hosts with commas.
pub fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(number, host)| {
        let port = ports.get(number).or_else(|| ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            #[cfg(unix)]
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    });
    let hosts: Vec<String> = hosts.collect();
    let hosts = if hosts.is_empty() { "localhost:5432".to_owned() } else { hosts.join(",") };
    format!("{hosts}/{}", config.get_dbname().unwrap_or_default())
}

/// Settings of pooled connections. Their queries look rows up by index. Plans are made once, since making them takes
/// longer than most of these queries; those that were right while a table was small would read all of it for ever.
const LOOKUPS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
                       SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off";

/// A pool of at most `size` connections, opened when needed.
pub fn pool(url: &Secret, setting: &'static str, size: usize) -> Result<Pool, PostgresError> {
    pool_in(url, setting, size, "")
}

/// A pool whose server ends a transaction that does nothing for so long, and with it its locks: somebody who is stopped
/// in the middle of one holds the others up no longer.
pub fn pool_that_lets_go(
    url: &Secret,
    setting: &'static str,
    size: usize,
    idle: Duration,
) -> Result<Pool, PostgresError> {
    let limit = format!("; SET idle_in_transaction_session_timeout = {}", idle.as_millis());
    pool_in(url, setting, size, &limit)
}

/// A pool whose connections see the tables of this schema and of no other.
pub fn pool_of_schema(url: &Secret, setting: &'static str, size: usize, schema: &str) -> Result<Pool, PostgresError> {
    pool_in(url, setting, size, &format!("; SET search_path = {}", quoted(schema)))
}

fn pool_in(url: &Secret, setting: &'static str, size: usize, more: &str) -> Result<Pool, PostgresError> {
    let config = parse(url, setting)?;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = if config.get_ssl_mode() == SslMode::Disable || is_local(&config) {
        Manager::from_config((*config).clone(), NoTls, recycling)
    } else {
        Manager::from_config((*config).clone(), connector(&config), recycling)
    };
    let session: std::sync::Arc<str> = format!("{LOOKUPS}{more}").into();
    Pool::builder(manager)
        .max_size(size)
        .post_create(Hook::async_fn(move |client, _| {
            let session = std::sync::Arc::clone(&session);
            Box::pin(async move { client.batch_execute(&session).await.map_err(HookError::Backend) })
        }))
        .wait_timeout(Some(Duration::from_secs(10)))
        .create_timeout(Some(Duration::from_secs(10)))
        .recycle_timeout(Some(Duration::from_secs(10)))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|source| PostgresError::Pool { setting, source })
}

/// One connection of its own; its driver runs until the client is dropped.
pub async fn connect(config: &Server) -> Result<Client, PostgresError> {
    let failed = |source| PostgresError::Connect { place: place(config), source };
    let client = if config.get_ssl_mode() == SslMode::Disable || is_local(config) {
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        tokio::spawn(connection);
        client
    } else {
        let (client, connection) = config.connect(connector(config)).await.map_err(failed)?;
        tokio::spawn(connection);
        client
    };
    Ok(client)
}

fn connector(server: &Server) -> MakeRustlsConnect {
    MakeRustlsConnect::new(server.tls())
}

/// A server on this machine, for which `sslmode=prefer` (the default) is satisfied without TLS.
fn is_local(config: &Config) -> bool {
    config.get_ssl_mode() == SslMode::Prefer
        && config.get_hosts().iter().all(|host| match host {
            Host::Tcp(host) => host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
            #[cfg(unix)]
            Host::Unix(_) => true,
        })
}

/// Whether an error is the connection's or the server's state, so that trying again can help; an error in what was
/// asked is not.
pub fn is_transient(error: &tokio_postgres::Error) -> bool {
    use tokio_postgres::error::SqlState;
    match error.code() {
        // Closed, timed out, or broken on the way; what can't be encoded or decoded never will be.
        None if tls::is_certificate_error(error) => false,
        None => error.is_closed() || error.source().is_none_or(<dyn std::error::Error>::is::<std::io::Error>),
        Some(code) => {
            let class = &code.code()[..2];
            matches!(class, "08" | "40" | "53" | "57" | "58")
                || *code == SqlState::LOCK_NOT_AVAILABLE
                || *code == SqlState::OBJECT_IN_USE
                // A standby that wasn't promoted yet, or a primary that takes no writes for now.
                || *code == SqlState::READ_ONLY_SQL_TRANSACTION
                // It stood still for too long, stopped or starved: the server has rolled it back.
                || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        }
    }
}

/// The same for what a pool returns.
pub fn is_pool_error_transient(error: &PoolError) -> bool {
    match error {
        // The hook asks the first question of a connection, which may break then as at any other time.
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => is_transient(error),
        PoolError::Timeout(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_named_and_the_password_is_not() {
        let url = Secret::new("postgres://u:secret@one:5432,two:5433/chat?target_session_attrs=read-write".to_owned());
        let config = parse(&url, "postgres.truth_url").expect("a URL");
        assert_eq!(place(&config), "one:5432,two:5433/chat");
    }
}
