//! What the registry's client can fail with.

/// What a call to the registry can fail with. The URL in it has no credentials.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer.
    #[error("schema registry {url}: no answer")]
    Unreachable {
        /// Address without credentials.
        url: String,
        /// What the client says.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that says no.
    #[error("schema registry {url}: {status} {message}")]
    Refused {
        /// Address without credentials.
        url: String,
        /// HTTP status.
        status: u16,
        /// The registry's own words.
        message: String,
    },
    /// The address is no URL.
    #[error("schema registry: `{0}` is not a URL")]
    BadUrl(String),
}

impl RegistryError {
    /// Whether trying again can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::BadUrl(_) => false,
        }
    }

    /// Whether the registry says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}
