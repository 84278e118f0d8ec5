//! What operators and their programs ask: health, readiness, metrics, the pipeline page.

mod lookout;
mod models;
#[cfg(test)]
mod written_tests;

use std::sync::Arc;
use std::time::Duration;

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
use tokio::sync::Mutex;
use uuid::Uuid;

use self::lookout::{Lookout, PROCESS};
use self::models::Models;
use crate::{explain, pages};

/// A question about a message isn't waited for any longer.
const EXPLAINS_IN: Duration = Duration::from_secs(20);

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
    let asked = Arc::new(Asked { config: config.clone(), turn: Mutex::new(()) });
    let lookout = Arc::new(Lookout::new(own, &config.ops.peers, health.clone(), Models::new(config)?)?);
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/ops", get(|headers: HeaderMap| async move { file("index.html", &headers) }))
        .route("/ops/", get(|| async { Redirect::permanent("/ops") }))
        .route("/ops/data.json", get(data))
        .route("/ops/explain/{message_id}", get(move |Path(message_id): Path<Uuid>| explained(asked, message_id)))
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

/// What questions about messages need. They open connections of their own, so one is answered at a time.
struct Asked {
    config: Config,
    turn: Mutex<()>,
}

/// The way of one message as text, never what it says.
async fn explained(asked: Arc<Asked>, message_id: Uuid) -> Response {
    let answer = async {
        let _turn = asked.turn.lock().await;
        Box::pin(explain::explain(&asked.config, message_id)).await
    };
    let (status, text) = match tokio::time::timeout(EXPLAINS_IN, answer).await {
        Ok(Ok(explained)) => (StatusCode::OK, explained.as_text()),
        Ok(Err(error)) => (StatusCode::BAD_GATEWAY, format!("{error:#}")),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, "no answer in time: `waltalkie doctor` says what is away".to_owned()),
    };
    (status, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}

fn file(path: &str, request: &HeaderMap) -> Response {
    pages::embedded(Page::get(path), path, request)
}
