//! `GET /api/checkpoints` and `POST /api/checkpoints/verify`: what workers start again from.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use clickmill_pipeline::views::RunState;
use clickmill_pipeline::views::checkpoints::{self, CheckpointView};
use clickmill_pipeline::views::status::status;
use serde::Serialize;

use crate::error::ApiError;
use crate::routes::App;

#[derive(Debug, Serialize)]
pub(crate) struct Checkpoints {
    checkpoints: Vec<CheckpointView>,
}

/// Of each file no more is read than its head.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Checkpoints>, ApiError> {
    app.blocking(|app| Ok(Json(Checkpoints { checkpoints: checkpoints::list(&app.host.data_dir())? }))).await
}

/// Reads every file whole, so one request at a time does.
pub(crate) async fn verify(State(app): State<Arc<App>>) -> Result<Json<Checkpoints>, ApiError> {
    let held = Arc::clone(&app.verifying).try_acquire_owned();
    let held = held.map_err(|_| ApiError::Conflict("checkpoints are being verified already".to_owned()))?;
    app.blocking(move |app| {
        let _held = held;
        let now = || Ok::<_, ApiError>(status(&*app.broker, RunState::Running, Vec::new())?);
        Ok(Json(Checkpoints { checkpoints: checkpoints::verify(&app.host.data_dir(), now)? }))
    })
    .await
}
