//! The S3 store of the local stack, in this process, on a folder of the data directory.
//!
//! Around the server is what browsers need and it doesn't have: answers to preflights, and the headers of signed downloads.
//! Any origin may ask: what may be done stands in the signature, and there are no cookies.

use std::convert::Infallible;
use std::path::Path;

use anyhow::{Context, Result};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use runtime::Shutdown;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

/// Access key of the local server; its secret is made with the data directory.
pub const ACCESS_KEY: &str = "waltalkie";
/// The bucket that is there from the start.
pub const BUCKET: &str = "waltalkie-media";

/// Starts the server on loopback; returns its address. Port 0 is any.
pub async fn start(folder: &Path, port: u16, secret: &str, shutdown: &Shutdown) -> Result<String> {
    let bucket = folder.join(BUCKET);
    std::fs::create_dir_all(&bucket).with_context(|| format!("{} can't be made", bucket.display()))?;
    let files = FileSystem::new(folder)
        .map_err(|error| anyhow::anyhow!("{} can't be served as S3: {error:?}", folder.display()))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, secret));
    let service = service.build();
    let listener =
        TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("stack.s3_port = {port} is in use"))?;
    let url = format!("http://{}", listener.local_addr()?);
    let life = shutdown.clone();
    shutdown.spawn(async move {
        let server = Builder::new(TokioExecutor::new());
        loop {
            let accepted = tokio::select! {
                biased;
                () = life.begun() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((socket, _)) = accepted else { continue };
            let store = service.clone();
            let answering = service_fn(move |request| {
                let store = store.clone();
                async move { Ok::<_, Infallible>(answer(&store, request).await) }
            });
            let serving = server.serve_connection(TokioIo::new(socket), answering).into_owned();
            let life_of_connection = life.clone();
            life.spawn(async move {
                tokio::select! {
                    biased;
                    () = life_of_connection.begun() => {}
                    served = serving => {
                        if let Err(error) = served {
                            tracing::debug!(error = %error, "an S3 connection ended");
                        }
                    }
                }
            });
        }
    });
    Ok(url)
}

async fn answer(store: &S3Service, request: Request<Incoming>) -> Response<s3s::Body> {
    let is_cross_origin = request.headers().contains_key(header::ORIGIN);
    if request.method() == Method::OPTIONS && is_cross_origin {
        return preflight(request.headers());
    }
    let uri = request.uri().clone();
    let is_download = request.method() == Method::GET;
    let mut response = store.call(request.map(s3s::Body::from)).await.unwrap_or_else(|error| {
        tracing::debug!(error = ?error, "an S3 request could not be answered");
        status(StatusCode::INTERNAL_SERVER_ERROR)
    });
    if is_download && response.status().is_success() {
        set_named(&uri, response.headers_mut());
    }
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_cross_origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag"));
    }
    response
}

/// What a page of another origin may ask: anything that it has a signature for.
fn preflight(asked: &HeaderMap) -> Response<s3s::Body> {
    let mut response = status(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, PUT"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    response
}

/// The headers that the query of a signed download names (`response-content-type` and the like); the server has held the
/// signature against them, and leaves them out.
fn set_named(uri: &Uri, headers: &mut HeaderMap) {
    let query = uri.query().unwrap_or_default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let wanted = match &*name {
            "response-content-type" => header::CONTENT_TYPE,
            "response-content-disposition" => header::CONTENT_DISPOSITION,
            "response-cache-control" => header::CACHE_CONTROL,
            _ => continue,
        };
        set(headers, wanted, &value);
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn status(status: StatusCode) -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::empty());
    *response.status_mut() = status;
    response
}
