//! URLs by which others do one thing with one object, for a while (AWS Signature Version 4, in the query:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>).

use std::time::Duration;

use jiff::Timestamp;
use rusty_s3::signing::sign;
use rusty_s3::{Bucket, Credentials, Method};
use url::Url;

use super::{S3Error, Store};
use crate::clock;

/// A URL, and the headers that must be sent with it exactly as they are here: they are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presigned {
    /// Holds the signature: never into logs.
    pub url: String,
    /// Lower-case names with their values.
    pub headers: Vec<(&'static str, String)>,
}

impl Store {
    /// An upload of so many bytes of this type, and no other.
    pub async fn sign_put(
        &self,
        key: &str,
        content_type: &str,
        size_bytes: u64,
        ttl: Duration,
    ) -> Result<Presigned, S3Error> {
        let headers = vec![("content-length", size_bytes.to_string()), ("content-type", content_type.to_owned())];
        self.signed(&self.outside, Method::Put, key, &[], headers, ttl).await
    }

    /// An upload of one part, which begins with 1.
    pub async fn sign_part(
        &self,
        key: &str,
        upload_id: &str,
        part_number: u32,
        size_bytes: u64,
        ttl: Duration,
    ) -> Result<Presigned, S3Error> {
        let number = part_number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", upload_id)];
        let headers = vec![("content-length", size_bytes.to_string())];
        self.signed(&self.outside, Method::Put, key, &query, headers, ttl).await
    }

    /// A download under a name and a type that the store sends as headers.
    pub async fn sign_get(
        &self,
        key: &str,
        content_type: &str,
        content_disposition: &str,
        ttl: Duration,
    ) -> Result<String, S3Error> {
        let query = [
            ("response-cache-control", "private, max-age=86400, immutable"),
            ("response-content-disposition", content_disposition),
            ("response-content-type", content_type),
        ];
        Ok(self.signed(&self.outside, Method::Get, key, &query, Vec::new(), ttl).await?.url)
    }

    /// `query` is sorted by name, `headers` too.
    pub(super) async fn signed(
        &self,
        bucket: &Bucket,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
        headers: Vec<(&'static str, String)>,
        ttl: Duration,
    ) -> Result<Presigned, S3Error> {
        let credentials = self.credentials().await?;
        let url = sign_url(bucket, &credentials, method, key, query, &headers, (clock::now_ms(), ttl));
        Ok(Presigned { url: url.into(), headers })
    }
}

fn sign_url(
    bucket: &Bucket,
    credentials: &Credentials,
    method: Method,
    key: &str,
    query: &[(&str, &str)],
    headers: &[(&'static str, String)],
    (now_ms, ttl): (i64, Duration),
) -> Url {
    let date = Timestamp::from_millisecond(now_ms).unwrap_or_default();
    sign(
        &date,
        method,
        bucket.object_url(key),
        credentials.key(),
        credentials.secret(),
        credentials.token(),
        bucket.region(),
        ttl.as_secs(),
        query.iter().copied(),
        headers.iter().map(|(name, value)| (*name, value.as_str())),
    )
}

#[cfg(test)]
mod tests {
    use rusty_s3::UrlStyle;

    use super::*;

    fn place() -> (Bucket, Credentials) {
        let endpoint = Url::parse("https://s3.amazonaws.com").unwrap();
        let bucket = Bucket::new(endpoint, UrlStyle::VirtualHost, "examplebucket", "us-east-1").unwrap();
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        (bucket, Credentials::new("AKIAIOSFODNN7EXAMPLE", secret))
    }

    #[test]
    fn a_get_is_signed_as_amazons_example_has_it() {
        let (bucket, credentials) = place();
        let when = (1_369_353_600_000, Duration::from_secs(86_400));
        let url = sign_url(&bucket, &credentials, Method::Get, "test.txt", &[], &[], when);
        // The signature of the page named above.
        let signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert!(url.as_str().ends_with(&format!("X-Amz-Signature={signature}")), "{url}");
    }

    #[test]
    fn length_and_type_are_among_what_is_signed() {
        let (bucket, credentials) = place();
        let when = (1_369_353_600_000, Duration::from_secs(60));
        let of = |size: &str, kind: &str| {
            let headers = [("content-length", size.to_owned()), ("content-type", kind.to_owned())];
            sign_url(&bucket, &credentials, Method::Put, "k", &[], &headers, when).to_string()
        };
        let url = of("10", "image/png");
        assert!(url.contains("X-Amz-SignedHeaders=content-length%3Bcontent-type%3Bhost"), "{url}");
        assert!(url != of("11", "image/png") && url != of("10", "image/gif"));
    }
}
