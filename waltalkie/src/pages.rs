//! The web client, embedded in the executable, and the page of each error code.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};
use schemas::wire::Code;

/// What `npm run build` made.
#[derive(RustEmbed)]
#[folder = "../web/dist"]
struct Dist;

/// Nothing from elsewhere, nothing inline, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types svelte-trusted-html";

/// `/` and what the page loads, `/docs/errors/{code}`, `/openapi.json`.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/", get(|headers: HeaderMap| async move { file("index.html", &headers) }))
        .route("/docs/errors/{code}", get(error_page))
        .route("/openapi.json", get(openapi))
        .fallback(get(|uri: axum::http::Uri, headers: HeaderMap| async move {
            file(uri.path().trim_start_matches('/'), &headers)
        }))
}

fn file(path: &str, request: &HeaderMap) -> Response {
    let Some(file) = Dist::get(path) else {
        return (StatusCode::NOT_FOUND, "There is nothing at this path.\n").into_response();
    };
    let EmbeddedFile { data, metadata } = file;
    let hash = metadata.sha256_hash();
    let tag = format!("\"{:016x}\"", u64::from_be_bytes(hash[..8].try_into().unwrap_or_default()));
    let is_known = request.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response =
        if is_known { StatusCode::NOT_MODIFIED.into_response() } else { data.into_owned().into_response() };
    let headers = response.headers_mut();
    let mut set = |name: header::HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, metadata.mimetype());
    set(header::ETAG, &tag);
    // Files under assets/ have their hash in their name; the page that names them must be asked for each time.
    let is_hashed = path.starts_with("assets/");
    set(header::CACHE_CONTROL, if is_hashed { "public, max-age=31536000, immutable" } else { "no-cache" });
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    response
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], ingest::gateway::openapi_json())
        .into_response()
}

async fn error_page(Path(name): Path<String>) -> Response {
    let Some(code) = Code::ALL.into_iter().find(|code| code.name() == name) else {
        return (StatusCode::NOT_FOUND, "There is no such error code.\n").into_response();
    };
    let (cause, remedy) = explanation(code);
    let again = if code.is_temporary() {
        "The same request can succeed later: wait for <code>retry_after_ms</code>, or a second, and double the wait each time."
    } else {
        "The same request will fail again."
    };
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{name} – Waltalkie</title><h1>{name}</h1><p>HTTP status {}.</p><h2>Cause</h2><p>{cause}</p>\
         <h2>Remedy</h2><p>{remedy}</p><h2>Try again?</h2><p>{again}</p></html>\n",
        code.http_status()
    );
    ([(header::CONTENT_SECURITY_POLICY, "default-src 'none'")], Html(page)).into_response()
}

fn explanation(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::BadJson => ("The frame or body is not a JSON object.", "Send JSON; the error names line and column."),
        Code::UnknownEvent => {
            ("The frame's event is not one that clients send.", "Use one of those that the error lists.")
        }
        Code::MissingField => ("A field that is needed is absent or null.", "Send the field that the error names."),
        Code::BadField => ("A field has the wrong type or lies outside its limits.", "The error names field and rule."),
        Code::BadUuid => {
            ("A message id is not a UUID.", "Make one per message, version 4 or 7, and keep it for repeats.")
        }
        Code::ChatNotFound => (
            "There is no such chat, or you are not a member of it; the two are not told apart.",
            "Check chat_id, or ask a member to add you.",
        ),
        Code::ChatExists => ("The chat_id is taken.", "Choose another, or leave it out."),
        Code::MessageNotFound => (
            "There is no such message in this chat for you to see or change.",
            "Check message_id; only senders edit, and only senders and a group's admins delete.",
        ),
        Code::UserNotFound => ("There is no such person.", "A person exists from their first valid token on."),
        Code::Forbidden => ("Your role in the chat doesn't allow this.", "Ask an owner or an admin."),
        Code::LastOwner => ("A group must keep an owner.", "Make somebody else an owner first."),
        Code::Conflict => (
            "Somebody changed the same thing meanwhile, or the cursors are of an earlier epoch.",
            "Look at the present state, then decide anew.",
        ),
        Code::ContentEmpty => ("A message says nothing.", "Send a text that is more than white space."),
        Code::ContentTooLong => {
            ("The text is over the limit.", "hello names limits.content_bytes; count bytes of UTF-8.")
        }
        Code::ContentNotText => ("The text holds a NUL character.", "Remove it."),
        Code::TokenMissing => (
            "The request has no token.",
            "Send Authorization: Bearer, or for WebSockets in browsers the subprotocol bearer.<jwt>.",
        ),
        Code::TokenExpired => ("The token has expired.", "Get a new one."),
        Code::TokenInvalid => (
            "The token is not signed by the key known here, or not meant for this service.",
            "Check key, algorithm, issuer and audience.",
        ),
        Code::TokenRevoked => ("The person's tokens were revoked after this one was issued.", "Get a new one."),
        Code::ScopeMissing => (
            "The service's token doesn't allow this, or the request is for services only.",
            "Mint a token with the scope that the error names; docs/auth.md has the table.",
        ),
        Code::RateLimited => ("Too many requests in a short time.", "Wait for retry_after_ms."),
        Code::MessageIdConflict => (
            "This message_id was used before with another body, chat or sender.",
            "Make a new UUID for each new message.",
        ),
        Code::IdempotencyKeyReused => (
            "This Idempotency-Key was used before with another request.",
            "Make a new key for each request, and keep it for repeats of that request only.",
        ),
        Code::IdempotencyKeyInUse => (
            "The first request with this Idempotency-Key is still under way.",
            "Wait for retry_after_ms, then send it again: you get the first one's answer.",
        ),
        Code::BlockedByEarlier => (
            "An earlier send of this connection to this chat was refused, and order is kept.",
            "Send the earlier one again, or give it up with discard_message.",
        ),
        Code::FrameTooBig => ("The frame or body is over the limit.", "hello names limits.frame_bytes."),
        Code::NotSupported => ("This version can't do that yet.", "Leave the field or frame out."),
        Code::NotFound => ("There is nothing at this path.", "Check the path."),
        Code::MethodNotAllowed => ("The path doesn't take this method.", "Use one that the Allow header lists."),
        Code::Overloaded => {
            ("More is on its way than can be carried just now.", "Wait for retry_after_ms; nothing was lost.")
        }
        Code::Unavailable => (
            "A server behind this one is away, or did not answer in time.",
            "Send again with the same message_id: if the first one was written after all, you get its seq.",
        ),
        Code::Internal => ("Something failed that should not have.", "Tell the operators the Request-Id."),
    }
}
