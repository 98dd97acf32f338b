//! `/api/dlq`: the dead letters, and what can be done about them. All of it is the pipeline's work; here are requests and
//! answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{Request, header};
use axum::response::{IntoResponse as _, Response};
use clickmill_pipeline::dlq::{Dlq, DlqError, Filter, Listed, Retried, RetryBody, Shape, Shown, Stats, Which};
use clickmill_pipeline::views::time::parse_time;
use clickmill_schemas::Offset;
use clickmill_schemas::dead_letter::{RawEncoding, RawPayload};
use clickmill_schemas::dlq::{LetterId, LetterState};
use clickmill_schemas::envelope::ErrorType;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::error::ApiError;
use crate::routes::App;
use crate::smartmodules::read;

/// Letters of a page where nobody says how many.
const PAGE_LETTERS: usize = 1_000;
const MOST_PAGE_LETTERS: usize = 10_000;
/// Longest wait for what becomes of letters that are sent, milliseconds: with what modules may take before, well below the limit of
/// a request.
const LONGEST_WAIT_MS: u64 = 10_000;
/// Letters whose fates are asked for at once.
const MOST_ASKED: usize = 10_000;

impl From<DlqError> for ApiError {
    fn from(error: DlqError) -> Self {
        let text = error.to_string();
        match error {
            DlqError::Unknown(_) => Self::NotFound(text),
            DlqError::NotEditable(_) | DlqError::NotDeployed | DlqError::TooLong(_) => Self::BadRequest(text),
            DlqError::State { .. } | DlqError::NothingDeployed => Self::Conflict(text),
            DlqError::TooSlow => Self::Refused(text),
            DlqError::Broker(e) => e.into(),
            DlqError::View(e) => e.into(),
            DlqError::Deploy(e) => e.into(),
            DlqError::Request(e) => e.into(),
            DlqError::Chain(_) | DlqError::Judge(_) => Self::Refused(text),
        }
    }
}

fn dlq(app: &App) -> Result<Arc<Dlq>, ApiError> {
    let none = || ApiError::NotFound("this host runs no workers, and so it keeps no dead letters".to_owned());
    app.host.dlq().ok_or_else(none)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    #[serde(rename = "type")]
    error_type: Option<ErrorType>,
    rule: Option<String>,
    since: Option<String>,
    state: Option<LetterState>,
    from: Option<Offset>,
    limit: Option<usize>,
    #[serde(default)]
    format: Format,
    /// Of JSON lines: only what a line of text says.
    #[serde(default)]
    brief: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// A page of letters.
    #[default]
    Json,
    /// All of them, as they are read.
    Jsonl,
}

impl Params {
    fn filter(&self) -> Result<Filter, ApiError> {
        let since_ms = self.since.as_deref().map(parse_time).transpose().map_err(ApiError::BadRequest)?;
        Ok(Filter { error_type: self.error_type, rule: self.rule.clone(), since_ms, state: self.state })
    }
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(params) = params?;
    let filter = params.filter()?;
    if params.format == Format::Jsonl {
        return lines(app, &params, filter).await;
    }
    let limit = params.limit.unwrap_or(PAGE_LETTERS);
    if !(1..=MOST_PAGE_LETTERS).contains(&limit) {
        return Err(ApiError::BadRequest(format!("limit is {limit}, but must be from 1 to {MOST_PAGE_LETTERS}")));
    }
    let from = params.from.unwrap_or_default();
    app.blocking(move |app| Ok(Json(dlq(app)?.page(from, limit, &filter)?).into_response())).await
}

async fn lines(app: Arc<App>, params: &Params, filter: Filter) -> Result<Response, ApiError> {
    if params.limit.is_some() {
        return Err(ApiError::BadRequest("JSON lines have no limit: read as many as are wanted".to_owned()));
    }
    let shape = if params.brief { Shape::Brief } else { Shape::Whole };
    let (dlq, from) = (dlq(&app)?, params.from.unwrap_or_default());
    let held = Arc::clone(&app.streamed_answers).acquire_owned().await.map_err(|_| ApiError::Overloaded)?;
    let (chunks, body) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let (_held, mut next) = (held, Some(from));
        while let Some(from) = next {
            let read = dlq.lines(from, &filter, shape);
            next = read.as_ref().ok().and_then(|lines| lines.next);
            // A cut answer must not look like a whole one: an error breaks the connection off.
            let chunk = read.map(|lines| lines.text).map_err(io::Error::other);
            if let Err(error) = &chunk {
                tracing::error!("an answer of dead letters is broken off: {error}");
            }
            if chunks.blocking_send(chunk).is_err() {
                return;
            }
        }
    });
    let chunks = stream::unfold(body, async |mut body| body.recv().await.map(|chunk| (chunk, body)));
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], Body::from_stream(chunks)).into_response())
}

pub(crate) async fn stats(
    State(app): State<Arc<App>>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Json<Stats>, ApiError> {
    let Query(params) = params?;
    let filter = params.filter()?;
    app.blocking(move |app| Ok(Json(dlq(app)?.stats(&filter)?))).await
}

pub(crate) async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Shown>, ApiError> {
    app.blocking(move |app| Ok(Json(dlq(app)?.show(&LetterId(id))?))).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EditBody {
    raw_payload: Option<String>,
    raw_encoding: Option<RawEncoding>,
}

pub(crate) async fn edit(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Json<Listed>, ApiError> {
    let body: EditBody = read(&app, request).await?;
    let dlq = dlq(&app)?;
    let missing = || ApiError::BadRequest("say what it is to be: {\"raw_payload\": \"…\"}".to_owned());
    let raw_payload = body.raw_payload.ok_or_else(missing)?;
    let raw_encoding = body.raw_encoding.unwrap_or(RawEncoding::Utf8);
    let payload = RawPayload { raw_payload, raw_encoding, raw_payload_bytes: None };
    let bad = || ApiError::BadRequest("raw_payload is no Base64".to_owned());
    let bytes = payload.bytes().ok_or_else(bad)?;
    app.blocking(move |_| Ok(Json(dlq.edit(&LetterId(id), &bytes)?))).await
}

pub(crate) async fn retry(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Retried>, ApiError> {
    let body: Option<RetryBody> = read(&app, request).await?;
    let none = || ApiError::BadRequest("say which: {\"which\": {\"ids\": [\"0-17\"]}}, or {} for all".to_owned());
    let mut body = body.ok_or_else(none)?;
    body.wait_ms = body.wait_ms.min(LONGEST_WAIT_MS);
    app.blocking(move |app| Ok(Json(dlq(app)?.retry(body)?))).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutcomesBody {
    ids: Vec<LetterId>,
    #[serde(default)]
    wait_ms: u64,
}

pub(crate) async fn outcomes(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Retried>, ApiError> {
    let body: Option<OutcomesBody> = read(&app, request).await?;
    let none = || ApiError::BadRequest("say of which: {\"ids\": [\"0-17\"]}".to_owned());
    let OutcomesBody { ids, wait_ms } = body.ok_or_else(none)?;
    if ids.len() > MOST_ASKED {
        return Err(ApiError::BadRequest(format!("{} ids, but at most {MOST_ASKED} at once", ids.len())));
    }
    let wait = Duration::from_millis(wait_ms.min(LONGEST_WAIT_MS));
    app.blocking(move |app| Ok(Json(dlq(app)?.outcomes(&ids, wait)?))).await
}

pub(crate) async fn purge(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Value>, ApiError> {
    let which: Option<Which> = read(&app, request).await?;
    let none = || ApiError::BadRequest("say which: {\"ids\": [\"0-17\"]}, or {} for all".to_owned());
    let which = which.ok_or_else(none)?;
    app.blocking(move |app| Ok(Json(json!({"purged": dlq(app)?.purge(&which)?})))).await
}
