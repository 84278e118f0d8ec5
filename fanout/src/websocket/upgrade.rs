//! From a request to a socket: RFC 6455, section 4.2, and for HTTP/2 RFC 8441.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use sha1::{Digest, Sha1};

use super::deflate;

/// Appended to a client's key (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request that can become a WebSocket.
pub(crate) struct Upgrade {
    /// What the client's key is answered with; HTTP/2 has none.
    accept: Option<HeaderValue>,
    offers_deflate: bool,
    socket: OnUpgrade,
}

impl Upgrade {
    /// Of a request; else the status that says why it can't.
    pub(crate) fn of(parts: &mut Parts) -> Result<Self, StatusCode> {
        let headers = &parts.headers;
        let accept = if parts.version <= Version::HTTP_11 {
            if parts.method != Method::GET {
                return Err(StatusCode::METHOD_NOT_ALLOWED);
            }
            let is_asked =
                names(headers, header::CONNECTION, "upgrade") && names(headers, header::UPGRADE, "websocket");
            let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_asked);
            Some(accept(key.ok_or(StatusCode::UPGRADE_REQUIRED)?))
        } else {
            if parts.method != Method::CONNECT {
                return Err(StatusCode::METHOD_NOT_ALLOWED);
            }
            let protocol = parts.extensions.get::<Protocol>();
            if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
                return Err(StatusCode::UPGRADE_REQUIRED);
            }
            None
        };
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(StatusCode::UPGRADE_REQUIRED);
        }
        let offers_deflate = deflate::is_offered(headers);
        let socket = parts.extensions.remove::<OnUpgrade>().ok_or(StatusCode::UPGRADE_REQUIRED)?;
        Ok(Self { accept, offers_deflate, socket })
    }

    /// The response, the socket that follows it, and whether messages may be compressed.
    pub(crate) fn accept(self, protocol: Option<HeaderValue>, may_deflate: bool) -> (Response, OnUpgrade, bool) {
        let is_deflated = may_deflate && self.offers_deflate;
        let mut headers = HeaderMap::new();
        let status = match self.accept {
            Some(accept) => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
                StatusCode::SWITCHING_PROTOCOLS
            }
            None => StatusCode::OK,
        };
        if let Some(protocol) = protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if is_deflated {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(deflate::ACCEPTED));
        }
        ((status, headers).into_response(), self.socket, is_deflated)
    }
}

/// Whether a header's list has the token, however it is written.
fn names(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

fn accept(key: &HeaderValue) -> HeaderValue {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn status(change: impl FnOnce(&mut Parts)) -> Option<StatusCode> {
        let request = Request::get("/v1/ws")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13");
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        change(&mut parts);
        Upgrade::of(&mut parts).err()
    }

    #[test]
    fn the_rfcs_key_is_answered() {
        // RFC 6455, section 1.3.
        assert_eq!(accept(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_websocket_is_refused() {
        assert_eq!(status(|parts| parts.method = Method::POST), Some(StatusCode::METHOD_NOT_ALLOWED));
        for name in ["connection", "upgrade", "sec-websocket-key", "sec-websocket-version"] {
            let without = status(|parts| drop(parts.headers.remove(name)));
            assert_eq!(without, Some(StatusCode::UPGRADE_REQUIRED), "{name}");
        }
        let old = status(|parts| drop(parts.headers.insert("sec-websocket-version", HeaderValue::from_static("8"))));
        assert_eq!(old, Some(StatusCode::UPGRADE_REQUIRED));
        let other = |parts: &mut Parts| (parts.version, parts.method) = (Version::HTTP_2, Method::CONNECT);
        assert_eq!(status(other), Some(StatusCode::UPGRADE_REQUIRED), "CONNECT without :protocol");
    }
}
