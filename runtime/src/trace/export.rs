//! Ended spans to a collector, by OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::mpsc;

use super::Ended;
use crate::metrics;
use crate::shutdown::Shutdown;

/// Most spans of one request.
const BATCH: usize = 512;
/// How long spans gather.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same at the end, when somebody waits.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// How long leaving stations may tell of their last spans.
const LEAVING: Duration = Duration::from_millis(200);

pub(super) struct Exporter {
    http: reqwest::Client,
    url: String,
    role: &'static str,
    /// Whether the last request failed: said once, not each second.
    is_failing: bool,
}

impl Exporter {
    pub(super) fn new(endpoint: &str, role: &'static str) -> Result<Self, reqwest::Error> {
        crate::tls::install_provider();
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { http, url: format!("{}/v1/traces", endpoint.trim_end_matches('/')), role, is_failing: false })
    }

    /// Sends what is ended until it is time to stop, then what is left.
    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Ended>, shutdown: Shutdown) {
        let mut batch = Vec::new();
        while shutdown.pause(GATHER).await {
            while take(&mut waiting, &mut batch) {
                self.send(&mut batch, PATIENCE).await;
            }
        }
        // Stations end with the same token, and tell of their last spans a moment later.
        tokio::time::sleep(LEAVING).await;
        if take(&mut waiting, &mut batch) {
            self.send(&mut batch, LAST_PATIENCE).await;
        }
    }

    async fn send(&mut self, batch: &mut Vec<Ended>, patience: Duration) {
        let count = batch.len() as u64;
        let body = request_of(self.role, batch.drain(..)).encode_to_vec();
        let asked =
            self.http.post(&self.url).header(CONTENT_TYPE, "application/x-protobuf").timeout(patience).body(body);
        match asked.send().await.and_then(reqwest::Response::error_for_status) {
            Ok(_) => {
                ::metrics::counter!(metrics::EXPORTED_SPANS).increment(count);
                self.is_failing = false;
            }
            Err(error) => {
                ::metrics::counter!(metrics::DROPPED_SPANS).increment(count);
                if !self.is_failing {
                    let error = error.without_url();
                    tracing::warn!(%error, "trace.otlp_endpoint takes no spans; they are dropped until it does");
                }
                self.is_failing = true;
            }
        }
    }
}

/// Takes what waits, as far as one request has room; whether there was anything.
fn take(waiting: &mut mpsc::Receiver<Ended>, batch: &mut Vec<Ended>) -> bool {
    while batch.len() < BATCH
        && let Ok(ended) = waiting.try_recv()
    {
        batch.push(ended);
    }
    !batch.is_empty()
}

fn request_of(role: &str, spans: impl Iterator<Item = Ended>) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            attribute("service.name", format!("waltalkie-{role}")),
            attribute("service.namespace", "waltalkie".into()),
            attribute("service.version", env!("CARGO_PKG_VERSION").into()),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope { name: "waltalkie".into(), ..InstrumentationScope::default() };
    let spans = spans.map(span_of).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }],
    }
}

fn span_of(ended: Ended) -> Span {
    let kind = if ended.parent.is_none() { SpanKind::Producer } else { SpanKind::Consumer };
    Span {
        trace_id: ended.context.trace_id.to_vec(),
        span_id: ended.context.span_id.to_vec(),
        parent_span_id: ended.parent.map(|id| id.to_vec()).unwrap_or_default(),
        // Sampled.
        flags: 1,
        name: ended.name.into(),
        kind: kind.into(),
        start_time_unix_nano: ended.from_ns,
        end_time_unix_nano: ended.until_ns,
        attributes: ended.notes.into_iter().map(|(key, value)| attribute(key, value)).collect(),
        status: ended.failure.map(|message| Status { message, code: StatusCode::Error.into() }),
        ..Span::default()
    }
}

fn attribute(key: &str, value: String) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(value)) }),
        ..KeyValue::default()
    }
}
