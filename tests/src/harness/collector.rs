//! A collector of traces: takes spans by OTLP over HTTP, as any other does, and keeps them.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A span, and who told it.
#[derive(Debug, Clone)]
pub struct Collected {
    /// `service.name`.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl Collected {
    /// An attribute.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        text_of(&self.span.attributes, key)
    }
}

/// A collector on a port of its own.
pub struct Collector {
    /// Where.
    pub url: String,
    spans: Spans,
    serving: JoinHandle<()>,
}

type Spans = Arc<Mutex<Vec<Collected>>>;

impl Collector {
    /// Starts one.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let spans = Spans::default();
        let app = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
        let serving = tokio::spawn(async move {
            // Ends with the test.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, spans, serving })
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<Collected> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Spans of the trace of which a station told this, in the order in which they began.
    pub fn trace_of(&self, name: &str, key: &str, value: &str) -> Vec<Collected> {
        let all = self.all();
        let is_it = |told: &&Collected| told.span.name == name && told.attribute(key) == Some(value);
        let Some(trace_id) = all.iter().find(is_it).map(|told| told.span.trace_id.clone()) else { return Vec::new() };
        let mut spans: Vec<_> = all.into_iter().filter(|told| told.span.trace_id == trace_id).collect();
        spans.sort_by_key(|told| told.span.start_time_unix_nano);
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if headers.get("content-type").is_none_or(|kind| kind != "application/x-protobuf") {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let mut spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
    for told in request.resource_spans {
        let resource = told.resource.unwrap_or_default();
        let service = text_of(&resource.attributes, "service.name").unwrap_or_default().to_owned();
        let told = told.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(told.map(|span| Collected { service: service.clone(), span }));
    }
    StatusCode::OK
}

fn text_of<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}
