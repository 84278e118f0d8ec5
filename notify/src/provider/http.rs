//! HTTP as the providers use it: bounded in time and size, following no redirects, repeating no address in what it says.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, StatusCode};
use runtime::tls;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;

use super::Fault;
use crate::retry_after;

/// Largest part of an answer that is looked at.
const MOST_BYTES: usize = 64 << 10;

/// Milliseconds since 1970 UTC. The wall clock is its owner's; here it dates tokens and is held against dates of services.
pub type Clock = fn() -> i64;

/// How a service is reached.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// For connecting, TLS included.
    pub connect_timeout: Duration,
    /// For a request in all.
    pub timeout: Duration,
    /// Whom to trust.
    pub tls: Arc<ClientConfig>,
    /// What time it is.
    pub clock: Clock,
}

impl HttpOptions {
    /// With the usual time-outs: 5 s to connect, 15 s in all.
    pub fn new(tls: Arc<ClientConfig>, clock: Clock) -> Self {
        Self { connect_timeout: Duration::from_secs(5), timeout: Duration::from_secs(15), tls, clock }
    }

    /// A builder that speaks HTTP/2 alone, or what the service prefers.
    pub(super) fn builder(&self, is_http2_alone: bool) -> ClientBuilder {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols =
            if is_http2_alone { vec![b"h2".to_vec()] } else { vec![b"h2".to_vec(), b"http/1.1".to_vec()] };
        let builder = Client::builder()
            .use_preconfigured_tls(tls)
            .connect_timeout(self.connect_timeout)
            .timeout(self.timeout)
            .redirect(Policy::none())
            // A connection whose other end is gone is noticed while it is used, not with each request's time-out.
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10));
        if is_http2_alone { builder.http2_prior_knowledge() } else { builder }
    }
}

/// What a service answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

impl Answer {
    /// `Retry-After`, where it can be read.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The body, if it is JSON of this shape.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Sends, and reads the answer.
pub(super) async fn ask(request: RequestBuilder, clock: Clock) -> Result<Answer, Fault> {
    let mut answer = request.send().await.map_err(|error| fault(&error))?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| retry_after::parse(value.to_str().ok()?, clock()));
    let mut body = Vec::new();
    // What follows the status only explains it: where it is cut, the status stands.
    while let Ok(Some(part)) = answer.chunk().await {
        body.extend_from_slice(&part);
        if body.len() > MOST_BYTES {
            break;
        }
    }
    Ok(Answer { status, headers, retry_after, body })
}

/// Said without the error's own text, which holds the address.
fn fault(error: &reqwest::Error) -> Fault {
    if error.is_builder() {
        return Fault::Unreachable("the address makes no request".into());
    }
    if error.is_connect() {
        let is_untrusted = tls::is_certificate_error(error);
        let why = if is_untrusted {
            "its certificate isn't trusted"
        } else if error.is_timeout() {
            "connecting takes too long"
        } else {
            "no connection"
        };
        return Fault::Unreachable(why.into());
    }
    Fault::AnswerLost(if error.is_timeout() { "it takes too long" } else { "the connection ended" }.into())
}
