//! What operators and their programs ask: health, readiness, metrics.

use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use runtime::{Config, Health, Shutdown, telemetry};
use serde_json::json;
use tokio::net::TcpListener;

/// `/healthz`: every role's loop turns. `/readyz`: every role does its work.
pub(crate) fn health_router(health: Health) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health)
}

async fn healthz(State(health): State<Health>) -> Response {
    answer(health.is_healthy(), &health)
}

async fn readyz(State(health): State<Health>) -> Response {
    answer(health.is_ready(), &health)
}

fn answer(is_well: bool, health: &Health) -> Response {
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "roles": health.statuses() }))).into_response()
}

/// Binds the operators' listener; `None` where the configuration wants none.
pub(crate) async fn bind(config: &Config) -> Result<Option<TcpListener>> {
    let listen = &config.ops.listen;
    if listen.is_empty() {
        return Ok(None);
    }
    let bound = TcpListener::bind(listen).await;
    bound
        .map(Some)
        .with_context(|| format!("ops.listen = {listen} can't be had: free it, set another, or \"\" for none"))
}

/// Serves operators until it is time to stop.
pub(crate) async fn serve(listener: TcpListener, health: Health, shutdown: Shutdown) -> Result<()> {
    let metrics = telemetry::metrics();
    let router = health_router(health).merge(Router::new().route("/metrics", get(render)).with_state(metrics));
    let stop = async move { shutdown.begun().await };
    axum::serve(listener, router).with_graceful_shutdown(stop).await.context("the operators' listener failed")
}

async fn render(State(metrics): State<&'static metrics_exporter_prometheus::PrometheusHandle>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}
