//! Logs and metrics of the process.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::LogFormat;

/// Buckets of every `…_seconds` histogram.
const SECONDS: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Buckets of every `…_records` histogram.
const RECORDS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// Libraries that write whole frames, headers, addresses and parameters of queries, and so bodies, tokens and signatures, if they
/// are asked for more than this.
const QUIET: [&str; 9] = [
    "tungstenite=warn",
    "tokio_tungstenite=warn",
    "tokio_postgres=warn",
    "h2=warn",
    "hyper=warn",
    "hyper_util=warn",
    "object_store=warn",
    "reqwest=warn",
    "s3s=warn",
];

/// Starts logging to standard error. A second call changes nothing.
pub fn init_logs(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = QUIET.iter().filter_map(|quiet| quiet.parse().ok()).fold(filter, EnvFilter::add_directive);
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_span_events(FmtSpan::NONE).with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// Starts counting, once a process; the handle renders what `/metrics` shows.
pub fn metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_records".into()), RECORDS))
            .map_or_else(|error| panic!("our own buckets: {error}"), PrometheusBuilder::build_recorder);
        let handle = recorder.handle();
        // Fails only if something else counts already, in tests; the numbers then go there.
        let _ = metrics::set_global_recorder(recorder);
        handle
    })
}
