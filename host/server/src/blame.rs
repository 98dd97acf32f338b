//! `GET /api/blame`: what became of records, and what judged them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use clickmill_pipeline::blame::Blame;
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
    let last = Offset(offset.0.saturating_add(MAX_RECORDS));
    let to = to.unwrap_or(Offset(offset.0.saturating_add(1))).min(last);
    app.blocking(move |app| Ok(Json(deployer(app)?.blame(partition, offset, to)?))).await
}
