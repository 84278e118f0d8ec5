//! Why the store didn't do what was asked.

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// There is no such object, upload or bucket.
    #[error("{doing}: it isn't there")]
    Absent {
        /// What was being done.
        doing: &'static str,
    },
    /// The store refuses: credentials, rights, or a request that it doesn't know. Definite.
    #[error(
        "{doing}: the store refuses it ({detail}); check media.access_key_id, its rights on media.bucket, and media.region"
    )]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        detail: String,
    },
    /// No answer, or one that says to come again. Transient.
    #[error("{doing}: the store is away or failing ({detail})")]
    Away {
        /// What was being done.
        doing: &'static str,
        /// What was seen.
        detail: String,
    },
    /// The configuration names no store that can be asked.
    #[error("media.endpoint, media.bucket or media.region can't be used: {detail}")]
    Settings {
        /// Why.
        detail: String,
    },
}

impl S3Error {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    /// Whether what was asked about isn't there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    pub(super) fn of(doing: &'static str) -> impl Fn(object_store::Error) -> Self {
        use object_store::Error as Store;
        move |error| match error {
            Store::NotFound { .. } => Self::Absent { doing },
            Store::PermissionDenied { .. } | Store::Unauthenticated { .. } | Store::InvalidPath { .. } => {
                Self::Refused { doing, detail: brief(&error) }
            }
            error => Self::Away { doing, detail: brief(&error) },
        }
    }

    pub(super) fn of_http(doing: &'static str) -> impl Fn(reqwest::Error) -> Self {
        // Its URL holds a signature.
        move |error| Self::Away { doing, detail: brief(&error.without_url()) }
    }

    pub(super) fn of_status(doing: &'static str, status: u16, code: &str) -> Self {
        let detail = format!("{status} {code}");
        match status {
            404 => Self::Absent { doing },
            408 | 429 | 500.. => Self::Away { doing, detail },
            _ => Self::Refused { doing, detail },
        }
    }
}

/// Answers of stores may be whole documents.
fn brief(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = crate::chain(error);
    text.truncate(text.floor_char_boundary(500));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_to_come_again() {
        let of = |status, code| S3Error::of_status("looking at an upload", status, code);
        let passing = [(408, "RequestTimeout"), (429, "TooManyRequests"), (500, "InternalError"), (503, "SlowDown")];
        for (status, code) in passing {
            let error = of(status, code);
            assert!(error.is_transient() && !error.is_absent(), "{error}");
            let told = format!("looking at an upload: the store is away or failing ({status} {code})");
            assert_eq!(error.to_string(), told);
        }
        for (status, code) in [(400, "EntityTooSmall"), (403, "SignatureDoesNotMatch"), (301, "PermanentRedirect")] {
            let error = of(status, code);
            assert!(matches!(&error, S3Error::Refused { detail, .. } if detail.ends_with(code)), "{error}");
            assert!(!error.is_transient());
        }
        let gone = of(404, "NoSuchUpload");
        assert!(gone.is_absent() && !gone.is_transient(), "{gone}");
    }
}
