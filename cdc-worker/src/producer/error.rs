//! What a producer can fail with.

use std::io;

use kafka_protocol::ResponseError;

/// Why records aren't where they were to go. A producer is of no use after any of them.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The settings say nothing that can be used.
    #[error("{0}")]
    Settings(String),
    /// No connection.
    #[error("no connection to {place}")]
    Connect {
        /// Host and port.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate isn't trusted.
    #[error("{place}{}", UNTRUSTED)]
    Untrusted {
        /// Host and port.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A connection that was there.
    #[error("the connection to {place} broke")]
    Broken {
        /// Host and port.
        place: String,
        /// How.
        #[source]
        source: io::Error,
    },
    /// The login isn't taken.
    #[error("{place} doesn't take the login of kafka.sasl_username by {mechanism}: {answer}")]
    Login {
        /// Host and port.
        place: String,
        /// SASL mechanism.
        mechanism: String,
        /// What the broker says.
        answer: String,
    },
    /// A broker says no.
    #[error("{place} refuses {what}: {}{}", in_words(*answer), way_out(*answer))]
    Refused {
        /// Host and port.
        place: String,
        /// Request, and what it was about.
        what: String,
        /// Kafka's error.
        answer: ResponseError,
    },
    /// A topic or partition that is needed.
    #[error("{0} isn't there; `waltalkie migrate` makes topics")]
    NoTopic(String),
    /// The cluster isn't any more what it was when the producer was made.
    #[error("while it was written to, {0}")]
    Changed(String),
    /// Bytes that aren't Kafka's protocol, or a version of it that isn't known here.
    #[error("{place} doesn't speak Kafka's protocol as expected: {text}")]
    Protocol {
        /// Host and port.
        place: String,
        /// What.
        text: String,
    },
    /// A library that compresses failed.
    #[error("compressing records failed")]
    Compression(#[source] io::Error),
}

const UNTRUSTED: &str = ": its certificate doesn't belong to that name, has run out, or comes from a CA that isn't trusted; \
                         kafka.ca_file names a private one";

impl ProduceError {
    /// Whether starting over can help.
    pub fn is_transient(&self) -> bool {
        match self {
            // A broker that has just started may not know its users yet.
            Self::Connect { .. } | Self::Broken { .. } | Self::NoTopic(_) | Self::Changed(_) | Self::Login { .. } => {
                true
            }
            Self::Refused { .. } => !self.is_forbidden() && !self.is_too_large(),
            Self::Settings(_) | Self::Untrusted { .. } | Self::Protocol { .. } | Self::Compression(_) => false,
        }
    }

    /// Whether this login may not do what was asked.
    pub fn is_forbidden(&self) -> bool {
        matches!(
            self.refusal(),
            Some(
                ResponseError::TransactionalIdAuthorizationFailed
                    | ResponseError::TopicAuthorizationFailed
                    | ResponseError::ClusterAuthorizationFailed
            )
        )
    }

    /// Whether a record is larger than its topic takes.
    pub fn is_too_large(&self) -> bool {
        matches!(self.refusal(), Some(ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge))
    }

    /// Kafka's own error, if it is one.
    pub const fn refusal(&self) -> Option<ResponseError> {
        match self {
            Self::Refused { answer, .. } => Some(*answer),
            _ => None,
        }
    }
}

/// What can be done, where Kafka's word alone doesn't tell.
const fn way_out(answer: ResponseError) -> &'static str {
    match answer {
        ResponseError::InvalidTimestamp => {
            ": a record's time is further ahead of the broker's clock than the topic's message.timestamp.after.max.ms; \
             `waltalkie migrate` makes topics without that limit, for this one raise it, and look at the clocks"
        }
        ResponseError::NotEnoughReplicas | ResponseError::NotEnoughReplicasAfterAppend => {
            ": fewer replicas are in sync than the topic's min.insync.replicas"
        }
        _ => "",
    }
}

/// `TopicAuthorizationFailed` as "topic authorization failed".
fn in_words(answer: ResponseError) -> String {
    let mut words = String::new();
    for letter in answer.to_string().chars() {
        if letter.is_ascii_uppercase() && words.ends_with(|last: char| last.is_ascii_lowercase()) {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}
