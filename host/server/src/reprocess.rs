//! `/api/reprocess`: judging the topic again, in a run that takes the live one's place.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use clickmill_pipeline::reprocess::{self, Reprocessing, Status};

use crate::error::ApiError;
use crate::routes::App;
use crate::smartmodules::read;

fn reprocessing(app: &App) -> Result<Arc<Reprocessing>, ApiError> {
    let none = || ApiError::NotFound("this host runs no workers, and so nothing is judged in it".to_owned());
    app.host.reprocessing().ok_or_else(none)
}

pub(crate) async fn start(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Status>, ApiError> {
    let body: Option<reprocess::Body> = read(&app, request).await?;
    let none = || ApiError::BadRequest("say where it begins: {\"from\": {\"offset\": 0}}".to_owned());
    let body = body.ok_or_else(none)?;
    app.blocking(move |app| Ok(Json(reprocessing(app)?.start(body)?))).await
}

pub(crate) async fn status(State(app): State<Arc<App>>) -> Result<Json<Status>, ApiError> {
    app.blocking(|app| Ok(Json(reprocessing(app)?.status()?))).await
}

pub(crate) async fn stop(State(app): State<Arc<App>>) -> Result<Json<Status>, ApiError> {
    app.blocking(|app| Ok(Json(reprocessing(app)?.stop()?))).await
}
