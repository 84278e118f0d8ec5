//! The S3 store of files: one client for what this program does itself, and signatures for what others may do.
//!
//! ```text
//!   this program ──▶ object_store: put, read, copy, delete, list      (retries, the usual chain of credentials)
//!                └─▶ multipart:    begin, parts, complete, abort      (object_store has no list of parts)
//!   clients ───────▶ signed URLs:  PUT of one length and type, PUT of one part, GET under one name and type
//! ```
//!
//! - **What a URL allows is all signed**: key, length and type of an upload, name and type of a download, and until when.
//!   object_store signs no headers, so URLs are signed by `rusty-s3` with object_store's credentials.
//! - **Failure.** object_store's requests are tried again for a few seconds, those for uploads in parts are not; then the error is
//!   transient, and the caller's to try later.

mod error;
mod multipart;
mod sign;

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{Attribute, BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutOptions, RetryConfig};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use url::Url;

pub use error::S3Error;
pub use multipart::Part;
pub use sign::Presigned;

use crate::config::Media;
use crate::names::Names;

const CONNECT: Duration = Duration::from_secs(3);
/// Without a byte.
const SILENCE: Duration = Duration::from_secs(10);
/// For a whole request, its body with it.
const WHOLE: Duration = Duration::from_secs(300);
/// How long requests are tried again.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long this program's own signed requests count.
const OWN_TTL: Duration = Duration::from_secs(120);

/// The folder of a key, with its `/`.
pub fn folder_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| &key[..=folder.len()])
}

/// A bucket.
pub struct Store {
    s3: AmazonS3,
    http: reqwest::Client,
    /// As this program reaches it.
    inside: Bucket,
    /// As clients reach it.
    outside: Bucket,
    prefix: String,
}

/// An object's bytes as they come.
pub struct Object {
    /// All of them.
    pub size_bytes: u64,
    /// Pieces in order.
    pub pieces: BoxStream<'static, Result<Bytes, S3Error>>,
}

impl Store {
    /// The configured bucket; `None` if there is none. Asks nobody yet.
    pub fn open(media: &Media, names: &Names) -> Result<Option<Self>, S3Error> {
        if !media.is_on() {
            return Ok(None);
        }
        let wrong = |error: &dyn std::fmt::Display| S3Error::Settings { detail: error.to_string() };
        let endpoint = media.store_url();
        let outside = if media.public_url.is_empty() { &endpoint } else { &media.public_url };
        let bucket = |address: &str| {
            let url = Url::parse(address).map_err(|error| wrong(&error))?;
            let style = if media.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
            Bucket::new(url, style, media.bucket.clone(), media.region.clone()).map_err(|error| wrong(&error))
        };
        let (inside, outside) = (bucket(&endpoint)?, bucket(outside)?);
        // For hosts of buckets, this builder wants the bucket in the address.
        let base = inside.object_url("");
        let address = if media.path_style { endpoint.as_str() } else { base.as_str().trim_end_matches('/') };
        let options = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            .with_read_timeout(SILENCE)
            .with_timeout(WHOLE)
            .with_allow_http(base.scheme() == "http");
        let retries = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: 5,
            retry_timeout: PATIENCE,
        };
        // With a key of our own the environment has no say: a session of its would go along with our key.
        let has_key = !media.access_key_id.is_empty();
        let builder = if has_key { AmazonS3Builder::new() } else { AmazonS3Builder::from_env() };
        let mut builder = builder
            .with_bucket_name(&media.bucket)
            .with_region(&media.region)
            .with_endpoint(address)
            .with_virtual_hosted_style_request(!media.path_style)
            .with_client_options(options)
            .with_retry(retries);
        if has_key {
            builder = builder
                .with_access_key_id(&media.access_key_id)
                .with_secret_access_key(media.secret_access_key.expose());
        }
        let s3 = builder.build().map_err(|error| wrong(&error))?;
        let http = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE).timeout(WHOLE);
        let http = http.build().map_err(|error| wrong(&error))?;
        Ok(Some(Self { s3, http, inside, outside, prefix: names.prefix().to_owned() }))
    }

    /// A key under this installation's prefix.
    pub fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// Where an object is, for people: `s3://bucket/key`.
    pub fn place(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.inside.name())
    }

    /// Stores an object.
    pub async fn put(&self, key: &str, bytes: Bytes, content_type: &str) -> Result<(), S3Error> {
        let attributes = [(Attribute::ContentType, content_type.to_owned())].into_iter().collect();
        let options = PutOptions { attributes, ..PutOptions::default() };
        self.s3.put_opts(&Path::from(key), bytes.into(), options).await.map_err(S3Error::of("storing an object"))?;
        Ok(())
    }

    /// Reads an object.
    pub async fn read(&self, key: &str) -> Result<Object, S3Error> {
        let found = self.s3.get(&Path::from(key)).await.map_err(S3Error::of("reading an object"))?;
        let size_bytes = found.meta.size;
        let pieces = found.into_stream().map(|piece| piece.map_err(S3Error::of("reading an object"))).boxed();
        Ok(Object { size_bytes, pieces })
    }

    /// Bytes of an object; `None` if it isn't there.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, S3Error> {
        match self.s3.head(&Path::from(key)).await.map_err(S3Error::of("looking at an object")) {
            Ok(found) => Ok(Some(found.size)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Copies an object within the store.
    pub async fn copy(&self, from: &str, to: &str) -> Result<(), S3Error> {
        self.s3.copy(&Path::from(from), &Path::from(to)).await.map_err(S3Error::of("copying an object"))
    }

    /// Removes an object. One that isn't there is removed already.
    pub async fn delete(&self, key: &str) -> Result<(), S3Error> {
        match self.s3.delete(&Path::from(key)).await.map_err(S3Error::of("removing an object")) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes at most `most` objects below a folder, which ends with `/`; says whether none is left.
    pub async fn delete_folder(&self, folder: &str, most: usize) -> Result<bool, S3Error> {
        let found = self.list(folder, most + 1).await?;
        for key in found.iter().take(most) {
            self.delete(key).await?;
        }
        Ok(found.len() <= most)
    }

    /// At most `most` keys below a folder, which ends with `/`.
    pub async fn list(&self, folder: &str, most: usize) -> Result<Vec<String>, S3Error> {
        let mut listed = self.s3.list(Some(&Path::from(folder))).take(most);
        let mut keys = Vec::new();
        while let Some(found) = listed.next().await {
            keys.push(found.map_err(S3Error::of("listing objects"))?.location.to_string());
        }
        Ok(keys)
    }

    /// Writes, reads and removes a small object; the error says what can't be done.
    pub async fn try_out(&self) -> Result<(), S3Error> {
        let key = self.key(&format!("doctor/{}", crate::clock::now_ms()));
        self.put(&key, Bytes::from_static(b"waltalkie doctor"), "text/plain").await?;
        let read = self.size(&key).await;
        self.delete(&key).await?;
        match read? {
            Some(_) => Ok(()),
            None => Err(S3Error::Away { doing: "reading an object", detail: "what was written isn't there".into() }),
        }
    }

    async fn credentials(&self) -> Result<Credentials, S3Error> {
        let found = self.s3.credentials().get_credential().await.map_err(S3Error::of("asking for credentials"))?;
        Ok(match &found.token {
            Some(token) => Credentials::new_with_token(&found.key_id, &found.secret_key, token),
            None => Credentials::new(&found.key_id, &found.secret_key),
        })
    }
}
