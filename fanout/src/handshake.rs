//! What is decided before a socket is opened: where the page came from, which protocol, whose token. Pure.

use axum::Extension;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemas::wire::{Code, Rejection};
use serde_json::json;

/// The subprotocol of this contract.
pub(crate) const PROTOCOL: &str = "waltalkie.v1";
const BEARER_PROTOCOL: &str = "bearer.";
/// Longest token that is looked at.
const TOKEN_BYTES: usize = 8_192;

/// Whether a page of this origin may open a socket.
///
/// Browsers always send `Origin`, other programs needn't. The page's own host always may; any other has to be configured,
/// and is compared as a whole: scheme, host and port.
pub(crate) fn check_origin(headers: &HeaderMap, host: Option<&str>, allowed: &[String]) -> Result<(), Rejection> {
    let refused = || {
        Rejection::new(
            Code::Forbidden,
            "Pages of this origin may not connect. Add it to gateway.allowed_origins, written as browsers send it.",
        )
        .at("Origin")
    };
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let origin = origin.to_str().map_err(|_| refused())?;
    if origins.next().is_some() {
        return Err(refused());
    }
    if allowed.iter().any(|allowed| allowed == origin) || is_same_host(origin, host) { Ok(()) } else { Err(refused()) }
}

/// Whether an origin is the host that was asked. TLS may end before us, so both schemes count, each with its own port.
fn is_same_host(origin: &str, host: Option<&str>) -> bool {
    let Some(host) = host.filter(|host| !host.is_empty()) else { return false };
    let (authority, default_port) = match (origin.strip_prefix("https://"), origin.strip_prefix("http://")) {
        (Some(authority), _) => (authority, ":443"),
        (_, Some(authority)) => (authority, ":80"),
        _ => return false,
    };
    let host = host.strip_suffix(default_port).unwrap_or(host);
    let authority = authority.strip_suffix(default_port).unwrap_or(authority);
    !authority.is_empty() && authority.eq_ignore_ascii_case(host)
}

/// Subprotocols offered, in the client's order.
fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// The subprotocol to answer with; none if the client offered none.
pub(crate) fn select_protocol(headers: &HeaderMap) -> Result<Option<HeaderValue>, Rejection> {
    if offered(headers).any(|protocol| protocol == PROTOCOL) {
        return Ok(Some(HeaderValue::from_static(PROTOCOL)));
    }
    if headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return Err(
            Rejection::new(Code::BadField, format!("Offer the subprotocol {PROTOCOL}.")).at("Sec-WebSocket-Protocol")
        );
    }
    Ok(None)
}

/// The token: from `Authorization`, else from a subprotocol, where browsers can put it.
pub(crate) fn token(headers: &HeaderMap) -> Result<&str, Rejection> {
    let from_header = headers.get(header::AUTHORIZATION).map(|value| {
        let value = value.to_str().unwrap_or_default();
        let (scheme, token) = value.split_once(' ').unwrap_or_default();
        if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" }
    });
    let token = match from_header {
        Some(token) => Some(token),
        None => offered(headers).find_map(|protocol| protocol.strip_prefix(BEARER_PROTOCOL)),
    };
    match token {
        None => Err(Rejection::new(
            Code::TokenMissing,
            format!(
                "Send a token as `Authorization: Bearer …`, or as a second subprotocol `{BEARER_PROTOCOL}…`; never in the address."
            ),
        )),
        Some(token) if token.is_empty() || token.len() > TOKEN_BYTES => {
            Err(Rejection::new(Code::TokenInvalid, "The token is empty, too long, or not a bearer token."))
        }
        Some(token) => Ok(token),
    }
}

/// A refusal as problem details.
pub(crate) fn problem(status: StatusCode, rejection: &Rejection) -> Response {
    let code = rejection.code.name();
    let mut body = json!({
        "type": format!("/docs/errors/{code}"),
        "title": code.replace('_', " "),
        "status": status.as_u16(),
        "detail": rejection.message,
        "code": code,
    });
    if let Some(field) = &rejection.field {
        body["field"] = json!(field);
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(after_ms) = rejection.retry_after_ms {
        body["retry_after_ms"] = json!(after_ms);
        if let Ok(seconds) = HeaderValue::from_str(&after_ms.div_ceil(1_000).to_string()) {
            headers.insert(header::RETRY_AFTER, seconds);
        }
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    (status, Extension(rejection.code), headers, body.to_string()).into_response()
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
