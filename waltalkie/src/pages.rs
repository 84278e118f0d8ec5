//! What people look at, embedded in the executable: the web client, the documentation, a page for each error code.

mod docs;
mod errors;
mod reference;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

/// What `npm run build` made.
#[derive(RustEmbed)]
#[folder = "../web/dist"]
struct Dist;

/// Nothing from elsewhere, nothing inline, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types svelte-trusted-html waltalkie-worker";

/// The same for the web client, which brings files to their store and shows them from there; `blob:` is a file that somebody
/// is about to send.
fn client_policy(media_origin: Option<&str>) -> String {
    let origin = media_origin.map(|origin| format!(" {origin}")).unwrap_or_default();
    POLICY
        .replace("img-src 'self'", &format!("img-src 'self' blob:{origin}; media-src 'self' blob:{origin}"))
        .replace("connect-src 'self'", &format!("connect-src 'self'{origin}"))
}

/// `/` and what the page loads, `/docs` and what is below it, `/openapi.json`, `/asyncapi.json`.
pub(crate) fn router(media_origin: Option<&str>) -> Router {
    let policy: Arc<str> = client_policy(media_origin).into();
    let own = Arc::clone(&policy);
    Router::new()
        .route("/", get(|headers: HeaderMap| async move { file("index.html", &headers, &own) }))
        .merge(documentation())
        .route("/openapi.json", get(|| async { document(ingest::gateway::openapi_json()) }))
        .route("/asyncapi.json", get(|| async { document(schemas::asyncapi::asyncapi_json()) }))
        .fallback(get(|uri: axum::http::Uri, headers: HeaderMap| async move {
            file(uri.path().trim_start_matches('/'), &headers, &policy)
        }))
}

/// `/docs` and what is below it.
pub(crate) fn documentation() -> Router {
    Router::new()
        .route("/docs", get(docs::index))
        .route("/docs/{page}", get(docs::page))
        .route("/docs/errors/{code}", get(errors::page))
}

/// The catalogue of topics and fields, as Markdown.
pub(crate) fn catalogue_text() -> String {
    format!("# Topics and events of Waltalkie {}\n\n{}", env!("CARGO_PKG_VERSION"), reference::catalogue())
}

/// The same as a page that stands alone.
pub(crate) fn catalogue_page() -> String {
    docs::standalone(&catalogue_text())
}

fn file(path: &str, request: &HeaderMap, policy: &str) -> Response {
    let mut response = embedded(Dist::get(path), path, request);
    if let (true, Ok(policy)) =
        (response.headers().contains_key(header::CONTENT_SECURITY_POLICY), HeaderValue::from_str(policy))
    {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// A file that a page is made of, by its path in the page's folder.
pub(crate) fn embedded(file: Option<EmbeddedFile>, path: &str, request: &HeaderMap) -> Response {
    let Some(file) = file else {
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

/// A document of the interfaces.
fn document(json: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], json).into_response()
}
