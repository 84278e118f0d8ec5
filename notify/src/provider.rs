//! The services that reach people: APNs, FCM, Web Push, SMTP. Each sends one notification and says what came of it.
//!
//! *Time.* Every call ends within its time-outs. *Secrets.* Keys, tokens of devices and addresses of subscriptions are in no
//! error, outcome or `Debug`: of what services answer, only words of a plain alphabet are repeated. *Tries.* A call is one
//! try (two, where a token of ours had run out); when to try again is [`backoff`](crate::backoff)'s matter.

pub mod address;
pub mod apns;
pub mod fcm;
mod http;
pub mod smtp;
pub mod web_push;

use std::time::Duration;

pub use http::{Clock, HttpOptions};

/// What came of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The service took it.
    Sent {
        /// What the service calls it, for its support.
        id: Option<String>,
    },
    /// The device or address isn't there any more: remove it, unless it was registered again later.
    Gone {
        /// Since when, in milliseconds since 1970, if the service says so.
        since_ms: Option<i64>,
    },
    /// Try again.
    Retry {
        /// Not earlier than after this time.
        after: Option<Duration>,
        /// Why.
        fault: Fault,
    },
    /// Never try this one again.
    Refused {
        /// In the service's words.
        reason: String,
    },
}

impl Outcome {
    /// Whether the provider as a whole is in trouble, as opposed to this device or notification.
    pub fn is_fault_of_provider(&self) -> bool {
        matches!(self, Self::Retry { fault, .. } if !matches!(fault, Fault::Limited(_)))
    }

    /// Whether the person may have got it although it isn't known: try again with the same collapse key only.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Retry { fault: Fault::AnswerLost(_), .. })
    }

    /// Its name in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sent { .. } => "sent",
            Self::Gone { .. } => "gone",
            Self::Retry { .. } => "retry",
            Self::Refused { .. } => "refused",
        }
    }
}

/// Why something is to be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The service wants less, of this device or of us.
    #[error("the service asks for patience: {0}")]
    Limited(String),
    /// The service can't just now.
    #[error("the service fails: {0}")]
    Unavailable(String),
    /// Our keys aren't accepted. People are needed, and until then nothing is lost.
    #[error("the service doesn't accept our credentials: {0}")]
    Credentials(String),
    /// It never got there.
    #[error("the service can't be reached: {0}")]
    Unreachable(String),
    /// It may have got there: the connection ended, or the time did, before an answer came.
    #[error("no answer came: {0}")]
    AnswerLost(String),
}

/// Why a provider can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A key can't be read.
    #[error("{provider}: the key can't be read: {reason}")]
    Key {
        /// Whose.
        provider: &'static str,
        /// Without the key.
        reason: &'static str,
    },
    /// A setting makes no sense.
    #[error("{provider}: {reason}")]
    Setting {
        /// Whose.
        provider: &'static str,
        /// Which, and why.
        reason: String,
    },
    /// No HTTP client.
    #[error("no HTTP client could be made")]
    Http(#[source] reqwest::Error),
    /// No mail client.
    #[error("no mail client could be made")]
    Smtp(#[source] lettre::transport::smtp::Error),
}

/// What a service says, if it is fit to be repeated: a short word of letters, digits and `_.-`. Anything else could hold
/// what we sent.
fn plain(reason: &str) -> Option<String> {
    let is_plain = (1..=64).contains(&reason.len())
        && reason.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    is_plain.then(|| reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_words_are_repeated() {
        assert_eq!(plain("BadDeviceToken").as_deref(), Some("BadDeviceToken"));
        assert_eq!(plain(""), None);
        assert_eq!(plain("token=abc\ndef"), None);
        assert_eq!(plain(&"a".repeat(65)), None);
    }

    #[test]
    fn outcomes_say_whose_trouble_it_is() {
        let retry = |fault| Outcome::Retry { after: None, fault };
        assert!(!retry(Fault::Limited("429".into())).is_fault_of_provider());
        assert!(retry(Fault::Credentials("InvalidProviderToken".into())).is_fault_of_provider());
        let lost = retry(Fault::AnswerLost("time-out".into()));
        assert!(lost.is_fault_of_provider() && lost.is_unknown());
        assert!(!retry(Fault::Unreachable("refused".into())).is_unknown());
    }
}
