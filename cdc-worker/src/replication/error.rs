//! What the replication connection can fail with.

use postgres_protocol::message::backend::{ErrorField, ErrorResponseBody};
use tokio_postgres::fallible_iterator::FallibleIterator;

use crate::left_out;

/// SQLSTATE of a slot or a publication that isn't there.
const UNDEFINED_OBJECT: &str = "42704";
/// SQLSTATE of a slot that can't be streamed as it is.
const NOT_IN_STATE: &str = "55000";

/// An error that the server reports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLSTATE {code}){}", .hint.as_ref().map(|hint| format!(" {hint}")).unwrap_or_default())]
pub struct ServerError {
    /// SQLSTATE.
    pub code: String,
    /// The message.
    pub message: String,
    /// Detail and hint.
    pub hint: Option<String>,
}

impl ServerError {
    /// What can be done where this was asked, as far as the server's own words don't say it.
    fn remedy(&self, asked: &str) -> String {
        match (self.code.as_str(), asked) {
            // Too many connections: of this kind, of this role, or at all.
            ("53300", _) => {
                ": raise max_wal_senders or max_connections with ALTER SYSTEM and restart it, or end other connections"
                    .into()
            }
            // Insufficient privilege.
            ("42501", _) => ": give its role the attribute REPLICATION with ALTER ROLE".into(),
            (UNDEFINED_OBJECT, GOING_ON) => {
                format!(" without its publication: `waltalkie migrate` makes it. {}", left_out::WAY_OUT)
            }
            _ => String::new(),
        }
    }

    pub(super) fn read(body: &ErrorResponseBody) -> Self {
        let mut error = Self { code: String::new(), message: String::new(), hint: None };
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let text = |field: &ErrorField<'_>| String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => error.code = text(&field),
                b'M' => error.message = text(&field),
                b'D' | b'H' => {
                    let hint = error.hint.get_or_insert_default();
                    if !hint.is_empty() {
                        hint.push_str("; ");
                    }
                    hint.push_str(&text(&field));
                }
                _ => {}
            }
        }
        error
    }
}

/// What the replication connection can fail with.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// No connection.
    #[error("no replication connection to Postgres at {place}")]
    Connect {
        /// Host, port and database.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Only standbys answer.
    #[error(
        "Postgres at {place} is a standby that wasn't promoted: promote it, or name the primary in postgres.truth_url \
         (or postgres.replication_url, if that is set); both hosts with commas and target_session_attrs=read-write find it"
    )]
    Standby {
        /// Hosts and database.
        place: String,
    },
    /// The server's certificate isn't trusted.
    #[error("no replication connection to Postgres at {place}{}", runtime::tls::UNTRUSTED)]
    Untrusted {
        /// Host, port and database.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The settings can't be used for replication.
    #[error("postgres.replication_url: {0}")]
    Settings(&'static str),
    /// The server asks for a login that isn't supported.
    #[error("the server asks for {0} authentication, which isn't supported here: use scram-sha-256 in pg_hba.conf")]
    Authentication(&'static str),
    /// The server says no.
    #[error("the server refuses {what}{}", source.remedy(what))]
    Server {
        /// What was asked.
        what: &'static str,
        /// Its words.
        #[source]
        source: ServerError,
    },
    /// The connection broke.
    #[error("the replication connection broke")]
    Io(#[from] std::io::Error),
    /// The server ended the stream.
    #[error("the server ended the stream")]
    Ended,
    /// The server sent something that the protocol doesn't have there.
    #[error("the replication protocol is broken: {0}")]
    Protocol(String),
}

/// What is asked of a server so that it streams.
pub(super) const STARTING: &str = "START_REPLICATION";
/// What is asked of a server that streams.
pub(super) const GOING_ON: &str = "to go on streaming";

impl ReplicationError {
    /// Whether the stream came to a time in which the publication wasn't there, and ended of it.
    pub(crate) fn lacks_publication(&self) -> bool {
        matches!(self, Self::Server { what: GOING_ON, source } if source.code == UNDEFINED_OBJECT)
    }

    /// Whether the slot may be gone, or be given up by the server.
    pub(crate) fn may_lack_slot(&self) -> bool {
        let codes = [UNDEFINED_OBJECT, NOT_IN_STATE];
        matches!(self, Self::Server { what: STARTING, source } if codes.contains(&source.code.as_str()))
    }

    /// Whether connecting again can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Standby { .. } | Self::Io(_) | Self::Ended => true,
            Self::Untrusted { .. } | Self::Settings(_) | Self::Authentication(_) | Self::Protocol(_) => false,
            // Connection exceptions, resources, operator intervention, system errors, internal errors, object in use.
            Self::Server { source, .. } => {
                matches!(source.code.get(..2), Some("08" | "53" | "57" | "58" | "XX")) || source.code == "55006"
            }
        }
    }

    /// Whether the server lacks a file that it was asked for.
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::Server { source, .. } if source.code == "58P01")
    }

    /// Whether the slot is held by another connection.
    pub fn is_slot_active(&self) -> bool {
        matches!(self, Self::Server { source, .. } if source.code == "55006")
    }
}
