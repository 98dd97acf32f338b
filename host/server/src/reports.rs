//! `GET /api/reports/…`: sums over days and keys, from the database that keeps hours, and without one from the windows.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use clickmill_pipeline::views::report_rows::{CSV_HEADER, JsonRow, put_csv};
use clickmill_pipeline::views::reports::{By, Kind, Order, Report, ReportRow, Scope, from_windows, rows};
use clickmill_pipeline::views::time::parse_time;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::routes::App;

/// How long the database may take before the windows answer.
const DATABASE_TIME: Duration = Duration::from_secs(2);
/// Longest key, name of a dimension and text to search for, bytes.
const MAX_TEXT_BYTES: usize = 10 << 10;
/// Years 1 to 9999.
const TIMES_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 10_000;

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Csv,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrendParams {
    by: By,
    dimension: Option<String>,
    key: Option<String>,
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    format: Format,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BreakdownParams {
    dimension: String,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    search: Option<String>,
    #[serde(default)]
    order: Order,
    #[serde(default)]
    format: Format,
}

pub(crate) async fn trend(
    State(app): State<Arc<App>>,
    params: Result<Query<TrendParams>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(TrendParams { by, dimension, key, from, to, format }) = params?;
    let dimension = dimension.unwrap_or_else(|| "total".to_owned());
    let scope = scope(dimension, key, from.as_deref(), to.as_deref())?;
    answer(&app, Report { scope, kind: Kind::Trend { by } }, format).await
}

pub(crate) async fn breakdown(
    State(app): State<Arc<App>>,
    params: Result<Query<BreakdownParams>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(BreakdownParams { dimension, from, to, limit, search, order, format }) = params?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::BadRequest(format!("`limit` must lie within 1 and {MAX_LIMIT}, and is {limit}")));
    }
    if let Some(search) = &search {
        short("search", search)?;
    }
    let scope = scope(dimension, None, from.as_deref(), to.as_deref())?;
    answer(&app, Report { scope, kind: Kind::Breakdown { limit, search, order } }, format).await
}

fn scope(dimension: String, key: Option<String>, from: Option<&str>, to: Option<&str>) -> Result<Scope, ApiError> {
    short("dimension", &dimension)?;
    if let Some(key) = &key {
        short("key", key)?;
    }
    let (from_ms, to_ms) = (time("from", from)?, time("to", to)?);
    if let (Some(from_ms), Some(to_ms)) = (from_ms, to_ms)
        && from_ms >= to_ms
    {
        return Err(ApiError::BadRequest("`from` must lie before `to`".to_owned()));
    }
    Ok(Scope::new(dimension, key, from_ms, to_ms))
}

fn short(name: &str, text: &str) -> Result<(), ApiError> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!("`{name}` has {} bytes, allowed are {MAX_TEXT_BYTES}", text.len())))
}

fn time(name: &str, text: Option<&str>) -> Result<Option<i64>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let ms = parse_time(text).map_err(|e| ApiError::BadRequest(format!("`{name}`: {e}")))?;
    if TIMES_MS.contains(&ms) {
        return Ok(Some(ms));
    }
    Err(ApiError::BadRequest(format!("`{name}` must lie within the years 1 and 9999, and is {text}")))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Postgres,
    Windows,
}

/// Rows, with where they come from.
struct Made {
    source: Source,
    /// Why they do not come from where they should.
    note: Option<String>,
    rows: Vec<ReportRow>,
}

#[derive(Serialize)]
struct Answer<'a> {
    source: Source,
    note: Option<String>,
    from_ms: Option<i64>,
    to_ms: Option<i64>,
    rows: Vec<JsonRow<'a>>,
}

async fn answer(app: &Arc<App>, report: Report, format: Format) -> Result<Response, ApiError> {
    // Held as long as the answer is made: it takes memory.
    let _held = app.report_answers.acquire().await.map_err(|_| ApiError::Overloaded)?;
    let made = match from_database(app, &report).await {
        Ok(Some(rows)) => Made { source: Source::Postgres, note: None, rows: rows? },
        Ok(None) => windows(app, &report, None).await?,
        Err(why) => windows(app, &report, Some(format!("from the windows of the topic: {why}"))).await?,
    };
    // Many rows take their time to be written.
    let (content_type, text) = app.blocking(move |_| write(&report, &made, format)).await?;
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// None where there is no database; the outer error is why it does not answer, the inner one lies in the question.
async fn from_database(app: &Arc<App>, report: &Report) -> Result<Option<Result<Vec<ReportRow>, ApiError>>, String> {
    let host = Arc::clone(app);
    let source = app.blocking(move |_| Ok(host.host.hours())).await.map_err(|e| e.to_string())??;
    let Some(source) = source else { return Ok(None) };
    let Ok(cells) = tokio::time::timeout(DATABASE_TIME, source.cells(&report.scope)).await else {
        return Err(format!("PostgreSQL has not answered within {DATABASE_TIME:?}"));
    };
    let (cells, report) = (cells?, report.clone());
    let made = app.blocking(move |_| Ok(rows(&report, cells)?)).await;
    Ok(Some(made))
}

async fn windows(app: &Arc<App>, report: &Report, note: Option<String>) -> Result<Made, ApiError> {
    let report = report.clone();
    let rows = app.blocking(move |app| Ok(from_windows(&*app.broker, &report)?)).await?;
    Ok(Made { source: Source::Windows, note, rows })
}

fn write(report: &Report, made: &Made, format: Format) -> Result<(&'static str, String), ApiError> {
    let Made { source, note, rows } = made;
    match format {
        Format::Json => {
            let (Scope { from_ms, to_ms, .. }, note) = (&report.scope, note.clone());
            let rows = rows.iter().map(JsonRow::from).collect();
            let answer = Answer { source: *source, note, from_ms: *from_ms, to_ms: *to_ms, rows };
            let text = serde_json::to_string(&answer).map_err(|e| ApiError::Internal(e.to_string()))?;
            Ok(("application/json", text))
        }
        Format::Csv => {
            let mut text = format!("{CSV_HEADER}\n");
            rows.iter().for_each(|row| put_csv(&mut text, row));
            Ok(("text/csv; charset=utf-8; header=present", text))
        }
    }
}
