//! `[media]`: the store of files, and what is taken into it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::Secret;

/// Longest time that a URL for reading a file may live: what a deleted message's readers still have, in seconds.
const MOST_URL_TTL_S: u64 = 300;
/// The largest object that S3 copies with one request.
const MOST_FILE_BYTES: u64 = 5 << 30;
/// How long `chat.commands` are kept, and with them sends that name a file. A file must outlive them.
const COMMANDS_KEPT_MS: u64 = 7 * 86_400_000;

/// `[media]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    /// Bucket of the S3 store; empty: no files in messages.
    pub bucket: String,
    /// Address of the store, such as `https://minio.example.com:9000`; empty for AWS in `media.region`.
    pub endpoint: String,
    /// Region of the bucket.
    pub region: String,
    /// Whether the bucket is in a URL's path, as most stores other than AWS have it, or else in its host.
    pub path_style: bool,
    /// Access key. Empty: as AWS' own programs find one (environment, web identity, container, instance).
    pub access_key_id: String,
    /// Secret of `media.access_key_id`.
    pub secret_access_key: Secret,
    /// Address of the same store as clients reach it, where that differs from `media.endpoint`. The store must take the
    /// `Host` that clients send.
    pub public_url: String,
    /// The largest file.
    pub max_file_bytes: u64,
    /// Types that may be declared, such as `image/*` or `application/pdf`; `*/*` for any.
    pub allowed_types: Vec<String>,
    /// Uploads that one person may have begun and not completed.
    pub open_uploads: u32,
    /// How long a URL to upload with lives, in seconds.
    pub upload_url_ttl_s: u64,
    /// How long a URL to read a file with lives, in seconds; at most 300.
    pub url_ttl_s: u64,
    /// Files that one gateway looks into at once.
    pub checks_at_once: usize,
    /// Folder with room for as many of the largest files; empty for the system's own.
    pub scratch_dir: String,
    /// How long an upload may stay unfinished before it is removed.
    pub unfinished_retention_ms: u64,
    /// How long a file that no message names is kept. Longer than `chat.commands` keeps a send, which is 7 days.
    pub unposted_retention_ms: u64,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            endpoint: String::new(),
            region: "us-east-1".into(),
            path_style: true,
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            public_url: String::new(),
            max_file_bytes: 100 << 20,
            allowed_types: vec!["*/*".into()],
            open_uploads: 20,
            upload_url_ttl_s: 3_600,
            url_ttl_s: MOST_URL_TTL_S,
            checks_at_once: 2,
            scratch_dir: String::new(),
            unfinished_retention_ms: 86_400_000,
            unposted_retention_ms: 8 * 86_400_000,
        }
    }
}

impl Media {
    /// Whether there is a store.
    pub fn is_on(&self) -> bool {
        !self.bucket.is_empty()
    }

    /// Whether a declared media type may be uploaded. Case and parameters don't matter.
    pub fn allows(&self, content_type: &str) -> bool {
        let declared = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        self.allowed_types.iter().any(|allowed| {
            let allowed = allowed.trim().to_ascii_lowercase();
            match allowed.strip_suffix("/*") {
                Some("*") => true,
                Some(top) => declared.split('/').next() == Some(top),
                None => declared == allowed,
            }
        })
    }

    /// Address of the store: the configured one, or AWS'.
    pub fn store_url(&self) -> String {
        if self.endpoint.is_empty() {
            format!("https://s3.{}.amazonaws.com", self.region)
        } else {
            self.endpoint.clone()
        }
    }

    /// Origin of the URLs that clients get, as a browser's policy names it; `None` if there is no store.
    pub fn client_origin(&self) -> Option<String> {
        if !self.is_on() {
            return None;
        }
        let url = if self.public_url.is_empty() { self.store_url() } else { self.public_url.clone() };
        let mut url = Url::parse(&url).ok()?;
        if !self.path_style {
            let host = format!("{}.{}", self.bucket, url.host_str()?);
            url.set_host(Some(&host)).ok()?;
        }
        Some(url.origin().ascii_serialization())
    }

    /// What is wrong: key and problem.
    pub(super) fn check(&self, development: bool) -> Result<(), (&'static str, String)> {
        if !self.is_on() {
            return Ok(());
        }
        let wrong = |key, problem: &str| Err((key, problem.to_owned()));
        for (key, text) in [("media.endpoint", &self.endpoint), ("media.public_url", &self.public_url)] {
            if !text.is_empty() && !is_address(text, development) {
                return wrong(
                    key,
                    "is an address such as https://s3.example.com, or http:// on this machine or with development = true",
                );
            }
        }
        if self.access_key_id.is_empty() != self.secret_access_key.is_empty() {
            return wrong("media.access_key_id", "goes with media.secret_access_key: set both, or neither");
        }
        if self.url_ttl_s == 0 || self.url_ttl_s > MOST_URL_TTL_S {
            return wrong("media.url_ttl_s", "is from 1 to 300 s: so long a deleted file can still be read");
        }
        if !(60..=86_400).contains(&self.upload_url_ttl_s) {
            return wrong("media.upload_url_ttl_s", "is from 60 to 86,400 s");
        }
        if self.max_file_bytes == 0 || self.max_file_bytes > MOST_FILE_BYTES {
            return wrong("media.max_file_bytes", "is from 1 byte to 5 GiB, which S3 copies at once");
        }
        if self.checks_at_once == 0 || self.open_uploads == 0 {
            return wrong("media", "checks_at_once and open_uploads are at least 1");
        }
        if self.unfinished_retention_ms <= self.upload_url_ttl_s * 1_000 {
            return wrong("media.unfinished_retention_ms", "is longer than media.upload_url_ttl_s");
        }
        if self.unposted_retention_ms <= COMMANDS_KEPT_MS {
            return wrong(
                "media.unposted_retention_ms",
                "is longer than 7 days: so long a send that names the file can wait in chat.commands",
            );
        }
        Ok(())
    }
}

fn is_address(text: &str, development: bool) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => return false,
    };
    let is_bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    is_bare && (url.scheme() == "https" || url.scheme() == "http" && (is_local || development))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on() -> Media {
        Media { bucket: "b".into(), endpoint: "https://s3.example.com".into(), ..Media::default() }
    }

    #[test]
    fn types_are_allowed_by_name_and_by_family() {
        assert!(on().allows("anything/at-all"));
        let media = Media { allowed_types: vec!["image/*".into(), "application/pdf".into()], ..on() };
        assert!(media.allows("IMAGE/png; q=1") && media.allows("application/pdf"));
        assert!(!media.allows("video/mp4") && !media.allows("application/zip") && !media.allows(""));
    }

    #[test]
    fn what_cant_work_is_refused_by_key() {
        let key = |media: Media| media.check(false).err().map(|(key, _)| key);
        assert_eq!(key(on()), None);
        assert_eq!(key(Media { endpoint: "http://127.0.0.1:9000".into(), ..on() }), None);
        assert_eq!(key(Media { endpoint: "http://s3.example.com".into(), ..on() }), Some("media.endpoint"));
        assert_eq!(key(Media { public_url: "media.example.com".into(), ..on() }), Some("media.public_url"));
        assert_eq!(key(Media { access_key_id: "k".into(), ..on() }), Some("media.access_key_id"));
        assert_eq!(key(Media { url_ttl_s: 301, ..on() }), Some("media.url_ttl_s"));
        assert_eq!(key(Media { max_file_bytes: 6 << 30, ..on() }), Some("media.max_file_bytes"));
        assert_eq!(key(Media { unposted_retention_ms: 86_400_000, ..on() }), Some("media.unposted_retention_ms"));
        assert_eq!(key(Media { url_ttl_s: 0, ..Media::default() }), None, "without a bucket nothing matters");
    }

    #[test]
    fn the_clients_origin_is_the_host_that_they_ask() {
        assert_eq!(on().client_origin().as_deref(), Some("https://s3.example.com"));
        let virtual_host = Media { path_style: false, endpoint: String::new(), region: "eu-west-1".into(), ..on() };
        assert_eq!(virtual_host.client_origin().as_deref(), Some("https://b.s3.eu-west-1.amazonaws.com"));
        let apart = Media { public_url: "https://media.example.com/".into(), ..on() };
        assert_eq!(apart.client_origin().as_deref(), Some("https://media.example.com"));
        assert_eq!(Media::default().client_origin(), None);
    }
}
