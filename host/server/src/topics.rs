//! The status, the topics, their records; making, changing and deleting topics; making savepoints.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::Request;
use clickmill_broker::TopicPartition;
use clickmill_pipeline::savepoint::Manifest;
use clickmill_pipeline::topics::{self, AD_EVENTS_RAW};
use clickmill_pipeline::views::records::{PageLimits, RecordPage, read_exact_page, read_page};
use clickmill_pipeline::views::status::{RunState, Status, TopicView};
use clickmill_pipeline::views::{self, status as views_status};
use clickmill_schemas::{Offset, PartitionId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::json::object;
use crate::routes::App;

/// Most records of a page.
const MAX_RECORDS: usize = 1_000;
/// Bytes of keys and values of a page, about.
const MAX_BYTES: usize = 4 << 20;
/// Longest wait for a record at a partition's end.
const MAX_WAIT: Duration = Duration::from_secs(5);

pub(crate) async fn status(State(app): State<Arc<App>>) -> Result<Json<Status>, ApiError> {
    app.blocking(|app| {
        let mut status = views_status(&*app.broker, RunState::Running, app.host.sinks())?;
        status.paused = app.host.deployer().map(|deployer| deployer.paused()).transpose()?.flatten();
        Ok(Json(status))
    })
    .await
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    app.blocking(|app| Ok(Json(json!({"topics": views::status::topics(&*app.broker)?})))).await
}

pub(crate) async fn one(State(app): State<Arc<App>>, Path(topic): Path<String>) -> Result<Json<TopicView>, ApiError> {
    app.blocking(move |app| {
        let info = app.topic(&topic)?;
        Ok(Json(views::status::topic(&*app.broker, &info)?))
    })
    .await
}

/// A body of JSON.
async fn read<T: DeserializeOwned>(app: &App, request: Request<Body>) -> Result<T, ApiError> {
    let body = app.bodies.read(request).await?;
    object(&body.bytes)
}

pub(crate) async fn create(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<TopicView>, ApiError> {
    let topic: topics::Create = read(&app, request).await?;
    app.blocking(move |app| {
        let info = topics::create(&*app.broker, &topic)?;
        Ok(Json(views::status::topic(&*app.broker, &info)?))
    })
    .await
}

pub(crate) async fn alter(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<Json<TopicView>, ApiError> {
    let change: topics::Alter = read(&app, request).await?;
    app.blocking(move |app| {
        let filling = app.host.reprocessing().is_some_and(|reprocessing| reprocessing.is_unfinished());
        if name == AD_EVENTS_RAW && change.partitions.is_some() && filling {
            let why = "a run is being filled, which would lack them: wait for it (`clickmill reprocess status`), or end it first";
            return Err(ApiError::Conflict(format!("no partitions are added to {name} now: {why}")));
        }
        let info = topics::alter(&*app.broker, &name, &change)?;
        if name == AD_EVENTS_RAW && change.partitions.is_some() {
            app.host.partitions_added().map_err(|why| {
                ApiError::Internal(format!(
                    "{name} has {} partitions; not all their workers run: {why}",
                    info.spec.partitions
                ))
            })?;
        }
        Ok(Json(views::status::topic(&*app.broker, &info)?))
    })
    .await
}

/// The savepoint that is to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Save {
    name: String,
}

pub(crate) async fn save(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Manifest>, ApiError> {
    let Save { name } = read(&app, request).await?;
    app.blocking(move |app| Ok(Json(app.host.save(&name)?))).await
}

pub(crate) async fn delete(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    app.blocking(move |app| {
        topics::delete(&*app.broker, &name)?;
        Ok(Json(json!({"deleted": name})))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    #[serde(default)]
    offset: u64,
    limit: Option<usize>,
    #[serde(default)]
    wait_ms: u64,
    /// Keys and values as text or base64, nothing decoded.
    #[serde(default)]
    exact: bool,
}

pub(crate) async fn records(
    State(app): State<Arc<App>>,
    Path((topic, partition)): Path<(String, String)>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Json<RecordPage>, ApiError> {
    let Query(params) = params?;
    let partition: PartitionId =
        partition.parse().map_err(|_| ApiError::BadRequest(format!("partition {partition:?} is not a number")))?;
    let limits = PageLimits {
        records: params.limit.unwrap_or(100).min(MAX_RECORDS),
        bytes: MAX_BYTES,
        wait: Duration::from_millis(params.wait_ms).min(MAX_WAIT),
    };
    app.blocking(move |app| {
        app.topic(&topic)?;
        let (at, from) = (TopicPartition::new(topic, partition), Offset(params.offset));
        let read = if params.exact { read_exact_page } else { read_page };
        Ok(Json(read(&*app.broker, &at, from, limits)?))
    })
    .await
}
