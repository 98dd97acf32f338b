//! `GET /api/blame`, `/api/why-late`, `/api/why-open`, `/api/logs`: what became of records, what judged them, what holds a
//! window open, what modules said.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use clickmill_pipeline::blame::Blame;
use clickmill_pipeline::module_log::ModuleLine;
use clickmill_pipeline::views::time::parse_time;
use clickmill_pipeline::views::windows::parse_size;
use clickmill_pipeline::why::{WhyLate, WhyOpen};
use clickmill_schemas::{Offset, PartitionId};
use serde::Deserialize;

use crate::error::ApiError;
use crate::routes::App;
use crate::smartmodules::deployer;

/// Most records of an answer.
const MAX_RECORDS: u64 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    partition: PartitionId,
    offset: Offset,
    /// Exclusive; without it the one record at `offset`.
    to: Option<Offset>,
}

/// The records from `offset` up to `to`, in order; fewer where that are more than an answer holds.
pub(crate) async fn records(
    State(app): State<Arc<App>>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Json<Vec<Blame>>, ApiError> {
    let Query(Params { partition, offset, to }) = params?;
    if let Some(to) = to.filter(|to| *to <= offset) {
        return Err(ApiError::BadRequest(format!("`to` is {to}, and must lie behind `offset`, which is {offset}")));
    }
    let last = Offset(offset.0.saturating_add(MAX_RECORDS));
    let to = to.unwrap_or(Offset(offset.0.saturating_add(1))).min(last);
    app.blocking(move |app| Ok(Json(deployer(app)?.blame(partition, offset, to)?))).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordParams {
    partition: PartitionId,
    offset: Offset,
}

/// `null` for a record that was not late.
pub(crate) async fn why_late(
    State(app): State<Arc<App>>,
    params: Result<Query<RecordParams>, QueryRejection>,
) -> Result<Json<Option<WhyLate>>, ApiError> {
    let Query(RecordParams { partition, offset }) = params?;
    app.blocking(move |app| Ok(Json(deployer(app)?.why_late(partition, offset)?))).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WindowParams {
    size: String,
    start: String,
}

pub(crate) async fn why_open(
    State(app): State<Arc<App>>,
    params: Result<Query<WindowParams>, QueryRejection>,
) -> Result<Json<WhyOpen>, ApiError> {
    let Query(WindowParams { size, start }) = params?;
    let size_ms = parse_size(&size).map_err(ApiError::BadRequest)?;
    let start_ms = parse_time(&start).map_err(ApiError::BadRequest)?;
    app.blocking(move |app| Ok(Json(deployer(app)?.why_open(size_ms, start_ms)?))).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogParams {
    #[serde(default)]
    since: u64,
    stage: Option<String>,
}

pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    params: Result<Query<LogParams>, QueryRejection>,
) -> Result<Json<Vec<ModuleLine>>, ApiError> {
    let Query(LogParams { since, stage }) = params?;
    Ok(Json(deployer(&app)?.module_lines(since, stage.as_deref())))
}
