//! How brokers are spoken to: TLS and login, from the configuration.

use std::path::Path;
use std::sync::Arc;

use runtime::config::{Kafka, Secret};
use runtime::tls;
use rustls::ClientConfig;

use super::error::ProduceError;
use super::sasl::Hash;

/// TLS and login of every connection.
#[derive(Clone)]
pub(super) struct Security {
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) login: Option<Login>,
}

/// A name and its password, and how they are told.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) mechanism: Mechanism,
    pub(super) user: String,
    pub(super) password: Secret,
}

/// SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    Plain,
    Scram(Hash),
}

impl Mechanism {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let all = [Self::Plain, Self::Scram(Hash::Sha256), Self::Scram(Hash::Sha512)];
        all.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

impl Security {
    pub(super) fn of(kafka: &Kafka) -> Result<Self, ProduceError> {
        let (is_tls, has_login) = match kafka.security_protocol.as_str() {
            "plaintext" => (false, false),
            "ssl" => (true, false),
            "sasl_plaintext" => (false, true),
            "sasl_ssl" => (true, true),
            other => {
                return Err(ProduceError::Settings(format!(
                    "kafka.security_protocol is `{other}`: plaintext, ssl, sasl_plaintext and sasl_ssl are known"
                )));
            }
        };
        let tls = is_tls.then(|| {
            if kafka.ca_file.is_empty() {
                tls::client_config_of_the_system()
            } else {
                tls::client_config_with(Path::new(&kafka.ca_file))
            }
        });
        let tls = tls.transpose().map_err(|error| {
            let source = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            ProduceError::Settings(format!("kafka.ca_file: {error}{source}"))
        })?;
        let mechanism = || {
            Mechanism::parse(&kafka.sasl_mechanism).ok_or_else(|| {
                ProduceError::Settings(format!(
                    "kafka.sasl_mechanism is `{}`: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are known",
                    kafka.sasl_mechanism
                ))
            })
        };
        let login = has_login.then(|| {
            Ok::<_, ProduceError>(Login {
                mechanism: mechanism()?,
                user: kafka.sasl_username.clone(),
                password: kafka.sasl_password.clone(),
            })
        });
        Ok(Self { tls, login: login.transpose()? })
    }
}
