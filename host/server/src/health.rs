//! Whether the process runs, whether it does its work, and all that is to be known of its limits and settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clickmill_pipeline::views::RunState;
use clickmill_pipeline::views::status::status;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::clock::now_ms;
use crate::error::ApiError;
use crate::host::Limit;
use crate::routes::App;

/// 200 as long as the process answers at all.
pub(crate) async fn live() -> Response {
    Json(json!({"status": "live"})).into_response()
}

/// 200 when the host does its work, else 503 with the reason.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let reasons = app.host.not_ready();
    if reasons.is_empty() {
        return Json(json!({"status": "ready"})).into_response();
    }
    let body = json!({"status": "not ready", "reason": reasons.join("; ")});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

#[derive(Debug, Serialize)]
pub(crate) struct Health {
    ready: bool,
    reasons: Vec<String>,
    versions: BTreeMap<String, String>,
    limits: Vec<Limit>,
    config: Value,
    uptime_ms: u64,
    clock: Clock,
}

#[derive(Debug, Serialize)]
struct Clock {
    now_ms: i64,
    /// What the clock was when something was committed last, by whatever process.
    newest_commit_ms: Option<i64>,
}

pub(crate) async fn health(State(app): State<Arc<App>>) -> Result<Json<Health>, ApiError> {
    app.blocking(|app| {
        let status = status(&*app.broker, RunState::Running, Vec::new())?;
        let newest_commit_ms = status.partitions.iter().filter_map(|p| p.committed_at_ms).max();
        let reasons = app.host.not_ready();
        let mut limits = app.host.limits();
        for limit in &mut limits {
            limit.used = own_use(app, &limit.name).or(limit.used);
        }
        Ok(Json(Health {
            ready: reasons.is_empty(),
            reasons,
            versions: app.host.versions(),
            limits,
            config: app.host.config(),
            uptime_ms: u64::try_from(app.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            clock: Clock { now_ms: now_ms(), newest_commit_ms },
        }))
    })
    .await
}

/// What of its own limits the server uses.
fn own_use(app: &App, name: &str) -> Option<u64> {
    let taken = |of: &Semaphore, limit: usize| limit.saturating_sub(of.available_permits()) as u64;
    Some(match name {
        "server.max_in_flight_requests" => taken(&app.in_flight, app.options.max_in_flight_requests),
        "server.max_live_clients" => taken(&app.live_clients, app.options.live_clients()),
        "server.max_connections" => taken(&app.connections, app.options.max_connections),
        "server.max_body_bytes_in_flight" => app.bodies.bytes_in_flight() as u64,
        _ => return None,
    })
}
