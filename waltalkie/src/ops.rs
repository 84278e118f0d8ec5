//! What operators and their programs ask: health, readiness, metrics, the pipeline page.

mod lookout;
mod models;
#[cfg(test)]
mod written_tests;

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use runtime::{Config, Health, Shutdown};
use rust_embed::RustEmbed;
use serde_json::json;
use tokio::net::TcpListener;

use self::lookout::{Lookout, PROCESS};
use self::models::Models;
use crate::pages;

/// What `npm run build` made of the pipeline page: a folder of its own, so that the public listener has nothing of it.
#[derive(RustEmbed)]
#[folder = "../web/ops/dist"]
struct Page;

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
pub(crate) async fn serve(listener: TcpListener, config: &Config, health: Health, shutdown: Shutdown) -> Result<()> {
    let own = format!("http://{}", listener.local_addr()?);
    let lookout = Arc::new(Lookout::new(own, &config.ops.peers, health.clone(), Models::new(config)?)?);
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/ops", get(|headers: HeaderMap| async move { file("index.html", &headers) }))
        .route("/ops/", get(|| async { Redirect::permanent("/ops") }))
        .route("/ops/data.json", get(data))
        .route("/ops/{*path}", get(|Path(path): Path<String>, headers: HeaderMap| async move { file(&path, &headers) }))
        .with_state(lookout)
        .merge(health_router(health))
        // The page links to the runbook.
        .merge(pages::documentation());
    let stop = async move { shutdown.begun().await };
    axum::serve(listener, router).with_graceful_shutdown(stop).await.context("the operators' listener failed")
}

async fn metrics(State(lookout): State<Arc<Lookout>>) -> Response {
    let headers = [(header::CONTENT_TYPE.as_str(), "text/plain; version=0.0.4"), (PROCESS, lookout.process())];
    (headers, lookout.metrics()).into_response()
}

async fn data(State(lookout): State<Arc<Lookout>>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, lookout.look().await).into_response()
}

fn file(path: &str, request: &HeaderMap) -> Response {
    pages::embedded(Page::get(path), path, request)
}
