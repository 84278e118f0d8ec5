//! An HTTP server before a store of files, which does what stores do on their bad days: it says that it has too much to do, answers
//! drop by drop, or ends in the middle of an answer.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A drop: so few that the tries of one reading don't make up a photo.
const DROP_BYTES: usize = 8 << 10;
const PAUSE: Duration = Duration::from_millis(20);
/// As Amazon says it.
const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

/// How a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It does what it is asked.
    Well,
    /// It has too much to do: 503 to everything.
    Busy,
    /// What is read of it comes drop by drop.
    Slow,
    /// What is read of it ends after the first drop.
    Cut,
}

/// A front on a port of its own.
pub struct StoreFront {
    /// Where.
    pub url: String,
    front: Arc<Front>,
    serving: JoinHandle<()>,
}

struct Front {
    http: reqwest::Client,
    /// The store, and how it is.
    store: Mutex<(String, Mood)>,
    bad: AtomicUsize,
}

impl StoreFront {
    /// Starts one that leads nowhere yet.
    pub async fn start() -> Result<Self> {
        runtime::tls::install_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let http = reqwest::Client::builder().no_proxy().build()?;
        let store = Mutex::new((String::new(), Mood::Well));
        let front = Arc::new(Front { http, store, bad: AtomicUsize::new(0) });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&front));
        let serving = tokio::spawn(async move {
            // Ends with the test.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, front, serving })
    }

    /// From now on the store behind it is there, and like this.
    pub fn set(&self, store: &str, mood: Mood) {
        *self.front.store.lock().unwrap_or_else(PoisonError::into_inner) = (store.to_owned(), mood);
    }

    /// Answers that a store which is well doesn't give.
    pub fn bad_answers(&self) -> usize {
        self.front.bad.load(Ordering::SeqCst)
    }
}

impl Drop for StoreFront {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(front): State<Arc<Front>>, request: Request) -> Response {
    let passed = front.pass(request).await;
    passed.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response())
}

impl Front {
    async fn pass(&self, request: Request) -> Result<Response> {
        let (store, mood) = self.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if mood == Mood::Busy {
            self.bad.fetch_add(1, Ordering::SeqCst);
            return Ok((StatusCode::SERVICE_UNAVAILABLE, SLOW_DOWN).into_response());
        }
        let (asked, body) = request.into_parts();
        let url = format!("{store}{}", asked.uri.path_and_query().context("no path")?);
        let is_read = asked.method == Method::GET;
        let body = to_bytes(body, usize::MAX).await?;
        // With the host that was asked for: it is signed.
        let sending = self.http.request(asked.method, url).headers(of_the_message(&asked.headers)).body(body);
        let answered = sending.send().await?;
        let (status, headers) = (answered.status(), of_the_message(answered.headers()));
        let bytes = answered.bytes().await?;
        let is_bad = is_read && status.is_success() && bytes.len() > DROP_BYTES && mood != Mood::Well;
        self.bad.fetch_add(usize::from(is_bad), Ordering::SeqCst);
        let body = match mood {
            Mood::Slow if is_bad => slowly(&bytes),
            Mood::Cut if is_bad => cut(bytes.slice(..DROP_BYTES)),
            _ => Body::from(bytes),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

fn slowly(bytes: &Bytes) -> Body {
    let drops: Vec<Bytes> = bytes.chunks(DROP_BYTES).map(Bytes::copy_from_slice).collect();
    Body::from_stream(stream::iter(drops).then(|piece| async move {
        tokio::time::sleep(PAUSE).await;
        Ok::<_, io::Error>(piece)
    }))
}

fn cut(first: Bytes) -> Body {
    let end = async {
        // So that the first piece is on its way.
        tokio::time::sleep(PAUSE).await;
        Err(io::Error::other("cut"))
    };
    Body::from_stream(stream::iter([Ok(first)]).chain(stream::once(end)))
}

/// Header fields without those of the connection.
fn of_the_message(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(header::CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    headers
}
