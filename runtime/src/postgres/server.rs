//! From a URL to what a connection needs: the driver's settings, and the certificates that the server is checked against.
//!
//! A private CA stands in the URL, as libpq has it: `sslrootcert=<file>`. The driver doesn't know that parameter, so it is
//! taken out here. `postgres.ca_file` is put into the URLs when the configuration is read.

use std::ops::Deref;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls::ClientConfig;
use tokio_postgres::Config;

use super::PostgresError;
use crate::config::Secret;
use crate::tls;

const CA: &str = "sslrootcert";

/// A server's database and login, and whom to trust when it shows its certificate.
#[derive(Clone)]
pub struct Server {
    config: Config,
    tls: Arc<ClientConfig>,
}

impl Server {
    pub(super) fn parse(url: &Secret, setting: &'static str) -> Result<Self, PostgresError> {
        let (rest, ca_file) = without_ca(url.expose());
        let mut config = Config::from_str(&rest).map_err(|source| PostgresError::BadUrl { setting, source })?;
        config.connect_timeout(Duration::from_secs(5)).keepalives_idle(Duration::from_secs(10));
        if config.get_application_name().is_none() {
            config.application_name("waltalkie");
        }
        let tls = match ca_file {
            Some(path) => tls::client_config_with(Path::new(&path)).map_err(|source| PostgresError::CaFile {
                setting,
                path,
                source,
            })?,
            None => tls::client_config(),
        };
        Ok(Self { config, tls })
    }

    /// TLS towards it.
    pub fn tls(&self) -> ClientConfig {
        (*self.tls).clone()
    }
}

impl Deref for Server {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

/// The URL with a file of certificates to trust, unless it names one itself.
pub(crate) fn with_ca(url: &Secret, ca_file: &str) -> Secret {
    let url = url.expose();
    if url.is_empty() || without_ca(url).1.is_some() {
        return Secret::new(url);
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    Secret::new(format!("{url}{separator}{CA}={}", utf8_percent_encode(ca_file, NON_ALPHANUMERIC)))
}

/// The URL of another database of the same server, with all else that it says.
pub fn with_database(url: &Secret, database: &str) -> Option<Secret> {
    let (address, parameters) = url.expose().split_once('?').map_or((url.expose(), ""), |(front, back)| (front, back));
    let (front, _) = address.rsplit_once('/')?;
    let separator = if parameters.is_empty() { "" } else { "?" };
    Some(Secret::new(format!("{front}/{database}{separator}{parameters}")))
}

fn without_ca(url: &str) -> (String, Option<String>) {
    let Some((address, parameters)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut ca_file = None;
    let kept: Vec<&str> = parameters
        .split('&')
        .filter(|parameter| match parameter.split_once('=') {
            Some((CA, path)) => {
                ca_file = Some(percent_decode_str(path).decode_utf8_lossy().into_owned());
                false
            }
            _ => true,
        })
        .collect();
    let separator = if kept.is_empty() { "" } else { "?" };
    (format!("{address}{separator}{}", kept.join("&")), ca_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ca_goes_in_and_comes_out_whatever_its_path() {
        for url in ["postgres://u:p@h:5/d", "postgres://u:p@h/d?sslmode=require", "postgres://h/d?a=b&c=d"] {
            let with = with_ca(&Secret::new(url), "/etc/ca & co/ü?.pem");
            assert_eq!(without_ca(with.expose()), (url.to_owned(), Some("/etc/ca & co/ü?.pem".to_owned())));
            assert_eq!(with_ca(&with, "/another"), with, "the URL's own goes before");
        }
        assert!(with_ca(&Secret::default(), "/ca").is_empty());
    }

    #[test]
    fn another_database_keeps_the_parameters() {
        let url = Secret::new("postgres://u:p@h:5/d?sslmode=require&sslrootcert=%2Fa");
        let other = with_database(&url, "x").unwrap();
        assert_eq!(other.expose(), "postgres://u:p@h:5/x?sslmode=require&sslrootcert=%2Fa");
        assert_eq!(with_database(&Secret::new("postgres://h/d"), "x").unwrap().expose(), "postgres://h/x");
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let url = with_ca(&Secret::new("postgres://h/d"), &path.to_string_lossy());
        for content in [None, Some("no certificate")] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = Server::parse(&url, "postgres.truth_url").err().unwrap().to_string();
            assert!(error.contains("postgres.ca_file") && error.contains("ca.pem"), "{error}");
        }
    }
}
