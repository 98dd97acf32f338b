//! Whether the process runs, and whether it does its work.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::routes::App;

/// 200 as long as the process answers at all.
pub(crate) async fn live() -> Response {
    Json(json!({"status": "live"})).into_response()
}

/// 200 when the host does its work, else 503 with the reason.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.host.ready() {
        Ok(()) => Json(json!({"status": "ready"})).into_response(),
        Err(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "reason": reason}))).into_response()
        }
    }
}
