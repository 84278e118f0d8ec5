//! Where the servers are, for this program's configuration and for other programs.

use std::fmt::{self, Write};

/// Addresses of the servers that this stack runs; `None` for one that is external.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// `postgres://user:password@127.0.0.1:port`, without a database.
    pub postgres_url_base: Option<String>,
    /// The same server by its Unix socket, if it has one.
    pub postgres_socket_url_base: Option<String>,
    /// `host:port`, as `bootstrap.servers` takes it.
    pub kafka_brokers: Option<String>,
    /// `http://host:port/apis/ccompat/v7`: the root of Confluent's API.
    pub registry_url: Option<String>,
    /// `redis://host:port`.
    pub redis_url: Option<String>,
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The part after the login, if there is one: passwords don't belong into logs.
        let place = |url: &Option<String>| url.as_deref().and_then(|url| url.rsplit('@').next()).map(str::to_owned);
        f.debug_struct("Endpoints")
            .field("postgres", &place(&self.postgres_url_base))
            .field("postgres_socket", &place(&self.postgres_socket_url_base))
            .field("kafka_brokers", &self.kafka_brokers)
            .field("registry_url", &self.registry_url)
            .field("redis_url", &self.redis_url)
            .finish()
    }
}

impl Endpoints {
    /// The URL of one database, if `PostgreSQL` is run here.
    pub fn postgres_url(&self, database: &str) -> Option<String> {
        self.postgres_url_base.as_ref().map(|base| format!("{base}/{database}"))
    }

    /// The URL of one database by the server's Unix socket, if `PostgreSQL` is run here and has one: the quickest way for
    /// who reads much.
    pub fn postgres_socket_url(&self, database: &str) -> Option<String> {
        self.postgres_socket_url_base.as_ref().map(|base| format!("{base}/{database}"))
    }

    /// The addresses as this program's environment variables, for `truth` and `read` databases of these names.
    pub fn env(&self, truth: &str, read: &str) -> Vec<(&'static str, String)> {
        [
            ("WALTALKIE_POSTGRES__TRUTH_URL", self.postgres_url(truth)),
            ("WALTALKIE_POSTGRES__READ_URL", self.postgres_url(read)),
            ("WALTALKIE_KAFKA__BROKERS", self.kafka_brokers.clone()),
            ("WALTALKIE_REGISTRY__URL", self.registry_url.clone()),
            ("WALTALKIE_REDIS__URL", self.redis_url.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .collect()
    }

    /// [`Endpoints::env`] as `export NAME='value'` lines, safe for a shell's `eval`.
    pub fn env_lines(&self, truth: &str, read: &str) -> String {
        let mut lines = String::new();
        for (name, value) in self.env(truth, read) {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "export {name}={}", quoted(&value));
        }
        lines
    }
}

/// In single quotes a shell reads nothing but the closing quote.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_leave_out_what_is_external_and_survive_a_shell() {
        let endpoints = Endpoints {
            postgres_url_base: Some("postgres://u:p'$(x)@127.0.0.1:1".to_owned()),
            postgres_socket_url_base: None,
            redis_url: Some("redis://127.0.0.1:2".to_owned()),
            ..Endpoints::default()
        };
        assert!(!format!("{endpoints:?}").contains("u:p"));
        assert_eq!(
            endpoints.env_lines("truth", "read"),
            "export WALTALKIE_POSTGRES__TRUTH_URL='postgres://u:p'\\''$(x)@127.0.0.1:1/truth'\n\
             export WALTALKIE_POSTGRES__READ_URL='postgres://u:p'\\''$(x)@127.0.0.1:1/read'\n\
             export WALTALKIE_REDIS__URL='redis://127.0.0.1:2'\n"
        );
    }
}
