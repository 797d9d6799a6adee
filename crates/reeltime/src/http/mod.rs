//! Health, metrics and the API over HTTP.
//!
//! Everything here only reads: no request changes anything, and none waits for an upload.

mod api;
mod page;
mod readiness;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use crate::listing::FullKey;
pub use readiness::Readiness;

use crate::checkpoint::CheckpointStore;
use crate::cli::Failure;
use crate::telemetry::metrics;
use crate::view::Board;

/// What the handlers know. A clone knows the same.
#[derive(Clone)]
pub struct AppState {
    /// The streams of this process, as they are now.
    pub board: Board,
    /// The streams that are remembered.
    pub checkpoint: Arc<dyn CheckpointStore>,
    /// The metrics.
    pub registry: Arc<Registry>,
    /// Whether the process is alive and ready.
    pub readiness: Arc<Readiness>,
    /// The key as the store knows it.
    pub full_key: FullKey,
}

/// Requests that are being answered get this long after the stop.
const GRACE: Duration = Duration::from_secs(2);

/// Binds the address, so that a port in use is known before anything else begins.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process has the port, perhaps another reeltime: choose one with --listen ADDR:PORT, or --listen off"
            }
            io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose another with --listen",
            io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address: choose one with --listen",
            _ => "choose another address with --listen, or --listen off",
        };
        Failure::failed(format!("cannot listen on {address}: {error}"), hint)
    })
}

/// Serves until `stop` is cancelled. Requests in progress are answered, within reason.
pub async fn serve(listener: TcpListener, state: AppState, stop: CancellationToken) -> io::Result<()> {
    let stopped = stop.clone().cancelled_owned();
    let serving = axum::serve(listener, router(state)).with_graceful_shutdown(stopped);
    tokio::select! {
        served = async { serving.await } => served,
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

fn router(state: AppState) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .route("/api/streams", get(api::streams))
        .route("/api/streams/{id}", get(api::stream))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(state)
}

async fn health(State(state): State<AppState>) -> Response {
    match state.readiness.stuck_for() {
        None => axum::Json(json!({"status": "ok"})).into_response(),
        Some(stuck) => {
            let error = format!("the supervisor has not come round for {} s", stuck.as_secs());
            refusal(StatusCode::SERVICE_UNAVAILABLE, &error, "the process hangs: restart it, no upload is lost")
        }
    }
}

async fn ready(State(state): State<AppState>) -> Response {
    let reasons = state.readiness.missing();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({"ready": reasons.is_empty(), "reasons": reasons}))).into_response()
}

async fn scrape(State(state): State<AppState>) -> Response {
    match metrics::encode(&state.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &format!("metrics cannot be written: {error}"), ""),
    }
}

async fn not_found(uri: Uri) -> Response {
    let hint = "there are /, /healthz, /readyz, /metrics, /api/streams and /api/streams/{id}";
    refusal(StatusCode::NOT_FOUND, &format!("no such path: {}", uri.path()), hint)
}

async fn not_allowed() -> Response {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here", "")
}

/// An answer that is no success, in JSON.
fn refusal(status: StatusCode, error: &str, hint: &str) -> Response {
    let body = if hint.is_empty() { json!({"error": error}) } else { json!({"error": error, "hint": hint}) };
    (status, axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests;
